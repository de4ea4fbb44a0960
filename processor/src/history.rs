//! Reads event topics back into their tables, behind the commands.
//!
//! An event topic kept for ever is the changelog of its own tables. Live events reach the tables with the batch of
//! their transaction; what is missing (a crash before the batch, a lost store) is read here, up to the watermark at the
//! start, on a thread of its own. The rows are the same whoever writes them, so both may write at once; only the
//! offset belongs to one of them at a time: to this loader until it is complete, then to the shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use state_store::{Batch, Store};

use crate::log::{Log, LogConsumer, RecordBatch, TopicId, TopicPartition};
use crate::query::view::PartitionView;
use crate::shard::{Interrupt, ShardParts, interrupt_of_store};
use crate::task::Task;
use crate::topology::{Application, FormatError};

/// Records of one poll.
const POLL_RECORDS: usize = 20_000;
/// Bytes of one poll.
const POLL_BYTES: usize = 8 << 20;
/// Wait of one poll, and before another attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// One event topic of one partition, as far as it is missing.
pub(crate) struct Part {
    at: TopicPartition,
    next: i64,
    high: i64,
    store: Arc<dyn Store>,
    view: Arc<PartitionView>,
    complete: Arc<AtomicBool>,
}

/// The loader of one shard; ends with it.
pub(crate) struct HistoryLoader<L: Log> {
    complete: HashMap<TopicPartition, Arc<AtomicBool>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// What the shard's own thread reads between two steps, when there is to be no other thread.
    own_work: Option<Work<L>>,
}

impl<L: Log> HistoryLoader<L> {
    /// Starts loading what the stores lack; `None` for a topology without event topics.
    pub fn start<A: Application>(
        parts: &ShardParts<L, A>,
        tasks: &[Task],
    ) -> Result<Option<HistoryLoader<L>>, Interrupt> {
        if parts.application.definition().events.is_empty() {
            return Ok(None);
        }
        let (complete, missing) = find_missing(parts, tasks)?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut loader = HistoryLoader { complete, stop: Arc::clone(&stop), thread: None, own_work: None };
        if !missing.is_empty() {
            let work = Work { shard: parts.id, missing, consumer: None, polled: RecordBatch::default() };
            if parts.options.one_thread {
                loader.own_work = Some(work);
            } else {
                loader.thread = Some(spawn(parts, work, stop)?);
            }
        }
        Ok(Some(loader))
    }

    /// Reads a little, when there is no thread that does.
    pub fn step<A: Application>(&mut self, parts: &ShardParts<L, A>) {
        if let Some(work) = &mut self.own_work {
            work.round_or_tell(&*parts.log, &*parts.application);
            if work.missing.is_empty() {
                self.own_work = None;
            }
        }
    }

    /// True when the tables of this topic and partition hold everything up to the live transactions.
    pub fn is_complete(&self, topic: TopicId, partition: i32) -> bool {
        let at = TopicPartition { topic, partition };
        self.complete.get(&at).is_some_and(|flag| flag.load(Ordering::Acquire))
    }
}

impl<L: Log> Drop for HistoryLoader<L> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It looks at the flag after every poll; a panic there has been told already.
            let _ = thread.join();
        }
    }
}

impl Part {
    /// Where it is to be read from.
    pub fn start(&self) -> (TopicPartition, i64) {
        (self.at, self.next)
    }
}

/// Every event topic of every task, from where the stores stand, without an end: for a standby.
pub(crate) fn parts_to_follow<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    tasks: &[Task],
) -> Result<Vec<Part>, Interrupt> {
    let definition = parts.application.definition();
    let mut all = Vec::new();
    for task in tasks {
        let progress = task.store.progress().map_err(|error| interrupt_of_store(task.partition, error))?;
        for events in &definition.events {
            let at = TopicPartition { topic: events.topic, partition: task.partition };
            let low = parts.log.watermarks(at).map_err(|error| Interrupt::Retake(error.to_string()))?.low;
            let stands = progress.event_offset.get(definition.topics.name(events.topic)).copied();
            let (store, view) = (Arc::clone(&task.store), Arc::clone(&task.view));
            let next = stands.unwrap_or(low).max(low);
            all.push(Part { at, next, high: i64::MAX, store, view, complete: Arc::default() });
        }
    }
    Ok(all)
}

/// Loads all that is missing on the caller's thread, for comparisons.
pub(crate) fn load_all<L: Log, A: Application>(parts: &ShardParts<L, A>, tasks: &[Task]) -> Result<(), String> {
    let (_, missing) = find_missing(parts, tasks).map_err(|interrupt| format!("{interrupt:?}"))?;
    let mut work = Work { shard: parts.id, missing, consumer: None, polled: RecordBatch::default() };
    while !work.missing.is_empty() {
        work.round(&*parts.log, &*parts.application)?;
    }
    Ok(())
}

type Flags = HashMap<TopicPartition, Arc<AtomicBool>>;

