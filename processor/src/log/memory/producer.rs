//! The transactional producer of the in-memory log: the client's side of a transaction.
//!
//! Behaves as the real client does where that matters: `begin` and an empty commit ask nobody, a fence may show only
//! at the commit, and after an unclear answer every further call is refused (and noted as a misuse, see
//! `MemoryLog::misuses`). Dropping it tells nobody anything: its transaction stays open.

use std::collections::HashMap;
use std::time::Duration;

use super::MemoryLog;
use super::broker::{Broker, Markers, Stale};
use super::faults::{Call, Injected};
use super::partition::StoredRecord;
use crate::fault::Fault;
use crate::log::{LogProducer, OutRecord, TopicPartition};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// In a transaction; `sent`: the broker knows of it.
    Open {
        sent: bool,
    },
    MustAbort,
    Fenced,
    Discarded,
}

/// See [`LogProducer`].
#[derive(Debug)]
pub struct MemoryProducer {
    log: MemoryLog,
    id: String,
    epoch: u32,
    state: State,
    sent: HashMap<TopicPartition, i64>,
    told: HashMap<TopicPartition, i64>,
}

impl MemoryProducer {
    pub(super) fn new(log: MemoryLog, id: &str, epoch: u32) -> MemoryProducer {
        let (sent, told) = (HashMap::new(), HashMap::new());
        MemoryProducer { log, id: id.to_owned(), epoch, state: State::Ready, sent, told }
    }

    /// Refuses a call that this state does not allow.
    fn refuse(&mut self, call: &str) -> Fault {
        let text = format!("{call} of {} (epoch {}) while {:?}", self.id, self.epoch, self.state);
        match self.state {
            State::Fenced => return Fault::Fenced(text),
            State::MustAbort => return Fault::Abort(text),
            State::Ready | State::Open { .. } | State::Discarded => {}
        }
        self.log.with(|broker| broker.misuses.push(text.clone()));
        self.discard(&text)
    }

    fn discard(&mut self, reason: &str) -> Fault {
        self.state = State::Discarded;
        Fault::Discard(reason.to_owned())
    }

    fn must_abort(&mut self, reason: &str) -> Fault {
        self.state = State::MustAbort;
        Fault::Abort(reason.to_owned())
    }

    fn fenced(&mut self) -> Fault {
        self.state = State::Fenced;
        Fault::Fenced(format!("epoch {} of {} is over", self.epoch, self.id))
    }

    fn strike(&self, call: Call) -> Option<Injected> {
        self.log.with(|broker| broker.plan.strike(call, &self.id))
    }

    fn store(&mut self, record: &OutRecord<'_>) -> Result<(), Fault> {
        let at = TopicPartition { topic: record.topic, partition: record.partition };
        let outcome = self.log.with(|broker| {
            let timestamp_ms = self.log.now_ms(broker);
            let now = self.log.inner.clock.monotonic();
            broker.send((&self.id, self.epoch), at, stored(record, timestamp_ms), now)
        });
        match outcome {
            Ok(offset) => {
                self.state = State::Open { sent: true };
                self.sent.insert(at, offset);
                Ok(())
            }
            // The record is lost; the answer of the broker comes later unless this log is told otherwise.
            Err(Stale) if self.log.with(|broker| broker.shows_fence_at_send) => Err(self.fenced()),
            Err(Stale) => {
                self.state = State::Open { sent: true };
                Ok(())
            }
        }
    }

    fn finish(&mut self, committed: bool, markers: Markers) -> Result<(), Fault> {
        let outcome = self.log.with(|broker| broker.end(&self.id, self.epoch, committed, markers));
        match outcome {
            Ok(()) => {
                self.state = State::Ready;
                Ok(())
            }
            Err(Stale) => Err(self.fenced()),
        }
    }

    fn finish_unheard(&mut self, committed: bool, reason: &str) -> Result<(), Fault> {
        _ = self.finish(committed, Markers::Now);
        Err(self.discard(reason))
    }

