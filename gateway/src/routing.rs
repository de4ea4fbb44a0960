//! Who owns a partition.
//!
//! [`Routing`] is the seam: today the processors' addresses are configured and each is asked for its state; with
//! membership the same trait is implemented by a tail of the control topic. Nothing else in the gateway knows where
//! a processor lives.

use crate::problem::Problem;
use parking_lot::RwLock;
use schemas::query::query_client::QueryClient;
use schemas::query::{PartitionStatus, StatusRequest, StatusResponse};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// How often the processors are asked for their state.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// A processor that does not say its state within this time is taken for away.
const STATUS_TIMEOUT: Duration = Duration::from_millis(1500);
/// A page of a thousand rows is far below this.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Connections to one processor. Long-lived streams have their own, so that they never take the places of calls.
#[derive(Clone)]
pub struct Processor {
    /// For calls that end.
    pub calls: QueryClient<Channel>,
    /// For watches.
    pub watches: QueryClient<Channel>,
}

impl Processor {
    /// Connects at the first call and again whenever the connection is lost.
    pub fn connect_lazy(endpoint: &str) -> Result<Self, Problem> {
        let parsed = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|error| Problem::BadInput(format!("processor address `{endpoint}`: {error}")))?;
        let endpoint = parsed
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            // A processor that vanished without a word (power, cable) is noticed within this time.
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true);
        let client = |channel| QueryClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self { calls: client(endpoint.connect_lazy()), watches: client(endpoint.connect_lazy()) })
    }
}

/// What is known of a partition.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionState {
    /// Number of the partition.
    pub partition: i32,
    /// As its owner says it, or `unknown` when nobody does.
    pub state: String,
    /// Records that the owner still has to restore before commands run.
    pub changelog_remaining: i64,
    /// Records that the owner still has to read before the history is complete.
    pub history_remaining: i64,
}

/// Finds the owner of a partition.
pub trait Routing: Send + Sync + 'static {
    /// Number of partitions of every co-partitioned topic.
    fn partitions(&self) -> i32;
    /// The processor that owns the partition; `None` while nobody is known to.
    fn owner(&self, partition: i32) -> Option<Processor>;
    /// What is known of every partition, for readiness.
    fn states(&self) -> Vec<PartitionState>;
}

/// Routing over configured addresses. One address owns everything; of several, the one that says so.
pub struct Configured {
    partitions: i32,
    processors: Vec<Processor>,
    states: RwLock<Vec<Option<StatusResponse>>>,
}

impl Configured {
    /// `endpoints` as in `http://host:port`. Nothing is connected yet.
    pub fn new(partitions: i32, endpoints: &[String]) -> Result<Self, Problem> {
        if endpoints.is_empty() {
            return Err(Problem::BadInput("no processor is configured: name at least one address".into()));
        }
        let processors = endpoints.iter().map(|e| Processor::connect_lazy(e)).collect::<Result<Vec<_>, _>>()?;
        let states = RwLock::new(vec![None; processors.len()]);
        Ok(Self { partitions, processors, states })
    }

    /// Keeps the states current until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.refresh().await,
            }
        }
    }

    /// Asks every processor for its state, all at once.
    pub async fn refresh(&self) {
        let asked = self.processors.iter().map(|processor| async {
            let mut client = processor.calls.clone();
            let answer = tokio::time::timeout(STATUS_TIMEOUT, client.status(StatusRequest {})).await;
            answer.ok().and_then(Result::ok).map(tonic::Response::into_inner)
        });
        let states = futures_util::future::join_all(asked).await;
        for status in states.iter().flatten() {
            if status.partition_count != self.partitions {
                tracing::error!(
                    processor = %status.instance,
                    theirs = status.partition_count,
                    ours = self.partitions,
                    "the processor counts other partitions than topics.yaml: start both with the same file"
                );
            }
        }
        *self.states.write() = states;
    }

    fn status_of(&self, partition: i32) -> Option<PartitionStatus> {
        let states = self.states.read();
        let mut all = states.iter().flatten().flat_map(|status| &status.partitions);
        all.find(|status| status.partition == partition).cloned()
    }
}

impl Routing for Configured {
    fn partitions(&self) -> i32 {
        self.partitions
    }

    fn owner(&self, partition: i32) -> Option<Processor> {
        if let [only] = self.processors.as_slice() {
            return Some(only.clone());
        }
        let states = self.states.read();
        let owns = |status: &StatusResponse| status.partitions.iter().any(|p| p.partition == partition);
        let index = states.iter().position(|status| status.as_ref().is_some_and(owns))?;
        self.processors.get(index).cloned()
    }

    fn states(&self) -> Vec<PartitionState> {
        (0..self.partitions)
            .map(|partition| match self.status_of(partition) {
                Some(status) => PartitionState {
                    partition,
                    state: status.state,
                    changelog_remaining: status.changelog_remaining,
                    history_remaining: status.history_remaining,
                },
                None => {
                    PartitionState { partition, state: "unknown".into(), changelog_remaining: 0, history_remaining: 0 }
                }
            })
            .collect()
    }
}
