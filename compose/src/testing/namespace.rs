//! The name space of one test: topics under a prefix that nobody else uses, a directory, services.
//!
//! The prefix starts with the test's process id, so that topics of a killed test are known as such and the next one
//! deletes them: the data of a test broker stays bounded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_yaml_ng::Value;

use crate::error::{Error, Result};
use crate::health;
use crate::process::Process;
use crate::services::{self, Surroundings};
use crate::testing::service::{Role, Service, ServiceBuilder};
use crate::testing::topic::{self, Isolation, Record};
use crate::testing::{ChromiumDriver, Sender, TestStack};

/// What a name space has different from topics.yaml.
#[derive(Debug, Clone, Default)]
pub struct NamespaceOptions {
    partitions: Option<i32>,
    shards: Option<i32>,
    config: BTreeMap<String, BTreeMap<String, String>>,
}

impl NamespaceOptions {
    /// Another number of partitions of every co-partitioned topic.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Another number of shards.
    #[must_use]
    pub fn shards(mut self, shards: i32) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Another setting of one topic, named as in topics.yaml.
    #[must_use]
    pub fn config(mut self, topic: &str, key: &str, value: &str) -> Self {
        let settings = self.config.entry(topic.to_string()).or_default();
        settings.insert(key.to_string(), value.to_string());
        self
    }

    /// The declaration with these differences.
    fn apply_to(&self, declaration: &str, path: &Path) -> Result<String> {
        let way_out = "mend the file, or the test that changes it";
        let broken =
            |cause: String| Error::Broken { what: "declaration of topics", path: path.to_path_buf(), cause, way_out };
        let mut root: Value = serde_yaml_ng::from_str(declaration).map_err(|error| broken(error.to_string()))?;
        for (key, number) in [("partitions", self.partitions), ("shards", self.shards)] {
            if let Some(number) = number {
                root[key] = number.into();
            }
        }
        for (topic, settings) in &self.config {
            let declared = root.get_mut("topics").and_then(|topics| topics.get_mut(topic));
            let declared = declared.ok_or_else(|| broken(format!("it has no topic {topic}")))?;
            if declared.get("config").is_none() {
                declared["config"] = Value::Mapping(serde_yaml_ng::Mapping::new());
            }
            for (key, value) in settings {
                declared["config"][key.as_str()] = value.as_str().into();
            }
        }
        serde_yaml_ng::to_string(&root).map_err(|error| broken(error.to_string()))
    }
}

/// The topics, the directory and the services of one test. Everything goes with it; after a panic the directory with
/// the logs stays, and the ends of the logs are printed.
#[derive(Debug)]
pub struct Namespace {
    /// Before every topic name, the separator included.
    pub prefix: String,
    /// Directory of this name space.
    pub dir: PathBuf,
    /// The declaration that its services use.
    pub topics_file: PathBuf,
    stack: TestStack,
}

