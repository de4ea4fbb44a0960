//! What a stack is asked to be: its directory, ports, parts. Resolved from the command line; everything else of the
//! crate takes it from here.

use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::ports::Ports;

/// One of the things that `up` starts or does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// The broker.
    Kafka,
    /// The schema registry.
    Registry,
    /// `topics apply`, once both are ready.
    Topics,
    /// Every processor.
    Processor,
    /// Every gateway.
    Gateway,
}

impl FromStr for PartKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "kafka" => PartKind::Kafka,
            "registry" => PartKind::Registry,
            "topics" => PartKind::Topics,
            "processor" => PartKind::Processor,
            "gateway" => PartKind::Gateway,
            other => {
                return Err(Error::Usage(format!(
                    "--only knows no {other:?}: it takes kafka, registry, topics, processor, gateway"
                )));
            }
        })
    }
}

/// Which parts a stack has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<PartKind>);

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        use PartKind::{Gateway, Kafka, Processor, Registry, Topics};
        Self(vec![Kafka, Registry, Topics, Processor, Gateway])
    }

    /// A list from the command line; refuses a part whose foundations are not in it.
    pub fn only(names: &[String]) -> Result<Self> {
        use PartKind::{Gateway, Kafka, Processor, Registry, Topics};
        let kinds: Vec<PartKind> = names.iter().map(|n| n.parse()).collect::<Result<_>>()?;
        for (part, needed) in [
            (Topics, [Kafka, Registry].as_slice()),
            (Processor, &[Kafka, Registry, Topics]),
            (Gateway, &[Kafka, Registry, Topics]),
        ] {
            if kinds.contains(&part) && !needed.iter().all(|n| kinds.contains(n)) {
                return Err(Error::Usage(format!("--only: {part:?} needs {needed:?} in the list too")));
            }
        }
        if kinds.is_empty() {
            return Err(Error::Usage("--only: the list is empty".into()));
        }
        Ok(Self(kinds))
    }

    /// Whether the part is among them.
    pub fn has(&self, kind: PartKind) -> bool {
        self.0.contains(&kind)
    }
}

/// Everything `up` needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Absolute.
    pub dir: PathBuf,
    /// All on 127.0.0.1.
    pub ports: Ports,
    /// Number of gateways, from 1.
    pub gateways: u16,
    /// Number of processors, from 1.
    pub instances: u16,
    /// What to start.
    pub parts: Selection,
    /// Put before every topic name.
    pub prefix: String,
    /// Broker settings for tests instead of those for use.
    pub for_tests: bool,
}

impl Config {
    /// `127.0.0.1:port` of Kafka.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.kafka())
    }

    /// Base address of the Confluent API.
    pub fn registry(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.ports.registry())
    }

    /// Where the programs of this stack were copied to.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// The stack's own copy of the declaration of topics.
    pub fn topics(&self) -> PathBuf {
        self.dir.join("topics.yaml")
    }

    /// `logs/<name>.log`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// Every port that will be opened, with the part it is for.
    pub fn ports_in_use(&self) -> Vec<(u16, String)> {
        let mut all = Vec::new();
        let ports = self.ports;
        if self.parts.has(PartKind::Gateway) {
            all.extend((1..=self.gateways).map(|n| (ports.gateway(n), format!("gateway-{n}"))));
        }
        if self.parts.has(PartKind::Processor) {
            for n in 1..=self.instances {
                all.push((ports.processor_http(n), format!("processor-{n} (http)")));
                all.push((ports.processor_grpc(n), format!("processor-{n} (grpc)")));
            }
        }
        if self.parts.has(PartKind::Kafka) {
            all.push((ports.kafka(), "kafka".into()));
            all.push((ports.controller(), "kafka's controller".into()));
        }
        if self.parts.has(PartKind::Registry) {
            all.push((ports.registry(), "registry".into()));
            all.push((ports.registry_management(), "registry (management)".into()));
        }
        all
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;

    pub(crate) fn config(dir: &Path) -> Config {
        Config {
            dir: dir.to_path_buf(),
            ports: Ports::new(19_000).unwrap(),
            gateways: 2,
            instances: 2,
            parts: Selection::all(),
            prefix: String::new(),
            for_tests: false,
        }
    }

    #[test]
    fn a_selection_needs_its_foundations() {
        for (list, ok) in [
            ("kafka", true),
            ("registry", true),
            ("kafka,registry,topics", true),
            ("kafka,registry,topics,gateway", true),
            ("kafka,topics", false),
            ("processor", false),
            ("kafka,zookeeper", false),
            ("", false),
        ] {
            let names: Vec<String> = list.split(',').map(str::to_string).collect();
            assert_eq!(Selection::only(&names).is_ok(), ok, "{list}");
        }
        assert!(Selection::only(&[]).is_err());
    }

    #[test]
    fn only_the_ports_of_the_selected_parts_are_checked() {
        let mut config = config(Path::new("/x"));
        assert_eq!(config.ports_in_use().len(), 10);
        config.parts = Selection::only(&["kafka".into()]).unwrap();
        let ports: Vec<u16> = config.ports_in_use().into_iter().map(|p| p.0).collect();
        assert_eq!(ports, [19_012, 19_013]);
    }
}
