//! `up`: from a directory to a running stack, or to one line that says why not.
//!
//! One process supervises one directory, which an advisory lock on `DIR/.lock` guarantees; the kernel lets go of it
//! whatever happens to the process. In the background it is the same code in a session of its own, and the `up` that
//! started it only shows its log until it is ready.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;

use rustix::process::Signal;

use crate::banner;
use crate::config::{Config, PartKind};
use crate::console::Console;
use crate::disk::check_room;
use crate::down;
use crate::error::{Error, Result};
use crate::graphiql;
use crate::health;
use crate::java;
use crate::kafka;
use crate::ports;
use crate::process::{LOOK_INTERVAL, Process};
use crate::registry;
use crate::scale;
use crate::services;
use crate::spec::Spec;
use crate::stackfile::{LOCK_NAME, Part, Phase, StackFile};
use crate::supervisor::{Event, Supervisor};

/// Less than this and Kafka would soon stop.
const NEEDED_MB: u64 = 512;

/// The stack of `dir`, if its supervisor lives.
pub fn running(dir: &Path) -> Result<Option<StackFile>> {
    let file = StackFile::read(&StackFile::path(dir))?;
    let alive = |f: &StackFile| f.supervisor.process().is_some_and(Process::is_alive);
    Ok(file.filter(alive))
}

/// Copies the declaration of topics into the stack's directory, so that a later change does not reach a stack that
/// runs. Its programs are put there by `compose/build`, for the same reason.
pub fn adopt_topics(dir: &Path, topics: &Path) -> Result<()> {
    let copy = dir.join("topics.yaml");
    let part = dir.join("topics.yaml.part");
    fs::copy(topics, &part).map_err(Error::io("copy", topics))?;
    fs::rename(&part, &copy).map_err(Error::io("write", &copy))
}

/// Starts the stack and stays with it until it is told to stop. Everything is stopped when this returns.
/// `fresh` forgets all earlier data. `console` has the log of the stack open, so the directory of logs is there.
pub fn supervise(config: &Config, fresh: bool, console: &Console) -> Result<()> {
    check_ours(&config.dir)?;
    let _lock = lock(&config.dir)?;
    down::sweep(&config.dir, console)?;
    for (port, part) in config.ports_in_use() {
        ports::check_free(port, &part)?;
    }
    // Before the look at the room, which it makes.
    if fresh {
        wipe(&config.dir, &config.log("stack"))?;
    }
    check_room(&config.dir, NEEDED_MB, "choose another place with --dir")?;
    scale::write_wish(&config.dir, config.instances)?;
    let mut supervisor = Supervisor::new(console, describe(config));
    supervisor.file().write()?;
    let outcome = start_all(config, &mut supervisor, console)
        .and_then(|()| scale::attend(&mut supervisor, console, |number| instance(config, number)));
    if outcome.is_ok() {
        console.say("stopping");
    }
    supervisor.stop_all();
    let file = supervisor.file();
    file.phase = Phase::Stopped;
    file.supervisor.pid = None;
    // Whatever became of the stack is worth more than this.
    if let Err(error) = file.write() {
        console.say(error.to_string());
    }
    outcome
}

