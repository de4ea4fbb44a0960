//! The open loop over Kafka: one thread sends what is due, the other reads answers. Used for the bank and for the
//! bare loop alike, so that both are measured by the same ruler.
//!
//! An id carries its run, its class, its number and the time it was due, so an answer is enough to know the latency:
//! no map of events in flight, and answers of earlier phases are told apart.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;

use crate::kafka::Sender;
use crate::latency::{Answer, Tally};
use crate::mix::Class;
use crate::schedule::{Schedule, wait_until};

/// How long answers may stay away after the last event before they count as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which event of which phase an id stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// The phase, unique within a few million.
    pub phase: u32,
    /// Number of the event.
    pub n: u64,
    /// Microseconds after the start of the phase at which it was due.
    pub due_us: u64,
}

impl Tag {
    /// The id of this event: 3 bytes phase, 1 class, 6 number, 6 due.
    pub fn id(&self, class: Class) -> [u8; 16] {
        let mut id = [0; 16];
        id[..3].copy_from_slice(&self.phase.to_be_bytes()[1..]);
        id[3] = class as u8;
        id[4..10].copy_from_slice(&self.n.to_be_bytes()[2..]);
        id[10..].copy_from_slice(&self.due_us.to_be_bytes()[2..]);
        id
    }

    /// Back from an id.
    pub fn of(id: [u8; 16]) -> Option<(Tag, Class)> {
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let phase = u32::try_from(number(&id[..3])).ok()?;
        let tag = Tag { phase, n: number(&id[4..10]), due_us: number(&id[10..]) };
        Some((tag, Class::from_number(id[3])?))
    }
}

/// A record to be sent; reused.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Key.
    pub key: String,
    /// Value.
    pub payload: Vec<u8>,
}

/// What is sent.
pub trait Traffic: Send {
    /// Writes the event that is due.
    fn beat(&mut self, tag: Tag, out: &mut Outgoing) -> anyhow::Result<()>;

    /// Writes an event that follows from an answer, if there is one. Asked before every beat.
    fn follow_up(&mut self, _tag: Tag, _out: &mut Outgoing) -> anyhow::Result<bool> {
        Ok(false)
    }
}

/// What an answer says.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// The event's id.
    pub id: [u8; 16],
    /// Why it was refused, if it was.
    pub refusal: Option<String>,
}

/// Reads answers.
pub trait Replies {
    /// The answer that a record holds, if it holds one of ours.
    fn read(&mut self, message: &BorrowedMessage<'_>) -> anyhow::Result<Option<Reply>>;
}

/// Result of one phase.
#[derive(Debug)]
pub struct Outcome {
    /// Latencies and answers.
    pub tally: Tally,
    /// Events that were sent.
    pub sent: u64,
    /// Events that the producer could not deliver.
    pub undelivered: u64,
    /// From the start to the last answer.
    pub elapsed: Duration,
}

impl Outcome {
    /// Of nothing, to add to.
    pub fn empty() -> Outcome {
        Outcome { tally: Tally::new(0), sent: 0, undelivered: 0, elapsed: Duration::ZERO }
    }

    /// Events without an answer.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.tally.answered())
    }

    /// Adds another phase of the same kind.
    pub fn add(&mut self, other: Outcome) {
        self.sent += other.sent;
        self.undelivered += other.undelivered;
        self.elapsed += other.elapsed;
        self.tally.add(other.tally);
    }
}

struct Progress {
    sent: AtomicU64,
    done: AtomicBool,
}

