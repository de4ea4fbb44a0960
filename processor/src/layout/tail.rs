//! The last Position of partitions, without reading their changelogs.
//!
//! Every transaction ends with a Position in each partition that it touches, so the last one lies near the end. It is
//! looked for in ever longer tails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemas::Lookup;
use schemas::records::Position;

use super::change::{ChangeError, Site};
use crate::log::{Log, LogConsumer, Record, RecordBatch, TopicPartition};
use crate::restore::decode_with;
use crate::task::POSITION_KEY;
use crate::topology::FormatError;

/// Length of the first tail.
const FIRST_TAIL: i64 = 64;
/// The next tail is so many times as long.
const GROWTH: i64 = 64;
/// Records and bytes of one poll.
const POLL_RECORDS: usize = 20_000;
const POLL_BYTES: usize = 8 << 20;
/// Wait of one poll, and for a schema.
const PAUSE: Duration = Duration::from_millis(20);
/// The end is reached within this time, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(30);
/// For this long nothing came: what is left lies behind an open transaction.
const SILENCE: Duration = Duration::from_secs(2);

/// What to make of records that an open transaction hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// Somebody is at work, or died at work: what can be seen before it will do, as long as it is something.
    Tolerated,
    /// There must be none.
    Refused,
}

/// The last Position of each of these partitions that has one.
pub(super) fn positions<L: Log>(
    site: &Site<'_, L>,
    partitions: &[i32],
    open: Open,
) -> Result<BTreeMap<i32, Position>, ChangeError> {
    let (mut found, mut tail) = (BTreeMap::new(), FIRST_TAIL);
    let mut wanted: BTreeSet<i32> = partitions.iter().copied().collect();
    while !wanted.is_empty() {
        let mut parts = Vec::new();
        for partition in &wanted {
            let at = TopicPartition { topic: site.definition.changelog, partition: *partition };
            let log = site.log.watermarks(at)?;
            let from = log.high.saturating_sub(tail).max(log.low);
            parts.push(Part { at, from, high: log.high, is_whole: from == log.low });
        }
        let hidden = read(site, &parts, open, &mut found)?;
        for part in &parts {
            let partition = part.at.partition;
            if part.is_whole && hidden.contains(&partition) && !found.contains_key(&partition) {
                return Err(behind_an_open_transaction(&[partition]));
            }
            if part.is_whole || found.contains_key(&partition) {
                wanted.remove(&partition);
            }
        }
        tail = tail.saturating_mul(GROWTH);
    }
    Ok(found)
}

struct Part {
    at: TopicPartition,
    from: i64,
    high: i64,
    is_whole: bool,
}

/// Reads these tails; gives the partitions that were not read to their ends.
fn read<L: Log>(
    site: &Site<'_, L>,
    parts: &[Part],
    open: Open,
    found: &mut BTreeMap<i32, Position>,
) -> Result<Vec<i32>, ChangeError> {
    let mut left: Vec<&Part> = parts.iter().filter(|part| part.from < part.high).collect();
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let mut consumer = site.log.consumer("layout")?;
    let starts: Vec<_> = left.iter().map(|part| (part.at, part.from)).collect();
    consumer.assign(&starts)?;
    let (began, mut polled) = (site.clock.monotonic(), RecordBatch::default());
    let mut came = began;
    while !left.is_empty() {
        polled.clear();
        consumer.poll(&mut polled, POLL_RECORDS, POLL_BYTES, PAUSE)?;
        for record in polled.iter().filter(|record| record.key == Some(POSITION_KEY)) {
            found.insert(record.partition, decode(site, &record)?);
        }
        let mut behind = Vec::new();
        for part in left {
            if consumer.position(part.at)?.unwrap_or(0) < part.high {
                behind.push(part);
            }
        }
        left = behind;
        let now = site.clock.monotonic();
        if !polled.is_empty() {
            came = now;
        }
        let hidden: Vec<i32> = left.iter().map(|part| part.at.partition).collect();
        if open == Open::Tolerated && now.saturating_sub(came) > SILENCE {
            return Ok(hidden);
        }
        if now.saturating_sub(began) > DEADLINE {
            return Err(behind_an_open_transaction(&hidden));
        }
    }
    Ok(Vec::new())
}

fn behind_an_open_transaction(partitions: &[i32]) -> ChangeError {
    ChangeError::Again(format!(
        "the changelog of partitions {partitions:?} cannot be read to its end: a transaction is open there"
    ))
}

fn decode<L: Log>(site: &Site<'_, L>, record: &Record<'_>) -> Result<Position, ChangeError> {
    let until = site.clock.monotonic() + DEADLINE;
    loop {
        match decode_with(site.schemas, record.value.unwrap_or_default()) {
            Ok(position) => return Ok(position),
            Err(FormatError::Wait(id))
                if !matches!(site.schemas.writer(id), Lookup::Absent(_)) && site.clock.monotonic() < until =>
            {
                site.clock.pause(PAUSE);
            }
            Err(error) => {
                let (topic, partition) = (site.definition.topics.name(record.topic), record.partition);
                return Err(ChangeError::Refused(format!("{topic}-{partition} offset {}: {error}", record.offset)));
            }
        }
    }
}
