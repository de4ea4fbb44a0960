//! The control topic in a change of layout: who lives, and the assignment that begins the new layout.
//!
//! That nobody lives is a courtesy to whoever forgot to stop an instance. What protects the state are the seals: an
//! instance that is frozen, or cut off from the broker, cannot be seen here.

use std::sync::Arc;
use std::time::Duration;

use schemas::control::{self, Directory};
use schemas::records::{Assignment, ShardOwners};

use super::Layout;
use super::change::{ChangeError, Site};
use super::seal::{COMMIT_DEADLINE, INIT_DEADLINE};
use crate::control::ControlReader;
use crate::log::Log;
use crate::outbox::Outbox;
use crate::probe::Probe;
use crate::transaction::Transaction;

/// As whom the change writes an assignment.
pub const LEADER: &str = "processor layout";

/// What the topic says at its end of now; nothing for a topology without one.
pub fn read<L: Log>(site: &Site<'_, L>) -> Result<Directory, ChangeError> {
    Ok(at_end(site)?.map(|reader| reader.directory).unwrap_or_default())
}

/// Names of the members that are heard of within `patience`, which should be many heartbeats. What they said before
/// does not count: whoever was killed left their last word.
pub fn living<L: Log>(site: &Site<'_, L>, patience: Duration) -> Result<Vec<String>, ChangeError> {
    let Some(mut reader) = at_end(site)? else { return Ok(Vec::new()) };
    reader.heard_ms.clear();
    reader.follow(patience)?;
    Ok(reader.heard_ms.into_keys().collect())
}

fn at_end<'s, L: Log>(site: &Site<'s, L>) -> Result<Option<ControlReader<'s, L>>, ChangeError> {
    let Some(topic) = site.control else { return Ok(None) };
    Ok(Some(ControlReader::at_end(site.log, &**site.clock, site.schemas, topic, "layout-control")?))
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
