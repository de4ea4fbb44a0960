//! Brings the stores of a shard to the end of their changelog.
//!
//! The story: ask for the high watermark (after the init, so nothing of an earlier owner can come behind it), read
//! read_committed from where each store stands until the reader has passed that watermark, apply as it comes, and check
//! that the standing is a transaction's edge. Never "last record + 1" (markers and aborted records take offsets), never
//! the last stable offset (an open transaction would hide records below the watermark).
//!
//! Odd cases: a store ahead of the log, older than its beginning or older than it keeps tombstones: wiped once, restored
//! whole. A transaction in the changelog that nobody ends: it waits, and says so.

mod stall;

use std::sync::atomic::Ordering;
use std::time::Duration;

use schemas::{AvroRecord, Lookup, records};
use state_store::Batch;

use crate::fault::LogError;
use crate::log::{Log, LogConsumer, Record, RecordBatch, TopicPartition};
use crate::membership::Role;
use crate::query::view::Life;
use crate::shard::{Interrupt, ShardParts, interrupt_of_store};
use crate::task::{OWNER_PREFIX, OWNER_TABLE, POSITION_KEY, Standing, Task, stage_rows};
use crate::topology::{Application, Definition, FormatError};
use stall::{Pace, Stall};

/// Records of one poll.
const POLL_RECORDS: usize = 20_000;
/// Bytes of one poll.
const POLL_BYTES: usize = 8 << 20;
/// Wait of one poll, and between two looks for a schema.
const PAUSE: Duration = Duration::from_millis(20);

/// Without a broker for so long, a restore begins again from the start.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a restore did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Changelog records applied.
    pub records: u64,
}

/// How a restore reads.
pub(crate) struct Reading<'a, C> {
    pub consumer: &'a mut C,
    /// The consumer already reads every changelog from where the stores stand, and goes on with that. A new assignment
    /// would wait for the fetch that is under way, up to half a second; the one under way ends with what there is to read:
    /// the records of the earlier owner, or the marker of its transaction, which our initialisation aborted.
    pub tails: bool,
    /// The moment of the monotonic clock at which it gives up. Who has not initialised the producer may find an open
    /// transaction in the way, whose owner is dead: until its time-out.
    pub until: Option<Duration>,
}

/// Applies the changelog of every task up to the high watermark of now, for as long as the instance has this role.
pub(crate) fn catch_up<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    role: Role,
    Reading { consumer, tails, until }: Reading<'_, L::Consumer>,
    tasks: &mut [Task],
) -> Result<Report, Interrupt> {
    let mut targets = Vec::new();
    for (index, task) in tasks.iter_mut().enumerate() {
        task.discard_staged();
        if let Some(target) = target_of(parts, index, task)? {
            // What is written on the way may end inside a transaction: no old rows are given from it either.
            task.view.unsynced();
            let remaining = target.high - task.committed.changelog_offset;
            task.view.changelog_remaining.store(remaining.max(0), Ordering::Relaxed);
            task.view.set_life(Life::Restoring);
            targets.push(target);
        } else {
            task.view.restored(task.committed.commit_sequence);
        }
    }
    let mut report = Report::default();
    if targets.is_empty() {
        return Ok(report);
    }
    if !tails {
        let start = |target: &Target| (target.at, tasks[target.task].committed.changelog_offset);
        let starts: Vec<_> = targets.iter().map(start).collect();
        consumer.assign(&starts).map_err(|error| Interrupt::Retake(error.to_string()))?;
    }
    let mut polled = RecordBatch::default();
    let mut reached_at = parts.clock.monotonic();
    while !targets.is_empty() {
        parts.still(role)?;
        polled.clear();
        let now = parts.clock.monotonic();
        match consumer.poll(&mut polled, POLL_RECORDS, POLL_BYTES, PAUSE) {
            Ok(()) => reached_at = now,
            // A client that was not polled while the broker was away reports each of its failed attempts, one by one,
            // long after the broker is back.
            Err(LogError::Unavailable(_)) if now.saturating_sub(reached_at) < PATIENCE => {
                targets.iter_mut().for_each(|target| target.stall.begin_again(now));
                continue;
            }
            Err(error) => return Err(Interrupt::Retake(error.to_string())),
        }
        report.records += apply_polled(parts, role, &polled, tasks)?;
        let mut reached = Vec::new();
        targets.retain_mut(|target| {
            let position = consumer.position(target.at).ok().flatten();
            let task = &tasks[target.task];
            let passed = position.unwrap_or(0).max(task.staged.changelog_offset);
            task.view.changelog_remaining.store((target.high - passed).max(0), Ordering::Relaxed);
            target.watch(parts, task, passed);
            let done = passed >= target.high;
            if done {
                reached.push((target.task, passed));
            }
            !done
        });
        for (index, passed) in reached {
            let task = &mut tasks[index];
            task.staged.changelog_offset = passed;
            write(parts, task, parts.clock.wall_ms())?;
            task.view.changelog_remaining.store(0, Ordering::Relaxed);
            task.view.restored(task.committed.commit_sequence);
        }
        if let Some(Target { at, .. }) = targets.first().filter(|_| until.is_some_and(|until| now >= until)) {
            let reason = format!("the changelog of partition {} could not be read to its end in time", at.partition);
            return Err(Interrupt::Retake(format!("{reason}: a transaction may be open there")));
        }
    }
    // A task may have been read beyond its target while another was still on its way; whoever goes on from here begins at
    // what is written.
    tasks.iter_mut().for_each(Task::discard_staged);
    Ok(report)
}

