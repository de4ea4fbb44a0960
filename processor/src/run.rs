//! `processor run`: puts the instance together, and takes it down on a signal.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use processor::clock::SystemClock;
use processor::instance::{Instance, InstanceParts, MembershipParts};
use processor::log::kafka::{KafkaLog, KafkaOptions};
use processor::membership::{MembershipOptions, Rules};
use processor::peer::PeerOptions;
use processor::probe::Probe;
use processor::shard::{Codecs, Exit, ShardOptions};
use processor::stores::DiskStores;
use processor::topology::Application;
use schemas::SchemaCache;
use schemas::topics::{self, Topology};
use state_store::{Budget, Identity};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bank_app::{self, Bank, BankOptions};
use crate::config::RunArgs;

/// The broker has this long to answer at start.
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs until a signal.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let tokens = args.tokens()?;
    std::fs::create_dir_all(&args.state_dir)
        .with_context(|| format!("state directory {}", args.state_dir.display()))?;
    let topology = args.cluster.topology()?;
    let target = args.cluster.target();
    let verified = async { Ok(topics::verify_topics(&target, &topology).await?) };
    // Each waits for others; together they take as long as the slowest.
    let (schemas, (), (log, cluster_id)) =
        tokio::try_join!(resolve_schemas(&args, &topology), verified, connect(&args, &topology))?;
    let identity = bank_app::identity(&topology, cluster_id, &tokens);
    let options = BankOptions {
        config: bank::Config { tokens, iban_draws_max: args.iban_draws_max },
        outcome_retention_ms: args.outcome_retention_ms()?,
    };
    let application = bank_app::build(&topology, &schemas, options)?;
    let parts = parts(&args, log, application, schemas, identity, metrics)?;
    let (grpc, http) = (parts.grpc, parts.http);
    // Before anything runs: a signal that nobody hears ends the process as kill -9 does.
    let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut instance = Instance::start(parts).await?;
    tracing::info!(%grpc, %http, partitions = topology.partitions, shards = topology.shards, "started");
    let ended = wait_for_end(&mut instance, signals).await;
    tracing::info!("draining");
    instance.shut_down().await?;
    ended
}

/// The ids of this build's schemas: from the registry, or while it does not answer from the file of an earlier start. A
/// schema that is not registered is an error that names the fix.
async fn resolve_schemas(args: &RunArgs, topology: &Topology) -> anyhow::Result<SchemaCache> {
    let file = Some(args.state_dir.join("schemas.json"));
    let schemas = args.cluster.schemas(file)?;
    let (cache, topology) = (schemas.clone(), topology.clone());
    tokio::task::spawn_blocking(move || cache.resolve(&topology)).await??;
    Ok(schemas)
}

/// The log and the identity of its cluster.
async fn connect(args: &RunArgs, topology: &Topology) -> anyhow::Result<(Arc<KafkaLog>, String)> {
    let options = KafkaOptions {
        bootstrap: args.cluster.bootstrap.clone(),
        group: bank_app::application_name(topology),
        client_id: args.instance_name(),
        prefetch_bytes: args.prefetch_kib << 10,
        extra: args.kafka_settings()?,
    };
    let (topics, bootstrap) = (bank_app::topics(topology)?.0, args.cluster.bootstrap.clone());
    tokio::task::spawn_blocking(move || {
        let log = KafkaLog::new(options, topics)?;
        let cluster_id = log
            .cluster_id(BROKER_TIMEOUT)
            .with_context(|| format!("no Kafka broker answers at {bootstrap}; start it or set KONTOR_BOOTSTRAP"))?;
        Ok((Arc::new(log), cluster_id))
    })
    .await?
}

fn parts(
    args: &RunArgs,
    log: Arc<KafkaLog>,
    application: Arc<Bank>,
    schemas: SchemaCache,
    identity: Identity,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) -> anyhow::Result<InstanceParts<KafkaLog, Bank>> {
    let encoders = application.encoders();
    let incarnation = incarnation();
    let membership = (!args.alone).then(|| membership(args, &application, &incarnation)).transpose()?;
    let codecs = Codecs { position: encoders.position, owner: encoders.owner, schemas };
    let budget = Budget::new(args.block_cache_mib << 20, args.write_buffers_mib << 20);
    Ok(InstanceParts {
        log,
        options: ShardOptions {
            instance: args.instance_name(),
            incarnation,
            records_max: args.transaction_records_max.max(1),
            commit_deadline: Duration::from_millis(args.commit_deadline_ms),
            ..ShardOptions::default()
        },
        codecs: Arc::new(codecs),
        clock: SystemClock::shared(),
        stores: Arc::new(DiskStores::new(args.state_dir.clone(), identity, budget)),
        probe: probe()?,
        grpc: args.grpc_listen,
        http: args.http_listen,
        metrics,
        membership,
        peer: PeerOptions { bytes_per_second: args.copy_mib_per_second << 20, records_min: args.copy_records_min },
        application,
    })
}

/// How this instance shares the shards with others.
fn membership(args: &RunArgs, application: &Bank, incarnation: &str) -> anyhow::Result<MembershipParts> {
    let definition = application.definition();
    let options = MembershipOptions {
        control: application.topics().control,
        application: definition.application.clone(),
        layout: definition.placement(),
        instance: args.instance_name(),
        incarnation: incarnation.to_owned(),
        endpoint: args.endpoint()?,
        rack: args.rack.clone(),
        rules: Rules { standbys: args.standbys.map_or(definition.standbys, usize::from), ..Rules::default() },
        grace: Duration::from_secs(args.grace_seconds.into()),
    };
    let encoders = application.encoders();
    Ok(MembershipParts { options, member: encoders.member, assignment: encoders.assignment })
}

/// Tells this life of the process from every other; a later one is greater.
#[expect(clippy::disallowed_methods, reason = "drawn once at start, decides nothing about data")]
fn incarnation() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[cfg(feature = "crash-points")]
fn probe() -> anyhow::Result<Probe> {
    processor::probe::from_environment()
}

#[cfg(not(feature = "crash-points"))]
#[expect(clippy::unnecessary_wraps, reason = "same shape with crash points")]
fn probe() -> anyhow::Result<Probe> {
    Ok(Probe::none())
}

/// Returns at the first signal; the second ends the process at once.
async fn wait_for_end(instance: &mut Instance, signals: (Signal, Signal)) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = signals;
    let mut shards_left = true;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            exit = instance.next_exit(), if shards_left => match exit {
                Some((shard, Exit::NotOwner(other))) => {
                    tracing::warn!(shard, other, "fenced: another instance owns this shard now; its task is dropped");
                }
                Some((shard, Exit::Stopped(reason))) => tracing::error!(shard, reason, "stopped; needs an operator"),
                Some((_, Exit::Shutdown)) => {}
                None => match instance.membership_failure() {
                    Some(failure) => anyhow::bail!(failure),
                    None => shards_left = false,
                },
            },
        }
    }
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        std::process::exit(130);
    });
    Ok(())
}