impl Namespace {
    pub(super) async fn create(stack: &TestStack, name: &str, options: &NamespaceOptions) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("t{}-{number}-{name}.", std::process::id());
        let dir = stack.dir.join("tests").join(prefix.trim_end_matches('.'));
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let declaration = fs::read_to_string(&stack.topics).map_err(Error::io("read", &stack.topics))?;
        let topics_file = dir.join("topics.yaml");
        let text = options.apply_to(&declaration, &stack.topics)?;
        fs::write(&topics_file, text).map_err(Error::io("write", &topics_file))?;
        services::ensure_secret(&dir.join("token-secret"))?;
        let space = Self { prefix, dir, topics_file, stack: stack.clone() };
        space.apply_topics().await?;
        Ok(space)
    }

    /// Runs `topics apply` of this name space, again after a test changed something.
    pub async fn apply_topics(&self) -> Result<()> {
        let program = self.stack.bin.join("topics");
        if !program.exists() {
            return Err(Error::MissingTool {
                tool: program.display().to_string(),
                way_out: "build it first (compose/test does), or set KONTOR_BIN_DIR".into(),
            });
        }
        let mut command = Command::new(&program);
        command.args(["apply", "--topics"]).arg(&self.topics_file);
        command.args(["--bootstrap", &self.stack.bootstrap]);
        command.args(["--registry", &self.stack.registry]);
        command.args(["--prefix", &self.prefix]).stdin(Stdio::null());
        let output = blocking(move || command.output().map_err(Error::io("run", &program))).await?;
        if output.status.success() {
            return Ok(());
        }
        let log = self.log("topics");
        let said = [output.stdout, output.stderr].concat();
        fs::write(&log, said).map_err(Error::io("write", &log))?;
        Err(Error::Step { what: "topics apply".into(), tail: health::tail(&log, 5), log })
    }

    /// `127.0.0.1:port` of Kafka.
    pub fn bootstrap(&self) -> &str {
        &self.stack.bootstrap
    }

    /// Base address of the registry's Confluent API.
    pub fn registry(&self) -> &str {
        &self.stack.registry
    }

    /// The name in the cluster of a topic of topics.yaml.
    pub fn topic(&self, base: &str) -> String {
        format!("{}{base}", self.prefix)
    }

    /// Path of a program under test.
    pub fn program(&self, name: &str) -> PathBuf {
        self.stack.bin.join(name)
    }

    /// The file with the secret that its processors share.
    pub fn secret_file(&self) -> PathBuf {
        self.dir.join("token-secret")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    fn builder(&self, name: &str, program: &str, role: Role) -> ServiceBuilder {
        ServiceBuilder {
            name: name.to_string(),
            role,
            program: self.program(program),
            around: Surroundings {
                bootstrap: self.stack.bootstrap.clone(),
                registry: self.stack.registry.clone(),
                topics: self.topics_file.clone(),
                prefix: self.prefix.clone(),
            },
            dir: self.dir.join(name),
            log: self.log(name),
            mark: self.stack.dir.clone(),
            env: Vec::new(),
        }
    }

    /// A processor with a state directory of its own, named `name`. It is the instance that its address makes it.
    pub fn processor(&self, name: &str) -> ServiceBuilder {
        let secret = self.secret_file();
        self.builder(name, "processor", Role::Processor { secret })
    }

    /// One of several processors that share the shards: the instance `name`, also when it is started again over its
    /// directory in another [`Service`], on other ports.
    pub fn instance(&self, name: &str) -> ServiceBuilder {
        self.processor(name).env(services::INSTANCE_VARIABLE, name)
    }

    /// A gateway that is told these processors. With none it is told nothing: it finds them by the control topic.
    pub fn gateway(&self, name: &str, processors: &[&Service]) -> ServiceBuilder {
        let processors: Vec<String> = processors.iter().map(|p| p.grpc()).collect();
        let processors = processors.join(",");
        self.builder(name, "gateway", Role::Gateway { processors })
    }

    /// A driver of browsers.
    pub async fn chromium(&self) -> Result<ChromiumDriver> {
        ChromiumDriver::start(&self.dir.join("chromium"), &self.stack.dir).await
    }

    /// Every committed record of a topic of topics.yaml, up to its end at this moment.
    pub async fn read(&self, base: &str) -> Result<Vec<Record>> {
        let (bootstrap, topic) = (self.stack.bootstrap.clone(), self.topic(base));
        blocking(move || topic::read_topic(&bootstrap, &topic, Isolation::Committed)).await
    }

    /// A client that sends records.
    pub fn sender(&self) -> Result<Sender> {
        Sender::new(&self.stack.bootstrap)
    }

    fn print_logs(&self) {
        eprintln!("logs of {}: {}", self.prefix, self.dir.display());
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|e| e == "log") {
                eprintln!("{}:{}", entry.path().display(), health::tail(&entry.path(), 15));
            }
        }
    }
}