/// Folds what was polled of the changelog. Gives the number of records.
fn apply_polled<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    role: Role,
    polled: &RecordBatch,
    tasks: &mut [Task],
) -> Result<u64, Interrupt> {
    let changelog = parts.application.definition().changelog;
    let mut applied = 0;
    // A standby reads events too; their position is in the store, and the history goes on from there.
    for record in polled.iter().filter(|record| record.topic == changelog) {
        let Some(task) = tasks.iter_mut().find(|task| task.partition == record.partition) else { continue };
        apply_record(parts, role, task, &record)?;
        applied += 1;
        if task.overlay.bytes() > parts.options.restored_bytes_max {
            // It does not hold everything yet: a tombstone that comes later may be gone when this restore is begun again.
            let written_at_ms = held_everything_ms(parts, task)?;
            write(parts, task, written_at_ms)?;
        }
    }
    metrics::counter!("kontor_restore_records_total").increment(applied);
    Ok(applied)
}

struct Target {
    /// Index of the task.
    task: usize,
    at: TopicPartition,
    high: i64,
    stall: Stall,
}

impl Target {
    /// Says when the reader, who has passed so many offsets, gets no further, and when it does again. Nobody else would:
    /// the broker answers, the instance lives, and the shard does nothing.
    fn watch<L: Log, A: Application>(&mut self, parts: &ShardParts<L, A>, task: &Task, passed: i64) {
        // Not the time of the poll: to apply what it gave may have taken long.
        let now = parts.clock.monotonic();
        match self.stall.look(self.high - passed, now) {
            Pace::Same => {}
            Pace::Resumed => task.view.set_life(Life::Restoring),
            Pace::Stalled => match parts.log.last_stable(self.at) {
                Ok(stable) => self.say_stalled(task, passed, stable),
                // Whoever is away ends no transaction, and gives nothing to read.
                Err(_) => self.stall.begin_again(now),
            },
        }
    }

    fn say_stalled(&mut self, task: &Task, passed: i64, stable: i64) {
        let (partition, high) = (task.partition, self.high);
        let why = if stable <= passed {
            "a transaction there is neither committed nor aborted"
        } else {
            "the broker has more, which does not come"
        };
        let reason =
            format!("the changelog of partition {partition} cannot be read past offset {passed} of {high}: {why}");
        tracing::warn!(partition, reason, "the restore is stalled");
        metrics::counter!("kontor_restore_stalls_total").increment(1);
        task.view.set_life(Life::Stalled(reason));
        self.stall.said();
    }
}

