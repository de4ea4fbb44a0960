//! What the query service sees of one partition: its state of life, its committed store, and what changes.
//!
//! The shard's thread writes here after each applied batch; tokio tasks read. Nothing uncommitted ever gets here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use state_store::{Store, StoreError, TableId};
use tokio::sync::{Notify, broadcast, watch};

/// Commits that a slow watcher may lag behind before it is told to start again.
const CHANGES_KEPT: usize = 4096;

/// Life of a partition as others see it.
#[derive(Clone)]
pub enum Life {
    /// The store is being opened, the shard initialised.
    Starting,
    /// The changelog is being read.
    Restoring,
    /// Commands run, queries are answered.
    Running(Arc<dyn Store>),
    /// The broker or a schema is not available; committed rows may be read, but may be old.
    Waiting(Arc<dyn Store>, String),
    /// Not served here any more.
    Stopped(String),
}

impl Life {
    /// Name for people and for the status call.
    pub fn name(&self) -> &'static str {
        match self {
            Life::Starting => "starting",
            Life::Restoring => "restoring",
            Life::Running(_) => "running",
            Life::Waiting(..) => "waiting",
            Life::Stopped(_) => "stopped",
        }
    }
}

/// One changed row. `row` is `None` when it was removed.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// Its table.
    pub table: TableId,
    /// Its local key.
    pub key: Vec<u8>,
    /// The row as stored.
    pub row: Option<Vec<u8>>,
}

/// All rows that one commit changed in one partition.
#[derive(Debug)]
pub struct Changes {
    /// Number of the commit in this partition.
    pub commit_sequence: u64,
    /// In no particular order across tables.
    pub rows: Vec<RowChange>,
}

/// See the module.
pub struct PartitionView {
    /// The partition.
    pub partition: i32,
    /// Its shard.
    pub shard: i32,
    /// Changelog records to apply before commands run.
    pub changelog_remaining: AtomicI64,
    /// Records of event topics to read into their tables.
    pub history_remaining: AtomicI64,
    life: RwLock<Life>,
    committed: watch::Sender<u64>,
    changes: broadcast::Sender<Arc<Changes>>,
    waiters: Mutex<HashMap<(TableId, Vec<u8>), Arc<Notify>>>,
    damage: Mutex<Option<String>>,
}

impl PartitionView {
    /// A partition that is starting.
    pub fn new(partition: i32, shard: i32) -> PartitionView {
        PartitionView {
            partition,
            shard,
            changelog_remaining: AtomicI64::new(0),
            history_remaining: AtomicI64::new(0),
            life: RwLock::new(Life::Starting),
            committed: watch::Sender::new(0),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            waiters: Mutex::new(HashMap::new()),
            damage: Mutex::new(None),
        }
    }

    /// A reader met this error of the store. Damage is kept for the shard: some tables only readers ever read.
    pub fn note(&self, error: &StoreError) {
        if let StoreError::Corrupt { .. } = error {
            *self.damage.lock() = Some(error.to_string());
        }
    }

    /// The damage that readers have met since the last call.
    pub fn take_damage(&self) -> Option<String> {
        self.damage.lock().take()
    }

    /// Its life now.
    pub fn life(&self) -> Life {
        self.life.read().clone()
    }

    /// Moves to another state of life. Callers that wait are woken to see it.
    pub fn set_life(&self, life: Life) {
        let gone = !matches!(life, Life::Running(_) | Life::Waiting(..));
        *self.life.write() = life;
        if gone {
            for waiter in self.waiters.lock().values() {
                waiter.notify_waiters();
            }
            // Wakes the watchers too; without receivers it goes nowhere.
            let _ = self.changes.send(Arc::new(Changes { commit_sequence: 0, rows: Vec::new() }));
        }
    }

    /// Commits applied so far; watchable.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Says what a commit changed, after its batch was applied: watchers, waiters, and readers with tokens.
    pub fn publish(&self, commit_sequence: u64, rows: Vec<RowChange>, awaited: impl Fn(TableId) -> bool) {
        {
            let waiters = self.waiters.lock();
            if !waiters.is_empty() {
                for change in rows.iter().filter(|change| awaited(change.table)) {
                    // No allocation for the key is possible with std's map; the map is small.
                    if let Some(waiter) = waiters.get(&(change.table, change.key.clone())) {
                        waiter.notify_waiters();
                    }
                }
            }
        }
        self.committed.send_replace(commit_sequence);
        if self.changes.receiver_count() > 0 {
            // Nobody listening any more is not an error.
            let _ = self.changes.send(Arc::new(Changes { commit_sequence, rows }));
        }
    }

    /// Sets the commit sequence without changes (after a restore).
    pub fn restored(&self, commit_sequence: u64) {
        self.committed.send_replace(commit_sequence);
    }

    /// What commits change from now on.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Changes>> {
        self.changes.subscribe()
    }

    /// Registers interest in a row before it is read, so that no change is missed.
    pub fn wait_for(self: &Arc<Self>, table: TableId, key: &[u8]) -> Waiter {
        let key = (table, key.to_vec());
        let notify = Arc::clone(self.waiters.lock().entry(key.clone()).or_default());
        Waiter { view: Arc::clone(self), key, notify }
    }

    /// Callers that wait for rows now.
    pub fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// True while commands run here.
    pub fn is_running(&self) -> bool {
        matches!(*self.life.read(), Life::Running(_))
    }

    /// True when its event tables are complete.
    pub fn is_history_complete(&self) -> bool {
        self.history_remaining.load(Ordering::Relaxed) == 0
    }
}

/// Interest in one row; ends when dropped.
pub struct Waiter {
    view: Arc<PartitionView>,
    key: (TableId, Vec<u8>),
    /// Notified when the row changes or the partition leaves.
    pub notify: Arc<Notify>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.view.waiters.lock();
        // Two handles left: the map's and ours.
        if Arc::strong_count(&self.notify) <= 2 {
            waiters.remove(&self.key);
        }
    }
}
