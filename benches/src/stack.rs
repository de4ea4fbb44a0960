//! Where the stack under load is: its `stack.json`, as far as a driver needs it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

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
    /// The processor.
    #[serde(default)]
    pub processor: Option<Part>,
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

    /// Names and process ids of everything whose CPU time counts, this process last.
    pub fn processes(&self) -> Vec<(String, i32)> {
        let one = |name: &str, part: &Option<Part>| part.as_ref().and_then(|part| Some((name.to_owned(), part.pid?)));
        let mut all: Vec<(String, i32)> = one("processor", &self.processor).into_iter().collect();
        for (number, gateway) in self.gateways.iter().enumerate() {
            all.extend(gateway.pid.map(|pid| (format!("gateway-{}", number + 1), pid)));
        }
        all.extend(one("broker", &self.kafka));
        all.extend(i32::try_from(std::process::id()).map(|pid| ("driver".to_owned(), pid)));
        all
    }

    /// Addresses of the gateways.
    pub fn gateway_addresses(&self) -> Result<Vec<String>, StackError> {
        let all: Vec<String> = self.gateways.iter().filter_map(|gateway| gateway.http.clone()).collect();
        if all.is_empty() { Err(StackError::Missing("gateway")) } else { Ok(all) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_needed_and_less_than_everything_is_fine() {
        let text = r#"{"phase":"ready","bootstrap":"127.0.0.1:9092","registry":"http://127.0.0.1:8081/apis/ccompat/v7",
            "processor":{"pid":1,"log":"p.log","http":"http://127.0.0.1:1","grpc":"http://127.0.0.1:2"},
            "gateways":[{"pid":2,"log":"g.log","http":"http://127.0.0.1:3"},{"pid":null,"log":"g2.log"}]}"#;
        let stack: Stack = serde_json::from_str(text).unwrap();
        let names: Vec<String> = stack.processes().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["processor", "gateway-1", "driver"]);
        assert_eq!(stack.gateway_addresses().unwrap(), ["http://127.0.0.1:3"]);
    }

    #[test]
    fn a_missing_stack_names_the_way_out() {
        let error = Stack::load(Path::new("/nowhere/stack.json")).unwrap_err();
        assert!(error.to_string().contains("compose/up"), "{error}");
    }
}
