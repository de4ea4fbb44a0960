//! The gRPC service of an instance: committed rows, fresh ones of the partitions that it owns, and old ones, called so and
//! within the bound that the caller names, of those that it follows.
//!
//! Every answer comes from one snapshot and names the commit that it is of. It refuses to call answers
//! fresh for partitions that do not run here, to read beyond limits, and to wait without a deadline.

use std::sync::Arc;
use std::time::Duration;

use schemas::query::query_server::Query;
use schemas::query::{
    AwaitRequest, AwaitResponse, Entry, GetRequest, GetResponse, PartitionStatus, ScanRequest, ScanResponse, Stale,
    StatusRequest, StatusResponse, Token, WatchRequest, WatchResponse,
};
use state_store::{ScanRange, Snapshot, Store, StoreError, TableId};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::clock::SharedClock;
use crate::membership::{Role, Roles};
use crate::query::filtered::filtered_page;
use crate::query::view::{Life, PartitionView};
use crate::query::watch;
use crate::topology::{Application, ProcessError, RowFilter};

const KEYS_MAX: usize = 1000;
/// Rows read on the async thread itself.
const KEYS_INLINE: usize = 8;
const LIMIT_MAX: u32 = 1000;
const WAIT_MS_MAX: u32 = 60_000;
/// Responses of one watch that wait for the network.
const WATCH_BUFFER: usize = 64;

/// See the module. Cheap to clone.
pub struct QueryService<A> {
    instance: String,
    application: Arc<A>,
    views: Vec<Arc<PartitionView>>,
    roles: Arc<dyn Roles>,
    clock: SharedClock,
}

impl<A> Clone for QueryService<A> {
    fn clone(&self) -> Self {
        QueryService {
            instance: self.instance.clone(),
            application: Arc::clone(&self.application),
            views: self.views.clone(),
            roles: Arc::clone(&self.roles),
            clock: Arc::clone(&self.clock),
        }
    }
}

impl<A: Application> QueryService<A> {
    /// Answers from these views.
    pub fn new(
        instance: String,
        application: Arc<A>,
        views: Vec<Arc<PartitionView>>,
        roles: Arc<dyn Roles>,
        clock: SharedClock,
    ) -> QueryService<A> {
        QueryService { instance, application, views, roles, clock }
    }

    fn view(&self, partition: i32) -> Result<&Arc<PartitionView>, Status> {
        let view = usize::try_from(partition).ok().and_then(|index| self.views.get(index));
        view.ok_or_else(|| Status::invalid_argument(format!("there is no partition {partition}")))
    }

    /// The store of a partition whose answers are fresh.
    fn store(&self, view: &PartitionView) -> Result<Arc<dyn Store>, Status> {
        let partition = view.partition;
        let not_here = |reason: &str| {
            self.roles.owner(view.shard).into_status(format!("partition {partition} is not served here: {reason}"))
        };
        // Before the life is looked at, in this order: what runs after that was proven and given to this instance.
        let is_current = self.roles.is_current();
        // The shard itself may still be busy with its last transaction, or with reading what it is to follow.
        let is_anothers = self.roles.settles() && matches!(self.roles.role(view.shard), Role::Standby | Role::Nothing);
        match view.life() {
            // Its place may be another's by now, or nobody's; why it is not this one's is what an operator has to know.
            Life::Stopped(reason) => Err(not_here(&reason)),
            _ if is_anothers => Err(not_here("another instance owns it")),
            // It may have been given to another while this process was stopped or cut off.
            Life::Running(_) if !is_current => {
                Err(Status::unavailable(format!("the owner of partition {partition} cannot prove that it still is")))
            }
            // Given to another and back while the shard's thread stood still: its rows may be of before.
            Life::Running(_) if self.roles.lost_at(view.shard) >= view.claimed_epoch() => {
                Err(Status::unavailable(format!("partition {partition} was another's meanwhile")))
            }
            Life::Running(store) => Ok(store),
            Life::Standby(_) => Err(not_here("this is a standby")),
            Life::Elsewhere => Err(not_here("another instance owns it")),
            Life::Waiting(_, reason) | Life::Stalled(reason) => {
                Err(Status::unavailable(format!("partition {partition} waits: {reason}")))
            }
            life => Err(Status::unavailable(format!("partition {partition} is {}", life.name()))),
        }
    }

    /// The same, or rows that may be old by no more than the caller allows; true: they may be old.
    fn store_within(
        &self,
        view: &PartitionView,
        table: TableId,
        stale_ms_max: u32,
    ) -> Result<(Arc<dyn Store>, bool), Status> {
        let answer = match self.store(view) {
            Ok(store) => (store, false),
            Err(refused) => (self.old_store(view, stale_ms_max).ok_or(refused)?, true),
        };
        self.whole(view, table)?;
        Ok(answer)
    }

