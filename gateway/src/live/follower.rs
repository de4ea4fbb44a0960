//! One subscriber of transactions: what it missed first, then what comes, each once.
//!
//! It joins the feeds before it reads the table, so what is committed meanwhile is in the channel, the table or both;
//! ids only rise within a partition, so "greater than the last one" removes the doubles. A follower that falls behind
//! while it is still reading the table simply reads on; one that falls behind afterwards is too slow and is told so,
//! with the cursor to resume at. Ids of a partition have no gaps, so a follower that would miss any is told that: its
//! cursor is too old, or names what this bank never had.

use super::cursor::Cursor;
use super::filter::Filter;
use super::{Live, News, PAGE, newest};
use crate::problem::Problem;
use crate::processors::{Range, Reading};
use crate::rows::{self, Transaction};
use futures_util::{Stream, StreamExt, stream};
use schemas::query::ScanResponse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

/// Transactions were deleted from the topic of events, and no table holds them.
const NOT_KEPT: &str = "transactions that follow the cursor are not kept any more: begin without it";
/// Of another cluster, or from before a reset.
const NEVER_WRITTEN: &str = "the cursor is beyond the last transaction: it is of another bank, begin without it";

/// Deadline of one read of the table.
const READ: Duration = Duration::from_secs(5);

/// A transaction and the cursor that resumes after it.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The transaction.
    pub transaction: Arc<Transaction>,
    /// For `after`.
    pub cursor: Cursor,
}

/// Where a partition stands for this follower.
struct Tail {
    partition: i32,
    /// Last id that was looked at, wanted or not.
    last: i64,
    /// Whether the table has to be read before the channel.
    behind: bool,
    /// Whether anything came through the channel since the table was read.
    live: bool,
}

struct Follower {
    live: Arc<Live>,
    filter: Filter,
    tails: Vec<Tail>,
    channels: StreamMap<i32, BroadcastStream<News>>,
    ready: VecDeque<Followed>,
    /// Met behind what is ready.
    problem: Option<Problem>,
    ended: bool,
}

/// Transactions that the filter accepts: those after the cursor, then live ones; without a cursor only live ones.
/// Ends with a problem, or never.
pub async fn follow(
    live: Arc<Live>,
    filter: Filter,
    after: Option<Cursor>,
) -> Result<impl Stream<Item = Result<Followed, Problem>> + use<>, Problem> {
    let follower = Follower::join(live, filter, after).await?;
    Ok(stream::unfold(follower, |mut follower| async move {
        if follower.ended {
            return None;
        }
        let next = follower.next().await;
        follower.ended = next.is_err();
        Some((next, follower))
    }))
}

impl Follower {
    async fn join(live: Arc<Live>, filter: Filter, after: Option<Cursor>) -> Result<Self, Problem> {
        let partitions = match filter.iban() {
            Some(iban) => vec![live.processors().partition_of(iban)],
            None => (0..live.partitions()).collect(),
        };
        let starts = match &after {
            Some(cursor) => Some(starts(cursor, &partitions, live.partitions())?),
            None => None,
        };
        let mut tails = Vec::with_capacity(partitions.len());
        let mut channels = StreamMap::with_capacity(partitions.len());
        for (index, subscription) in live.subscribe(&partitions).await?.into_iter().enumerate() {
            let partition = subscription.partition;
            channels.insert(partition, BroadcastStream::new(subscription.receiver));
            let start = starts.as_ref().and_then(|starts| starts.get(index).copied());
            tails.push(Tail {
                partition,
                last: start.unwrap_or(subscription.last),
                behind: start.is_some(),
                live: false,
            });
        }
        Ok(Self { live, filter, tails, channels, ready: VecDeque::new(), problem: None, ended: false })
    }

    async fn next(&mut self) -> Result<Followed, Problem> {
        loop {
            if let Some(followed) = self.ready.pop_front() {
                return Ok(followed);
            }
            if let Some(problem) = self.problem.take() {
                return Err(problem);
            }
            let looked = match self.tails.iter().position(|tail| tail.behind) {
                Some(index) => self.read_page(index).await,
                None => self.receive().await,
            };
            // What was found before it is shown before it.
            self.problem = looked.err();
        }
    }

    async fn read_page(&mut self, index: usize) -> Result<(), Problem> {
        let Some(tail) = self.tails.get(index) else { return Ok(()) };
        let (partition, after) = (tail.partition, tail.last);
        // Before the table is read, which then holds at least this.
        let known = self.live.last(partition);
        let mut page = self.scan(partition, after, self.filter.encode()).await?;
        if self.is_whole(after, &page)? {
            self.take(index, &page)?;
        } else {
            // What lies before the hole is shown before it is told of.
            page = self.scan(partition, after, Vec::new()).await?;
            for entry in &page.entries {
                self.look_at(index, Arc::new(rows::decode(rows::TRANSACTION, entry)?))?;
            }
        }
        if page.more {
            return Ok(());
        }
        let tail = &mut self.tails[index];
        tail.behind = false;
        tail.live = false;
        if tail.last < known {
            return Err(Problem::CursorTooOld(NOT_KEPT));
        }
        // Beyond everything that this gateway has seen: the client may have seen it in another one.
        if page.scanned == 0 && after > known && after > newest(self.live.processors(), partition).await? {
            return Err(Problem::CursorTooOld(NEVER_WRITTEN));
        }
        Ok(())
    }

