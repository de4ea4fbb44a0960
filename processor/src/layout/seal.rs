//! Ending one shard of a layout for good.
//!
//! Under the shard's own transactional id: whoever held it before is fenced by the initialisation, whoever takes it
//! afterwards reads the seal before the first transaction. One transaction for all partitions of the shard, so a shard
//! is sealed or it is not.

use std::sync::Arc;
use std::time::Duration;

use schemas::records::Position;

use super::change::{ChangeError, Site};
use super::{Layout, tail};
use crate::log::Log;
use crate::outbox::Outbox;
use crate::probe::Probe;
use crate::task::POSITION_KEY;
use crate::transaction::Transaction;

/// Of the initialisation, which waits half a second when it meets an open transaction.
pub(super) const INIT_DEADLINE: Duration = Duration::from_secs(30);
/// Of the commit.
pub(super) const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// Seals a shard of `from` in the name of `to`; false: it was sealed before.
pub(super) fn seal<L: Log>(site: &Site<'_, L>, from: Layout, to: Layout, shard: i32) -> Result<bool, ChangeError> {
    let id = format!("{}.{}.{shard}", site.definition.application, from.number);
    let producer = site.log.producer(&id, INIT_DEADLINE)?;
    // Only now: nothing of an earlier owner can come behind what is read here.
    let partitions: Vec<i32> = from.partitions_of(shard, site.definition.topics.partitions).collect();
    let positions = tail::positions(site, &partitions, tail::Open::Refused)?;
    let layouts: Vec<_> = partitions.iter().map(|partition| Layout::of_position(positions.get(partition))).collect();
    if layouts.iter().all(|layout| *layout == Some(to)) {
        return Ok(false);
    }
    if let Some(other) = layouts.iter().flatten().find(|layout| **layout != from) {
        return Err(ChangeError::Refused(format!("shard {shard} of {from} holds partitions of {other}")));
    }
    let mut outbox = Outbox::default();
    for partition in partitions {
        let last = positions.get(&partition).cloned().unwrap_or_default();
        let sealed =
            Position { commit_sequence: last.commit_sequence + 1, layout: to.number, shards: to.shards, ..last };
        let write = |out: &mut Vec<u8>| site.position.encode(&sealed, out);
        let pushed = outbox.push(site.definition.changelog, partition, Some(POSITION_KEY), Some(write));
        pushed.map_err(|error| ChangeError::Refused(error.to_string()))?;
    }
    // A crash before the commit leaves the shard to the old layout, one after it leaves it sealed.
    let mut transaction = Transaction::new(producer, Arc::clone(site.clock), COMMIT_DEADLINE);
    transaction.commit(&outbox, &Probe::none())?;
    Ok(true)
}
