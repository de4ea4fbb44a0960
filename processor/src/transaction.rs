//! The open transaction of a shard. Only this file begins, commits and aborts it; the leader of the membership writes its
//! one record with a producer of its own.
//!
//! It refuses to go on with a producer whose last call had no clear outcome: the caller gets [`Fault::Discard`] and
//! makes a new one, whose initialisation ends whatever the old one left open.

use std::time::Duration;

use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::log::{LogProducer, TopicPartition};
use crate::outbox::Outbox;
use crate::probe::{Probe, Step};

/// A transactional id needs about this long after a commit before its next transaction: the broker is still writing
/// the markers, answers CONCURRENT_TRANSACTIONS, and the client library then waits a fixed 20 ms.
const REST: Duration = Duration::from_millis(1);
/// The local queue of the client is full: wait this long for it to drain.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// A transaction that is open longer is aborted by the broker, and its producer is fenced. Longer than a broker restart,
/// so that a transaction survives it; a takeover does not wait for it.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The producer of one shard.
pub struct Transaction<P> {
    producer: P,
    clock: SharedClock,
    deadline: Duration,
    ended_at: Duration,
    began_at: Duration,
}

impl<P: LogProducer> Transaction<P> {
    /// Takes over an initialised producer. `deadline`: of one commit.
    pub fn new(producer: P, clock: SharedClock, deadline: Duration) -> Transaction<P> {
        let ended_at = clock.monotonic();
        Transaction { producer, clock, deadline, ended_at, began_at: ended_at }
    }

    /// Produces the staged records in order and commits them. `Ok(duration)` only when the broker said so.
    ///
    /// [`Fault::Abort`]: nothing of it became visible and the producer may go on. Any other fault: it may not.
    pub fn commit(&mut self, outbox: &Outbox, probe: &Probe) -> Result<Duration, Fault> {
        let since = self.clock.monotonic().saturating_sub(self.ended_at);
        if since < REST {
            self.clock.pause(REST - since);
        }
        let began = self.clock.monotonic();
        self.began_at = began;
        let outcome = self.produce_and_commit(outbox, probe);
        self.ended_at = self.clock.monotonic();
        match outcome {
            Ok(()) => Ok(self.ended_at.saturating_sub(began)),
            Err(Fault::Abort(reason) | Fault::Retry(reason)) => match self.producer.abort(self.deadline) {
                Ok(()) => Err(Fault::Abort(reason)),
                Err(Fault::Fenced(fence)) => Err(Fault::Fenced(fence)),
                Err(other) => Err(Fault::Discard(format!("{reason}; abort: {other}"))),
            },
            Err(fault) => Err(fault),
        }
    }

    /// The broker may have ended the last transaction because it took too long. To its producer this looks as if another
    /// had been initialised.
    pub fn may_have_timed_out(&self) -> bool {
        self.clock.monotonic().saturating_sub(self.began_at) >= TIMEOUT
    }

    /// Offset of the last record of the committed transaction in a partition.
    pub fn last_offset(&self, at: TopicPartition) -> Option<i64> {
        self.producer.last_offset(at)
    }

    fn produce_and_commit(&mut self, outbox: &Outbox, probe: &Probe) -> Result<(), Fault> {
        self.producer.begin()?;
        for record in outbox.iter() {
            let limit = self.clock.monotonic() + self.deadline;
            while let Err(fault) = self.producer.send(record) {
                match fault {
                    Fault::Retry(_) if self.clock.monotonic() < limit => self.clock.pause(QUEUE_PAUSE),
                    fault => return Err(fault),
                }
            }
        }
        // A crash here leaves an open transaction with records that no read_committed reader sees; the next owner's
        // initialisation aborts it.
        probe.reached(Step::AfterProduce);
        probe.reached(Step::BeforeCommit);
        probe.reached(Step::DuringCommit);
        self.producer.commit(self.deadline)
    }
}