/// The watermark to reach, or `None` when the store is there already.
fn target_of<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    index: usize,
    task: &mut Task,
) -> Result<Option<Target>, Interrupt> {
    let at = TopicPartition { topic: parts.application.definition().changelog, partition: task.partition };
    let log = parts.log.watermarks(at).map_err(|error| Interrupt::Retake(error.to_string()))?;
    let stands = task.committed.changelog_offset;
    let foreign = |reason: String| Interrupt::Corrupt { partition: task.partition, reason };
    if stands > log.high {
        return Err(foreign(format!("the store stands at {stands}, the changelog ends at {}", log.high)));
    }
    if stands == 0 && log.low > 0 {
        task.committed.changelog_offset = log.low;
        task.staged.changelog_offset = log.low;
    } else if stands < log.low {
        return Err(foreign(format!("the store stands at {stands}, the changelog begins at {}", log.low)));
    // Behind the last commit there is its marker: what may be missing begins one further.
    } else if stands > 0 && stands + 1 < log.high && may_have_missed_tombstones(parts, task)? {
        return Err(foreign("the store is older than the changelog keeps tombstones".to_owned()));
    }
    // To read the marker would take as long as the fetch that is under way when a standby becomes the owner: up to half a
    // second, because nothing is written meanwhile.
    let stall = Stall::new(log.high - task.committed.changelog_offset, parts.clock.monotonic());
    Ok((!holds_all(parts, task, log.high)).then_some(Target { task: index, at, high: log.high, stall }))
}

/// Whether the store holds everything below this watermark. One offset behind what was applied can only be the marker of
/// its commit: a record that is missing has a marker of its own behind it. Of another layout it may be a record all the
/// same: its writer has another transactional id, so our initialisation did not wait for its marker.
fn holds_all<L: Log, A: Application>(parts: &ShardParts<L, A>, task: &Task, high: i64) -> bool {
    let applied = task.committed.changelog_offset;
    let is_ours = task.committed.layout == parts.application.definition().placement();
    applied >= high || is_ours && applied + 1 == high
}

/// Between two looks whether stores still hold everything.
pub(crate) fn affirm_interval(definition: &Definition) -> Duration {
    definition.tombstone_retention / 20
}

/// Says in a store that was not written for a while that it still holds everything. By its last row alone an idle store
/// would look as if it had been away since, and would be wiped for the first record that it lacks.
pub(crate) fn affirm<L: Log, A: Application>(parts: &ShardParts<L, A>, task: &Task) -> Result<(), Interrupt> {
    let definition = parts.application.definition();
    let failed = |error| interrupt_of_store(task.partition, error);
    // The time first: what is found out after it was true at it.
    let now_ms = parts.clock.wall_ms();
    let mut progress = task.store.progress().map_err(failed)?;
    if now_ms.saturating_sub(progress.written_at_ms) < affirm_interval(definition).as_millis() as i64 {
        return Ok(());
    }
    let at = TopicPartition { topic: definition.changelog, partition: task.partition };
    // Without an answer: the next time.
    let Ok(log) = parts.log.watermarks(at) else { return Ok(()) };
    if !holds_all(parts, task, log.high) {
        return Ok(());
    }
    progress.written_at_ms = now_ms;
    // A loader may be at work on them.
    progress.event_offset.clear();
    task.store.commit(Batch::default(), &progress).map_err(failed)
}

/// Whether a tombstone behind the standing of the store may have been compacted away by now: the row that it removed
/// would live again. Wall time, less a tenth because clocks differ: the compaction goes by the broker's. A clock that
/// jumps ahead costs a restore, nothing else.
fn may_have_missed_tombstones<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    task: &Task,
) -> Result<bool, Interrupt> {
    let retention_ms = parts.application.definition().tombstone_retention.as_millis() as i64;
    let written_at_ms = task.store.progress().map_err(|error| interrupt_of_store(task.partition, error))?.written_at_ms;
    let age_ms = parts.clock.wall_ms().saturating_sub(written_at_ms);
    Ok(age_ms > retention_ms - retention_ms / 10)
}

