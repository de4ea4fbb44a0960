//! A real broker and registry through the command line: what `up`, `scale` and `down` promise.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kontor_compose::ports::Ports;
use kontor_compose::process::{Process, children_of};
use kontor_compose::stackfile::{Part, Phase};
use kontor_compose::testing::{Isolation, Sender, TestStack, list_topics, read_topic};
use kontor_compose::{StackFile, eventually, eventually_some};
use rustix::process::Signal;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A stack in a directory of its own. Whatever a failed test leaves is ended.
struct Stack {
    dir: tempfile::TempDir,
}

impl Stack {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn program() -> PathBuf {
        PathBuf::from(env!("CARGO_BIN_EXE_stack"))
    }

    fn run(&self, action: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(Self::program());
        command.arg(action).arg("--dir").arg(self.dir.path());
        command.args(arguments).output().unwrap()
    }

    /// Starts broker and registry with these arguments.
    fn up(&self, arguments: &[&str]) -> Output {
        let always = ["--only", "kafka,registry", "--for-tests", "--detach"];
        self.run("up", &[&always, arguments].concat())
    }

    fn file(&self) -> StackFile {
        StackFile::read(&StackFile::path(self.dir.path())).unwrap().unwrap()
    }

    fn children(&self) -> usize {
        children_of(&std::fs::canonicalize(self.dir.path()).unwrap()).len()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.run("down", &[]);
    }
}

/// A range of ports that no other test of this program has: two programs that each look for a free one at the same
/// moment could find the same. (`--port-base 0` itself is tried where the documents are.)
fn free_base() -> String {
    Ports::free().unwrap().base().to_string()
}

fn said(output: &Output) -> String {
    let bytes = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(bytes).unwrap()
}

fn alive(part: &Part) -> Process {
    let process = part.process().unwrap();
    assert!(process.is_alive());
    process
}

/// Registers a schema and gives its id.
async fn register(file: &StackFile) -> i64 {
    let url = format!("{}/subjects/kept-value/versions", file.registry);
    let schema = json!({ "type": "record", "name": "Kept", "fields": [{ "name": "a", "type": "long" }] });
    let body = json!({ "schema": schema.to_string() });
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
    answer["id"].as_i64().unwrap()
}

