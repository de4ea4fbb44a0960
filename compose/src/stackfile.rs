//! `stack.json`: every address and every process of a stack, for people, scripts, tests and the next `up` or `down`.
//! Written anew at each change, by rename, so that a reader never sees half of it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::process::Process;

/// Name of the file within the directory of the stack.
pub const NAME: &str = "stack.json";
/// Name of the file that a supervisor locks.
pub const LOCK_NAME: &str = ".lock";
/// Name of one that could not be read.
const BROKEN_NAME: &str = "stack.json.broken";

/// How far the stack is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    #[default]
    /// The supervisor runs; not every part is ready.
    Starting,
    /// Every part was ready.
    Ready,
    /// It was stopped, or its start failed.
    Stopped,
}

/// One process of the stack. Process ids are absent before its first start and after its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Process id.
    pub pid: Option<i32>,
    /// Start time of that pid in clock ticks: tells it from a later process with the same number.
    pub started_ticks: Option<u64>,
    /// How often it died and was started again.
    #[serde(default)]
    pub restarts: u32,
    /// Whether it has answered its probe since it was started.
    #[serde(default)]
    pub ready: bool,
    /// What it says.
    pub log: PathBuf,
    /// `http://127.0.0.1:port`, for what serves HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// `http://127.0.0.1:port`, for the query service of a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
}

impl Part {
    /// The process, if one was started.
    pub fn process(&self) -> Option<Process> {
        Some(Process { pid: self.pid?, started_ticks: self.started_ticks? })
    }

