//! Where the stack under load is: its `stack.json`, as far as a driver needs it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::usage::Watched;

/// What a driver needs to know of a running stack.
#[derive(Clone, Debug, Deserialize)]
pub struct Stack {
    /// Kafka, host:port.
    pub bootstrap: String,
    /// Base address of the registry's Confluent API.
    pub registry: String,
    /// What topic names start with.
    #[serde(default)]
    pub prefix: String,
    /// topics.yaml of the stack.
    #[serde(default)]
    pub topics: Option<PathBuf>,
    /// Directory of the stack.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// The processors.
    #[serde(default)]
    pub processors: Vec<Part>,
    /// The gateways.
    #[serde(default)]
    pub gateways: Vec<Part>,
    /// The broker.
    #[serde(default)]
    pub kafka: Option<Part>,
}

/// One process of the stack.
#[derive(Clone, Debug, Deserialize)]
pub struct Part {
    /// Absent while it does not run.
    #[serde(default)]
    pub pid: Option<i32>,
    /// `http://host:port`, where it serves HTTP.
    #[serde(default)]
    pub http: Option<String>,
    /// The same for gRPC.
    #[serde(default)]
    pub grpc: Option<String>,
}

/// Why a stack cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No such file, most often because nothing runs.
    #[error("cannot read {path}: start the stack with compose/up, or name its directory with --stack")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not what a stack writes.
    #[error("{path} is no stack.json")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A process that the run needs does not run.
    #[error("the stack has no running {0}")]
    Missing(&'static str),
}

impl Stack {
    /// Reads `at`, the file or its directory.
    pub fn load(at: &Path) -> Result<Stack, StackError> {
        let path = if at.is_dir() { at.join("stack.json") } else { at.to_owned() };
        let text = std::fs::read_to_string(&path).map_err(|source| StackError::Read { path: path.clone(), source })?;
        serde_json::from_str(&text).map_err(|source| StackError::Parse { path, source })
    }

    /// Everything whose CPU time counts, this process last. The processors have one entry together, so that reports
    /// compare whatever their number; several have one each too.
    pub fn processes(&self) -> Vec<Watched> {
        let processors = numbered("processor", &self.processors);
        let mut all = Vec::new();
        if !processors.is_empty() {
            let pids = processors.iter().map(|(_, pid)| *pid).collect();
            all.push(Watched { name: "processor".to_owned(), pids, within: None });
        }
        if self.processors.len() > 1 {
            let within = Some("processor".to_owned());
            let each = |(name, pid): (String, i32)| Watched { within: within.clone(), ..Watched::one(&name, pid) };
            all.extend(processors.into_iter().map(each));
        }
        let gateways = numbered("gateway", &self.gateways);
        all.extend(gateways.into_iter().map(|(name, pid)| Watched::one(&name, pid)));
        let broker = self.kafka.as_ref().and_then(|part| part.pid);
        all.extend(broker.map(|pid| Watched::one("broker", pid)));
        all.extend(i32::try_from(std::process::id()).map(|pid| Watched::one("driver", pid)));
        all
    }

    /// Addresses of the processors' metrics.
    pub fn processor_addresses(&self) -> impl Iterator<Item = &str> {
        self.processors.iter().filter_map(|part| part.http.as_deref())
    }

    /// Addresses of the gateways.
    pub fn gateway_addresses(&self) -> Result<Vec<String>, StackError> {
        let all: Vec<String> = self.gateways.iter().filter_map(|gateway| gateway.http.clone()).collect();
        if all.is_empty() { Err(StackError::Missing("gateway")) } else { Ok(all) }
    }
}

/// Names and process ids of those that run.
fn numbered(kind: &str, parts: &[Part]) -> Vec<(String, i32)> {
    let named = |(place, part): (usize, &Part)| Some((format!("{kind}-{}", place + 1), part.pid?));
    parts.iter().enumerate().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(processors: &str) -> Stack {
        let text = format!(
            r#"{{"phase":"ready","bootstrap":"127.0.0.1:9092","registry":"http://127.0.0.1:8081/apis/ccompat/v7",
            "processors":[{processors}],
            "gateways":[{{"pid":2,"log":"g.log","http":"http://127.0.0.1:3"}},{{"pid":null,"log":"g2.log"}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn more_than_is_needed_and_less_than_everything_is_fine() {
        let stack = stack(r#"{"pid":1,"log":"p.log","http":"http://127.0.0.1:1","grpc":"http://127.0.0.1:2"}"#);
        let names: Vec<String> = stack.processes().into_iter().map(|watched| watched.name).collect();
        assert_eq!(names, ["processor", "gateway-1", "driver"]);
        assert_eq!(stack.gateway_addresses().unwrap(), ["http://127.0.0.1:3"]);
        assert_eq!(stack.processor_addresses().collect::<Vec<_>>(), ["http://127.0.0.1:1"]);
    }

    #[test]
    fn several_processors_have_one_entry_together_and_one_each() {
        let part = |pid: &str| format!(r#"{{"pid":{pid},"http":"http://127.0.0.1:1"}}"#);
        let stack = stack(&[part("11"), part("null"), part("13")].join(","));
        let processes = stack.processes();
        let within = Some("processor".to_owned());
        let expected = [
            Watched { name: "processor".into(), pids: vec![11, 13], within: None },
            Watched { within: within.clone(), ..Watched::one("processor-1", 11) },
            Watched { within, ..Watched::one("processor-3", 13) },
            Watched::one("gateway-1", 2),
        ];
        assert_eq!(processes[..4], expected);
        assert_eq!(stack.processor_addresses().count(), 3);
    }

    #[test]
    fn a_missing_stack_names_the_way_out() {
        let error = Stack::load(Path::new("/nowhere/stack.json")).unwrap_err();
        assert!(error.to_string().contains("compose/up"), "{error}");
    }
}
