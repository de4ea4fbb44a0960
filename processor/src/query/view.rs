//! What the query service sees of one partition: its state of life, its committed store, and what changes.
//!
//! The shard's thread writes here after each applied batch; tokio tasks read. Nothing uncommitted ever gets here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use state_store::{Store, StoreError, TableId};
use tokio::sync::{Notify, broadcast, watch};

/// Commits that a slow watcher may lag behind before it is told to start again.
const COMMITS_KEPT: usize = 1024;
/// Bytes of rows of one partition that may wait for slow watchers. Past it they are told to start again from the table,
/// which costs no memory: a backlog changes more rows in a second than anybody would want to hold.
const BYTES_KEPT: usize = 1 << 20;

/// Life of a partition as others see it.
#[derive(Clone)]
pub enum Life {
    /// The store is being opened, the shard initialised.
    Starting,
    /// The changelog is being read.
    Restoring,
    /// The changelog is to be read, but gives nothing, or the store failed and is to be opened anew; why.
    Stalled(String),
    /// Commands run, queries are answered.
    Running(Arc<dyn Store>),
    /// The broker or a schema is not available; committed rows may be read, but may be old.
    Waiting(Arc<dyn Store>, String),
    /// Another instance owns it; the rows are those of its commits that were read so far.
    Standby(Arc<dyn Store>),
    /// Another instance owns it, and this one holds nothing of it.
    Elsewhere,
    /// Not served here any more.
    Stopped(String),
}

impl Life {
    /// Name for people and for the status call.
    pub fn name(&self) -> &'static str {
        match self {
            Life::Starting => "starting",
            Life::Restoring => "restoring",
            Life::Stalled(_) => "stalled",
            Life::Running(_) => "running",
            Life::Waiting(..) => "waiting",
            Life::Standby(_) => "standby",
            Life::Elsewhere => "elsewhere",
            Life::Stopped(_) => "stopped",
        }
    }

    /// Why it does not run, where there is more to say than its name.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Life::Stalled(reason) | Life::Waiting(_, reason) | Life::Stopped(reason) => Some(reason),
            _ => None,
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

/// The rows that one commit changed in one partition, of the tables that are watched.
#[derive(Debug)]
pub struct Changes {
    /// Number of the commit in this partition.
    pub commit_sequence: u64,
    /// In no particular order across tables.
    pub rows: Vec<RowChange>,
    /// False: there were more rows than may be kept, look into the table.
    pub complete: bool,
    _held: Held,
}