/// Runs one phase.
pub fn run(
    phase: u32,
    schedule: Schedule,
    sender: &Sender,
    traffic: &mut dyn Traffic,
    consumer: &BaseConsumer,
    replies: &mut dyn Replies,
) -> anyhow::Result<Outcome> {
    let failed_before = sender.failed();
    let progress = Progress { sent: AtomicU64::new(0), done: AtomicBool::new(false) };
    let start = Instant::now();
    let tally = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let result = send_all(phase, schedule, start, sender, traffic, &progress.sent);
            progress.done.store(true, Ordering::Release);
            result
        });
        let tally = receive(phase, schedule.count(), start, consumer, replies, &progress);
        sending.join().map_err(|_| anyhow::anyhow!("the sending thread died"))??;
        tally
    })?;
    let sent = progress.sent.load(Ordering::Acquire);
    Ok(Outcome { tally, sent, undelivered: sender.failed() - failed_before, elapsed: start.elapsed() })
}

fn send_all(
    phase: u32,
    schedule: Schedule,
    start: Instant,
    sender: &Sender,
    traffic: &mut dyn Traffic,
    sent: &AtomicU64,
) -> anyhow::Result<()> {
    let micros = |due: Duration| u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
    let count = schedule.count();
    let mut extra = count;
    let mut out = Outgoing::default();
    for n in 0..count {
        let due = schedule.due(n);
        wait_until(start, due);
        while traffic.follow_up(Tag { phase, n: extra, due_us: micros(start.elapsed()) }, &mut out)? {
            extra += 1;
            dispatch(sender, &out, sent)?;
        }
        traffic.beat(Tag { phase, n, due_us: micros(due) }, &mut out)?;
        dispatch(sender, &out, sent)?;
    }
    Ok(())
}

fn dispatch(sender: &Sender, out: &Outgoing, sent: &AtomicU64) -> KafkaResult<()> {
    // Counted first: an answer must never be ahead of its event.
    sent.fetch_add(1, Ordering::AcqRel);
    sender.send(&out.topic, out.partition, &out.key, &out.payload)
}

fn receive(
    phase: u32,
    count: u64,
    start: Instant,
    consumer: &BaseConsumer,
    replies: &mut dyn Replies,
    progress: &Progress,
) -> anyhow::Result<Tally> {
    // Follow-ups are a few per hundred beats.
    let mut tally = Tally::new(count + count / 50 + 1024);
    let mut quiet_since = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let now = start.elapsed();
                let reply = replies.read(&message)?;
                if reply.is_some_and(|reply| note(&mut tally, phase, &reply, now)) {
                    quiet_since = Instant::now();
                }
            }
            Some(Err(error)) if !is_passing(&error) => return Err(error.into()),
            _ => {}
        }
        if progress.done.load(Ordering::Acquire) {
            let complete = tally.answered() >= progress.sent.load(Ordering::Acquire);
            if complete || quiet_since.elapsed() > PATIENCE {
                return Ok(tally);
            }
        } else {
            quiet_since = Instant::now();
        }
    }
}

fn note(tally: &mut Tally, phase: u32, reply: &Reply, now: Duration) -> bool {
    let Some((tag, class)) = Tag::of(reply.id).filter(|(tag, _)| tag.phase == phase) else { return false };
    let answer = Answer { n: tag.n, class, refusal: reply.refusal.as_deref() };
    tally.answer(&answer, Duration::from_micros(tag.due_us), now)
}

fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_event() {
        for class in Class::ALL {
            let tag = Tag { phase: 0x00ab_cdef, n: 1_234_567, due_us: 3_600_000_000 };
            assert_eq!(Tag::of(tag.id(class)), Some((tag, class)));
        }
        assert_eq!(Tag::of([0xff; 16]), None, "a class that does not exist");
    }

    #[test]
    fn answers_of_another_phase_are_left_out() {
        let mut tally = Tally::new(10);
        let reply = |phase| Reply { id: Tag { phase, n: 1, due_us: 1000 }.id(Class::Across), refusal: None };
        assert!(!note(&mut tally, 1, &reply(2), Duration::from_millis(2)));
        assert!(note(&mut tally, 1, &reply(1), Duration::from_millis(2)));
        assert_eq!(tally.answered(), 1);
    }
}