    /// Forgets the process after its end.
    pub fn forget_process(&mut self) {
        self.pid = None;
        self.started_ticks = None;
        self.ready = false;
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFile {
    /// How far it is.
    pub phase: Phase,
    /// Absolute.
    pub dir: PathBuf,
    /// First port of its span.
    pub port_base: u16,
    /// Put before every topic name.
    pub prefix: String,
    /// Path of the topics.yaml that the stack uses.
    pub topics: PathBuf,
    /// `127.0.0.1:port` of Kafka.
    pub bootstrap: String,
    /// Base address of the registry's Confluent API.
    pub registry: String,
    /// The process that watches the others.
    pub supervisor: Part,
    /// The broker.
    pub kafka: Part,
    /// The process of the registry.
    pub registry_process: Part,
    /// The processors, the first one first.
    #[serde(default)]
    pub processors: Vec<Part>,
    /// The gateways, the first one first.
    #[serde(default)]
    pub gateways: Vec<Part>,
}

impl StackFile {
    /// Path of the file of the stack in `dir`.
    pub fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// None when there is no file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::Broken {
            what: "stack.json",
            path: path.to_path_buf(),
            cause: error.to_string(),
            way_out: "compose/up and compose/down put it aside where a stack was started; else choose another --dir",
        })
    }

    /// Whether a stack was ever started in `dir`: what it contains may then be a stack's. Other programs have a
    /// `stack.json` too; the lock is only taken where nothing was in the way.
    pub fn is_of_stack(dir: &Path) -> bool {
        dir.join(LOCK_NAME).exists() || matches!(Self::read(&Self::path(dir)), Ok(Some(_)))
    }

    /// Puts a file of a stack aside that nobody can read, as a power cut may leave one. Gives why, if it did.
    pub fn put_aside_broken(dir: &Path) -> Result<Option<Error>> {
        let path = Self::path(dir);
        match Self::read(&path) {
            Err(broken @ Error::Broken { .. }) if Self::is_of_stack(dir) => {
                fs::rename(&path, dir.join(BROKEN_NAME)).map_err(Error::io("rename", &path))?;
                Ok(Some(broken))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file into the directory of the stack.
    pub fn write(&self) -> Result<()> {
        let path = Self::path(&self.dir);
        let part = self.dir.join(format!("{NAME}.part"));
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        // A rename can reach the disk before what was written.
        let written =
            File::create(&part).and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(Error::io("write", &part))?;
        fs::rename(&part, &path).map_err(Error::io("write", &path))
    }

    /// Every part but the supervisor with its name, in the order in which they are stopped.
    pub fn parts(&self) -> Vec<(String, &Part)> {
        let mut all = Vec::new();
        for (kind, parts) in [("gateway", &self.gateways), ("processor", &self.processors)] {
            all.extend(parts.iter().enumerate().map(|(i, part)| (format!("{kind}-{}", i + 1), part)));
        }
        all.push(("registry".to_string(), &self.registry_process));
        all.push(("kafka".to_string(), &self.kafka));
        all
    }

    /// The part of that name: `gateway-1`, `processor-1`, `registry`, `kafka`.
    pub fn part_mut(&mut self, name: &str) -> Option<&mut Part> {
        match name {
            "kafka" => Some(&mut self.kafka),
            "registry" => Some(&mut self.registry_process),
            _ => {
                let (kind, number) = name.split_once('-')?;
                let parts = match kind {
                    "gateway" => &mut self.gateways,
                    "processor" => &mut self.processors,
                    _ => return None,
                };
                parts.get_mut(number.parse::<usize>().ok()?.checked_sub(1)?)
            }
        }
    }

    /// Removes a processor that left. Names are places in the list, so only the last one leaves it.
    pub fn remove(&mut self, name: &str) {
        if name == format!("processor-{}", self.processors.len()) {
            self.processors.pop();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(dir: &Path) -> StackFile {
        StackFile {
            phase: Phase::Ready,
            dir: dir.to_path_buf(),
            port_base: 8180,
            prefix: "a.".into(),
            topics: dir.join("topics.yaml"),
            bootstrap: "127.0.0.1:8192".into(),
            registry: "http://127.0.0.1:8194/apis/ccompat/v7".into(),
            supervisor: Part::default(),
            kafka: Part { pid: Some(7), started_ticks: Some(99), ..Part::default() },
            registry_process: Part::default(),
            processors: vec![Part { grpc: Some("http://127.0.0.1:8191".into()), ..Part::default() }, Part::default()],
            gateways: vec![Part::default(), Part::default()],
        }
    }

    #[test]
    fn the_file_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let written = sample(dir.path());
        written.write().unwrap();
        let path = StackFile::path(dir.path());
        assert_eq!(StackFile::read(&path).unwrap(), Some(written));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no .part is left");
    }

    #[test]
    fn no_file_is_no_stack_and_a_broken_one_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = StackFile::path(dir.path());
        assert_eq!(StackFile::read(&path).unwrap(), None);
        fs::write(&path, "{\"phase\":").unwrap();
        let message = StackFile::read(&path).unwrap_err().to_string();
        assert!(message.contains("stack.json") && message.contains("compose/up"), "{message}");
    }

    #[test]
    fn gateways_stop_first_and_kafka_last() {
        let file = sample(Path::new("/x"));
        let names: Vec<String> = file.parts().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["gateway-1", "gateway-2", "processor-1", "processor-2", "registry", "kafka"]);
    }

    #[test]
    fn only_the_last_processor_is_removed() {
        let mut file = sample(Path::new("/x"));
        for (name, left) in [("processor-1", 2), ("gateway-2", 2), ("processor-2", 1), ("processor-1", 0)] {
            file.remove(name);
            assert_eq!((file.processors.len(), file.gateways.len()), (left, 2), "{name}");
        }
        file.remove("processor-0");
    }

    #[test]
    fn parts_are_found_by_name() {
        let mut file = sample(Path::new("/x"));
        for (name, there) in [
            ("kafka", true),
            ("registry", true),
            ("processor-1", true),
            ("processor-2", true),
            ("processor-3", false),
            ("processor", false),
            ("gateway-2", true),
            ("gateway-3", false),
            ("gateway-0", false),
            ("gateway-x", false),
            ("topics", false),
        ] {
            assert_eq!(file.part_mut(name).is_some(), there, "{name}");
        }
    }
}
