//! What is really there: brokers, topics and their settings, read and changed through Kafka's admin protocol.
//!
//! One attempt each; who calls decides about trying again ([`ClusterError::is_transient`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::util::Timeout;

use super::compare::ConfigChange;
use super::subjects::SubjectState;

/// The cluster and the registry that are meant.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port[,host:port]` of Kafka.
    pub bootstrap: String,
    /// Base address of the registry's Confluent API.
    pub registry: String,
    /// How long to try in all.
    pub timeout_ms: u64,
    /// Further settings of the Kafka client, such as those of a login.
    pub client: BTreeMap<String, String>,
}

impl Target {
    /// Tries for 30 s, without a login.
    pub fn new(bootstrap: impl Into<String>, registry: impl Into<String>) -> Self {
        Self { bootstrap: bootstrap.into(), registry: registry.into(), timeout_ms: 30_000, client: BTreeMap::new() }
    }
}

/// The cluster at one moment, as far as it matters to a declaration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// Brokers that are up.
    pub brokers: usize,
    /// All topics; settings only of declared ones.
    pub topics: BTreeMap<String, ActualTopic>,
    /// Declared subjects.
    pub subjects: BTreeMap<String, SubjectState>,
}

/// One topic of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActualTopic {
    /// Number of partitions.
    pub partitions: i32,
    /// Fewest replicas of any of them.
    pub replication: i32,
    /// Settings in force, the broker's defaults included.
    pub config: BTreeMap<String, String>,
}

/// Kafka did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nobody answers. Worth a retry.
    #[error(
        "no Kafka broker answers at {bootstrap}, is it running and is the address right (--bootstrap, KONTOR_BOOTSTRAP)?"
    )]
    Unreachable {
        /// As configured.
        bootstrap: String,
        /// What the client says.
        source: KafkaError,
    },
    /// The client refuses its settings. Not worth a retry.
    #[error("settings of the Kafka client are wrong")]
    Client(#[source] KafkaError),
    /// The broker refuses. Worth a retry for some reasons.
    #[error("Kafka refuses to {what}: {code}")]
    Refused {
        /// "create topic x"
        what: String,
        /// Why.
        code: RDKafkaErrorCode,
    },
}

impl ClusterError {
    /// Whether the same may work a moment later.
    pub fn is_transient(&self) -> bool {
        use RDKafkaErrorCode as Code;
        match self {
            Self::Unreachable { .. } => true,
            Self::Client(_) => false,
            Self::Refused { code, .. } => matches!(
                code,
                Code::OperationTimedOut
                    | Code::RequestTimedOut
                    | Code::BrokerTransportFailure
                    | Code::AllBrokersDown
                    | Code::NotController
                    | Code::LeaderNotAvailable
                    | Code::CoordinatorNotAvailable
                    | Code::NetworkException
                    | Code::UnknownTopicOrPartition
                    | Code::InvalidReplicationFactor
                    | Code::ThrottlingQuotaExceeded
            ),
        }
    }
}

/// Id that the cluster drew when it was formatted; another id means other data under the same address.
pub async fn cluster_id(target: &Target) -> Result<String, ClusterError> {
    let cluster = Cluster::connect(target)?;
    let id = cluster.blocking(|admin| Ok(fetch_cluster_id(admin.inner(), CALL))).await?;
    id.ok_or_else(|| ClusterError::Unreachable {
        bootstrap: target.bootstrap.clone(),
        source: KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut),
    })
}

/// The cluster id by an existing client; `None`: nobody answered in time. Blocks for up to `limit`.
///
/// librdkafka's own call only waits for the answer that a client gets by itself when it connects. It can miss that
/// answer (it looks and then waits without holding a lock in between), and the answer can be lost with the bootstrap
/// connection, which closes once the brokers are known; then nothing asks again for five minutes. So this one asks.
pub fn fetch_cluster_id<C: ClientContext>(client: &Client<C>, limit: Duration) -> Option<String> {
    const LOOK: Duration = Duration::from_millis(50);
    const ASK: Duration = Duration::from_secs(1);
    let started = Instant::now();
    loop {
        let id = client.fetch_cluster_id(LOOK.min(limit));
        let left = limit.saturating_sub(started.elapsed());
        if id.is_some() || left.is_zero() {
            return id;
        }
        if let Err(error) = client.fetch_metadata(None, ASK.min(left)) {
            tracing::warn!(%error, "the broker does not answer yet");
        }
    }
}

/// One call.
const CALL: Duration = Duration::from_secs(5);

/// An admin client. Its blocking calls, and its end, happen on threads that may block.
pub(super) struct Cluster {
    bootstrap: String,
    admin: Option<Arc<AdminClient<DefaultClientContext>>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Closing waits for the client's own thread, which no runtime thread should.
        let admin = self.admin.take();
        // Without a thread it is dropped here, and waits after all.
        let _ = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(admin));
    }
}

