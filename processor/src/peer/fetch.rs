//! When a shard copies a store instead of reading its whole changelog: only what is not there at all, only when there is
//! much to read, and only while the copy is quicker. Whatever goes wrong, the changelog is read, as if nobody had been
//! asked.

use super::copier::{Copied, Copier, Failure, Wish, discard};
use super::pace::time_of;
use crate::log::{Log, TopicPartition};
use crate::membership::Role;
use crate::query::view::Life;
use crate::shard::{Interrupt, Shard};
use crate::topology::Application;

/// Records that a restore reads and applies in a second, about.
const RECORDS_PER_SECOND: u64 = 200_000;
/// Peers that are asked for one partition: while each of them fails, nothing is read.
const PEERS_MAX: usize = 2;

impl<L: Log, A: Application> Shard<L, A> {
    /// Copies the stores that are missing from peers, where there are any. Before the stores are opened.
    pub(crate) fn copy_missing(&self, role: Role) -> Result<(), Interrupt> {
        let Some(copier) = &self.parts.copier else { return Ok(()) };
        if !self.tasks.is_empty() {
            return Ok(());
        }
        for partition in self.definition().partitions_of(self.parts.id) {
            // What had to be wiped may have been a copy: the next one would be as bad.
            let is_wiped = self.wiped.contains(&partition);
            if !is_wiped && self.parts.stores.is_missing(partition) {
                self.copy_one(copier, role, partition)?;
            }
        }
        Ok(())
    }

    fn copy_one(&self, copier: &Copier, role: Role, partition: i32) -> Result<(), Interrupt> {
        let peers = self.parts.roles.peers(self.parts.id);
        if peers.is_empty() {
            return Ok(());
        }
        // Without the broker nothing can be said; the restore deals with that.
        let Some(lacking) = self.records_lacking(role, partition) else { return Ok(()) };
        if lacking < copier.records_min {
            return Ok(());
        }
        self.parts.views[partition as usize].set_life(Life::Restoring);
        let shard = self.parts.id;
        for from in peers.iter().take(PEERS_MAX) {
            let wish = Wish {
                partition,
                from,
                urgent: role == Role::Active,
                judge: &|bytes, per_second| is_worth(lacking, bytes, per_second),
                go_on: &|| self.parts.still(role).is_ok(),
            };
            match copier.copy(&wish).and_then(|copied| self.adopt(partition, copied)) {
                Ok(Copied { files, bytes, took, .. }) => {
                    let ms = took.as_millis() as u64;
                    tracing::info!(shard, partition, from, files, bytes, ms, "copied from a peer");
                    metrics::counter!("kontor_peer_copies_total", "outcome" => "copied").increment(1);
                    return Ok(());
                }
                Err(Failure::Released) => return Err(Interrupt::Released),
                Err(Failure::NotWorth(reason)) => {
                    tracing::debug!(shard, partition, from, reason, "not copied");
                    return Ok(());
                }
                Err(Failure::Peer(reason) | Failure::Here(reason)) => {
                    tracing::warn!(shard, partition, from, reason, "not copied from this peer");
                    metrics::counter!("kontor_peer_copies_total", "outcome" => "failed").increment(1);
                }
            }
        }
        Ok(())
    }

    /// Makes a copy the store, if it is one and ours.
    fn adopt(&self, partition: i32, copied: Copied) -> Result<Copied, Failure> {
        let adopted = self.parts.stores.adopt(partition, &copied.directory);
        adopted.map_err(|error| {
            discard(&copied.directory);
            Failure::Peer(error.to_string())
        })?;
        Ok(copied)
    }

    /// Records to read instead of a copy. Offsets that a compaction has emptied are counted in, so there are no more than
    /// that. An owner's commands wait for the changelog only, a standby reads the events before it is of use.
    fn records_lacking(&self, role: Role, partition: i32) -> Option<u64> {
        let definition = self.definition();
        let events = definition.events.iter().map(|events| events.topic).filter(|_| role != Role::Active);
        let mut lacking = 0;
        for topic in std::iter::once(definition.changelog).chain(events) {
            let log = self.parts.log.watermarks(TopicPartition { topic, partition }).ok()?;
            lacking += u64::try_from(log.high - log.low).unwrap_or(0);
        }
        Some(lacking)
    }
}

/// Whether a copy of so many bytes is quicker than so many records.
fn is_worth(records: u64, bytes: u64, bytes_per_second: u64) -> Result<(), String> {
    let (copy, read) = (time_of(bytes, bytes_per_second), time_of(records, RECORDS_PER_SECOND));
    if copy < read {
        return Ok(());
    }
    Err(format!("{bytes} bytes would take {} ms, {records} records {} ms", copy.as_millis(), read.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_worth_it_while_it_is_quicker_than_the_records() {
        // A million records are five seconds, at 64 MiB/s 320 MiB.
        assert!(is_worth(1_000_000, 100 << 20, 64 << 20).is_ok());
        let refused = is_worth(1_000_000, 400 << 20, 64 << 20).unwrap_err();
        assert!(refused.contains("6250 ms, 1000000 records 5000 ms"), "{refused}");
        assert!(is_worth(0, 1, 1).is_err());
        assert!(is_worth(u64::MAX, u64::MAX, 0).is_err(), "a peer that says 0 is never worth it");
    }
}
