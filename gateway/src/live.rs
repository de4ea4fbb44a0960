//! Live transactions: one watch per partition, however many subscribers.
//!
//! A [`Feed`] follows the table `transaction` of one partition, and goes along when it moves. It always resumes after
//! the last id that it has seen, so that a lost connection, a restarted processor or another owner leaves neither gap
//! nor duplicate. Where the processor does not keep what comes next any more, the feed goes on with what does, and tells
//! its subscribers. It fans out through a bounded channel: a subscriber that does not keep up loses its place, never the
//! gateway its memory.

pub mod cursor;
pub mod filter;
pub mod follower;

use crate::problem::Problem;
use crate::processors::{Processors, Range, Reading};
use crate::rows::{self, Transaction};
use futures_util::future::join_all;
use parking_lot::Mutex;
use schemas::query::broken_watch::Reason;
use schemas::query::{BrokenWatch, WatchRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Transactions that a subscriber may be behind before it is told so.
pub const BUFFERED: usize = 4096;
/// Rows of one page when catching up.
pub const PAGE: u32 = 1000;
/// Pause before a lost watch is opened again where it was.
const RECONNECT: Duration = Duration::from_millis(200);
/// Deadline of joining feeds, and of one read of where a partition stands. Only a feed that starts repeats that until it
/// succeeds; a subscriber is told that it failed.
const READ: Duration = Duration::from_secs(5);

/// What a feed tells.
#[derive(Debug, Clone)]
pub enum News {
    /// The next one.
    Transaction(Arc<Transaction>),
    /// The feed could not go on where it was: some may be missing here.
    Gap,
}

/// The live transactions of all partitions.
pub struct Live {
    processors: Processors,
    feeds: Vec<Feed>,
}

struct Feed {
    partition: i32,
    /// Sending and moving `last` happen under this lock, and so does subscribing: a subscriber knows exactly after
    /// which id its channel begins.
    sender: Mutex<broadcast::Sender<News>>,
    /// Id of the last transaction that was sent; `None` until the first read.
    last: watch::Sender<Option<i64>>,
}

/// A subscriber's end of one feed.
pub struct Subscription {
    /// Which partition.
    pub partition: i32,
    /// Everything later than `last`, in order.
    pub receiver: broadcast::Receiver<News>,
    /// Id of the last transaction before the channel begins.
    pub last: i64,
}

impl Live {
    /// Nothing is watched before [`Live::follow`].
    #[must_use]
    pub fn new(processors: Processors) -> Self {
        let feeds = (0..processors.partitions())
            .map(|partition| Feed {
                partition,
                sender: Mutex::new(broadcast::Sender::new(BUFFERED)),
                last: watch::Sender::new(None),
            })
            .collect();
        Self { processors, feeds }
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.processors.partitions()
    }

    /// The processors that are watched.
    #[must_use]
    pub fn processors(&self) -> &Processors {
        &self.processors
    }

    /// Follows every partition until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let feeds = self.feeds.iter().map(|feed| feed.follow(&self.processors));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = join_all(feeds) => {}
        }
    }

    /// Channels that subscribers hold, over all partitions.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.feeds.iter().map(|feed| feed.sender.lock().receiver_count()).sum()
    }

    /// Id of the last transaction that the feed of a partition has seen; 0 before the first.
    pub(super) fn last(&self, partition: i32) -> i64 {
        let feed = usize::try_from(partition).ok().and_then(|index| self.feeds.get(index));
        feed.and_then(|feed| *feed.last.borrow()).unwrap_or_default()
    }

    /// Joins the feeds of these partitions, of all or of none, in their order. Waits until each feed knows where its
    /// partition stands, but not for ever: who is told that some are not served may ask again, who hears nothing may not
    /// know that there is anything to ask.
    pub async fn subscribe(&self, partitions: &[i32]) -> Result<Vec<Subscription>, Problem> {
        let feeds = partitions.iter().map(|partition| self.feed(*partition)).collect::<Result<Vec<_>, _>>()?;
        let deadline = Instant::now() + READ;
        let known = join_all(feeds.iter().map(|feed| timeout_at(deadline, feed.known()))).await;
        let unknown = feeds.iter().zip(&known).filter(|(_, known)| known.is_err());
        let unserved: Vec<String> = unknown.map(|(feed, _)| feed.partition.to_string()).collect();
        if !unserved.is_empty() {
            return Err(Problem::Unavailable(format!("nobody serves partition {}", unserved.join(", "))));
        }
        Ok(feeds.into_iter().map(Feed::subscribe).collect())
    }

    fn feed(&self, partition: i32) -> Result<&Feed, Problem> {
        let feed = usize::try_from(partition).ok().and_then(|index| self.feeds.get(index));
        feed.ok_or_else(|| Problem::Internal(format!("there is no partition {partition}")))
    }
}

