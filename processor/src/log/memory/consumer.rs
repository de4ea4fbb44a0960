//! The reader of the in-memory log: assigned by hand, read_committed, and loud about offsets that are gone.

use std::time::Duration;

use super::MemoryLog;
use super::broker::Broker;
use super::faults::{Call, Injected};
use crate::fault::LogError;
use crate::log::{LogConsumer, Record, RecordBatch, TopicPartition};

#[derive(Debug)]
struct Assigned {
    at: TopicPartition,
    /// Offset of the next entry to look at.
    next: i64,
    passed: bool,
}

/// See [`LogConsumer`].
#[derive(Debug)]
pub struct MemoryConsumer {
    log: MemoryLog,
    name: String,
    assigned: Vec<Assigned>,
    /// Where the next poll begins, so that no partition starves another.
    turn: usize,
}

impl MemoryConsumer {
    pub(super) fn new(log: MemoryLog, name: &str) -> MemoryConsumer {
        MemoryConsumer { log, name: name.to_owned(), assigned: Vec::new(), turn: 0 }
    }
}

impl LogConsumer for MemoryConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        self.log.with(|broker| {
            for (at, _) in partitions {
                broker.partition(*at)?;
            }
            match broker.plan.strike(Call::Assign, &self.name) {
                Some(_) => Err(LogError::Unavailable("injected at assign".to_owned())),
                None => Ok(()),
            }
        })?;
        let assigned = partitions.iter().map(|(at, next)| Assigned { at: *at, next: *next, passed: false });
        self.assigned = assigned.collect();
        self.turn = 0;
        Ok(())
    }

    fn poll(
        &mut self,
        out: &mut RecordBatch,
        max_records: usize,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<(), LogError> {
        let log = self.log.clone();
        match log.with(|broker| broker.plan.strike(Call::Poll, &self.name)) {
            Some(Injected::PollUnavailable) => {
                return Err(LogError::Unavailable("injected at poll".to_owned()));
            }
            Some(_) => {
                log.pass_time(timeout);
                return Ok(());
            }
            None => {}
        }
        log.wait(timeout, |broker| self.has_something(broker));
        log.with(|broker| {
            self.check_offsets(&log, broker)?;
            let max_records = broker.plan.shorten(max_records);
            self.take(broker, out, max_records, max_bytes);
            Ok(())
        })
    }

    fn position(&mut self, at: TopicPartition) -> Result<Option<i64>, LogError> {
        match self.assigned.iter().find(|assigned| assigned.at == at) {
            Some(assigned) => Ok(assigned.passed.then_some(assigned.next)),
            None => Err(LogError::Refused(format!("partition {} is not assigned to {}", at.partition, self.name))),
        }
    }

    fn mirror(&mut self, positions: &[(TopicPartition, i64)]) {
        self.log.with(|broker| broker.mirrored.extend(positions.iter().copied()));
    }
}

impl MemoryConsumer {
    /// True when a poll would pass something, or fail.
    fn has_something(&self, broker: &Broker) -> bool {
        self.assigned.iter().any(|assigned| match broker.partition(assigned.at) {
            Ok(partition) => {
                is_lost(assigned.next, partition.low(), partition.high()) || partition.is_readable(assigned.next)
            }
            Err(_) => true,
        })
    }

    fn check_offsets(&self, log: &MemoryLog, broker: &Broker) -> Result<(), LogError> {
        for Assigned { at, next, .. } in &self.assigned {
            let partition = broker.partition(*at)?;
            if is_lost(*next, partition.low(), partition.high()) {
                return Err(LogError::OffsetLost {
                    topic: log.topic_name(at.topic),
                    partition: at.partition,
                    offset: *next,
                    reason: format!("it holds {} to {}", partition.low(), partition.high()),
                });
            }
        }
        Ok(())
    }

    fn take(&mut self, broker: &Broker, out: &mut RecordBatch, max_records: usize, max_bytes: usize) {
        let (mut records, mut bytes) = (0, 0);
        let count = self.assigned.len();
        for step in 0..count {
            let assigned = &mut self.assigned[(self.turn + step) % count];
            let Ok(partition) = broker.partition(assigned.at) else {
                continue;
            };
            let passed = partition.pass(assigned.next, |record| {
                let more = records < max_records && (records == 0 || bytes < max_bytes);
                if more {
                    records += 1;
                    bytes += record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len);
                }
                more
            });
            for record in passed.records {
                out.push(Record {
                    topic: assigned.at.topic,
                    partition: assigned.at.partition,
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                });
            }
            if let Some(next) = passed.next {
                assigned.next = next;
                assigned.passed = true;
            }
        }
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
    }
}

fn is_lost(next: i64, low: i64, high: i64) -> bool {
    next < low || next > high
}
