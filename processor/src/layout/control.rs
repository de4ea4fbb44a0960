//! The control topic in a change of layout: who lives, and the assignment that begins the new layout.
//!
//! That nobody lives is a courtesy to whoever forgot to stop an instance. What protects the state are the seals: an
//! instance that is frozen, or cut off from the broker, cannot be seen here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use schemas::control::{self, Change, ControlError, Directory};
use schemas::records::{Assignment, ShardOwners};

use super::Layout;
use super::change::{ChangeError, Site};
use super::seal::{COMMIT_DEADLINE, INIT_DEADLINE};
use crate::log::{Log, LogConsumer, RecordBatch, TopicPartition};
use crate::outbox::Outbox;
use crate::probe::Probe;
use crate::transaction::Transaction;

/// As whom the change writes an assignment.
pub const LEADER: &str = "processor layout";
/// The end is reached within this time, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(15);
/// Wait of one poll, and for a schema.
const PAUSE: Duration = Duration::from_millis(20);
/// Records and bytes of one poll.
const POLL_RECORDS: usize = 10_000;
const POLL_BYTES: usize = 1 << 20;
const PARTS: [i32; 2] = [control::ASSIGNMENT_PARTITION, control::MEMBER_PARTITION];

/// What the topic says at its end of now; nothing for a topology without one.
pub fn read<L: Log>(site: &Site<'_, L>) -> Result<Directory, ChangeError> {
    match Reader::at_end(site)? {
        Some(reader) => Ok(reader.directory),
        None => Ok(Directory::default()),
    }
}

/// Names of the members that are heard of within `patience`, which should be many heartbeats. What they said before
/// does not count: whoever was killed left their last word.
pub fn living<L: Log>(site: &Site<'_, L>, patience: Duration) -> Result<Vec<String>, ChangeError> {
    let Some(mut reader) = Reader::at_end(site)? else { return Ok(Vec::new()) };
    reader.heard.clear();
    let until = site.clock.monotonic() + patience;
    while site.clock.monotonic() < until {
        reader.poll(site)?;
    }
    // A broker that stalls would make everybody look dead.
    reader.catch_up(site)?;
    Ok(reader.heard.into_iter().collect())
}

/// Publishes the assignment with which the new layout begins: nobody owns anything yet, so whoever leads next decides.
/// Every earlier leader is fenced by it. The epoch; `None` for a topology that never had an assignment.
pub(super) fn publish<L: Log>(site: &Site<'_, L>, to: Layout) -> Result<Option<i64>, ChangeError> {
    let Some(topic) = site.control else { return Ok(None) };
    let producer = site.log.producer(&format!("{}.leader", site.definition.application), INIT_DEADLINE)?;
    // Only now: nothing of an earlier leader can come behind what is read here.
    let Some(last) = read(site)?.assignment else { return Ok(None) };
    if Layout::of_assignment(&last) == to {
        return Ok(Some(last.epoch));
    }
    let next = Assignment {
        epoch: last.epoch + 1,
        layout: to.number,
        leader: LEADER.to_owned(),
        leader_incarnation: String::new(),
        shards: vec![ShardOwners::default(); usize::try_from(to.shards).unwrap_or(0)],
    };
    let mut outbox = Outbox::default();
    let write = |out: &mut Vec<u8>| site.assignment.encode(&next, out);
    let pushed = outbox.push(topic, control::ASSIGNMENT_PARTITION, Some(control::ASSIGNMENT_KEY), Some(write));
    pushed.map_err(|error| ChangeError::Refused(error.to_string()))?;
    let mut transaction = Transaction::new(producer, Arc::clone(site.clock), COMMIT_DEADLINE);
    transaction.commit(&outbox, &Probe::none())?;
    Ok(Some(next.epoch))
}

struct Reader<C> {
    parts: [TopicPartition; 2],
    consumer: C,
    polled: RecordBatch,
    directory: Directory,
    /// Members that said something and did not leave.
    heard: BTreeSet<String>,
}

impl<C: LogConsumer> Reader<C> {
    fn at_end<L: Log<Consumer = C>>(site: &Site<'_, L>) -> Result<Option<Reader<C>>, ChangeError> {
        let Some(topic) = site.control else { return Ok(None) };
        let parts = PARTS.map(|partition| TopicPartition { topic, partition });
        let mut starts = Vec::new();
        for at in parts {
            starts.push((at, site.log.watermarks(at)?.low));
        }
        let mut consumer = site.log.consumer("layout-control")?;
        consumer.assign(&starts)?;
        let (polled, directory, heard) = (RecordBatch::default(), Directory::default(), BTreeSet::new());
        let mut reader = Reader { parts, consumer, polled, directory, heard };
        reader.catch_up(site)?;
        Ok(Some(reader))
    }

    fn catch_up<L: Log>(&mut self, site: &Site<'_, L>) -> Result<(), ChangeError> {
        let mut ends = Vec::new();
        for at in self.parts {
            let log = site.log.watermarks(at)?;
            if log.low < log.high {
                ends.push((at, log.high));
            }
        }
        let until = site.clock.monotonic() + DEADLINE;
        loop {
            let consumer = &mut self.consumer;
            ends.retain(|(at, end)| consumer.position(*at).ok().flatten().unwrap_or(0) < *end);
            if ends.is_empty() {
                return Ok(());
            }
            if site.clock.monotonic() >= until {
                let reason = "the control topic cannot be read to its end: is the broker slow, or a leader at work?";
                return Err(ChangeError::Again(reason.to_owned()));
            }
            self.poll(site)?;
        }
    }

    fn poll<L: Log>(&mut self, site: &Site<'_, L>) -> Result<(), ChangeError> {
        self.polled.clear();
        self.consumer.poll(&mut self.polled, POLL_RECORDS, POLL_BYTES, PAUSE)?;
        let polled = std::mem::take(&mut self.polled);
        for record in polled.iter() {
            match self.fold(site, record.partition, record.key, record.value)? {
                Change::Beat(name) => {
                    self.heard.insert(name);
                }
                Change::Left(name) => {
                    self.heard.remove(&name);
                }
                Change::Assigned | Change::Nothing => {}
            }
        }
        self.polled = polled;
        Ok(())
    }

    fn fold<L: Log>(
        &mut self,
        site: &Site<'_, L>,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Change, ChangeError> {
        let until = site.clock.monotonic() + DEADLINE;
        loop {
            match self.directory.apply(site.schemas, partition, key, value) {
                Ok(change) => return Ok(change),
                Err(ControlError::Wait(_)) if site.clock.monotonic() < until => site.clock.pause(PAUSE),
                Err(error) => return Err(ChangeError::Refused(format!("the control topic: {error}"))),
            }
        }
    }
}
