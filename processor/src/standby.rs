//! A standby: the stores of a shard that another instance owns, kept warm.
//!
//! First everything up to the watermark of now, as a restore does. Then it follows the tail and writes at Position
//! records only: whole transactions, never half of one. Event topics are followed beside it. It claims nothing, answers
//! nothing as fresh, and says how many records it lacks; told to own the shard, it has a tail to read and no more.

mod mark;

use std::sync::Arc;
use std::time::Duration;

use schemas::records::ShardRole;

use crate::fault::LogError;
use crate::history::{self, Part};
use crate::log::{Log, LogConsumer, RecordBatch, TopicPartition};
use crate::membership::Role;
use crate::query::view::Life;
use crate::restore;
use crate::shard::{Interrupt, Shard, ShardParts};
use crate::task::{POSITION_KEY, Task};
use crate::topology::Application;
use mark::Mark;

/// Records and bytes of one poll.
const POLL_RECORDS: usize = 5_000;
const POLL_BYTES: usize = 4 << 20;
/// Wait after a poll that brought something; after one that did not, a standby waits as long as an owner would.
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// Errors of a broker that was away, which are passed in one go: each of the client's attempts left one.
const ERRORS_PASSED: usize = 1_000;
/// Staged bytes of whole transactions after which a store is written.
const WRITE_BYTES: usize = 1 << 20;
/// Between two looks at how far the owner is.
const LAG_INTERVAL: Duration = Duration::from_millis(500);

impl<L: Log, A: Application> Shard<L, A> {
    /// Follows the owner for as long as the instance is told to.
    pub(crate) fn follow(&mut self) -> Result<(), Interrupt> {
        self.set_life(|task| Life::Standby(Arc::clone(&task.store)));
        // Before anything else: an owner that was told to become a standby lets go by this.
        self.parts.roles.report(self.parts.id, Some((ShardRole::Standby, -1)));
        let began = self.parts.clock.monotonic();
        self.tails = false;
        self.prepare(Role::Standby)?;
        let prepared = self.parts.clock.monotonic();
        // Its end may lie inside the owner's open transaction: nothing is read from here before the next whole one.
        self.tasks.iter().for_each(|task| task.view.unsynced());
        let report = self.catch_up(Role::Standby, false, None)?;
        let restored = self.parts.clock.monotonic();
        let mut events = history::parts_to_follow(&self.parts, &self.tasks)?;
        self.assign_tail(&events)?;
        self.set_life(|task| Life::Standby(Arc::clone(&task.store)));
        tracing::info!(
            shard = self.parts.id,
            restored_records = report.records,
            prepare_ms = prepared.saturating_sub(began).as_millis() as u64,
            restore_ms = restored.saturating_sub(prepared).as_millis() as u64,
            "follows"
        );
        let (mut measured_at, mut polled) = (Duration::ZERO, RecordBatch::default());
        let mut marks = Marks::of(self.tasks.len());
        loop {
            if let Err(released) = self.parts.still(Role::Standby) {
                // Half a transaction is forgotten, and would have to be read again.
                let whole = |task: &Task| task.staged.changelog_offset == task.committed.changelog_offset;
                self.tails = self.tasks.iter().all(whole);
                return Err(released);
            }
            self.trouble_met()?;
            self.follow_tail(&mut polled, &mut events)?;
            let now = self.parts.clock.monotonic();
            if measured_at.is_zero() || now.saturating_sub(measured_at) >= LAG_INTERVAL {
                measured_at = now;
                self.tell_lag(&mut marks);
            }
            self.tell_age(&mut marks, &events);
            self.affirm_stores()?;
            // Not in the poll: a standby that is to own the shard must hear of it at once, and reads in time what the
            // client fetches meanwhile.
            let wait = if polled.is_empty() { self.parts.options.idle_poll } else { BUSY_WAIT };
            self.parts.roles.wait_while(self.parts.id, Role::Standby, wait);
        }
    }

    fn assign_tail(&mut self, events: &[Part]) -> Result<(), Interrupt> {
        let changelog = self.parts.application.definition().changelog;
        let tail = |task: &Task| {
            let at = TopicPartition { topic: changelog, partition: task.partition };
            (at, task.committed.changelog_offset)
        };
        let tails: Vec<_> = self.tasks.iter().map(tail).chain(events.iter().map(Part::start)).collect();
        let Some(consumer) = &mut self.consumer else {
            return Err(Interrupt::Retake("no consumer".to_owned()));
        };
        consumer.assign(&tails).map_err(|error| Interrupt::Retake(error.to_string()))
    }