    fn old_store(&self, view: &PartitionView, stale_ms_max: u32) -> Option<Arc<dyn Store>> {
        let (Life::Running(store) | Life::Standby(store) | Life::Waiting(store, _)) = view.life() else {
            return None;
        };
        let allowed = Duration::from_millis(u64::from(stale_ms_max));
        let staleness = view.staleness(self.clock.monotonic());
        staleness.is_some_and(|staleness| staleness <= allowed).then_some(store)
    }

    /// A table that is being read back from its events has holes, also in its middle: the newest rows are there first.
    fn whole(&self, view: &PartitionView, table: TableId) -> Result<(), Status> {
        if !self.is_folded(table) || view.is_history_complete() {
            return Ok(());
        }
        Err(Status::unavailable(format!("the history of partition {} is being read", view.partition)))
    }

    /// Whether the table is made of events.
    fn is_folded(&self, table: TableId) -> bool {
        self.application.definition().table(table).is_none()
    }

    /// The store once it has applied what the tokens name. Only whoever serves the partition is worth waiting for.
    async fn store_at(
        &self,
        view: &PartitionView,
        table: TableId,
        tokens: &[Token],
        (timeout_ms, stale_ms_max): (u32, u32),
    ) -> Result<(Arc<dyn Store>, bool), Status> {
        self.store_within(view, table, stale_ms_max)?;
        wait_for_tokens(view, self.is_folded(table), tokens, timeout_ms).await?;
        self.store_within(view, table, stale_ms_max)
    }

    fn table(&self, name: &str) -> Result<TableId, Status> {
        self.application
            .definition()
            .table_id(name)
            .ok_or_else(|| Status::invalid_argument(format!("there is no table {name:?}")))
    }

    /// The caller's filter; `None`: all rows are wanted.
    fn filter(&self, table: TableId, filter: &[u8]) -> Result<Option<RowFilter>, Status> {
        if filter.is_empty() {
            return Ok(None);
        }
        self.application
            .filter(table, filter)
            .map(Some)
            .map_err(|wrong| Status::invalid_argument(format!("filter: {wrong}")))
    }

    fn entry(
        &self,
        view: &PartitionView,
        snapshot: &dyn Snapshot,
        table: TableId,
        key: &[u8],
        row: &[u8],
    ) -> Result<Entry, Status> {
        let lookup = |table: TableId, key: &[u8]| snapshot.get(table, key).inspect_err(|error| view.note(error));
        let value = self.application.present(table, key, row, &lookup).map_err(of_process)?;
        Ok(Entry { key: key.to_vec(), value, deleted: false })
    }

    fn status_of(view: &PartitionView) -> PartitionStatus {
        let life = view.life();
        let reason = life.reason().unwrap_or_default().to_owned();
        PartitionStatus {
            partition: view.partition,
            shard: view.shard,
            state: life.name().to_owned(),
            commit_sequence: *view.committed().borrow(),
            changelog_remaining: view.changelog_remaining.load(std::sync::atomic::Ordering::Relaxed),
            history_remaining: view.history_remaining.load(std::sync::atomic::Ordering::Relaxed),
            reason,
        }
    }
}

/// Waits until the partition has applied what the tokens name; what it has to have applied of it, depends on the table.
async fn wait_for_tokens(
    view: &PartitionView,
    of_events: bool,
    tokens: &[Token],
    timeout_ms: u32,
) -> Result<(), Status> {
    let wanted =
        tokens.iter().filter(|token| token.partition == view.partition).map(|token| token.commit_sequence).max();
    let Some(wanted) = wanted else { return Ok(()) };
    let mut committed = view.committed();
    let timeout = Duration::from_millis(u64::from(timeout_ms.min(WAIT_MS_MAX)));
    let gone = || !matches!(view.life(), Life::Running(_) | Life::Waiting(..) | Life::Standby(_));
    let reached = committed.wait_for(|sequence| view.applied(*sequence, of_events) >= wanted || gone());
    match tokio::time::timeout(timeout, reached).await {
        Ok(Ok(_)) => Ok(()),
        _ => {
            let committed = *view.committed().borrow();
            let have = view.applied(committed, of_events);
            Err(Stale { partition: view.partition, have, want: wanted }.into_status())
        }
    }
}

/// The end of a wait, which is bounded by the service's own limit.
#[expect(clippy::disallowed_methods, reason = "the runtime's time-outs go by its own clock; no data depends on it")]
fn deadline_in(timeout_ms: u32) -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_millis(u64::from(timeout_ms.min(WAIT_MS_MAX)))
}

/// Runs a read of the store away from the async threads.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(read).await.map_err(|error| Status::internal(format!("read failed: {error}")))?
}

/// The answer for a caller whose read failed; the shard is told of damage, wipes the store and restores it.
pub(super) fn failed(view: &PartitionView) -> impl Fn(StoreError) -> Status + '_ {
    |error| {
        view.note(&error);
        of_store(error)
    }
}

fn of_store(error: StoreError) -> Status {
    match error {
        StoreError::Corrupt { .. } => Status::data_loss(error.to_string()),
        error => Status::unavailable(error.to_string()),
    }
}

