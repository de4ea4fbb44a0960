//! Shards of one process that asks nobody, over a log and stores in memory, run by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use state_store::{MemoryStore, Progress, Store, StoreError};

use super::harness::PARTITIONS;
use super::ledger::{Ledger, home};
use crate::layout::Layout;
use crate::log::TopicPartition;
use crate::log::memory::MemoryLog;
use crate::membership::Alone;
use crate::probe::Probe;
use crate::query::view::PartitionView;
use crate::shard::{Codecs, Shard, ShardOptions, ShardParts, Stores};
use crate::testing::{ManualClock, codecs};
use crate::topology::Application;

/// Stores that outlive the shards that use them.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<BTreeMap<i32, MemoryStore>>>);

impl Stores for Directory {
    fn open(&self, partition: i32) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.0.lock().entry(partition).or_default().clone()))
    }

    fn wipe(&self, partition: i32) -> Result<(), StoreError> {
        self.0.lock().remove(&partition);
        Ok(())
    }
}

/// See the module.
pub struct World {
    pub log: MemoryLog,
    pub clock: Arc<ManualClock>,
    pub codecs: Arc<Codecs>,
    pub directory: Directory,
    instance: &'static str,
    commands: i64,
}

impl World {
    /// Nothing was ever processed.
    pub fn new() -> World {
        let clock = ManualClock::shared(1_700_000_000_000);
        let log = MemoryLog::simulated(Ledger::new(PARTITIONS, 1).definition().topics.clone(), clock.clone());
        World {
            log,
            clock,
            codecs: codecs(&[]).unwrap(),
            directory: Directory::default(),
            instance: "processor",
            commands: 0,
        }
    }

    /// A shard of a process that owns all and asks nobody.
    pub fn shard(&self, layout: Layout, id: i32) -> Shard<MemoryLog, Ledger> {
        let application = Arc::new(Ledger::of_layout(PARTITIONS, layout));
        let view = |partition| Arc::new(PartitionView::new(partition, application.definition().shard_of(partition)));
        Shard::new(ShardParts {
            id,
            log: Arc::new(self.log.clone()),
            options: ShardOptions { instance: self.instance.to_owned(), one_thread: true, ..ShardOptions::default() },
            codecs: Arc::clone(&self.codecs),
            clock: self.clock.clone(),
            stores: Arc::new(self.directory.clone()),
            views: (0..PARTITIONS).map(view).collect(),
            probe: Probe::none(),
            roles: Arc::new(Alone::default()),
            copier: None,
            application,
        })
    }

    /// Shards that own their partitions.
    pub fn owners(&self, layout: Layout) -> Vec<Shard<MemoryLog, Ledger>> {
        let mut shards: Vec<_> = (0..layout.shards).map(|id| self.shard(layout, id)).collect();
        shards.iter_mut().for_each(|shard| shard.own().unwrap());
        shards
    }

    /// A command for this partition.
    pub fn command(&mut self, partition: i32) {
        self.commands += 1;
        let mut accounts = (0..).map(|number| format!("account-{number}"));
        let account = accounts.find(|account| home(account, PARTITIONS) == partition).unwrap();
        let topic = Ledger::new(PARTITIONS, 1).commands;
        let text = format!("c{} deposit 1", self.commands);
        self.log
            .append(TopicPartition { topic, partition }, Some(account.as_bytes()), Some(text.as_bytes()), None)
            .unwrap();
    }

    /// Another process with stores of its own.
    pub fn elsewhere(&self) -> World {
        let (log, clock, codecs) = (self.log.clone(), self.clock.clone(), Arc::clone(&self.codecs));
        World { log, clock, codecs, directory: Directory::default(), instance: "another", commands: self.commands }
    }

    /// Transactions that the store of a partition has applied.
    pub fn commits(&self, partition: i32) -> u64 {
        self.progress(partition).commit_sequence
    }

    /// Where the store of a partition stands.
    pub fn progress(&self, partition: i32) -> Progress {
        self.directory.0.lock()[&partition].progress().unwrap()
    }
}
