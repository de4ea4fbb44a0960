//! A real broker and a real registry, and in them a prefix for each test whose topics are gone when it ends.

use std::fs;
use std::future::Future;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use schemas::topics::{Target, Topology};

/// Where the suite's broker and registry are.
pub fn target() -> Target {
    let path = std::env::var("KONTOR_TEST_STACK")
        .expect("KONTOR_TEST_STACK is not set: run the tests with compose/test, which starts Kafka and the registry");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("KONTOR_TEST_STACK={path}: {error}"));
    let stack: serde_json::Value = serde_json::from_str(&text).unwrap();
    let field = |name: &str| stack[name].as_str().unwrap_or_else(|| panic!("{path} has no {name}")).to_owned();
    Target::new(field("bootstrap"), field("registry"))
}

/// What is waited for has come within this time, or the test fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The declaration of this repository under a prefix.
pub fn topology(prefix: &str) -> Topology {
    topology_with(prefix, "")
}

/// The same with more topics at its end.
pub fn topology_with(prefix: &str, more: &str) -> Topology {
    let ours = fs::read_to_string("../topics.yaml").unwrap();
    Topology::parse(&format!("{ours}{more}")).unwrap().with_prefix(prefix)
}

/// Runs a test under its own prefix, and deletes its topics however it ends.
pub async fn in_own_prefix<F>(name: &str, test: impl FnOnce(Target, Topology) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let target = target();
    let prefix = format!("t{}-schemas-{name}.", std::process::id());
    let done = tokio::spawn(test(target.clone(), topology(&prefix))).await;
    let broker = Broker::of(&target);
    let left: Vec<String> = broker.topics().into_iter().filter(|topic| topic.starts_with(&prefix)).collect();
    broker.delete(&left).await;
    forget_subjects(&target, &prefix).await;
    if let Err(error) = done {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// So that the registry of a suite that runs for days stays small.
async fn forget_subjects(target: &Target, prefix: &str) {
    let http = reqwest::Client::new();
    let all = http.get(format!("{}/subjects", target.registry)).send().await.unwrap().text().await.unwrap();
    let all: Vec<String> = serde_json::from_str(&all).unwrap();
    for subject in all.iter().filter(|subject| subject.starts_with(prefix)) {
        let url = format!("{}/subjects/{subject}", target.registry);
        // A subject is only marked at first.
        for url in [url.clone(), format!("{url}?permanent=true")] {
            drop(http.delete(url).send().await.unwrap());
        }
    }
}

/// Kafka past our own code, to prepare and to look.
pub struct Broker(AdminClient<DefaultClientContext>);

impl Broker {
    pub fn of(target: &Target) -> Self {
        Self(ClientConfig::new().set("bootstrap.servers", &target.bootstrap).create().unwrap())
    }

    pub fn topics(&self) -> Vec<String> {
        let metadata = self.0.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
        metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
    }

    pub async fn create(&self, topic: &str, partitions: i32) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        self.0.create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        let started = Instant::now();
        while !self.topics().iter().any(|name| name == topic) {
            assert!(started.elapsed() < Duration::from_secs(10), "{topic} does not appear");
        }
    }

    /// Replaces all of a topic's own settings.
    pub async fn set(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (key, value) in settings {
            alter = alter.set(key, value);
        }
        self.0.alter_configs([&alter], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    }

    pub async fn setting(&self, topic: &str, key: &str) -> String {
        let resource = ResourceSpecifier::Topic(topic);
        let found = self.0.describe_configs([&resource], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        found.get(key).unwrap().value.clone().unwrap()
    }

    pub async fn delete(&self, topics: &[String]) {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        if !names.is_empty() {
            self.0.delete_topics(&names, &AdminOptions::new()).await.unwrap();
        }
    }
}