pub(super) fn of_process(error: ProcessError) -> Status {
    match error {
        ProcessError::Store(error) => of_store(error),
        error => Status::internal(error.to_string()),
    }
}

#[tonic::async_trait]
impl<A: Application> Query for QueryService<A> {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let request = request.into_inner();
        if request.keys.len() > KEYS_MAX {
            return Err(Status::invalid_argument(format!("at most {KEYS_MAX} keys in one call")));
        }
        let view = Arc::clone(self.view(request.partition)?);
        let table = self.table(&request.table)?;
        let bounds = (request.timeout_ms, request.stale_ms_max);
        let (store, stale) = self.store_at(&view, table, &request.tokens, bounds).await?;
        let few = request.keys.len() <= KEYS_INLINE;
        let service = self.clone();
        let read = move || {
            let snapshot = store.snapshot().map_err(failed(&view))?;
            let mut entries = Vec::with_capacity(request.keys.len());
            for key in &request.keys {
                if let Some(row) = snapshot.get(table, key).map_err(failed(&view))? {
                    entries.push(service.entry(&view, &*snapshot, table, key, &row)?);
                }
            }
            Ok(GetResponse { entries, token: Some(token_of(&*snapshot, &view)?), stale })
        };
        // A few rows are read in less time than another thread takes to wake.
        let answer = if few { read() } else { blocking(read).await };
        answer.map(Response::new)
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        let request = request.into_inner();
        if request.limit == 0 || request.limit > LIMIT_MAX {
            return Err(Status::invalid_argument(format!("limit is 1 to {LIMIT_MAX}")));
        }
        let view = Arc::clone(self.view(request.partition)?);
        let table = self.table(&request.table)?;
        let filter = self.filter(table, &request.filter)?;
        let bounds = (request.timeout_ms, request.stale_ms_max);
        let (store, stale) = self.store_at(&view, table, &request.tokens, bounds).await?;
        let service = self.clone();
        blocking(move || {
            let mut range = ScanRange::prefix(request.prefix);
            if !request.after.is_empty() {
                range = range.after(request.after);
            }
            if request.reverse {
                range = range.reverse();
            }
            let snapshot = store.snapshot().map_err(failed(&view))?;
            let present = |key: &[u8], row: &[u8]| service.entry(&view, &*snapshot, table, key, row);
            let limit = request.limit as usize;
            let page = filtered_page(&*snapshot, table, range, limit, filter.as_ref(), present, failed(&view))?;
            let token = Some(token_of(&*snapshot, &view)?);
            Ok(ScanResponse { token, stale, ..page })
        })
        .await
        .map(Response::new)
    }

    async fn r#await(&self, request: Request<AwaitRequest>) -> Result<Response<AwaitResponse>, Status> {
        let request = request.into_inner();
        let view = Arc::clone(self.view(request.partition)?);
        let table = self.table(&request.table)?;
        let waiter = view.wait_for(table, &request.key);
        let deadline = deadline_in(request.timeout_ms);
        loop {
            // Registered before the row is read: a change between the two wakes us.
            let changed = waiter.notify.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let store = self.store(&view)?;
            let (row, token) = {
                let snapshot = store.snapshot().map_err(failed(&view))?;
                (snapshot.get(table, &request.key).map_err(failed(&view))?, token_of(&*snapshot, &view)?)
            };
            let answer = match row {
                Some(row) => self.application.answer(table, &row, &request.context).map_err(of_process)?,
                None => None,
            };
            if let Some(answer) = answer {
                let others = answer.depends_on.iter();
                let others =
                    others.map(|(partition, sequence)| Token { partition: *partition, commit_sequence: *sequence });
                let tokens = std::iter::once(token).chain(others).collect();
                return Ok(Response::new(AwaitResponse { value: Some(answer.value), tokens }));
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(Response::new(AwaitResponse { value: None, tokens: vec![token] }));
            }
        }
    }

    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let view = Arc::clone(self.view(request.partition)?);
        let table = self.table(&request.table)?;
        let filter = self.filter(table, &request.filter)?;
        self.store(&view)?;
        // What is read back into a table is not told to watchers: a watch that starts from rows waits for all of them.
        if request.after.is_some() || request.snapshot {
            self.whole(&view, table)?;
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(WATCH_BUFFER);
        let watch = watch::Watch { application: Arc::clone(&self.application), view, table, request, filter };
        tokio::spawn(watch.run(sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse {
            instance: self.instance.clone(),
            partitions: self.views.iter().map(|view| Self::status_of(view)).collect(),
            partition_count: self.views.len() as i32,
        }))
    }
}

/// The commit that a snapshot is of.
pub(super) fn token_of(snapshot: &dyn Snapshot, view: &PartitionView) -> Result<Token, Status> {
    let commit_sequence = snapshot.commit_sequence().map_err(failed(view))?;
    Ok(Token { partition: view.partition, commit_sequence })
}
