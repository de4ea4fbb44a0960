//! From polled records to staged effects: nothing here talks to the broker.
//!
//! A record is processed, waits for its schema, or becomes a dead letter in the same transaction. A batch in which the
//! application panics is tried once more and then run record by record, so that one bad record never stops a partition
//! and one panic never loops.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::context::TaskContext;
use crate::dead_letter;
use crate::log::{Log, LogConsumer, Record, RecordBatch, TopicPartition};
use crate::probe::Step;
use crate::shard::{Interrupt, Shard, interrupt_of_process, interrupt_of_store};
use crate::topology::{Application, BadRecord, FormatError, ProcessError};

/// Between two looks whether a missing schema has arrived.
const BLOCKED_RETRY: Duration = Duration::from_millis(100);

/// A partition of an input that waits for a schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked {
    at: TopicPartition,
    schema: u32,
    retry_at: Duration,
}

/// How the staging of some records ended.
enum Staged {
    /// All records up to this index (exclusive).
    UpTo(usize),
    /// The application panicked, or failed after it had changed state.
    Failed(String),
}

impl<L: Log, A: Application> Shard<L, A> {
    /// Runs all polled records, in as many transactions as the budget asks for.
    pub(crate) fn run_records(&mut self, polled: &RecordBatch) -> Result<(), Interrupt> {
        let mut from = 0;
        let mut failures = 0;
        while from < polled.len() {
            // After two failures of the same batch: one record per transaction, so that the bad one is found.
            let to = if failures < 2 { polled.len() } else { from + 1 };
            match self.stage(polled, from, to)? {
                Staged::UpTo(end) => {
                    self.commit_staged()?;
                    metrics::counter!("kontor_records_consumed_total").increment((end - from) as u64);
                    from = end;
                }
                Staged::Failed(reason) => {
                    self.discard_staged();
                    failures += 1;
                    tracing::warn!(shard = self.parts.id, failures, reason, "processing failed");
                    if failures > 2
                        && let Some(record) = polled.get(from)
                    {
                        self.refuse(&record, &reason)?;
                        self.commit_staged()?;
                        from += 1;
                    }
                }
            }
        }
        if self.is_waiting() {
            self.resume_life();
        }
        Ok(())
    }

    fn stage(&mut self, polled: &RecordBatch, from: usize, to: usize) -> Result<Staged, Interrupt> {
        let middle = from + (to - from) / 2;
        for index in from..to {
            let Some(record) = polled.get(index) else { break };
            if index == middle {
                self.parts.probe.reached(Step::MidBatch);
            }
            if self.blocked.iter().any(|blocked| blocked.at == record.topic_partition()) {
                continue;
            }
            match self.stage_record(&record) {
                Ok(()) => {}
                Err(Refusal::Failed(reason)) => return Ok(Staged::Failed(reason)),
                Err(Refusal::Interrupt(interrupt)) => return Err(interrupt),
            }
            if self.staged_bytes() > self.parts.options.staged_bytes_max {
                return Ok(Staged::UpTo(index + 1));
            }
        }
        Ok(Staged::UpTo(to))
    }

