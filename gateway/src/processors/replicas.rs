//! Old rows, for a caller that takes them, when the owner does not answer in time.
//!
//! The owner is asked all along: a fresh answer is always the better one. When it has not come after a moment, everybody
//! who holds rows of the partition is asked for old ones, the owner among them: it may have lost its lease or its broker.
//! How old rows may be is judged by whoever has them; nothing here measures.

use super::Processors;
use super::reading::{Bounds, left_ms};
use crate::problem::Problem;
use crate::routing::Processor;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use schemas::query::Stale;
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Response, Status};

/// A fresh answer takes a few milliseconds. An owner that has not given one by now is stopped, moves or waits.
const OWNER_PATIENCE: Duration = Duration::from_millis(250);
/// Longest that one round of questions takes: who hangs must not hold up the others.
const ROUND_MS: u32 = 500;
/// Pause between two rounds.
const PAUSE: Duration = Duration::from_millis(50);

impl Processors {
    /// The fresh answer, or the first old one of those that come before it.
    pub(super) async fn fresh_or_old<T>(
        &self,
        partition: i32,
        deadline: Instant,
        fresh: impl Future<Output = Result<T, Problem>>,
        old: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let patience = match self.routing.owner(partition) {
            Some(_) => OWNER_PATIENCE.min(deadline.saturating_duration_since(Instant::now()) / 2),
            None => Duration::ZERO,
        };
        let old = async {
            tokio::time::sleep(patience).await;
            old.await
        };
        tokio::pin!(fresh, old);
        tokio::select! {
            biased;
            answered = &mut fresh => match answered {
                Err(Problem::Unavailable(_) | Problem::QueryTimedOut(_)) => better(answered, old.await),
                answered => answered,
            },
            answered = &mut old => match answered {
                Ok(answer) => Ok(answer),
                Err(_) => better(fresh.await, answered),
            },
        }
    }

    /// Asks everybody who holds rows of the partition, again and again, until one answers.
    pub(super) async fn old<T, C, F>(
        &self,
        partition: i32,
        deadline: Instant,
        stale_ms_max: NonZeroU32,
        call: C,
    ) -> Result<T, Problem>
    where
        C: Fn(Processor, Bounds) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut changes = self.routing.changes();
        let mut reason =
            Problem::Unavailable(format!("nobody holds rows of partition {partition} that are new enough"));
        loop {
            changes.seen();
            let left_ms = left_ms(deadline);
            if left_ms == 0 {
                return Err(reason);
            }
            let bounds = Bounds { timeout_ms: left_ms.min(ROUND_MS), stale_ms_max: stale_ms_max.get() };
            let round = Duration::from_millis(u64::from(bounds.timeout_ms));
            let holders = self.routing.holders(partition).into_iter();
            // The time-out of the transport is the server's too: one that stands still does not keep it.
            let ask = |holder| tokio::time::timeout(round, call(holder, bounds));
            let mut answers: FuturesUnordered<_> = holders.map(ask).collect();
            while let Some(answered) = answers.next().await {
                match answered {
                    Ok(Ok(answer)) => return Ok(answer.into_inner()),
                    Ok(Err(status)) => {
                        if let Some(Stale { partition, have, want }) = Stale::of(&status) {
                            reason = Problem::Stale { partition, have, want };
                        }
                    }
                    Err(_) => {}
                }
            }
            changes.next_within(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
        }
    }
}

/// Of two ends: an answer before a reason, and how far somebody is before "nobody answered".
fn better<T>(fresh: Result<T, Problem>, old: Result<T, Problem>) -> Result<T, Problem> {
    match (fresh, old) {
        (Ok(answer), _) | (Err(_), Ok(answer)) => Ok(answer),
        (Err(_), Err(stale @ Problem::Stale { .. })) => Err(stale),
        (fresh, Err(_)) => fresh,
    }
}
