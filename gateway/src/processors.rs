//! Calls to the processors: every one has a deadline, and "not served right now" is tried again until then.
//!
//! Generic over tables; the reading of rows is in `rows.rs`. Holds no state but the routing. How a call finds the owner
//! while owners move is in `search`; who answers instead of an owner that does not, in `replicas`; what comes of a watch,
//! in `watch`.

mod reading;
mod replicas;
mod search;
mod watch;

pub use reading::Reading;
pub use watch::Watch;

use crate::problem::Problem;
use crate::routing::{Changes, Processor, Routing};
use reading::{Bounds, left_ms};
use schemas::query::{
    AwaitRequest, AwaitResponse, Entry, GetRequest, GetResponse, ScanRequest, ScanResponse, Stale, Token, WatchRequest,
};
use search::{FIRST_PAUSE, Search};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

/// Longest that the protocol lets one call wait.
const LONGEST_AWAIT_MS: u32 = 60_000;

/// All processors behind one routing.
#[derive(Clone)]
pub struct Processors {
    routing: Arc<dyn Routing>,
}

/// Which rows of a table to read, in key order.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// Only keys that start so; empty for all.
    pub prefix: Vec<u8>,
    /// Exclusive start; empty for the beginning.
    pub after: Vec<u8>,
    /// From the greatest key down.
    pub reverse: bool,
    /// Rows at most, 1 to 1000.
    pub limit: u32,
    /// Which rows are wanted, in the words of the table; empty: all.
    pub filter: Vec<u8>,
}

impl Processors {
    /// Calls go where the routing says.
    #[must_use]
    pub fn new(routing: Arc<dyn Routing>) -> Self {
        Self { routing }
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.routing.partitions()
    }

    /// Tells when an owner may have changed.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.routing.changes()
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition_of(&self, key: &str) -> i32 {
        schemas::partition_of(key.as_bytes(), self.partitions())
    }

    /// Rows by key; missing ones are left out.
    pub async fn get(
        &self,
        partition: i32,
        table: &str,
        keys: Vec<Vec<u8>>,
        reading: &Reading,
    ) -> Result<Vec<Entry>, Problem> {
        let call = |mut processor: Processor, bounds: Bounds| {
            let request = GetRequest {
                partition,
                table: table.to_owned(),
                keys: keys.clone(),
                tokens: reading.at_least.clone(),
                timeout_ms: bounds.wait_ms(),
                stale_ms_max: bounds.stale_ms_max,
            };
            async move { processor.calls.get(limited(request, bounds.timeout_ms)).await }
        };
        let answer: GetResponse = self.read(partition, reading, "get", call).await?;
        reading.note(answer.stale);
        Ok(answer.entries)
    }

    /// One row by key.
    pub async fn get_one(
        &self,
        partition: i32,
        table: &str,
        key: Vec<u8>,
        reading: &Reading,
    ) -> Result<Option<Entry>, Problem> {
        let entries = self.get(partition, table, vec![key], reading).await?;
        Ok(entries.into_iter().next())
    }

    /// A page of rows.
    pub async fn scan(
        &self,
        partition: i32,
        table: &str,
        range: Range,
        reading: &Reading,
    ) -> Result<ScanResponse, Problem> {
        let call = |mut processor: Processor, bounds: Bounds| {
            let range = range.clone();
            let request = ScanRequest {
                partition,
                table: table.to_owned(),
                prefix: range.prefix,
                after: range.after,
                reverse: range.reverse,
                limit: range.limit,
                tokens: reading.at_least.clone(),
                timeout_ms: bounds.wait_ms(),
                stale_ms_max: bounds.stale_ms_max,
                filter: range.filter,
            };
            async move { processor.calls.scan(limited(request, bounds.timeout_ms)).await }
        };
        let page: ScanResponse = self.read(partition, reading, "scan", call).await?;
        reading.note(page.stale);
        Ok(page)
    }