/// Compares where the stores stand with what the event topics hold.
fn find_missing<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    tasks: &[Task],
) -> Result<(Flags, Vec<Part>), Interrupt> {
    let definition = parts.application.definition();
    let (mut complete, mut missing) = (HashMap::new(), Vec::new());
    for task in tasks {
        let progress = task.store.progress().map_err(|error| interrupt_of_store(task.partition, error))?;
        let mut remaining = 0;
        for events in &definition.events {
            let at = TopicPartition { topic: events.topic, partition: task.partition };
            let log = parts.log.watermarks(at).map_err(|error| Interrupt::Retake(error.to_string()))?;
            let stands = progress.event_offset.get(definition.topics.name(events.topic)).copied();
            let next = stands.unwrap_or(log.low).max(log.low);
            let flag = Arc::new(AtomicBool::new(next >= log.high));
            complete.insert(at, Arc::clone(&flag));
            if next < log.high {
                remaining += log.high - next;
                let (store, view) = (Arc::clone(&task.store), Arc::clone(&task.view));
                missing.push(Part { at, next, high: log.high, store, view, complete: flag });
            }
        }
        task.view.history_remaining.store(remaining, Ordering::Relaxed);
    }
    Ok((complete, missing))
}

fn spawn<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    mut work: Work<L>,
    stop: Arc<AtomicBool>,
) -> Result<std::thread::JoinHandle<()>, Interrupt> {
    let (log, application, clock) = (Arc::clone(&parts.log), Arc::clone(&parts.application), Arc::clone(&parts.clock));
    std::thread::Builder::new()
        .name(format!("history-{}", parts.id))
        .spawn(move || {
            while !work.missing.is_empty() && !stop.load(Ordering::Relaxed) {
                if !work.round_or_tell(&*log, &*application) {
                    clock.pause(PAUSE);
                }
            }
        })
        .map_err(|error| Interrupt::Retake(format!("thread: {error}")))
}

/// What is missing, and the reader of it.
struct Work<L: Log> {
    shard: i32,
    missing: Vec<Part>,
    consumer: Option<L::Consumer>,
    polled: RecordBatch,
}

impl<L: Log> Work<L> {
    /// One round. False: it failed, and the next one starts anew from what the stores hold.
    fn round_or_tell<A: Application>(&mut self, log: &L, application: &A) -> bool {
        let round = self.round(log, application);
        if let Err(reason) = &round {
            tracing::warn!(shard = self.shard, reason, "history is not complete yet; trying again");
            self.consumer = None;
        }
        round.is_ok()
    }

    fn round<A: Application>(&mut self, log: &L, application: &A) -> Result<(), String> {
        if self.consumer.is_none() {
            let mut consumer = log.consumer(&format!("history-{}", self.shard)).map_err(|error| error.to_string())?;
            let starts: Vec<_> = self.missing.iter().map(|part| (part.at, part.next)).collect();
            consumer.assign(&starts).map_err(|error| error.to_string())?;
            self.consumer = Some(consumer);
        }
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        self.polled.clear();
        consumer.poll(&mut self.polled, POLL_RECORDS, POLL_BYTES, PAUSE).map_err(|error| error.to_string())?;
        for part in &mut self.missing {
            fold_part(log, application, part, &self.polled)?;
            let position = consumer.position(part.at).map_err(|error| error.to_string())?.unwrap_or(0);
            part.next = part.next.max(position);
        }
        self.missing.retain(|part| !finish(log, part));
        Ok(())
    }
}

/// Writes the rows of one part's events. Only then does the part move on: after an error it is read again.
pub(crate) fn fold_part<L: Log, A: Application>(
    log: &L,
    application: &A,
    part: &mut Part,
    polled: &RecordBatch,
) -> Result<(), String> {
    let mut batch = Batch::default();
    let mut next = part.next;
    for record in polled.iter().filter(|record| record.topic_partition() == part.at) {
        if let (Some(key), Some(value)) = (record.key, record.value) {
            match application.fold(part.at.topic, key, value, &mut |table, key, row| batch.put(table, key, row)) {
                Ok(()) => {}
                Err(FormatError::Wait(id)) => return Err(format!("schema {id} is not known yet")),
                Err(FormatError::Bad(reason)) => {
                    // Not ours (only the owner writes here) or damaged: the table lacks it, and that is said.
                    tracing::error!(partition = part.at.partition, offset = record.offset, reason, "event skipped");
                    metrics::counter!("kontor_events_skipped_total").increment(1);
                }
            }
        }
        next = record.offset + 1;
    }
    if next > part.next {
        let written = part.store.commit_rows(batch, log.topics().name(part.at.topic), next);
        written.inspect_err(|error| part.view.note_write(error)).map_err(|error| error.to_string())?;
        part.next = next;
    }
    Ok(())
}

/// True when the part is complete; the shard advances its offset from then on.
fn finish<L: Log>(log: &L, part: &Part) -> bool {
    part.view.history_remaining.store((part.high - part.next).max(0), Ordering::Relaxed);
    if part.next < part.high {
        return false;
    }
    if let Err(error) = part.store.commit_rows(Batch::default(), log.topics().name(part.at.topic), part.next) {
        part.view.note_write(&error);
        tracing::warn!(partition = part.at.partition, %error, "history offset was not written");
        return false;
    }
    part.complete.store(true, Ordering::Release);
    true
}