/// Bytes that count against the bound until the last watcher has seen them.
#[derive(Debug)]
struct Held {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Held {
    fn new(bytes: usize, total: &Arc<AtomicUsize>) -> Held {
        total.fetch_add(bytes, Ordering::Relaxed);
        Held { bytes, total: Arc::clone(total) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Callers that wait for the same row.
#[derive(Default)]
struct Waiters {
    count: usize,
    notify: Arc<Notify>,
}

/// What a commit has to tell to those who listen: gathered while its rows are at hand, told after its batch.
#[derive(Default)]
pub struct News {
    rows: Vec<RowChange>,
    waiters: Vec<Arc<Notify>>,
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
    /// Monotonic time at which the store held everything that was committed, milliseconds; 0: never yet.
    synced_at_ms: AtomicU64,
    /// Of a standby: commits whose events are in their tables.
    events_sequence: AtomicU64,
    /// Epoch under which this instance claimed it last.
    claimed_epoch: AtomicI64,
    life: RwLock<Life>,
    committed: watch::Sender<u64>,
    changes: broadcast::Sender<Arc<Changes>>,
    changes_bytes: Arc<AtomicUsize>,
    /// Watches by table.
    watched: Vec<AtomicUsize>,
    waiters: Mutex<HashMap<(TableId, Vec<u8>), Waiters>>,
    trouble: Mutex<Option<StoreError>>,
}

impl PartitionView {
    /// A partition that is starting.
    pub fn new(partition: i32, shard: i32) -> PartitionView {
        PartitionView {
            partition,
            shard,
            changelog_remaining: AtomicI64::new(0),
            history_remaining: AtomicI64::new(0),
            synced_at_ms: AtomicU64::new(0),
            events_sequence: AtomicU64::new(0),
            claimed_epoch: AtomicI64::new(0),
            life: RwLock::new(Life::Starting),
            committed: watch::Sender::new(0),
            changes: broadcast::Sender::new(COMMITS_KEPT),
            changes_bytes: Arc::new(AtomicUsize::new(0)),
            watched: (0..=usize::from(u8::MAX)).map(|_| AtomicUsize::new(0)).collect(),
            waiters: Mutex::new(HashMap::new()),
            trouble: Mutex::new(None),
        }
    }

    /// A reader met this error of the store. Damage is kept for the shard: some tables only readers ever read.
    pub fn note(&self, error: &StoreError) {
        if error.is_corrupt() {
            *self.trouble.lock() = Some(error.clone());
        }
    }

    /// Another thread than the shard's could not write. A full store goes on by itself; any other may have to be opened
    /// anew, and a shard without commands would not find that out.
    pub fn note_write(&self, error: &StoreError) {
        if !error.is_full() {
            *self.trouble.lock() = Some(error.clone());
        }
    }

    /// What others than the shard have met of its store since the last call.
    pub fn take_trouble(&self) -> Option<StoreError> {
        self.trouble.lock().take()
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
            self.wake_waiters();
            // Who waits for a commit looks at the life again.
            self.committed.send_modify(|_| {});
            // Wakes the watchers too; without receivers it goes nowhere.
            self.send(0, Vec::new(), true);
        }
    }

    fn wake_waiters(&self) {
        for waiters in self.waiters.lock().values() {
            waiters.notify.notify_waiters();
        }
    }

    /// This instance owns it, by what was decided in this epoch.
    pub fn claimed(&self, epoch: i64) {
        self.claimed_epoch.store(epoch, Ordering::Relaxed);
    }

    /// Epoch under which this instance claimed it last; 0: never.
    pub fn claimed_epoch(&self) -> i64 {
        self.claimed_epoch.load(Ordering::Relaxed)
    }

    /// The store held everything that was committed at this monotonic time.
    pub fn synced(&self, at: Duration) {
        self.synced_at_ms.fetch_max(at.as_millis() as u64, Ordering::Relaxed);
    }

    /// The rows may be of the middle of a transaction from now on, until they are said to be synced again.
    pub fn unsynced(&self) {
        self.synced_at_ms.store(0, Ordering::Relaxed);
        self.events_sequence.store(0, Ordering::Relaxed);
        // How much an owner had still to read says nothing any more: from here on the next sync answers for all tables.
        self.history_remaining.store(0, Ordering::Relaxed);
    }

    /// Of a standby: the event tables hold the events of this commit and of all before.
    pub fn events_reached(&self, commit_sequence: u64) {
        self.events_sequence.fetch_max(commit_sequence, Ordering::Relaxed);
        // Who waits for a commit looks again.
        self.committed.send_modify(|_| {});
    }

    /// The last commit whose rows are all here, those of event tables counted in or not, when `committed` is the last
    /// one that the store has applied.
    pub fn applied(&self, committed: u64, of_events: bool) -> u64 {
        // An owner writes the rows of events with their commit.
        if of_events && matches!(*self.life.read(), Life::Standby(_)) {
            committed.min(self.events_sequence.load(Ordering::Relaxed))
        } else {
            committed
        }
    }

    /// How old the rows may be at `now`; `None`: nobody knows.
    pub fn staleness(&self, now: Duration) -> Option<Duration> {
        let at = self.synced_at_ms.load(Ordering::Relaxed);
        (at > 0).then(|| now.saturating_sub(Duration::from_millis(at)))
    }

    /// Commits applied so far; watchable.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Gathers what a commit has to tell. Between the batch and [`PartitionView::publish`]: who starts to watch or to
    /// wait after this call finds the commit in the store.
    pub fn gather<'r>(
        &self,
        rows: impl Iterator<Item = (TableId, &'r [u8], Option<&'r [u8]>)>,
        awaited: impl Fn(TableId) -> bool,
    ) -> News {
        let mut news = News::default();
        let waiters = self.waiters.lock();
        for (table, key, row) in rows {
            if self.watched[usize::from(table.0)].load(Ordering::SeqCst) > 0 {
                news.rows.push(RowChange { table, key: key.to_vec(), row: row.map(<[u8]>::to_vec) });
            }
            // The key is copied for the look-up: std's map knows no borrowed pairs.
            if !waiters.is_empty()
                && awaited(table)
                && let Some(waiting) = waiters.get(&(table, key.to_vec()))
            {
                news.waiters.push(Arc::clone(&waiting.notify));
            }
        }
        news
    }

    /// Says what a commit changed, after its batch was applied: watchers, waiters, and readers with tokens.
    pub fn publish(&self, commit_sequence: u64, news: News) {
        for waiter in &news.waiters {
            waiter.notify_waiters();
        }
        self.committed.send_replace(commit_sequence);
        self.send(commit_sequence, news.rows, true);
    }

    /// `complete`: these are all rows of the commit, and of those before it.
    fn send(&self, commit_sequence: u64, mut rows: Vec<RowChange>, complete: bool) {
        if self.changes.receiver_count() == 0 {
            return;
        }
        let fits = rows.is_empty() || self.changes_bytes.load(Ordering::Relaxed) < BYTES_KEPT;
        if !fits {
            rows = Vec::new();
        }
        let complete = complete && fits;
        let size =
            |change: &RowChange| size_of::<RowChange>() + change.key.len() + change.row.as_ref().map_or(0, Vec::len);
        let held = Held::new(rows.iter().map(size).sum(), &self.changes_bytes);
        // Nobody listening any more is not an error.
        let _ = self.changes.send(Arc::new(Changes { commit_sequence, rows, complete, _held: held }));
    }

    /// The store has come to this commit by what was read from the log. Nobody gathered the rows: whoever watches or
    /// waits looks for itself. A commit whose answer was lost comes so, and the next one may be long in coming.
    pub fn restored(&self, commit_sequence: u64) {
        if self.committed.send_replace(commit_sequence) != commit_sequence {
            self.wake_waiters();
            self.send(commit_sequence, Vec::new(), false);
        }
    }

    /// What commits change in this table from now on.
    pub fn watch(self: &Arc<Self>, table: TableId) -> Watching {
        // In this order: a commit that gathers rows of the table finds somebody to send them to.
        let changes = self.changes.subscribe();
        self.watched[usize::from(table.0)].fetch_add(1, Ordering::SeqCst);
        Watching { view: Arc::clone(self), table, changes }
    }

    /// Registers interest in a row before it is read, so that no change is missed.
    pub fn wait_for(self: &Arc<Self>, table: TableId, key: &[u8]) -> Waiter {
        let key = (table, key.to_vec());
        let mut waiters = self.waiters.lock();
        let waiting = waiters.entry(key.clone()).or_default();
        waiting.count += 1;
        Waiter { view: Arc::clone(self), key, notify: Arc::clone(&waiting.notify) }
    }

    /// Rows that callers wait for now.
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

/// Interest in one table; ends when dropped.
pub struct Watching {
    view: Arc<PartitionView>,
    table: TableId,
    /// Commits, with the rows of all tables that somebody watches.
    pub changes: broadcast::Receiver<Arc<Changes>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.view.watched[usize::from(self.table.0)].fetch_sub(1, Ordering::SeqCst);
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
        let Some(waiting) = waiters.get_mut(&self.key) else { return };
        waiting.count -= 1;
        if waiting.count == 0 {
            waiters.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHED: TableId = TableId(1);
    const OTHER: TableId = TableId(2);

    fn commit(view: &PartitionView, sequence: u64, row: &[u8]) {
        let rows = [(WATCHED, b"key".as_slice(), Some(row)), (OTHER, b"key".as_slice(), Some(row))];
        view.publish(sequence, view.gather(rows.into_iter(), |_| true));
    }

    #[test]
    fn watchers_are_sent_the_rows_of_watched_tables_only() {
        let view = Arc::new(PartitionView::new(0, 0));
        assert!(view.gather([(WATCHED, b"key".as_slice(), None)].into_iter(), |_| true).rows.is_empty());
        let mut watching = view.watch(WATCHED);
        commit(&view, 1, b"row");
        let changes = watching.changes.try_recv().unwrap();
        assert_eq!((changes.commit_sequence, changes.rows.len(), changes.complete), (1, 1, true));
        assert_eq!((changes.rows[0].table, changes.rows[0].row.as_deref()), (WATCHED, Some(b"row".as_slice())));
        drop(watching);
        let mut other = view.watch(OTHER);
        commit(&view, 2, b"row");
        assert_eq!(other.changes.try_recv().unwrap().rows[0].table, OTHER);
    }

    #[test]
    fn a_slow_watcher_holds_a_bounded_number_of_bytes_and_is_told() {
        let view = Arc::new(PartitionView::new(0, 0));
        let mut watching = view.watch(WATCHED);
        let row = vec![0; BYTES_KEPT / 2];
        for sequence in 1..=100 {
            commit(&view, sequence, &row);
        }
        assert!(view.changes_bytes.load(Ordering::Relaxed) <= 2 * BYTES_KEPT);
        let mut complete = Vec::new();
        while let Ok(changes) = watching.changes.try_recv() {
            complete.push(changes.complete);
        }
        assert_eq!(complete.len(), 100, "told of every commit");
        assert_eq!(complete.iter().position(|complete| !complete), Some(2), "{complete:?}");
        // All was seen: there is room again.
        assert_eq!(view.changes_bytes.load(Ordering::Relaxed), 0);
        commit(&view, 101, &row);
        assert!(watching.changes.try_recv().unwrap().complete);
    }

    #[test]
    fn the_events_of_a_commit_reach_a_standby_apart_from_it() {
        let view = PartitionView::new(0, 0);
        assert_eq!(view.applied(7, true), 7, "an owner writes them together");
        view.set_life(Life::Standby(Arc::new(state_store::MemoryStore::new())));
        view.events_reached(5);
        assert_eq!((view.applied(7, false), view.applied(7, true), view.applied(4, true)), (7, 5, 4));
        view.unsynced();
        assert_eq!(view.applied(7, true), 0);
    }

    #[test]
    fn who_waits_for_a_row_is_woken_by_it_alone() {
        let view = Arc::new(PartitionView::new(0, 0));
        let waiter = view.wait_for(WATCHED, b"key");
        let other = view.wait_for(WATCHED, b"another");
        let gathered = view.gather([(WATCHED, b"key".as_slice(), None)].into_iter(), |_| true);
        assert_eq!(gathered.waiters.len(), 1);
        assert!(Arc::ptr_eq(&gathered.waiters[0], &waiter.notify));
        assert!(view.gather([(WATCHED, b"key".as_slice(), None)].into_iter(), |_| false).waiters.is_empty());
        drop((waiter, other));
        assert_eq!(view.waiting(), 0);
    }
}