    async fn scan(&self, partition: i32, after: i64, filter: Vec<u8>) -> Result<ScanResponse, Problem> {
        let range = Range { after: rows::transaction_key(after), limit: PAGE, filter, ..Range::default() };
        let reading = Reading::fresh(Instant::now() + READ);
        self.live.processors().scan(partition, rows::TRANSACTION, range, &reading).await
    }

    /// Whether the processor has scanned every transaction between `after` and the last one of the page.
    fn is_whole(&self, after: i64, page: &ScanResponse) -> Result<bool, Problem> {
        let Some(last) = last_of(page)? else { return Ok(true) };
        Ok(rows::is_nth_after(after, last.transaction_id, page.scanned, self.live.partitions()))
    }

    /// Takes the wanted ones of a page that lacks none, and moves the position to its end.
    fn take(&mut self, index: usize, page: &ScanResponse) -> Result<(), Problem> {
        for entry in &page.entries {
            let transaction: Transaction = rows::decode(rows::TRANSACTION, entry)?;
            self.tails[index].last = transaction.transaction_id;
            // A processor of another version may know fewer conditions.
            if self.filter.accepts(&transaction) {
                let cursor = self.cursor(index, transaction.sequence);
                self.ready.push_back(Followed { transaction: Arc::new(transaction), cursor });
            }
        }
        if let Some(last) = last_of(page)? {
            self.tails[index].last = last.transaction_id;
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), Problem> {
        let Some((partition, received)) = self.channels.next().await else {
            return Err(Problem::Unavailable("the gateway is closing".into()));
        };
        let Some(index) = self.tails.iter().position(|tail| tail.partition == partition) else { return Ok(()) };
        match received {
            Ok(News::Transaction(transaction)) => {
                self.tails[index].live = true;
                self.look_at(index, transaction)
            }
            Ok(News::Gap) => {
                // The table tells whether there is one for this follower.
                self.tails[index].behind = true;
                Ok(())
            }
            Err(BroadcastStreamRecvError::Lagged(_)) if !self.tails[index].live => {
                self.tails[index].behind = true;
                Ok(())
            }
            Err(BroadcastStreamRecvError::Lagged(_)) => {
                metrics::counter!("kontor_slow_subscribers_total").increment(1);
                Err(Problem::SlowSubscriber { cursor: self.cursor(index, 0).encode() })
            }
        }
    }

    /// Moves the position, and keeps the transaction when it is wanted.
    fn look_at(&mut self, index: usize, transaction: Arc<Transaction>) -> Result<(), Problem> {
        let tail = &mut self.tails[index];
        if transaction.transaction_id <= tail.last {
            return Ok(());
        }
        if !rows::follows(tail.last, transaction.transaction_id, self.live.partitions()) {
            return Err(Problem::CursorTooOld(NOT_KEPT));
        }
        tail.last = transaction.transaction_id;
        if self.filter.accepts(&transaction) {
            let cursor = self.cursor(index, transaction.sequence);
            self.ready.push_back(Followed { transaction, cursor });
        }
        Ok(())
    }

    fn cursor(&self, index: usize, sequence: i64) -> Cursor {
        match self.filter.iban() {
            Some(_) => Cursor::Account { transaction_id: self.tails[index].last, sequence },
            None => Cursor::All(self.tails.iter().map(|tail| tail.last).collect()),
        }
    }
}

/// The last transaction that the processor scanned for this page, wanted or not.
fn last_of(page: &ScanResponse) -> Result<Option<Transaction>, Problem> {
    page.end().map(|entry| rows::decode(rows::TRANSACTION, entry)).transpose()
}

/// Where each of the wanted partitions starts.
fn starts(cursor: &Cursor, partitions: &[i32], partition_count: i32) -> Result<Vec<i64>, Problem> {
    match cursor {
        Cursor::All(last) if usize::try_from(partition_count).is_ok_and(|count| count == last.len()) => {
            let of = |partition: &i32| usize::try_from(*partition).ok().and_then(|p| last.get(p).copied());
            Ok(partitions.iter().filter_map(of).collect())
        }
        Cursor::Account { transaction_id, .. } => match partitions {
            [only] if rows::partition_of_transaction(*transaction_id, partition_count) == Some(*only) => {
                Ok(vec![*transaction_id])
            }
            [_] => Err(Problem::BadInput("the cursor belongs to another account".into())),
            _ => Err(Problem::BadInput("the cursor belongs to one account: name its iban".into())),
        },
        Cursor::All(_) => Err(Problem::BadInput("the cursor is of another layout: begin without one".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_fits_what_is_followed_or_is_refused() {
        let all = Cursor::All(vec![10, 11, 12]);
        let one = Cursor::Account { transaction_id: 10, sequence: 1 };
        assert_eq!(starts(&all, &[0, 1, 2], 3), Ok(vec![10, 11, 12]));
        assert_eq!(starts(&all, &[1], 3), Ok(vec![11]));
        assert_eq!(starts(&one, &[1], 3), Ok(vec![10]));
        for (cursor, partitions) in [(&all, vec![0, 1]), (&one, vec![0]), (&one, vec![0, 1, 2])] {
            assert!(starts(cursor, &partitions, if partitions.len() == 2 { 2 } else { 3 }).is_err());
        }
    }
}
