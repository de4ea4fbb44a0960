//! One Kafka node in KRaft mode, broker and controller at once, from the jars of the package index.
//!
//! The node is for one machine: no replication, everything on 127.0.0.1. For tests it also drops deleted data at
//! once and rolls and cleans its logs early, so that a suite's data stays bounded and compaction is seen to work.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cache;
use crate::config::Config;
use crate::console::Console;
use crate::error::{Error, Result};
use crate::health::{self, Health};
use crate::maven;
use crate::ports::Ports;
use crate::spec::Spec;

/// The version of the jars. Not 4.3.0 to 4.4.0: they lose decisions about transactions, see docs/decisions.md.
pub const VERSION: &str = "4.2.1";
/// The version that wrote data without a note of it.
const UNNOTED_VERSION: &str = "4.3.1";
const POM: &str = include_str!("../kafka/pom.xml");
const SUMS: &str = include_str!("../kafka/SHA256SUMS");
const LOG4J: &str = include_str!("../kafka/log4j2.properties");

/// Directory of the jars, downloaded on first use (54 MB).
pub fn fetch(console: &Console) -> Result<PathBuf> {
    let entry = cache::entry(&cache::root()?, "kafka", VERSION, console, |part| {
        console.say(format!("downloading Kafka {VERSION} (54 MB)"));
        let libs = part.join("libs");
        let arguments = ["-DincludeScope=runtime".to_string(), format!("-DoutputDirectory={}", libs.display())];
        maven::run(part, "Kafka", Some(POM), "copy-dependencies", &arguments)?;
        cache::verify_sums(&libs, SUMS)
    })?;
    Ok(entry.join("libs"))
}

/// Writes the configuration of the node into `dir`/kafka, and formats its storage if it has none.
pub fn prepare(config: &Config, java: &Path, libs: &Path) -> Result<()> {
    let dir = config.dir.join("kafka");
    let data = dir.join("data");
    fs::create_dir_all(&data).map_err(Error::io("create", &data))?;
    let properties = dir.join("server.properties");
    let text = server_properties(config.ports, &data, config.for_tests);
    fs::write(&properties, text).map_err(Error::io("write", &properties))?;
    let log4j = dir.join("log4j2.properties");
    fs::write(&log4j, LOG4J).map_err(Error::io("write", &log4j))?;
    let is_formatted = data.join("meta.properties").exists();
    let noted = dir.join("version");
    if is_formatted {
        permit(&data, &noted)?;
    }
    // Before the data, or what is ended in between would have data without a note.
    note_version(&noted)?;
    if is_formatted {
        return Ok(());
    }
    let log = config.log("kafka-format");
    let output = Command::new(java)
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(logging(config))
        .arg("-cp")
        .arg(class_path(libs))
        .args(["kafka.tools.StorageTool", "format", "--ignore-formatted"])
        .args(["-t", &uuid::Uuid::new_v4().to_string()])
        .arg("-c")
        .arg(&properties)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run", java))?;
    let said = [output.stdout, output.stderr].concat();
    fs::write(&log, said).map_err(Error::io("write", &log))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Step { what: "formatting Kafka's storage".into(), tail: health::tail(&log, 3), log })
}

/// Refuses data of a later version than ours, by the note beside it.
fn permit(data: &Path, noted: &Path) -> Result<()> {
    let written = match fs::read_to_string(noted) {
        Ok(written) => written.trim().to_string(),
        Err(error) if error.kind() == ErrorKind::NotFound => UNNOTED_VERSION.to_string(),
        Err(error) => return Err(Error::io("read", noted)(error)),
    };
    if is_newer(&written, VERSION) {
        return Err(Error::NewerData { dir: data.to_path_buf(), written, ours: VERSION.to_string() });
    }
    Ok(())
}

/// Whole or not at all.
fn note_version(noted: &Path) -> Result<()> {
    let part = noted.with_extension("part");
    fs::write(&part, VERSION).map_err(Error::io("write", &part))?;
    fs::rename(&part, noted).map_err(Error::io("rename", &part))
}

/// Of two versions whether the first is the later one. What is no version is not.
fn is_newer(written: &str, ours: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> { version.split('.').map_while(|number| number.parse().ok()).collect() };
    numbers(written) > numbers(ours)
}