fn start_all(config: &Config, supervisor: &mut Supervisor<'_>, console: &Console) -> Result<()> {
    let java = java::find_or_fetch(console)?;
    let wants = |kind| config.parts.has(kind);
    let libs = if wants(PartKind::Kafka) { Some(kafka::fetch(console)?) } else { None };
    let home = if wants(PartKind::Registry) { Some(registry::fetch(console)?) } else { None };
    let graphiql = if wants(PartKind::Gateway) { graphiql_if_possible(console) } else { None };
    // From here on a signal is an event; before, it simply ends a download.
    hear_signals(supervisor.sender())?;

    if let Some(home) = home {
        supervisor.start(registry::spec(config, &java, &home)?)?;
    }
    if let Some(libs) = libs {
        kafka::prepare(config, &java, &libs)?;
        supervisor.start(kafka::spec(config, &java, &libs))?;
    }
    supervisor.wait_all_ready()?;
    if wants(PartKind::Topics) {
        apply_topics(config)?;
        console.say("topics and schemas are as declared");
    }
    if wants(PartKind::Processor) {
        for number in 1..=config.instances {
            supervisor.start(services::processor(config, number)?)?;
        }
    }
    if wants(PartKind::Gateway) {
        for number in 1..=config.gateways {
            supervisor.start(services::gateway(config, number, graphiql.as_deref())?)?;
        }
    }
    supervisor.wait_all_ready()?;
    supervisor.file().phase = Phase::Ready;
    supervisor.file().write()?;
    console.say(banner::headline(supervisor.file()));
    console.show(&banner::banner(supervisor.file()));
    console.show("Ctrl-C stops it");
    Ok(())
}

/// A stack without GraphiQL is one all the same: its page is a plain console then.
fn graphiql_if_possible(console: &Console) -> Option<PathBuf> {
    let fetched = graphiql::fetch(console);
    fetched.inspect_err(|error| console.say(format!("no GraphiQL, a plain console in its place: {error}"))).ok()
}

/// Runs `topics apply`; its words go to `logs/topics.log`.
fn apply_topics(config: &Config) -> Result<()> {
    let program = config.program("topics");
    let log = config.log("topics");
    let output = Command::new(&program)
        .args(["apply", "--topics"])
        .arg(config.topics())
        .args(["--bootstrap", &config.bootstrap()])
        .args(["--registry", &config.registry()])
        .args(["--prefix", &config.prefix])
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run", &program))?;
    let said = [output.stdout, output.stderr].concat();
    fs::write(&log, said).map_err(Error::io("write", &log))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Step { what: "topics apply".into(), tail: health::tail(&log, 5), log })
}

/// A processor that comes later: where it will be, and how it is started.
fn instance(config: &Config, number: u16) -> Result<(Part, Spec)> {
    Ok((processor_part(config, number), services::processor(config, number)?))
}

fn processor_part(config: &Config, number: u16) -> Part {
    let ports = config.ports;
    part(config, &format!("processor-{number}"), Some(ports.processor_http(number)), Some(ports.processor_grpc(number)))
}

fn part(config: &Config, name: &str, http: Option<u16>, grpc: Option<u16>) -> Part {
    let address = |port: u16| format!("http://127.0.0.1:{port}");
    Part { log: config.log(name), http: http.map(address), grpc: grpc.map(address), ..Part::default() }
}

/// What `stack.json` says before anything runs.
fn describe(config: &Config) -> StackFile {
    let me = Process::current();
    let part = |name: &str, http: Option<u16>| part(config, name, http, None);
    let ports = config.ports;
    let number_of = |kind, number| if config.parts.has(kind) { number } else { 0 };
    let gateways = number_of(PartKind::Gateway, config.gateways);
    let instances = number_of(PartKind::Processor, config.instances);
    StackFile {
        phase: Phase::Starting,
        dir: config.dir.clone(),
        port_base: ports.base(),
        prefix: config.prefix.clone(),
        topics: config.topics(),
        bootstrap: config.bootstrap(),
        registry: config.registry(),
        supervisor: Part { pid: me.map(|p| p.pid), started_ticks: me.map(|p| p.started_ticks), ..part("stack", None) },
        kafka: part("kafka", None),
        registry_process: part("registry", None),
        processors: (1..=instances).map(|n| processor_part(config, n)).collect(),
        gateways: (1..=gateways).map(|n| part(&format!("gateway-{n}"), Some(ports.gateway(n)))).collect(),
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK_NAME);
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    file.try_lock().map_err(|_| {
        Error::Running(format!(
            "another up works on the stack in {}: wait for it, or end it with compose/down",
            dir.display()
        ))
    })?;
    Ok(file)
}