/// Folds one changelog record into what is staged of its task.
pub(crate) fn apply_record<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    role: Role,
    task: &mut Task,
    record: &Record<'_>,
) -> Result<(), Interrupt> {
    let bad = |reason: String| {
        let topic = parts.application.definition().topics.name(record.topic);
        Interrupt::Stop(format!("{topic}-{} offset {}: {reason}", record.partition, record.offset))
    };
    let key = record.key.ok_or_else(|| bad("a changelog record without a key".to_owned()))?;
    loop {
        match fold(parts, task, key, record.value) {
            Ok(()) => break,
            Err(FormatError::Bad(reason)) => return Err(bad(reason)),
            Err(FormatError::Wait(id)) => {
                parts.still(role)?;
                if let Lookup::Absent(reason) = parts.codecs.schemas.writer(id) {
                    return Err(bad(format!("schema {id}: {reason}")));
                }
                parts.clock.pause(PAUSE);
            }
        }
    }
    task.staged.changelog_offset = record.offset + 1;
    Ok(())
}

/// Folds one changelog record into the overlay or the standing of the task.
fn fold<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    task: &mut Task,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), FormatError> {
    let definition = parts.application.definition();
    if key == POSITION_KEY {
        let record: records::Position = decode(parts, value.ok_or_else(|| bad("a position without a value"))?)?;
        task.staged.follow(&record, definition);
        return Ok(());
    }
    if key.starts_with(OWNER_PREFIX.as_bytes()) {
        let record: records::Owner = decode(parts, value.ok_or_else(|| bad("a claim without a value"))?)?;
        let mut row = Vec::new();
        state_store::rows::encode(&record, &mut row).map_err(|error| FormatError::Bad(error.to_string()))?;
        task.overlay.put(OWNER_TABLE, key, &row);
        return Ok(());
    }
    let split = key.iter().position(|byte| *byte == b'/').ok_or_else(|| bad("a key without a table"))?;
    let (name, text) = (&key[..split], &key[split + 1..]);
    let table = definition.tables.iter().find(|table| table.name.as_bytes() == name);
    let table = table.ok_or_else(|| FormatError::Bad(format!("unknown table {}", String::from_utf8_lossy(name))))?;
    let local = table.format.local_key(text)?;
    match value {
        None => task.overlay.delete(table.id, &local),
        Some(value) => {
            let mut row = Vec::with_capacity(value.len());
            table.format.read_changelog(value, &mut row)?;
            task.overlay.put(table.id, &local, &row);
        }
    }
    Ok(())
}

fn bad(reason: &str) -> FormatError {
    FormatError::Bad(reason.to_owned())
}

fn decode<L, A, T: AvroRecord>(parts: &ShardParts<L, A>, value: &[u8]) -> Result<T, FormatError> {
    decode_with(&parts.codecs.schemas, value)
}

/// Decodes a framed record with its writer's schema, if that is known.
pub fn decode_with<T: AvroRecord>(schemas: &schemas::SchemaCache, value: &[u8]) -> Result<T, FormatError> {
    let (id, datum) = schemas::unframe(value).map_err(|error| FormatError::Bad(error.to_string()))?;
    match schemas.writer(id) {
        Lookup::Known(writer) => writer.decode(datum).map_err(|error| FormatError::Bad(error.to_string())),
        Lookup::Pending => Err(FormatError::Wait(id)),
        Lookup::Absent(reason) => Err(FormatError::Bad(reason)),
    }
}

/// When the store held everything last, ms since 1970. A new one: now, since what was deleted before is in no log.
fn held_everything_ms<L: Log, A: Application>(parts: &ShardParts<L, A>, task: &Task) -> Result<i64, Interrupt> {
    let progress = task.store.progress().map_err(|error| interrupt_of_store(task.partition, error))?;
    Ok(if progress.written_at_ms == 0 { parts.clock.wall_ms() } else { progress.written_at_ms })
}

/// Writes what was folded, with the standing, in one batch. `written_at_ms`: when the store held everything.
pub(crate) fn write<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    task: &mut Task,
    written_at_ms: i64,
) -> Result<(), Interrupt> {
    let definition = parts.application.definition();
    let mut batch = Batch::default();
    let failed = |error| interrupt_of_store(task.partition, error);
    stage_rows(&task.overlay, task.store.as_ref(), definition, &mut batch).map_err(failed)?;
    let progress = Standing::to_progress(&task.staged, definition, Default::default(), written_at_ms);
    task.store.load(batch, &progress).map_err(failed)?;
    task.committed.clone_from(&task.staged);
    task.discard_staged();
    Ok(())
}