/// Runs what blocks beside the runtime of the test.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Error::Usage(format!("a blocking task failed: {error}"))))
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = topic::list_topics(&self.stack.bootstrap).and_then(|all| {
            let mine = |name: &String| name.starts_with(&self.prefix);
            let names: Vec<String> = all.into_keys().filter(mine).collect();
            topic::delete_topics(&self.stack.bootstrap, &names)
        });
        if let Err(error) = deleted {
            // Not a failure of the test; the next one that starts will try again.
            eprintln!("{}: {error}", self.prefix);
        }
        if std::thread::panicking() {
            self.print_logs();
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Deletes the topics of test processes that are gone.
pub(super) fn delete_left_over(bootstrap: &str) -> Result<()> {
    let all = topic::list_topics(bootstrap)?;
    let dead = |name: &String| owner_of(name).is_some_and(|pid| Process::of_pid(pid).is_none());
    let names: Vec<String> = all.into_keys().filter(dead).collect();
    topic::delete_topics(bootstrap, &names)
}

/// The process id in a topic name such as `t4711-0-transfers.commands`.
fn owner_of(topic: &str) -> Option<i32> {
    let (pid, rest) = topic.strip_prefix('t')?.split_once('-')?;
    let (number, _) = rest.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARATION: &str = "partitions: 12\nshards: 6\ntopics:\n  commands:\n    cleanup: delete\n  changelog:\n    config:\n      segment.ms: 100\n";

    #[test]
    fn differences_are_written_into_the_declaration() {
        let options = NamespaceOptions::default()
            .partitions(4)
            .shards(2)
            .config("changelog", "segment.ms", "2000")
            .config("commands", "retention.ms", "-1");
        let text = options.apply_to(DECLARATION, Path::new("topics.yaml")).unwrap();
        let value: Value = serde_yaml_ng::from_str(&text).unwrap();
        assert_eq!(value["partitions"], Value::from(4));
        assert_eq!(value["shards"], Value::from(2));
        assert_eq!(value["topics"]["changelog"]["config"]["segment.ms"], Value::from("2000"));
        assert_eq!(value["topics"]["commands"]["config"]["retention.ms"], Value::from("-1"));
        assert_eq!(value["topics"]["commands"]["cleanup"], Value::from("delete"));
    }

    #[test]
    fn instances_share_the_secret_and_have_their_own_name_and_directory() {
        let stack = TestStack {
            bootstrap: "127.0.0.1:1".into(),
            registry: "http://127.0.0.1:2".into(),
            dir: "/s".into(),
            bin: "/s/bin".into(),
            topics: "/topics.yaml".into(),
        };
        let (prefix, dir, topics_file) = ("t1-0-x.".into(), "/s/tests/x".into(), "/s/tests/x/topics.yaml".into());
        // It has no topics that would have to be deleted.
        let space = std::mem::ManuallyDrop::new(Namespace { prefix, dir, topics_file, stack });
        let (a, b) = (space.instance("a"), space.instance("b"));
        let named = |builder: &ServiceBuilder| builder.env.iter().any(|(key, _)| key == "KONTOR_INSTANCE");
        assert_eq!(a.env, [("KONTOR_INSTANCE".to_string(), "a".into())]);
        assert!(a.dir != b.dir && a.log != b.log && a.env != b.env && a.around == b.around);
        let secret = |builder: &ServiceBuilder| match &builder.role {
            Role::Processor { secret } => secret.clone(),
            Role::Gateway { .. } => PathBuf::new(),
        };
        assert_eq!([secret(&a), secret(&b)], [space.secret_file(), space.secret_file()]);
        assert!(!named(&space.processor("p1")), "one alone needs no name");
    }

    #[test]
    fn a_setting_of_an_unknown_topic_is_refused() {
        let options = NamespaceOptions::default().config("comands", "segment.ms", "1");
        let error = options.apply_to(DECLARATION, Path::new("topics.yaml")).unwrap_err();
        assert!(error.to_string().contains("no topic comands"), "{error}");
    }

    #[test]
    fn the_owner_of_a_topic_is_in_its_name() {
        for (topic, pid) in [
            ("t4711-0-transfers.commands", Some(4711)),
            ("t4711-12-a-b.c", Some(4711)),
            ("transfers", None),
            ("t-0-x.commands", None),
            ("t4711-x-y.commands", None),
            ("tt1-2-x", None),
        ] {
            assert_eq!(owner_of(topic), pid, "{topic}");
        }
    }
}