    fn commit_later(&mut self) -> Result<(), Fault> {
        self.log.with(|broker| broker.commit_later(&self.id, self.epoch));
        Err(self.discard("commit timed out"))
    }

    fn commit_sent(&mut self, deadline: Duration) -> Result<(), Fault> {
        match self.strike(Call::Commit) {
            Some(Injected::CommitReplyLost) => self.finish_unheard(true, "reply of the commit was lost"),
            Some(Injected::CommitRequestLost) => Err(self.discard("commit timed out")),
            Some(Injected::CommitLate) => self.commit_later(),
            Some(Injected::CommitSlow(time)) if time > deadline => {
                self.log.pause(deadline);
                self.commit_later()
            }
            Some(Injected::CommitSlow(time)) => {
                self.log.pause(time);
                self.finish(true, Markers::Now)
            }
            Some(Injected::MarkersLate) => self.finish(true, Markers::Late),
            Some(Injected::CommitAborts) => Err(self.must_abort("a record timed out")),
            Some(Injected::Expired) => {
                self.log.with(|broker| broker.expire(&self.id));
                self.finish(true, Markers::Now)
            }
            _ => self.finish(true, Markers::Now),
        }
    }
}

impl LogProducer for MemoryProducer {
    fn begin(&mut self) -> Result<(), Fault> {
        if self.state != State::Ready {
            return Err(self.refuse("begin"));
        }
        self.state = State::Open { sent: false };
        Ok(())
    }

    fn send(&mut self, record: OutRecord<'_>) -> Result<(), Fault> {
        let State::Open { .. } = self.state else {
            return Err(self.refuse("send"));
        };
        let (known, largest) = self.log.with(|broker: &mut Broker| {
            let at = TopicPartition { topic: record.topic, partition: record.partition };
            (broker.partition(at).is_ok(), broker.max_record_bytes)
        });
        if !known {
            return Err(self.discard("unknown topic or partition"));
        }
        if record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) > largest {
            return Err(self.must_abort("record is too large"));
        }
        match self.strike(Call::Send) {
            Some(Injected::SendAborts) => return Err(self.must_abort("injected at send")),
            Some(Injected::SendQueueFull) => return Err(Fault::Retry("queue is full".to_owned())),
            // Raises the epoch even when the broker knows of no transaction yet: then it is a fence by another.
            Some(Injected::Expired) => self.log.with(|broker| _ = broker.init(&self.id)),
            _ => {}
        }
        self.store(&record)
    }

    fn commit(&mut self, deadline: Duration) -> Result<(), Fault> {
        match self.state {
            // Nothing was sent: the client asks nobody, so nothing can go wrong, and a fence does not show.
            State::Open { sent: false } => {
                self.state = State::Ready;
                return Ok(());
            }
            State::Open { sent: true } => {}
            _ => return Err(self.refuse("commit")),
        }
        let outcome = self.commit_sent(deadline);
        if outcome.is_ok() {
            self.told.extend(self.sent.drain());
        }
        self.log.wake();
        outcome
    }

    fn abort(&mut self, _deadline: Duration) -> Result<(), Fault> {
        match self.state {
            State::Open { sent: false } => {
                self.state = State::Ready;
                return Ok(());
            }
            State::Open { sent: true } | State::MustAbort => {}
            State::Ready | State::Fenced | State::Discarded => return Err(self.refuse("abort")),
        }
        self.sent.clear();
        let outcome = match self.strike(Call::Abort) {
            Some(Injected::AbortReplyLost) => self.finish_unheard(false, "reply of the abort was lost"),
            Some(Injected::AbortRequestLost) => Err(self.discard("abort timed out")),
            _ => self.finish(false, Markers::Now),
        };
        self.log.wake();
        outcome
    }

    fn last_offset(&self, at: TopicPartition) -> Option<i64> {
        self.told.get(&at).copied()
    }
}

fn stored(record: &OutRecord<'_>, timestamp_ms: i64) -> StoredRecord {
    StoredRecord {
        offset: -1,
        timestamp_ms,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers.to_vec(),
    }
}
