//! The parts of a gateway that live on Kafka: the way for commands, and who owns what.

use super::{Parts, StartError};
use crate::command::kafka::{KafkaCommands, KafkaSettings};
use crate::config::Config;
use crate::problem::Problem;
use crate::routing::tail::{self, TailSettings};
use crate::routing::{Configured, Control, Routing};
use metrics_exporter_prometheus::PrometheusHandle;
use schemas::records::{AvroRecord, ConfirmAccountCreation, ConfirmMoneyTransfer};
use schemas::topics::{Target, Topology, verify_topics};
use schemas::{CacheConfig, SchemaCache};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the registry may take at start.
const RESOLVE: Duration = Duration::from_secs(8);
/// How long Kafka may take at start.
const VERIFY_MS: u64 = 8000;

/// As configured. Nothing is started before topics and schemas are known to be there.
pub(super) async fn parts(
    config: &Config,
    metrics: PrometheusHandle,
    background: &CancellationToken,
) -> Result<Parts, StartError> {
    let topology = own_topics(config, Topology::load(&config.topics)?.with_prefix(&config.prefix));
    let schemas = verified_schemas(config, &topology).await?;
    let commands = Arc::new(commands(config, &topology, &schemas)?);
    let routing = routing(config, &topology, schemas, background)?;
    Ok(Parts { routing, commands, metrics })
}

/// The topics that a gateway touches: `commands`, and `control` when that says where the processors are.
fn own_topics(config: &Config, mut topology: Topology) -> Topology {
    let is_own = |base: &str| base == "commands" || (base == "control" && config.processors.is_empty());
    topology.topics.retain(|topic| is_own(&topic.base));
    topology
}

/// Checks these topics and learns the ids of their schemas.
async fn verified_schemas(config: &Config, topology: &Topology) -> Result<SchemaCache, StartError> {
    let target = Target { timeout_ms: VERIFY_MS, ..Target::new(&config.bootstrap, &config.registry) };
    verify_topics(&target, topology).await?;
    let cache =
        SchemaCache::start(CacheConfig { registry_url: config.registry.clone(), file: config.cache_file.clone() })?;
    let (resolving, topology) = (cache.clone(), topology.clone());
    let resolved = tokio::task::spawn_blocking(move || resolving.resolve_within(&topology, RESOLVE)).await;
    resolved.map_err(|_| Problem::Internal("learning the schema ids failed".into()))??;
    Ok(cache)
}

fn commands(config: &Config, topology: &Topology, schemas: &SchemaCache) -> Result<KafkaCommands, StartError> {
    let topic = topic_name(topology, "commands")?;
    let id_of = |record: &'static str| {
        let id = schemas.id_of(&topic, record);
        id.ok_or_else(|| StartError::Declaration(format!("topic `commands` does not hold {record}")))
    };
    let settings = KafkaSettings {
        bootstrap: config.bootstrap.clone(),
        account_creation_schema: id_of(ConfirmAccountCreation::full_name())?,
        transfer_schema: id_of(ConfirmMoneyTransfer::full_name())?,
        topic: topic.clone(),
        delivery_timeout_ms: config.command_timeout_ms.max(1000),
    };
    Ok(KafkaCommands::start(settings)?)
}

/// By the configured addresses, or by the control topic when there are none. Kept current until `stop`.
fn routing(
    config: &Config,
    topology: &Topology,
    schemas: SchemaCache,
    stop: &CancellationToken,
) -> Result<Arc<dyn Routing>, StartError> {
    let stop = stop.clone();
    if !config.processors.is_empty() {
        tracing::info!(processors = ?config.processors, "the processors are those that are configured");
        let configured = Arc::new(Configured::new(topology.partitions, &config.processors)?);
        let following = Arc::clone(&configured);
        tokio::spawn(async move { following.follow(stop).await });
        return Ok(configured);
    }
    let control = Arc::new(Control::new(topology.partitions));
    let settings = TailSettings { bootstrap: config.bootstrap.clone(), topic: topic_name(topology, "control")? };
    tail::start(settings, schemas, Arc::clone(&control), stop.clone()).map_err(StartError::Tail)?;
    let following = Arc::clone(&control);
    tokio::spawn(async move { following.follow(stop).await });
    Ok(control)
}

fn topic_name(topology: &Topology, base: &str) -> Result<String, StartError> {
    let topic = topology.topic(base);
    let topic = topic.ok_or_else(|| StartError::Declaration(format!("there is no topic `{base}`")))?;
    Ok(topic.name.clone())
}
