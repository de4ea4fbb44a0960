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

use crate::fault::LogError;
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

struct Part {
    at: TopicPartition,
    next: i64,
    high: i64,
    store: Arc<dyn Store>,
    view: Arc<PartitionView>,
    complete: Arc<AtomicBool>,
}

/// The loader of one shard; ends with it.
pub(crate) struct HistoryLoader {
    complete: HashMap<TopicPartition, Arc<AtomicBool>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl HistoryLoader {
    /// Starts loading what the stores lack; `None` for a topology without event topics.
    pub fn start<L: Log, A: Application>(
        parts: &ShardParts<L, A>,
        tasks: &[Task],
    ) -> Result<Option<HistoryLoader>, Interrupt> {
        let definition = parts.application.definition();
        if definition.events.is_empty() {
            return Ok(None);
        }
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
        let stop = Arc::new(AtomicBool::new(false));
        let mut loader = HistoryLoader { complete, stop: Arc::clone(&stop), thread: None };
        if !missing.is_empty() {
            loader.thread = Some(spawn(parts, missing, stop)?);
        }
        Ok(Some(loader))
    }

    /// True when the tables of this topic and partition hold everything up to the live transactions.
    pub fn is_complete(&self, topic: TopicId, partition: i32) -> bool {
        let at = TopicPartition { topic, partition };
        self.complete.get(&at).is_some_and(|flag| flag.load(Ordering::Acquire))
    }
}

impl Drop for HistoryLoader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It looks at the flag after every poll; a panic there has been told already.
            let _ = thread.join();
        }
    }
}

fn spawn<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    mut missing: Vec<Part>,
    stop: Arc<AtomicBool>,
) -> Result<std::thread::JoinHandle<()>, Interrupt> {
    let (log, application, clock, shard) =
        (Arc::clone(&parts.log), Arc::clone(&parts.application), Arc::clone(&parts.clock), parts.id);
    std::thread::Builder::new()
        .name(format!("history-{shard}"))
        .spawn(move || {
            while !missing.is_empty() && !stop.load(Ordering::Relaxed) {
                if let Err(reason) = load(&*log, &*application, shard, &mut missing, &stop) {
                    tracing::warn!(shard, reason, "history is not complete yet; trying again");
                    clock.pause(PAUSE);
                }
            }
        })
        .map_err(|error| Interrupt::Retake(format!("thread: {error}")))
}

fn load<L: Log, A: Application>(
    log: &L,
    application: &A,
    shard: i32,
    missing: &mut Vec<Part>,
    stop: &AtomicBool,
) -> Result<(), String> {
    let mut consumer = log.consumer(&format!("history-{shard}")).map_err(|error| error.to_string())?;
    let starts: Vec<_> = missing.iter().map(|part| (part.at, part.next)).collect();
    consumer.assign(&starts).map_err(|error| error.to_string())?;
    let mut polled = RecordBatch::default();
    while !missing.is_empty() && !stop.load(Ordering::Relaxed) {
        polled.clear();
        consumer.poll(&mut polled, POLL_RECORDS, POLL_BYTES, PAUSE).map_err(|error: LogError| error.to_string())?;
        for part in missing.iter_mut() {
            fold_part(log, application, part, &polled)?;
            let position = consumer.position(part.at).map_err(|error| error.to_string())?.unwrap_or(0);
            part.next = part.next.max(position);
        }
        missing.retain(|part| !finish(log, part));
    }
    Ok(())
}

fn fold_part<L: Log, A: Application>(
    log: &L,
    application: &A,
    part: &mut Part,
    polled: &RecordBatch,
) -> Result<(), String> {
    let mut batch = Batch::default();
    let before = part.next;
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
        part.next = record.offset + 1;
    }
    if part.next == before {
        return Ok(());
    }
    let written = part.store.commit_rows(batch, log.topics().name(part.at.topic), part.next);
    written.map_err(|error| error.to_string())
}

/// True when the part is complete; the shard advances its offset from then on.
fn finish<L: Log>(log: &L, part: &Part) -> bool {
    part.view.history_remaining.store((part.high - part.next).max(0), Ordering::Relaxed);
    if part.next < part.high {
        return false;
    }
    if let Err(error) = part.store.commit_rows(Batch::default(), log.topics().name(part.at.topic), part.next) {
        tracing::warn!(partition = part.at.partition, %error, "history offset was not written");
        return false;
    }
    part.complete.store(true, Ordering::Release);
    true
}