impl Cluster {
    pub(super) fn connect(target: &Target) -> Result<Self, ClusterError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &target.bootstrap).set("client.id", "kontor-topics");
        // A broker that is just starting is asked again soon.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
        for (key, value) in &target.client {
            config.set(key, value);
        }
        let admin = config.create().map_err(ClusterError::Client)?;
        Ok(Self { bootstrap: target.bootstrap.clone(), admin: Some(Arc::new(admin)) })
    }

    /// Brokers and topics; settings of the topics in `described` only.
    pub(super) async fn state(&self, described: &[&str]) -> Result<ClusterState, ClusterError> {
        let mut state = self
            .blocking(|admin| {
                let metadata = admin.inner().fetch_metadata(None, CALL)?;
                let topics = metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| {
                    let partitions = topic.partitions();
                    let replication = partitions.iter().map(|partition| partition.replicas().len()).min();
                    let actual = ActualTopic {
                        partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                        replication: i32::try_from(replication.unwrap_or(0)).unwrap_or(i32::MAX),
                        config: BTreeMap::new(),
                    };
                    (topic.name().to_owned(), actual)
                });
                Ok(ClusterState {
                    brokers: metadata.brokers().len(),
                    topics: topics.collect(),
                    subjects: BTreeMap::new(),
                })
            })
            .await?;
        let present: Vec<&str> = described.iter().copied().filter(|name| state.topics.contains_key(*name)).collect();
        for (name, settings) in self.settings(&present).await? {
            if let Some(topic) = state.topics.get_mut(&name) {
                topic.config = settings.into_iter().map(|(key, (value, _))| (key, value)).collect();
            }
        }
        Ok(state)
    }

    pub(super) async fn create(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        config: &BTreeMap<String, String>,
    ) -> Result<(), ClusterError> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
        for (key, value) in config {
            new = new.set(key, value);
        }
        let what = format!("create topic {topic}");
        match self.first(&what, self.admin()?.create_topics([&new], &options()).await) {
            // Somebody was faster; whether it is the same topic shows when it is compared.
            Err(ClusterError::Refused { code: RDKafkaErrorCode::TopicAlreadyExists, .. }) => Ok(()),
            other => other,
        }
    }

    /// Changes some settings. The request that the client offers replaces all of a topic's own settings, so those in
    /// force are read first and sent along; who changes one at the same moment may lose it.
    pub(super) async fn alter(&self, topic: &str, changes: &[ConfigChange]) -> Result<(), ClusterError> {
        let mut own: BTreeMap<String, String> = BTreeMap::new();
        for (_, settings) in self.settings(&[topic]).await? {
            own.extend(settings.into_iter().filter(|(_, (_, is_own))| *is_own).map(|(key, (value, _))| (key, value)));
        }
        own.extend(changes.iter().map(|change| (change.key.clone(), change.to.clone())));
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (key, value) in &own {
            alter = alter.set(key, value);
        }
        let what = format!("change settings of topic {topic}");
        let results =
            self.admin()?.alter_configs([&alter], &options()).await.map_err(|error| self.unreachable(error))?;
        for result in results {
            result.map_err(|(_, code)| ClusterError::Refused { what: what.clone(), code })?;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, topic: &str) -> Result<(), ClusterError> {
        let what = format!("delete topic {topic}");
        match self.first(&what, self.admin()?.delete_topics(&[topic], &options()).await) {
            Err(ClusterError::Refused { code: RDKafkaErrorCode::UnknownTopicOrPartition, .. }) => Ok(()),
            other => other,
        }
    }

    /// Per topic: setting, value, whether it is the topic's own.
    async fn settings(&self, topics: &[&str]) -> Result<Settings, ClusterError> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resources: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let results =
            self.admin()?.describe_configs(&resources, &options()).await.map_err(|error| self.unreachable(error))?;
        let mut found = BTreeMap::new();
        for (topic, result) in topics.iter().zip(results) {
            let what = format!("tell the settings of topic {topic}");
            let resource = result.map_err(|code| ClusterError::Refused { what, code })?;
            let settings = resource.entries.into_iter().filter_map(|entry| {
                let is_own = entry.source == ConfigSource::DynamicTopic;
                entry.value.map(|value| (entry.name, (value, is_own)))
            });
            found.insert((*topic).to_owned(), settings.collect());
        }
        Ok(found)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&AdminClient<DefaultClientContext>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, ClusterError> {
        let admin = Arc::clone(self.admin()?);
        let done = tokio::task::spawn_blocking(move || call(&admin)).await;
        done.map_err(|_| KafkaError::Canceled).flatten().map_err(|error| self.unreachable(error))
    }

    fn admin(&self) -> Result<&Arc<AdminClient<DefaultClientContext>>, ClusterError> {
        // Absent only while being dropped.
        self.admin.as_ref().ok_or_else(|| self.unreachable(KafkaError::Canceled))
    }

    fn first(
        &self,
        what: &str,
        results: Result<Vec<rdkafka::admin::TopicResult>, KafkaError>,
    ) -> Result<(), ClusterError> {
        let results = results.map_err(|error| self.unreachable(error))?;
        match results.into_iter().next() {
            Some(Err((_, code))) => Err(ClusterError::Refused { what: what.to_owned(), code }),
            _ => Ok(()),
        }
    }

    fn unreachable(&self, source: KafkaError) -> ClusterError {
        ClusterError::Unreachable { bootstrap: self.bootstrap.clone(), source }
    }
}

type Settings = BTreeMap<String, BTreeMap<String, (String, bool)>>;

fn options() -> AdminOptions {
    let call = Some(Timeout::After(CALL));
    AdminOptions::new().request_timeout(call).operation_timeout(call)
}