    fn stage_record(&mut self, record: &Record<'_>) -> Result<(), Refusal> {
        let definition = self.parts.application.definition();
        let Some(input) = definition.input_index(record.topic) else {
            return Err(Refusal::Interrupt(Interrupt::Stop("a record of a topic that is no input".to_owned())));
        };
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if bytes > self.parts.options.record_bytes_max && definition.inputs[input].bad_record == BadRecord::DeadLetter {
            return self.refuse(record, &format!("record of {bytes} bytes is too large")).map_err(Refusal::Interrupt);
        }
        let partitions = definition.topics.partitions;
        let index = self.task_index(record.partition);
        let task = &mut self.tasks[index];
        let mut context = TaskContext::new(task, &mut self.outbox, partitions);
        let application = &self.parts.application;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let outcome = application.process(&mut context, record);
            (outcome, context.has_effects())
        }));
        match outcome {
            Err(panic) => return Err(Refusal::Failed(text_of(&*panic))),
            Ok((Ok(()), _)) => {}
            Ok((Err(ProcessError::Store(error)), _)) => {
                return Err(Refusal::Interrupt(interrupt_of_store(record.partition, error)));
            }
            Ok((Err(ProcessError::Stop(reason)), _)) => return Err(Refusal::Interrupt(Interrupt::Stop(reason))),
            Ok((Err(error), true)) => return Err(Refusal::Failed(format!("{error}, after it had changed state"))),
            Ok((Err(ProcessError::WaitForSchema(schema)), false)) => {
                self.block(record.topic_partition(), schema);
                return Ok(());
            }
            Ok((Err(ProcessError::Poison(reason)), false)) => {
                return self.refuse(record, &reason).map_err(Refusal::Interrupt);
            }
        }
        self.advance(record, input);
        Ok(())
    }

    /// A record that can never be processed: a client's becomes a dead letter, with the position behind it; one of ours
    /// stops the shard, however it failed.
    fn refuse(&mut self, record: &Record<'_>, reason: &str) -> Result<(), Interrupt> {
        let definition = self.parts.application.definition();
        let Some(input) = definition.input_index(record.topic) else {
            return Err(Interrupt::Stop("a record of a topic that is no input".to_owned()));
        };
        let topic = definition.topics.name(record.topic);
        if definition.inputs[input].bad_record == BadRecord::Stop {
            return Err(Interrupt::Stop(format!(
                "{topic}-{} offset {}: {reason}; this topic holds work in flight, nothing in it may be skipped",
                record.partition, record.offset
            )));
        }
        tracing::warn!(topic, partition = record.partition, offset = record.offset, reason, "to the dead letters");
        metrics::counter!("kontor_dead_letters_total").increment(1);
        dead_letter::stage(&mut self.outbox, definition.dead_letters, topic, record, reason);
        self.advance(record, input);
        Ok(())
    }

    fn advance(&mut self, record: &Record<'_>, input: usize) {
        let index = self.task_index(record.partition);
        let task = &mut self.tasks[index];
        task.staged.next_offset[input] = record.offset + 1;
        task.latest_ms[input] = task.latest_ms[input].max(Some(record.timestamp_ms));
        task.touched = true;
    }

    /// Housekeeping, event rows, changelog and positions of every touched task.
    pub(crate) fn stage_outputs(&mut self) -> Result<(), Interrupt> {
        let definition = self.parts.application.definition();
        let partitions = definition.topics.partitions;
        for task in self.tasks.iter_mut().filter(|task| task.touched) {
            let (partition, latest_ms) = (task.partition, task.latest_ms.clone());
            let mut context = TaskContext::new(task, &mut self.outbox, partitions);
            let housekept = self.parts.application.housekeep(&mut context, &latest_ms);
            housekept.map_err(|error| interrupt_of_process(partition, error))?;
        }
        for record in self.outbox.iter() {
            if definition.event_index(record.topic).is_none() {
                continue;
            }
            let index = (record.partition / definition.shards) as usize;
            let task = self.tasks.get_mut(index).filter(|task| task.partition == record.partition && task.touched);
            let (Some(task), Some(key), Some(value)) = (task, record.key, record.value) else {
                return Err(Interrupt::Stop("an event outside the partition that is processed".to_owned()));
            };
            task.fold_event(&*self.parts.application, record.topic, key, value)
                .map_err(|error: FormatError| Interrupt::Stop(format!("own event cannot be read back: {error}")))?;
        }
        for task in self.tasks.iter().filter(|task| task.touched) {
            task.stage_changelog(definition, &self.parts.codecs.position, &self.parts.codecs.owner, &mut self.outbox)
                .map_err(|error| interrupt_of_process(task.partition, error))?;
        }
        Ok(())
    }

    fn discard_staged(&mut self) {
        self.outbox.clear();
        for task in &mut self.tasks {
            task.discard_staged();
        }
    }

    fn staged_bytes(&self) -> usize {
        self.outbox.bytes() + self.tasks.iter().map(|task| task.overlay.bytes()).sum::<usize>()
    }

    fn block(&mut self, at: TopicPartition, schema: u32) {
        let topic = self.definition().topics.name(at.topic);
        tracing::warn!(
            topic,
            partition = at.partition,
            schema,
            "waits for a schema that the registry has not told yet"
        );
        metrics::counter!("kontor_schema_waits_total").increment(1);
        let retry_at = self.parts.clock.monotonic() + BLOCKED_RETRY;
        self.blocked.push(Blocked { at, schema, retry_at });
    }

    /// Takes partitions up again whose schema has arrived, or is clearly absent (then they become dead letters).
    pub(crate) fn retry_blocked(&mut self) -> Result<(), Interrupt> {
        if self.blocked.is_empty() {
            return Ok(());
        }
        let now = self.parts.clock.monotonic();
        let schemas = &self.parts.codecs.schemas;
        let mut resolved = false;
        self.blocked.retain_mut(|blocked| {
            if blocked.retry_at > now {
                return true;
            }
            blocked.retry_at = now + BLOCKED_RETRY;
            let pending = matches!(schemas.writer(blocked.schema), schemas::Lookup::Pending);
            resolved |= !pending;
            pending
        });
        if resolved { self.assign_inputs() } else { Ok(()) }
    }

    /// Reads every input from its committed position.
    pub(crate) fn assign_inputs(&mut self) -> Result<(), Interrupt> {
        let positions = self.input_positions();
        let Some(consumer) = &mut self.consumer else {
            return Err(Interrupt::Retake("no consumer".to_owned()));
        };
        consumer.assign(&positions).map_err(|error| Interrupt::Retake(error.to_string()))
    }
}

enum Refusal {
    Failed(String),
    Interrupt(Interrupt),
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a message"))
}