impl Feed {
    /// Returns when the first read has told where the partition stands.
    async fn known(&self) {
        let mut last = self.last.subscribe();
        // The sender lives as long as the feed does.
        let _ = last.wait_for(Option::is_some).await;
    }

    fn subscribe(&self) -> Subscription {
        let sender = self.sender.lock();
        Subscription {
            partition: self.partition,
            receiver: sender.subscribe(),
            last: self.last.borrow().unwrap_or_default(),
        }
    }

    async fn follow(&self, processors: &Processors) {
        let mut last = self.start(processors).await;
        let mut changes = processors.changes();
        loop {
            changes.seen();
            let ended = self.watch(processors, &mut last).await;
            tracing::debug!(partition = self.partition, %ended, "the watch of transactions ended, it is opened again");
            // Who only fell behind resumes after its last id, from the table.
            if let Some(broken) = BrokenWatch::of(&ended).filter(|broken| broken.reason() != Reason::FellBehind) {
                self.jump(&broken, &mut last);
            }
            // Not at all when an owner has changed meanwhile: it may be the new one that the watch has to go to.
            changes.next_within(RECONNECT).await;
        }
    }

    /// Id of the newest transaction, so that the first watch can say after what it begins.
    async fn start(&self, processors: &Processors) -> i64 {
        loop {
            match newest(processors, self.partition).await {
                Ok(last) => {
                    self.last.send_replace(Some(last));
                    return last;
                }
                Err(problem) => {
                    tracing::debug!(partition = self.partition, %problem, "transactions cannot be read yet");
                    tokio::time::sleep(RECONNECT).await;
                }
            }
        }
    }

    /// One watch, until it ends; says how.
    async fn watch(&self, processors: &Processors, last: &mut i64) -> Status {
        let request = WatchRequest {
            partition: self.partition,
            table: rows::TRANSACTION.to_owned(),
            prefix: Vec::new(),
            after: Some(rows::transaction_key(*last)),
            snapshot: false,
            filter: Vec::new(),
        };
        let mut watch = match processors.watch(request).await {
            Ok(watch) => watch,
            Err(status) => return status,
        };
        loop {
            let response = match watch.next().await {
                Ok(response) => response,
                Err(status) => return status,
            };
            for entry in response.entries.iter().filter(|entry| !entry.deleted) {
                match rows::decode::<Transaction>(rows::TRANSACTION, entry) {
                    Ok(transaction) => self.send(transaction, last),
                    Err(problem) => tracing::error!(partition = self.partition, %problem),
                }
            }
        }
    }

    /// Goes on where the processor can. Subscribers look for themselves whether they miss anything by that.
    fn jump(&self, broken: &BrokenWatch, last: &mut i64) {
        let Ok(end) = broken.end.as_slice().try_into().map(i64::from_be_bytes) else { return };
        tracing::warn!(
            partition = self.partition,
            reason = broken.reason().as_str_name(),
            from = *last,
            to = end,
            "transactions after the last one that was seen are not kept; going on with the next one"
        );
        metrics::counter!("kontor_feed_gaps_total").increment(1);
        *last = end;
        let sender = self.sender.lock();
        self.last.send_replace(Some(end));
        // No subscriber is no error.
        let _ = sender.send(News::Gap);
    }

    /// Once per id: what was seen before is dropped.
    fn send(&self, transaction: Transaction, last: &mut i64) {
        if transaction.transaction_id <= *last {
            return;
        }
        *last = transaction.transaction_id;
        let sender = self.sender.lock();
        // No subscriber is no error.
        let _ = sender.send(News::Transaction(Arc::new(transaction)));
        self.last.send_replace(Some(*last));
    }
}

/// Id of the newest transaction of a partition; 0 when there is none.
async fn newest(processors: &Processors, partition: i32) -> Result<i64, Problem> {
    let newest = Range { reverse: true, limit: 1, ..Range::default() };
    let reading = Reading::fresh(Instant::now() + READ);
    let page = processors.scan(partition, rows::TRANSACTION, newest, &reading).await?;
    match page.entries.first() {
        Some(entry) => rows::decode::<Transaction>(rows::TRANSACTION, entry).map(|row| row.transaction_id),
        None => Ok(0),
    }
}