/// The child.
pub fn spec(config: &Config, java: &Path, libs: &Path) -> Spec {
    let mut args: Vec<OsString> = vec!["-Xmx768m".into(), "-XX:+UseSerialGC".into()];
    if config.for_tests {
        // A short-lived broker never warms up: the first compiler alone costs a fraction of the CPU.
        args.push("-XX:TieredStopAtLevel=1".into());
    }
    args.push("-XX:+ExitOnOutOfMemoryError".into());
    args.extend(logging(config).map(OsString::from));
    args.extend(["-cp".into(), class_path(libs), "kafka.Kafka".into()]);
    args.push(config.dir.join("kafka/server.properties").into());
    Spec {
        name: "kafka".into(),
        program: java.to_path_buf(),
        args,
        env: Vec::new(),
        dir: config.dir.join("kafka"),
        log: config.log("kafka.out"),
        own_log: Some(config.log("kafka")),
        health: Health::Kafka(config.bootstrap()),
        ready_within: Duration::from_secs(60),
        patience: Duration::from_secs(20),
        stop_rank: Spec::stop_rank_of("kafka"),
    }
}

fn class_path(libs: &Path) -> OsString {
    libs.join("*").into()
}

fn logging(config: &Config) -> [String; 2] {
    [
        format!("-Dkontor.logs={}", config.dir.join("logs").display()),
        format!("-Dlog4j2.configurationFile={}", config.dir.join("kafka/log4j2.properties").display()),
    ]
}

/// The node's configuration.
pub fn server_properties(ports: Ports, data: &Path, for_tests: bool) -> String {
    let (broker, controller) = (ports.kafka(), ports.controller());
    let mut text = format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
",
        data = data.display()
    );
    text.push_str(COMMON);
    if for_tests {
        text.push_str(FOR_TESTS);
    }
    text
}

const COMMON: &str = "\
# One node: nothing can be replicated.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# Topics are declared in topics.yaml, never made by accident.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# After a kill the controller lets the node in again once its old session is over, so not the default of 9 s. But a disk
# that is busy with a build holds a flush up for two or three seconds, and a node without a session leads nothing.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=16777216
";

const FOR_TESTS: &str = "\
# Compaction and deletion within seconds.
log.roll.ms=10000
log.cleaner.backoff.ms=1000
log.cleaner.min.cleanable.ratio=0.01
log.segment.delete.delay.ms=1000
log.retention.check.interval.ms=5000
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;
    use std::collections::BTreeMap;

    fn settings(for_tests: bool) -> BTreeMap<String, String> {
        let ports = Ports::new(19_000).unwrap();
        server_properties(ports, Path::new("/d/kafka/data"), for_tests)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (key, value) = line.split_once('=').unwrap();
                (key.to_string(), value.to_string())
            })
            .collect()
    }

    #[test]
    fn the_node_listens_on_loopback_only() {
        let settings = settings(false);
        assert_eq!(settings["listeners"], "PLAINTEXT://127.0.0.1:19012,CONTROLLER://127.0.0.1:19013");
        assert_eq!(settings["log.dirs"], "/d/kafka/data");
        assert!(settings.values().all(|v| !v.contains("0.0.0.0") && !v.contains("localhost")));
    }

    #[test]
    fn every_replication_setting_suits_one_node() {
        let settings = settings(true);
        for (key, value) in settings.iter().filter(|(k, _)| k.contains("replica") || k.contains(".isr")) {
            assert_eq!(value, "1", "{key}");
        }
        assert_eq!(settings["auto.create.topics.enable"], "false");
    }

    #[test]
    fn only_the_broker_of_tests_hurries_its_cleaner() {
        assert!(!settings(false).contains_key("log.roll.ms"));
        assert_eq!(settings(true)["log.roll.ms"], "10000");
    }

    #[test]
    fn data_of_a_later_broker_is_known_by_its_number() {
        assert!(is_newer("4.3.1", "4.2.1") && is_newer("4.10.0", "4.9.9") && is_newer("4.2.1.1", "4.2.1"));
        assert!(!is_newer("4.2.1", "4.2.1") && !is_newer("4.2.0", "4.2.1") && !is_newer("", "4.2.1"));
    }

    #[test]
    fn data_that_this_broker_cannot_read_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("kafka/data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("meta.properties"), "").unwrap();
        let config = config(dir.path());
        let prepare = || prepare(&config, Path::new("java"), Path::new("libs"));
        let refused = prepare().unwrap_err().to_string();
        assert!(refused.contains(UNNOTED_VERSION) && refused.contains("--fresh"), "{refused}");
        fs::write(dir.path().join("kafka/version"), "4.0.0").unwrap();
        prepare().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("kafka/version")).unwrap(), VERSION);
    }

    #[test]
    fn the_list_of_sums_names_the_broker_of_this_version() {
        assert!(SUMS.contains(&format!("  kafka_2.13-{VERSION}.jar")));
        assert!(POM.contains(VERSION));
    }
}