    /// From the owner; where the caller takes old rows, from whoever has them when the owner does not answer in time.
    async fn read<T, C, F>(
        &self,
        partition: i32,
        reading: &Reading,
        call_name: &'static str,
        call: C,
    ) -> Result<T, Problem>
    where
        C: Fn(Processor, Bounds) -> F,
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = reading.deadline;
        let from_owner = |processor, timeout_ms| call(processor, Bounds { timeout_ms, stale_ms_max: 0 });
        let fresh = self.until(partition, deadline, call_name, from_owner);
        match reading.staleness_max_ms {
            None => fresh.await,
            Some(stale_ms_max) => {
                let old = self.old(partition, deadline, stale_ms_max, &call);
                self.fresh_or_old(partition, deadline, fresh, old).await
            }
        }
    }

    /// Waits until the row is final for this context. `None` when the deadline came first.
    pub async fn await_final(
        &self,
        partition: i32,
        table: &str,
        key: &[u8],
        context: &[u8],
        deadline: Instant,
    ) -> Result<Option<(Vec<u8>, Vec<Token>)>, Problem> {
        while Instant::now() < deadline {
            let asked: Result<AwaitResponse, Problem> = self
                .until(partition, deadline, "await", |mut processor, timeout_ms| {
                    let timeout_ms = timeout_ms.min(LONGEST_AWAIT_MS);
                    let request = AwaitRequest {
                        partition,
                        table: table.to_owned(),
                        key: key.to_vec(),
                        context: context.to_vec(),
                        timeout_ms,
                    };
                    // Here the deadline ends the call. The time-out in the request ends the processor's waiting, and the
                    // transport's, which would be an error, is too late to cut an answer off.
                    async move { processor.calls.r#await(limited(request, timeout_ms.saturating_add(500))).await }
                })
                .await;
            match asked {
                Ok(AwaitResponse { value: Some(value), tokens }) => return Ok(Some((value, tokens))),
                // Nothing yet, before the deadline: the processor shortened the time, or its clock was ahead of ours.
                Ok(AwaitResponse { value: None, .. }) => {
                    tokio::time::sleep_until(deadline.min(Instant::now() + FIRST_PAUSE)).await;
                }
                Err(Problem::Unavailable(_) | Problem::QueryTimedOut(_)) => return Ok(None),
                Err(problem) => return Err(problem),
            }
        }
        Ok(None)
    }

    /// Opens a watch at the owner, once: the caller decides how to go on after an error.
    pub async fn watch(&self, request: WatchRequest) -> Result<Watch, Status> {
        Watch::open(self.search(request.partition), request).await
    }

    /// Calls the owner until it answers, its error is final, or the deadline comes. The owner is looked up for each
    /// attempt, because "not the owner any more" is a normal answer. A call is given up when the owner moves meanwhile:
    /// the earlier one may have been stopped and never answer. Every call is a read, so repeating it does no harm.
    async fn until<T, C, F>(
        &self,
        partition: i32,
        deadline: Instant,
        call_name: &'static str,
        call: C,
    ) -> Result<T, Problem>
    where
        C: Fn(Processor, u32) -> F,
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let _timer = Timer { call_name, started: Instant::now() };
        let mut search = self.search(partition);
        let mut reason = String::from("nobody is known to own it");
        loop {
            let left_ms = left_ms(deadline);
            if left_ms == 0 {
                return Err(Problem::Unavailable(format!("partition {partition} is not served: {reason}")));
            }
            if let Some(owner) = search.owner() {
                let answered = tokio::select! {
                    biased;
                    answered = tokio::time::timeout_at(deadline, call(owner.processor.clone(), left_ms)) => answered,
                    () = search.moved(&owner) => {
                        "it moves".clone_into(&mut reason);
                        continue;
                    }
                };
                match answered {
                    Err(_) => return Err(Problem::QueryTimedOut(format!("{call_name} on partition {partition}"))),
                    Ok(Ok(answer)) => return Ok(answer.into_inner()),
                    Ok(Err(status)) if is_transient(&status) => {
                        status.message().clone_into(&mut reason);
                        if search.learn(&status) {
                            continue;
                        }
                    }
                    Ok(Err(status)) => return Err(problem_of(call_name, partition, &status)),
                }
            }
            search.pause(deadline).await;
        }
    }

    fn search(&self, partition: i32) -> Search {
        Search::new(Arc::clone(&self.routing), partition)
    }
}

/// Records how long a call took, however it ended.
struct Timer {
    call_name: &'static str,
    started: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        let took = self.started.elapsed().as_secs_f64();
        metrics::histogram!("kontor_query_duration_seconds", "call" => self.call_name).record(took);
    }
}

fn limited<T>(message: T, timeout_ms: u32) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(u64::from(timeout_ms)));
    request
}

/// Not served here, not yet, its store is being restored, or the connection broke: another attempt may well succeed.
fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::FailedPrecondition | Code::DataLoss | Code::Unknown | Code::Aborted
    ) || (status.code() == Code::Cancelled && status.message() != "Timeout expired")
        || (status.code() == Code::Internal && status.message().contains("h2 protocol error"))
}

fn problem_of(call_name: &str, partition: i32, status: &Status) -> Problem {
    if let Some(Stale { partition, have, want }) = Stale::of(status) {
        return Problem::Stale { partition, have, want };
    }
    let said = format!("{call_name} on partition {partition}: {}", status.message());
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => Problem::QueryTimedOut(said),
        _ => Problem::Internal(said),
    }
}