    fn follow_tail(&mut self, polled: &mut RecordBatch, events: &mut [Part]) -> Result<(), Interrupt> {
        let Some(consumer) = &mut self.consumer else {
            return Err(Interrupt::Retake("no consumer".to_owned()));
        };
        polled.clear();
        let mut errors = 0;
        while let Err(error) = consumer.poll(polled, POLL_RECORDS, POLL_BYTES, Duration::ZERO) {
            match error {
                // The client library reconnects by itself; the lag says that we fall behind.
                LogError::Unavailable(_) if errors < ERRORS_PASSED => errors += 1,
                LogError::Unavailable(_) => return Ok(()),
                error => return Err(Interrupt::Retake(error.to_string())),
            }
        }
        for task in &mut self.tasks {
            follow_task(&self.parts, task, polled)?;
        }
        for part in events {
            history::fold_part(&*self.parts.log, &*self.parts.application, part, polled).map_err(Interrupt::Retake)?;
        }
        Ok(())
    }

    /// How old the rows may be, where a mark has been passed.
    fn tell_age(&mut self, marks: &mut Marks, events: &[Part]) {
        let Some(consumer) = &mut self.consumer else { return };
        for (task, marks) in self.tasks.iter().zip(&mut marks.0) {
            let passed = |log: TopicPartition| {
                let start = events.iter().map(Part::start).find(|(at, _)| *at == log);
                let applied = start.map_or(task.committed.changelog_offset, |(_, next)| next);
                consumer.position(log).ok().flatten().unwrap_or(0).max(applied)
            };
            if marks.pending.as_ref().is_some_and(|mark| mark.tell(task, passed)) {
                marks.passed = marks.pending.take();
            }
        }
    }

    /// Changelog records that the stores lack, markers counted in.
    fn tell_lag(&mut self, marks: &mut Marks) {
        let changelog = self.parts.application.definition().changelog;
        let Some(consumer) = &mut self.consumer else { return };
        let now = self.parts.clock.monotonic();
        let mut lag = 0;
        for (task, marks) in self.tasks.iter().zip(&mut marks.0) {
            let at = TopicPartition { topic: changelog, partition: task.partition };
            let Ok(log) = self.parts.log.watermarks(at) else {
                self.parts.roles.report(self.parts.id, Some((ShardRole::Standby, -1)));
                return;
            };
            let position = consumer.position(at).ok().flatten().unwrap_or(0);
            lag += (log.high - position.max(task.committed.changelog_offset)).max(0);
            if marks.pending.is_none() {
                let definition = self.parts.application.definition();
                let before = marks.passed.take();
                // Without an answer the rows grow older until the next look.
                marks.pending = Mark::set(&*self.parts.log, definition, task, (now, log.high), before).ok();
            }
        }
        self.parts.roles.report(self.parts.id, Some((ShardRole::Standby, lag)));
    }
}

/// By task: the mark that is to be passed, and the last one that was.
struct Marks(Vec<TaskMarks>);

#[derive(Default)]
struct TaskMarks {
    pending: Option<Mark>,
    passed: Option<Mark>,
}

impl Marks {
    fn of(tasks: usize) -> Marks {
        Marks((0..tasks).map(|_| TaskMarks::default()).collect())
    }
}

/// Folds what was polled of one task, and writes what is whole.
fn follow_task<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    task: &mut Task,
    polled: &RecordBatch,
) -> Result<(), Interrupt> {
    let changelog = parts.application.definition().changelog;
    // What is staged from an earlier poll is the beginning of a transaction: it was not whole then.
    let mut whole = false;
    let at = TopicPartition { topic: changelog, partition: task.partition };
    for record in polled.iter().filter(|record| record.topic_partition() == at) {
        if whole && task.overlay.bytes() > WRITE_BYTES {
            write(parts, task)?;
        }
        restore::apply_record(parts, Role::Standby, task, &record)?;
        whole = record.key == Some(POSITION_KEY);
    }
    if whole { write(parts, task) } else { Ok(()) }
}

fn write<L: Log, A: Application>(parts: &ShardParts<L, A>, task: &mut Task) -> Result<(), Interrupt> {
    restore::write(parts, task, parts.clock.wall_ms())?;
    task.view.restored(task.committed.commit_sequence);
    Ok(())
}
