//! What integration tests stand on: one real broker and registry for a whole suite, and in it for each test a name
//! space of its own with topics, directories and processes that may be killed.
//!
//! `compose/test` starts the broker once and names its `stack.json` in `KONTOR_TEST_STACK`. Nothing skips a test
//! because there is none: that is an error which says what to do. A test that ends or cuts its broker starts a [`Broker`]
//! of its own beside it.
//!
//! ```no_run
//! # async fn test() -> kontor_compose::Result<()> {
//! use std::time::Duration;
//! let space = kontor_compose::TestStack::shared()?.namespace("transfers").await?;
//! let mut processor = space.processor("p1").start()?;
//! processor.wait_ready(Duration::from_secs(20)).await?;
//! let mut gateway = space.gateway("g1", &[&processor]).start()?;
//! gateway.wait_ready(Duration::from_secs(20)).await?;
//! let answer = gateway.graphql().data("{ __typename }", serde_json::json!({})).await?;
//! processor.kill9();
//!
//! // Two that share the shards, and a gateway that finds them.
//! let space = kontor_compose::TestStack::shared()?.namespace("two").await?;
//! let mut two = [space.instance("a").start()?, space.instance("b").start()?];
//! kontor_compose::testing::all_ready(&mut two, Duration::from_secs(20)).await?;
//! let mut gateway = space.gateway("g1", &[]).start()?;
//! # Ok(()) }
//! ```

mod audit;
mod broker;
mod chromium;
mod graphql;
mod namespace;
mod proxy;
mod service;
mod topic;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use broker::Broker;
pub use chromium::{BROWSER_ARGUMENTS, ChromiumDriver};
pub use graphql::GraphQl;
pub use namespace::{Namespace, NamespaceOptions};
pub use proxy::{Proxy, Way};
pub use service::{Service, ServiceBuilder, all_ready};
pub use topic::{Isolation, Record, Sender, delete_topics, list_topics, read_topic};
pub use wait::{eventually, eventually_some};

use crate::error::{Error, Result};
use crate::stackfile::StackFile;

/// Names the `stack.json` of the suite's broker and registry.
pub const STACK_VARIABLE: &str = "KONTOR_TEST_STACK";
/// Names the directory of the programs under test, if it is not the target directory of the test itself.
pub const BIN_VARIABLE: &str = "KONTOR_BIN_DIR";

/// The number in this environment variable, or `usual`: the same test as a check and as a campaign.
pub fn wanted(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The broker and the registry that a suite of tests shares.
#[derive(Debug, Clone)]
pub struct TestStack {
    /// `127.0.0.1:port` of Kafka.
    pub bootstrap: String,
    /// Base address of the registry's Confluent API.
    pub registry: String,
    /// Directory of the stack; tests keep theirs under `tests/`.
    pub dir: PathBuf,
    /// Directory of the programs under test.
    pub bin: PathBuf,
    /// The declaration of topics of this repository.
    pub topics: PathBuf,
}

impl TestStack {
    /// The suite's stack. On first use, topics that killed test processes left behind are deleted.
    ///
    /// # Errors
    /// When `KONTOR_TEST_STACK` is not set, or what it names does not run.
    pub fn shared() -> Result<&'static TestStack> {
        static SHARED: OnceLock<std::result::Result<TestStack, String>> = OnceLock::new();
        let open = || {
            let stack = Self::from_environment()?;
            namespace::delete_left_over(&stack.bootstrap)?;
            Ok(stack)
        };
        SHARED
            .get_or_init(|| open().map_err(|error: Error| error.to_string()))
            .as_ref()
            .map_err(|message| Error::Usage(message.clone()))
    }

    fn from_environment() -> Result<TestStack> {
        let path = std::env::var_os(STACK_VARIABLE).ok_or_else(|| {
            Error::Usage(format!(
                "{STACK_VARIABLE} is not set: run the tests through compose/test, or start a broker with \
                 `stack up --only kafka,registry --for-tests --detach --dir D` and set it to D/stack.json"
            ))
        })?;
        Self::of_file(Path::new(&path))
    }

    /// The stack that a `stack.json` describes; its broker must be among its parts.
    pub fn of_file(path: &Path) -> Result<TestStack> {
        let file = StackFile::read(path)?
            .ok_or_else(|| Error::Usage(format!("{}: no such file: {STACK_VARIABLE} names it", path.display())))?;
        for (name, part) in [("kafka", &file.kafka), ("registry", &file.registry_process)] {
            if !part.process().is_some_and(crate::process::Process::is_alive) {
                return Err(Error::Usage(format!(
                    "{}: its {name} does not run: start the stack again",
                    path.display()
                )));
            }
        }
        Ok(TestStack {
            bootstrap: file.bootstrap,
            registry: file.registry,
            dir: file.dir,
            bin: bin_dir()?,
            topics: topics_file()?,
        })
    }

    /// A name space with the topics of topics.yaml as they are declared.
    pub async fn namespace(&self, name: &str) -> Result<Namespace> {
        self.namespace_with(name, NamespaceOptions::default()).await
    }

    /// A name space with other numbers of partitions and shards, or other settings of topics.
    pub async fn namespace_with(&self, name: &str, options: NamespaceOptions) -> Result<Namespace> {
        Namespace::create(self, name, &options).await
    }
}

/// Tests run in the directory of their package. It is asked for at run time: programs outlive the clone that built them.
fn topics_file() -> Result<PathBuf> {
    let path = Path::new("../topics.yaml");
    path.canonicalize().map_err(|error| Error::Usage(format!("{}: {error}: run tests through cargo", path.display())))
}

/// `KONTOR_BIN_DIR`, else the directory above the test's own (`target/release` for `target/release/deps/test`).
fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os(BIN_VARIABLE).filter(|v| !v.is_empty()) {
        return Ok(dir.into());
    }
    let me = std::env::current_exe().map_err(Error::io("find", Path::new("this program")))?;
    let beside = me.parent().unwrap_or(Path::new("/"));
    Ok(match beside.file_name() {
        Some(name) if name == "deps" => beside.parent().unwrap_or(beside).to_path_buf(),
        _ => beside.to_path_buf(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;
    use crate::stackfile::tests::sample;

    #[test]
    fn a_stack_that_does_not_run_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = StackFile::path(dir.path());
        let message = |path: &Path| TestStack::of_file(path).unwrap_err().to_string();
        assert!(message(&path).contains("no such file"));
        let mut file = sample(dir.path());
        file.write().unwrap();
        assert!(message(&path).contains("its kafka does not run"));
        let me = Process::current().unwrap();
        for part in [&mut file.kafka, &mut file.registry_process] {
            part.pid = Some(me.pid);
            part.started_ticks = Some(me.started_ticks);
        }
        file.write().unwrap();
        assert_eq!(TestStack::of_file(&path).unwrap().bootstrap, "127.0.0.1:8192");
    }

    #[test]
    fn programs_are_looked_for_above_the_tests() {
        let bin = bin_dir().unwrap();
        assert_ne!(bin.file_name().unwrap(), "deps");
    }
}