/// Whether a stack has a directory of this name.
fn is_of_stack(name: &str) -> bool {
    ["kafka", "registry", "processor", "logs", "tests"].contains(&name)
        || ["gateway-", "processor-"].iter().any(|numbered| name.starts_with(numbered))
}

/// Names are all that tells a stack's directories from others: where somebody else has one of them, none is made, or the
/// next `--fresh` would remove theirs. Logs are written before anything else, by the supervisor.
pub fn check_ours(dir: &Path) -> Result<()> {
    if StackFile::is_of_stack(dir) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "logs" && is_of_stack(&name) {
            return Err(Error::Usage(format!(
                "{} is not of a stack, and no stack was started in {} before: choose another place with --dir",
                entry.path().display(),
                dir.display()
            )));
        }
    }
    Ok(())
}

/// Forgets data and logs. Only what a stack itself made, and not `own_log`: the supervisor holds it open and the `up` in
/// front of it reads on there, so without it neither progress nor a failure would be said.
fn wipe(dir: &Path, own_log: &Path) -> Result<()> {
    if !StackFile::is_of_stack(dir) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))?.flatten() {
        if !is_of_stack(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if own_log.parent() == Some(&entry.path()) {
            wipe_logs(&entry.path(), own_log)?;
        } else {
            fs::remove_dir_all(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn wipe_logs(logs: &Path, own_log: &Path) -> Result<()> {
    for entry in fs::read_dir(logs).map_err(Error::io("read", logs))?.flatten() {
        let path = entry.path();
        if path == own_log {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Turns SIGINT, SIGTERM and SIGHUP into events.
fn hear_signals(events: Sender<Event>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let unable = |source| Error::Io { doing: "hear signals in", path: PathBuf::from("this process"), source };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(unable)?;
    let (ready, registered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else {
                return;
            };
            let _ = ready.send(());
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    _ = hup.recv() => {}
                }
                if events.send(Event::Stop).is_err() {
                    return;
                }
            }
        });
    });
    registered.recv().map_err(|_| unable(std::io::Error::other("no handler could be registered")))
}

/// Starts this program again in the background with `arguments`, and shows its log until the stack is ready.
/// False when it gave up; why is in the log and was shown.
pub fn detach(config: &Config, arguments: &[String], console: &Console) -> Result<bool> {
    let logs = config.dir.join("logs");
    fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
    let log = config.log("stack");
    let shown = length(&log);
    let program = std::env::current_exe().map_err(Error::io("find", Path::new("this program")))?;
    // A panic or a linker error would be said here.
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true);
    let errors = options.open(&log).map_err(Error::io("open", &log))?;
    let mut child = Command::new(&program)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(Error::io("start", &program))?;
    follow(config, &mut child, &log, shown, console)
}

fn follow(config: &Config, child: &mut Child, log: &Path, mut shown: u64, console: &Console) -> Result<bool> {
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let (events, heard) = std::sync::mpsc::channel();
    hear_signals(events)?;
    loop {
        let ended = child.try_wait().map_err(Error::io("wait for", Path::new("the supervisor")))?;
        let file = StackFile::read(&StackFile::path(&config.dir))?;
        shown = show(log, shown, console);
        if let Some(status) = ended {
            return Ok(status.success());
        }
        if file.is_some_and(|f| f.supervisor.pid == Some(pid) && f.phase == Phase::Ready) {
            return Ok(true);
        }
        if heard.try_recv().is_ok()
            && let Some(process) = Process::of_pid(pid)
        {
            process.signal(Signal::TERM);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Where a log ends now; 0 before there is one.
pub fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |meta| meta.len())
}

/// Prints what was added to the log since `shown`, without the times. Gives the new end.
pub fn show(log: &Path, shown: u64, console: &Console) -> u64 {
    let mut text = String::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(shown))?;
        file.read_to_string(&mut text)
    });
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    if read.is_err() || whole == 0 {
        return shown;
    }
    for line in text[..whole].lines() {
        console.say(without_time(line));
    }
    shown + whole as u64
}

