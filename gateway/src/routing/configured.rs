//! Routing over configured addresses, for processors without membership. One address owns everything; of several, the
//! one that says so.

use super::statuses::{self, Statuses};
use super::{Changes, Owner, PartitionState, Processor, Routing};
use crate::problem::Problem;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// See the module.
pub struct Configured {
    partitions: i32,
    processors: Vec<Processor>,
    statuses: Statuses,
    changed: watch::Sender<()>,
}

impl Configured {
    /// `endpoints` as in `http://host:port`. Nothing is connected yet.
    pub fn new(partitions: i32, endpoints: &[String]) -> Result<Self, Problem> {
        if endpoints.is_empty() {
            return Err(Problem::BadInput("no processor is configured: name at least one address".into()));
        }
        let processors = endpoints.iter().map(|e| Processor::connect_lazy(e)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { partitions, processors, statuses: Statuses::new(partitions), changed: watch::Sender::new(()) })
    }

    /// Keeps the states current until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let all = self.processors.iter().map(|processor| self.follow_one(processor));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = join_all(all) => {}
        }
    }

    /// Asks every processor for its state, all at once.
    pub async fn refresh(&self) {
        join_all(self.processors.iter().map(|processor| self.ask(processor))).await;
    }

    async fn follow_one(&self, processor: &Processor) {
        loop {
            self.ask(processor).await;
            tokio::time::sleep(statuses::INTERVAL).await;
        }
    }

    async fn ask(&self, processor: &Processor) {
        let before = self.owners();
        self.statuses.ask(processor).await;
        if self.owners() != before {
            self.changed.send_replace(());
        }
    }

    fn owners(&self) -> Vec<Option<&str>> {
        (0..self.partitions).map(|partition| self.find(partition).map(|owner| &*owner.endpoint)).collect()
    }

    fn find(&self, partition: i32) -> Option<&Processor> {
        if let [only] = self.processors.as_slice() {
            return Some(only);
        }
        self.processors.iter().find(|processor| self.statuses.owns(&processor.endpoint, partition))
    }
}

impl Routing for Configured {
    fn partitions(&self) -> i32 {
        self.partitions
    }

    fn owner(&self, partition: i32) -> Option<Owner> {
        self.find(partition).map(|processor| Owner { processor: processor.clone(), epoch: 0 })
    }

    fn holders(&self, partition: i32) -> Vec<Processor> {
        let owner = self.find(partition);
        let is_owner = |one: &&Processor| owner.is_some_and(|owner| owner.endpoint == one.endpoint);
        let follows = |one: &&Processor| self.statuses.holds(&one.endpoint, partition) && !is_owner(one);
        owner.into_iter().chain(self.processors.iter().filter(follows)).cloned().collect()
    }

    fn is_read(&self) -> bool {
        true
    }

    fn epoch(&self) -> i64 {
        0
    }

    /// Only what is configured is called: it may not be reachable by the address that it gives to others.
    fn processor_at(&self, endpoint: &str) -> Option<Processor> {
        self.processors.iter().find(|processor| &*processor.endpoint == endpoint).cloned()
    }

    fn changes(&self) -> Changes {
        Changes::of(&self.changed)
    }

    fn states(&self) -> Vec<PartitionState> {
        let state = |partition| {
            let owner = self.find(partition)?;
            self.statuses.state(&owner.endpoint, partition)
        };
        (0..self.partitions).map(|p| state(p).unwrap_or_else(|| PartitionState::unknown(p, None))).collect()
    }
}
