//! An instance: its shards, one thread each, and the services around them.
//!
//! It refuses to decide what a shard does with its records; it starts shards, ends them, and says how they ended. There
//! is a thread for every shard of the topology; those that the assignment gives to others wait.

use std::net::SocketAddr;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use schemas::query::query_server::QueryServer;
use schemas::{Encoder, records};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::log::Log;
use crate::membership::{Alone, Failure, Membership, MembershipOptions, Roles};
use crate::peer::{self, Copier, PeerOptions};
use crate::probe::Probe;
use crate::prune;
use crate::query::http;
use crate::query::service::QueryService;
use crate::query::view::PartitionView;
use crate::shard::{Codecs, Exit, Shard, ShardOptions, ShardParts, Stores};
use crate::topology::Application;

/// Largest message of the query protocol, bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Calls of one connection at once: a gateway holds one connection, and each of its clients may wait.
const STREAMS_MAX: u32 = 100_000;
/// Callers get this long to end after their partitions have left.
const SERVER_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Everything an instance is made of.
pub struct InstanceParts<L, A> {
    /// The log.
    pub log: Arc<L>,
    /// The logic.
    pub application: Arc<A>,
    /// Settings of each shard.
    pub options: ShardOptions,
    /// Encoders and schemas.
    pub codecs: Arc<Codecs>,
    /// Time.
    pub clock: SharedClock,
    /// Stores.
    pub stores: Arc<dyn Stores>,
    /// Steps of the commit path are told to it.
    pub probe: Probe,
    /// Address of the query service.
    pub grpc: SocketAddr,
    /// Address of health and metrics.
    pub http: SocketAddr,
    /// Metrics to render.
    pub metrics: PrometheusHandle,
    /// How it shares the shards with other instances; `None`: it owns all of them and asks nobody.
    pub membership: Option<MembershipParts>,
    /// How it copies stores from other instances, and gives copies to them.
    pub peer: PeerOptions,
}

/// What an instance needs to be a member.
pub struct MembershipParts {
    /// What it is, and what the assignment aims at.
    pub options: MembershipOptions,
    /// Of its heartbeats.
    pub member: Encoder<records::Member>,
    /// Of the assignment, when it leads.
    pub assignment: Encoder<records::Assignment>,
}

/// Where the shards of an instance have their roles from.
enum Source {
    Alone(Arc<Alone>),
    Member(Membership),
}

impl Source {
    fn of<L: Log, A: Application>(parts: &mut InstanceParts<L, A>) -> anyhow::Result<Source> {
        let Some(MembershipParts { options, member, assignment }) = parts.membership.take() else {
            return Ok(Source::Alone(Arc::default()));
        };
        let encoders = (member, assignment);
        Ok(Source::Member(Membership::start(&parts.log, &parts.clock, &parts.codecs.schemas, encoders, options)?))
    }

    fn roles(&self) -> Arc<dyn Roles> {
        match self {
            Source::Alone(alone) => Arc::clone(alone) as Arc<dyn Roles>,
            Source::Member(membership) => Arc::clone(membership.board()) as Arc<dyn Roles>,
        }
    }

    /// The shards are to end.
    fn end(&self) {
        match self {
            Source::Alone(alone) => alone.end(),
            Source::Member(membership) => membership.board().end_shards(),
        }
    }

    /// When no shard runs any more.
    fn leave(self) {
        if let Source::Member(membership) = self {
            membership.leave();
        }
    }
}