fn without_time(line: &str) -> &str {
    match line.split_once("Z ") {
        Some((time, rest)) if time.len() == 19 && time.as_bytes()[10] == b'T' => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;
    use crate::stackfile::tests::sample;

    #[test]
    fn a_fresh_start_forgets_what_a_stack_made_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["kafka", "registry", "processor", "processor-2", "gateway-1", "logs", "bin", "mine"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let logs = dir.path().join("logs");
        fs::create_dir(logs.join("old")).unwrap();
        for name in ["kafka.log", "stack.log"] {
            fs::write(logs.join(name), "said").unwrap();
        }
        let own_log = logs.join("stack.log");
        wipe(dir.path(), &own_log).unwrap();
        assert!(dir.path().join("kafka").exists(), "no stack was started there");
        sample(dir.path()).write().unwrap();
        wipe(dir.path(), &own_log).unwrap();
        fs::remove_file(StackFile::path(dir.path())).unwrap();
        assert_eq!(names(dir.path()), ["bin", "logs", "mine"]);
        assert_eq!(names(&logs), ["stack.log"]);
        assert_eq!(fs::read_to_string(own_log).unwrap(), "said", "the supervisor writes to it");
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn where_somebody_else_has_such_a_directory_no_stack_is_made() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "logs", "src"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            check_ours(dir.path()).unwrap();
        }
        fs::create_dir(dir.path().join("processor")).unwrap();
        let message = check_ours(dir.path()).unwrap_err().to_string();
        assert!(message.contains("/processor is not of a stack") && message.contains("--dir"), "{message}");
        sample(dir.path()).write().unwrap();
        check_ours(dir.path()).unwrap();
        // Of another program, then of a stack and broken, then gone.
        fs::write(StackFile::path(dir.path()), "{\"stacks\":[]}").unwrap();
        StackFile::put_aside_broken(dir.path()).unwrap_err();
        check_ours(dir.path()).unwrap_err();
        wipe(dir.path(), &dir.path().join("logs/stack.log")).unwrap();
        assert!(dir.path().join("processor").exists());
        drop(lock(dir.path()).unwrap());
        fs::write(StackFile::path(dir.path()), [0xff, 0]).unwrap();
        assert!(StackFile::put_aside_broken(dir.path()).unwrap().is_some());
        check_ours(dir.path()).unwrap();
    }

    #[test]
    fn the_help_of_the_script_has_the_same_ports() {
        let script = include_str!("../up");
        for line in ports::TABLE.lines() {
            assert!(script.contains(line), "{line}");
        }
    }

    #[test]
    fn one_directory_has_one_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let _first = lock(dir.path()).unwrap();
        assert!(matches!(lock(dir.path()), Err(Error::Running(_))));
    }

    #[test]
    fn the_description_lists_every_part_with_its_address() {
        let file = describe(&config(Path::new("/s")));
        assert_eq!(file.phase, Phase::Starting);
        assert_eq!(file.supervisor.pid, i32::try_from(std::process::id()).ok());
        let processors: Vec<_> =
            file.processors.iter().map(|p| (p.http.as_deref().unwrap(), p.grpc.as_deref().unwrap())).collect();
        let (one, two) = (
            ("http://127.0.0.1:19010", "http://127.0.0.1:19011"),
            ("http://127.0.0.1:19016", "http://127.0.0.1:19017"),
        );
        assert_eq!(processors, [one, two]);
        let gateways: Vec<_> = file.gateways.iter().map(|g| g.http.as_deref().unwrap()).collect();
        assert_eq!(gateways, ["http://127.0.0.1:19001", "http://127.0.0.1:19002"]);
    }

    #[test]
    fn lines_of_the_log_are_shown_without_their_time() {
        for (line, shown) in [
            ("2031-01-02T03:04:05Z kafka is ready", "kafka is ready"),
            ("  see XYZ for more", "  see XYZ for more"),
            ("Z ", "Z "),
        ] {
            assert_eq!(without_time(line), shown);
        }
    }
}