fn make_topic(bootstrap: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
    let topic = NewTopic::new("kept", 1, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    made[0].as_ref().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn data_outlives_restarts_and_kills() {
    let stack = Stack::new();
    let first = stack.up(&["--port-base", &free_base()]);
    assert!(first.status.success(), "{}", said(&first));
    let file = stack.file();
    assert_eq!(file.phase, Phase::Ready);
    assert!(said(&first).contains(&file.bootstrap), "{}", said(&first));
    let id = register(&file).await;
    let bootstrap = file.bootstrap.clone();
    tokio::task::spawn_blocking(move || {
        make_topic(&bootstrap);
        Sender::new(&bootstrap).unwrap().send("kept", Some(b"k"), Some(b"v")).unwrap();
    })
    .await
    .unwrap();

    says_that_it_runs(&stack);
    restarts_what_dies(&stack).await;
    finds_what_a_killed_supervisor_left(&stack);

    let again = stack.up(&[]);
    assert!(again.status.success(), "{}", said(&again));
    let file = stack.file();
    assert_eq!(file.bootstrap, format!("127.0.0.1:{}", file.port_base + 12), "the ports of last time");
    assert_eq!(register(&file).await, id, "the id outlived the restarts");
    let bootstrap = file.bootstrap.clone();
    let read = move || read_topic(&bootstrap, "kept", Isolation::Committed).unwrap();
    let records = tokio::task::spawn_blocking(read).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value.as_deref(), Some(b"v".as_slice()));

    let down = stack.run("down", &[]);
    assert!(down.status.success(), "{}", said(&down));
    for name in ["registry", "kafka"] {
        assert!(said(&down).contains(&format!("{name} (pid")), "{}", said(&down));
    }
    assert_eq!(stack.children(), 0);
    assert_eq!(stack.file().phase, Phase::Stopped);
    forgets_when_told_to(&stack).await;
    says_what_it_does_when_it_forgets(&stack);
}

fn says_that_it_runs(stack: &Stack) {
    let second = stack.up(&[]);
    assert!(second.status.success());
    assert!(said(&second).contains("is up") && said(&second).contains("already"), "{}", said(&second));
    let fresh = stack.up(&["--fresh"]);
    assert!(!fresh.status.success(), "must not wipe what runs");
    assert!(said(&fresh).contains("compose/down"), "{}", said(&fresh));
    let scaled = stack.run("scale", &["2"]);
    assert!(!scaled.status.success() && said(&scaled).contains("has no processor"), "{}", said(&scaled));
    let status = stack.run("status", &["--quiet"]);
    assert_eq!(status.status.code(), Some(0));
}

async fn restarts_what_dies(stack: &Stack) {
    let dead = alive(&stack.file().registry_process);
    assert!(dead.signal(Signal::KILL));
    eventually(PATIENCE, "the registry runs again", || async {
        let part = stack.file().registry_process;
        part.restarts == 1 && part.process().is_some_and(|p| p != dead && p.is_alive())
    })
    .await
    .unwrap();
    let log = std::fs::read_to_string(stack.dir.path().join("logs/stack.log")).unwrap();
    assert!(log.contains("died: signal 9; starting it again"), "{log}");
}

fn finds_what_a_killed_supervisor_left(stack: &Stack) {
    let file = stack.file();
    let supervisor = alive(&file.supervisor);
    assert!(supervisor.signal(Signal::KILL));
    assert!(supervisor.wait_gone(std::time::Instant::now() + PATIENCE));
    alive(&file.kafka);
    assert_eq!(stack.run("status", &["--quiet"]).status.code(), Some(3));
    let down = stack.run("down", &[]);
    assert!(down.status.success(), "{}", said(&down));
    assert!(said(&down).contains("the supervisor is gone"), "{}", said(&down));
    assert!(!file.kafka.process().unwrap().is_alive());
    assert_eq!(stack.children(), 0);
    let nothing = stack.run("down", &[]);
    assert!(said(&nothing).contains("nothing runs"), "{}", said(&nothing));
}

/// In the foreground this time, until a Ctrl-C.
async fn forgets_when_told_to(stack: &Stack) {
    let mut command = Command::new(Stack::program());
    command.arg("up").arg("--dir").arg(stack.dir.path());
    command.args(["--fresh", "--only", "kafka", "--for-tests"]).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let process = Process::of_pid(i32::try_from(child.id()).unwrap()).unwrap();
    eventually(PATIENCE, "kafka is up", || async { stack.file().phase == Phase::Ready }).await.unwrap();
    let bootstrap = stack.file().bootstrap;
    let topics = tokio::task::spawn_blocking(move || list_topics(&bootstrap)).await.unwrap().unwrap();
    assert!(!topics.contains_key("kept"), "{topics:?}");

    assert!(process.signal(Signal::INT));
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success());
    let text = said(&output);
    for words in [stack.file().bootstrap.as_str(), "Ctrl-C stops it", "stopped kafka"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(stack.children(), 0);
}

/// In the background, where all that is said goes through a log in the directory that is emptied.
fn says_what_it_does_when_it_forgets(stack: &Stack) {
    let up = stack.run("up", &["--fresh", "--only", "kafka", "--for-tests", "--detach"]);
    assert!(up.status.success(), "{}", said(&up));
    let log = std::fs::read_to_string(stack.file().supervisor.log).unwrap();
    for text in [said(&up), log] {
        assert!(text.contains("kafka is ready after"), "{text}");
    }
    let down = stack.run("down", &[]);
    assert!(said(&down).contains("kafka (pid"), "{}", said(&down));
}

/// The programs under test, where a stack looks for them.
fn lend_programs(stack: &Stack) {
    let bin = stack.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in ["topics", "processor"] {
        std::os::unix::fs::symlink(TestStack::shared().unwrap().bin.join(program), bin.join(program)).unwrap();
    }
}

fn scale(stack: &Stack, number: &str) -> String {
    let output = stack.run("scale", &[number]);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_come_leave_and_die_while_the_stack_is_up() {
    let stack = Stack::new();
    lend_programs(&stack);
    let topics = "../topics.yaml";
    let parts = ["--only", "kafka,registry,topics,processor", "--topics", topics, "--for-tests", "--detach"];
    let up = stack.run("up", &[&parts[..], &["--port-base", &free_base(), "--instances", "2"]].concat());
    assert!(up.status.success(), "{}", said(&up));
    let before = stack.file().processors;
    assert!(before.len() == 2 && before.iter().all(|part| part.ready), "{before:?}");

    assert!(scale(&stack, "3").contains("processor-3 is ready after"));
    for part in &stack.file().processors {
        let url = format!("{}/readyz", part.http.as_deref().unwrap());
        // Not at every moment: shards are moving to it.
        let ready = || async { kontor_compose::health::http_ok(&url).await };
        eventually(PATIENCE, "every instance is ready", ready).await.unwrap();
    }
    let fewer = scale(&stack, "1");
    for name in ["processor-3", "processor-2"] {
        let line = fewer.lines().find(|line| line.starts_with(&format!("stopped {name}"))).unwrap();
        assert!(line.ends_with("exit code 0"), "{line}");
        assert!(stack.dir.path().join(name).join("state").read_dir().unwrap().count() > 0, "its state stays");
    }
    assert_eq!(stack.file().processors, before[..1], "the first one went on");

    scale(&stack, "2");
    let dead = alive(&stack.file().processors[1]);
    assert!(dead.signal(Signal::KILL));
    eventually(PATIENCE, "processor-2 is ready again", || async {
        let part = stack.file().processors[1].clone();
        part.restarts == 1 && part.ready && part.process().is_some_and(|p| p != dead)
    })
    .await
    .unwrap();
    let log = std::fs::read_to_string(stack.dir.path().join("logs/stack.log")).unwrap();
    assert!(log.contains(&format!("processor-2 (pid {}) died: signal 9", dead.pid)), "{log}");

    let down = stack.run("down", &[]);
    assert!(down.status.success(), "{}", said(&down));
    assert_eq!(stack.children(), 0);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_owner() {
    let stack = Stack::new();
    let base = Ports::free().unwrap();
    // Not at every moment: other tests start programs meanwhile, see `ports::is_free`.
    let take = || async { std::net::TcpListener::bind(("127.0.0.1", base.kafka())).ok() };
    let _taken = eventually_some(PATIENCE, "the port is taken", take).await.unwrap();
    let output = stack.up(&["--port-base", &base.base().to_string()]);
    assert!(!output.status.success());
    let line = format!("port {} for kafka is taken by", base.kafka());
    let pid = format!("(pid {})", std::process::id());
    assert!(said(&output).contains(&line) && said(&output).contains(&pid), "{}", said(&output));
    assert_eq!(stack.children(), 0, "nothing was left behind");
}

#[test]
fn arguments_that_cannot_be_are_refused_in_one_line() {
    let stack = Stack::new();
    for (arguments, words) in [
        (["--gateways", "9"], "--gateways takes 1 to 8"),
        (["--instances", "0"], "--instances takes 1 to 6"),
        (["--instances", "7"], "--instances takes 1 to 6"),
        (["--port-base", "65530"], "out of range"),
        (["--only", "kafka,topics"], "needs"),
        (["--only", "zookeeper"], "knows no"),
    ] {
        let output = stack.run("up", &arguments);
        assert!(!output.status.success());
        assert!(said(&output).contains(words), "{}", said(&output));
        assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
    }
    let scaled = stack.run("scale", &["2"]);
    assert!(!scaled.status.success() && said(&scaled).contains("no stack runs in"), "{}", said(&scaled));
    let nowhere = Path::new("/nonexistent");
    let down = Command::new(Stack::program()).arg("down").arg("--dir").arg(nowhere).output().unwrap();
    assert!(said(&down).contains("no stack runs in /nonexistent"), "{}", said(&down));
}