/// A running instance.
pub struct Instance {
    source: Source,
    services: CancellationToken,
    threads: Vec<std::thread::JoinHandle<()>>,
    exits: mpsc::UnboundedReceiver<(i32, Exit)>,
    views: Vec<Arc<PartitionView>>,
    servers: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Instance {
    /// Starts the services, then all shards at once.
    pub async fn start<L: Log, A: Application>(mut parts: InstanceParts<L, A>) -> anyhow::Result<Instance> {
        // Whoever is named to others can be reached.
        let listeners = (bind(parts.grpc, "the query service").await?, bind(parts.http, "health and metrics").await?);
        let source = Source::of(&mut parts)?;
        let roles = source.roles();
        let definition = parts.application.definition();
        let views: Vec<_> = (0..definition.topics.partitions)
            .map(|partition| Arc::new(PartitionView::new(partition, definition.shard_of(partition))))
            .collect();
        let services = CancellationToken::new();
        let (servers, copier) = serve(&parts, listeners, &views, &roles, &services);
        tokio::spawn(prune::run(
            Arc::clone(&parts.log),
            Arc::clone(&parts.application),
            views.clone(),
            services.clone(),
        ));
        let (sender, exits) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        for id in 0..definition.shards {
            let mut shard = Shard::new(ShardParts {
                id,
                log: Arc::clone(&parts.log),
                application: Arc::clone(&parts.application),
                options: parts.options.clone(),
                codecs: Arc::clone(&parts.codecs),
                clock: Arc::clone(&parts.clock),
                stores: Arc::clone(&parts.stores),
                views: views.clone(),
                probe: parts.probe.clone(),
                roles: Arc::clone(&roles),
                copier: copier.clone(),
            });
            let sender = sender.clone();
            let run = move || {
                let exit = shard.run();
                // The instance may be gone already.
                let _ = sender.send((id, exit));
            };
            threads.push(std::thread::Builder::new().name(format!("shard-{id}")).spawn(run)?);
        }
        Ok(Instance { source, services, threads, exits, views, servers })
    }

    /// The next shard that ended, and how. `None` when all have.
    pub async fn next_exit(&mut self) -> Option<(i32, Exit)> {
        self.exits.recv().await
    }

    /// Why its membership ended, when nobody asked it to.
    pub fn membership_failure(&self) -> Option<Failure> {
        match &self.source {
            Source::Alone(_) => None,
            Source::Member(membership) => membership.board().failure(),
        }
    }

    /// What queries see.
    pub fn views(&self) -> &[Arc<PartitionView>] {
        &self.views
    }

    /// Ends the shards after their transaction, then the services.
    pub async fn shut_down(self) -> anyhow::Result<()> {
        self.source.end();
        let (source, threads) = (self.source, self.threads);
        tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a shard's thread panicked");
                }
            }
            // Only now are they free for others.
            source.leave();
        })
        .await?;
        self.services.cancel();
        for server in self.servers {
            match tokio::time::timeout(SERVER_GRACE, server).await {
                Ok(ended) => ended??,
                Err(_) => tracing::info!("callers that still wait are cut off"),
            }
        }
        Ok(())
    }
}

async fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| anyhow::anyhow!("{what} cannot listen on {address}: {error}; choose another address"))
}

/// The query service, and health and metrics, on these two.
fn serve<L: Log, A: Application>(
    parts: &InstanceParts<L, A>,
    (grpc, http): (TcpListener, TcpListener),
    views: &[Arc<PartitionView>],
    roles: &Arc<dyn Roles>,
    services: &CancellationToken,
) -> (Vec<tokio::task::JoinHandle<anyhow::Result<()>>>, Option<Arc<Copier>>) {
    let (instance, application) = (parts.options.instance.clone(), Arc::clone(&parts.application));
    let queries = QueryService::new(instance, application, views.to_vec(), Arc::clone(roles), Arc::clone(&parts.clock));
    let server = QueryServer::new(queries)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let sides = peer::sides(parts.peer, &parts.options.incarnation, &*parts.stores, views, &parts.clock, services);
    let (giving, copier) = sides.unzip();
    let cancelled = services.clone();
    let grpc = tokio::spawn(async move {
        let incoming = tonic::transport::server::TcpIncoming::from(grpc).with_nodelay(Some(true));
        let ended = async move { cancelled.cancelled().await };
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(Some(STREAMS_MAX))
            .add_service(server)
            .add_optional_service(giving)
            .serve_with_incoming_shutdown(incoming, ended);
        serving.await.map_err(anyhow::Error::from)
    });
    let stores = Arc::clone(&parts.stores);
    let observe = move || {
        for (part, bytes) in stores.memory_bytes() {
            metrics::gauge!("kontor_store_memory_bytes", "part" => part).set(bytes as f64);
        }
    };
    tokio::spawn(http::upkeep(parts.metrics.clone(), http::UPKEEP_INTERVAL, services.clone()));
    let routes = http::routes(views.to_vec(), Arc::clone(roles), parts.metrics.clone(), Arc::new(observe));
    let cancelled = services.clone();
    let http = tokio::spawn(async move {
        let serving = warp::serve(routes).incoming(http).graceful(async move { cancelled.cancelled().await });
        serving.run().await;
        Ok(())
    });
    (vec![grpc, http], copier)
}
