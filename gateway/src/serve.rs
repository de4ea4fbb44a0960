//! Starting and stopping a gateway.
//!
//! [`start`] puts the parts together over whatever implements their seams, so tests start one over fakes; the binary
//! starts one over Kafka ([`run`], with the parts of `over_kafka`). Stopping: no new connections, WebSockets are told
//! and closed, what is under way may finish for a moment.

mod over_kafka;

use crate::api::Api;
use crate::command::Commands;
use crate::command::passwords::Passwords;
use crate::config::Config;
use crate::http::origin::Origins;
use crate::http::ws::SocketLimits;
use crate::http::{Web, routes};
use crate::limits::Limits;
use crate::live::Live;
use crate::problem::Problem;
use crate::processors::Processors;
use crate::routing::Routing;
use crate::schema::{self, Bank};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use schemas::topics::{TopologyError, VerifyError};
use schemas::{ResolveError, StartError as CacheError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a stop waits for connections.
const DRAIN: Duration = Duration::from_secs(5);
/// Histograms of durations, seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Why a gateway does not start. Each is one line that names the way out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The declaration of the topics cannot be used.
    #[error("{0}")]
    Topology(#[from] TopologyError),
    /// Something is missing in the declaration.
    #[error("topics.yaml: {0}")]
    Declaration(String),
    /// The schema cache cannot be made.
    #[error("schemas: {0}")]
    Schemas(#[from] CacheError),
    /// Schemas are missing, or nobody can tell.
    #[error("schemas: {0}")]
    Resolve(#[from] ResolveError),
    /// A topic is missing or wrong, or Kafka does not answer.
    #[error("topics: {0}")]
    Verify(#[from] VerifyError),
    /// The producer cannot be made.
    #[error("kafka producer: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// No thread.
    #[error("cannot start the thread that reads the control topic: {0}")]
    Tail(std::io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another with KONTOR_LISTEN")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Metrics were set up twice.
    #[error("metrics: {0}")]
    Metrics(#[from] BuildError),
    /// A setting or a part of ours.
    #[error("{0}")]
    Problem(#[from] Problem),
}

/// The parts that differ between production and tests.
pub struct Parts {
    /// Who owns what.
    pub routing: Arc<dyn Routing>,
    /// The way to Kafka.
    pub commands: Arc<dyn Commands>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
}

/// How the running gateway behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Origins of pages that may call; empty: this machine's own.
    pub allowed_origins: Vec<String>,
    /// GraphiQL and introspection.
    pub dev: bool,
    /// Directory with GraphiQL's scripts; without one its page is a plain console.
    pub graphiql_dir: Option<PathBuf>,
    /// See [`Config`].
    pub command_timeout: Duration,
    /// See [`Config`].
    pub query_timeout: Duration,
    /// Bounds of one WebSocket connection.
    pub sockets: SocketLimits,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            dev: true,
            graphiql_dir: None,
            command_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(5),
            sockets: SocketLimits::default(),
        }
    }
}

/// A running gateway.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// The way into the schema, without HTTP.
    pub api: Api,
    /// The feeds of transactions.
    pub live: Arc<Live>,
    stop: CancellationToken,
    connections: TaskTracker,
    server: TaskTracker,
}

/// Serves on the listener until stopped.
pub fn start(listener: TcpListener, parts: Parts, behaviour: Behaviour) -> Result<Gateway, StartError> {
    let address = listener
        .local_addr()
        .map_err(|source| StartError::Listen { address: SocketAddr::from(([0, 0, 0, 0], 0)), source })?;
    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    let processors = Processors::new(Arc::clone(&parts.routing));
    let live = Arc::new(Live::new(processors.clone()));
    tokio::spawn({
        let (live, stop) = (Arc::clone(&live), stop.clone());
        async move { live.follow(stop).await }
    });
    let bank = Bank {
        commands: Arc::clone(&parts.commands),
        processors,
        passwords: Passwords::new()?,
        live: Arc::clone(&live),
        command_timeout: behaviour.command_timeout,
        query_timeout: behaviour.query_timeout,
    };
    let longest = behaviour.command_timeout.max(behaviour.query_timeout) + Duration::from_secs(1);
    let api = Api::new(schema::build(bank, behaviour.dev), Limits::default(), longest);
    let web = Web {
        api: api.clone(),
        routing: parts.routing,
        commands: parts.commands,
        metrics: parts.metrics,
        origins: Arc::new(Origins::new(&behaviour.allowed_origins, address)),
        sockets: behaviour.sockets,
        dev: behaviour.dev,
        graphiql_dir: behaviour.graphiql_dir,
        stop: stop.clone(),
        connections: connections.clone(),
    };
    let server = warp::serve(routes(web)).incoming(listener).graceful(stop.clone().cancelled_owned());
    let accepting = TaskTracker::new();
    accepting.spawn(server.run());
    Ok(Gateway { address, api, live, stop, connections, server: accepting })
}

impl Gateway {
    /// Stops: closes every connection, waits a moment for what is under way.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.connections.close();
        self.server.close();
        let drained = async {
            self.connections.wait().await;
            self.server.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("some connections did not end in time and are dropped");
        }
    }
}

/// The recorder of this process, once.
pub fn install_metrics() -> Result<PrometheusHandle, StartError> {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)?;
    let handle = builder.install_recorder()?;
    metrics::gauge!("kontor_build_info", "component" => "gateway", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    metrics::gauge!("kontor_subscriptions_active").set(0.0);
    Ok(handle)
}

/// A gateway over Kafka, as configured, until `stop` resolves.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let metrics = install_metrics()?;
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|source| StartError::Listen { address: config.listen, source })?;
    let background = CancellationToken::new();
    // It may be over before it begins: who waits for Kafka can be stopped too.
    tokio::pin!(stop);
    let parts = tokio::select! {
        parts = over_kafka::parts(&config, metrics.clone(), &background) => parts?,
        () = &mut stop => {
            background.cancel();
            return Ok(());
        }
    };
    tokio::spawn(upkeep(metrics, background.clone()));
    let behaviour = Behaviour {
        allowed_origins: config.allowed_origins.clone(),
        dev: config.is_dev(),
        graphiql_dir: config.graphiql_dir.clone(),
        command_timeout: config.command_timeout(),
        query_timeout: config.query_timeout(),
        sockets: SocketLimits {
            most_operations: usize::try_from(config.socket_operations).unwrap_or(usize::MAX),
            ..SocketLimits::default()
        },
    };
    let dev = behaviour.dev;
    let gateway = start(listener, parts, behaviour)?;
    tracing::info!(
        address = %gateway.address,
        "listening; GraphiQL and introspection are {}",
        if dev { "on (KONTOR_DEV=false turns them off)" } else { "off (KONTOR_DEV=true turns them on)" }
    );
    stop.await;
    tracing::info!("stopping");
    gateway.stop().await;
    background.cancel();
    Ok(())
}

/// The recorder's own housekeeping.
async fn upkeep(metrics: PrometheusHandle, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => metrics.run_upkeep(),
        }
    }
}
