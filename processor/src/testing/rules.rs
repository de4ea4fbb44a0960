//! Rules that hold for every topology, whatever its records mean.

use schemas::records;
use state_store::{MemoryStore, ScanRange, Store, TableId};

use super::expected;
use super::simulation::Simulation;
use super::worker::Worker;
use crate::formats::decode_with;
use crate::log::TopicPartition;
use crate::task::{OWNER_PREFIX, POSITION_KEY};
use crate::topology::Application;

/// The Position that was committed last, also when its markers are still on their way.
pub(super) fn committed_position<A: Application>(
    simulation: &Simulation<A>,
    partition: i32,
) -> Option<records::Position> {
    let topic = simulation.application().definition().changelog;
    let record = simulation.log().last_decided(TopicPartition { topic, partition }, POSITION_KEY)?;
    decode_with(&simulation.surroundings.codecs.schemas, &record.value?).ok()
}

/// Before the commit nothing leaves: neither to a store nor to a watcher.
pub(super) fn nothing_is_ahead<A: Application>(simulation: &Simulation<A>) -> Result<(), String> {
    let definition = simulation.application().definition();
    for partition in 0..definition.topics.partitions {
        let position = committed_position(simulation, partition);
        let committed = position.map_or(0, |position| position.commit_sequence as u64);
        for (instance, disk) in simulation.disks.iter().enumerate() {
            let Some(store) = disk.look(partition) else { continue };
            let stored = store.progress().map_err(|error| error.to_string())?.commit_sequence;
            if stored > committed {
                return Err(format!(
                    "partition {partition}: commit {stored} is stored on {instance}, {committed} is the last"
                ));
            }
        }
        for worker in simulation.workers.iter().filter(|worker| worker.shard == definition.shard_of(partition)) {
            let told = *worker.views[partition as usize].committed().borrow();
            if told > committed {
                return Err(format!(
                    "partition {partition}: commit {told} is told to readers, {committed} is the last"
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn no_misuse<A: Application>(simulation: &Simulation<A>) -> Result<(), String> {
    match simulation.log().misuses().first() {
        Some(misuse) => Err(misuse.clone()),
        None => Ok(()),
    }
}

/// Every commit is there once and in order. After a compaction only what is left can be checked.
pub(super) fn positions_rise<A: Application>(simulation: &Simulation<A>) -> Result<(), String> {
    let definition = simulation.application().definition();
    for partition in 0..definition.topics.partitions {
        let at = TopicPartition { topic: definition.changelog, partition };
        let records = simulation.log().read_committed(at).map_err(|error| error.to_string())?;
        let mut last = records::Position::default();
        for record in records.iter().filter(|record| record.key.as_deref() == Some(POSITION_KEY)) {
            let value = record.value.as_deref().unwrap_or_default();
            let next: records::Position =
                decode_with(&simulation.surroundings.codecs.schemas, value).map_err(|error| error.to_string())?;
            let follows = if simulation.compacted {
                next.commit_sequence > last.commit_sequence
            } else {
                next.commit_sequence == last.commit_sequence + 1
            };
            let back = last.next_offset.iter().any(|(topic, offset)| next.next_offset.get(topic) < Some(offset));
            if !follows || back || next.last_transaction < last.last_transaction {
                return Err(format!("partition {partition}: {next:?} at offset {} follows {last:?}", record.offset));
            }
            last = next;
        }
    }
    Ok(())
}

/// Who claimed a shard last, also when the markers of the claim are still on their way.
pub(super) fn claimant<A: Application>(simulation: &Simulation<A>, shard: i32) -> Option<String> {
    let definition = simulation.application().definition();
    let at = TopicPartition { topic: definition.changelog, partition: *definition.partitions_of(shard).first()? };
    let record = simulation.log().last_decided(at, format!("{OWNER_PREFIX}{shard}").as_bytes())?;
    let claim: records::Owner = decode_with(&simulation.surroundings.codecs.schemas, &record.value?).ok()?;
    Some(claim.incarnation)
}

/// True when another worker has initialised the shard after this one.
pub(super) fn is_replaced<A: Application>(simulation: &Simulation<A>, index: usize) -> bool {
    let worker = &simulation.workers[index];
    let definition = simulation.application().definition();
    let id = format!("{}.{}.{}", definition.application, definition.layout, worker.shard);
    let initialised = simulation.surroundings.initialised.lock();
    initialised.get(&id).is_some_and(|last| *last != worker.incarnation)
}

/// True when nobody has claimed the shard of a worker since that worker initialised it.
pub(super) fn may_take_back<A: Application>(simulation: &Simulation<A>, index: usize) -> bool {
    let worker = &simulation.workers[index];
    let claimant = claimant(simulation, worker.shard);
    claimant.as_ref() == Some(&worker.incarnation) || claimant == worker.claim_found
}

/// The worker that claimed a shard last, if it is alive.
fn owner_of<A: Application>(simulation: &Simulation<A>, shard: i32) -> Option<&Worker<A>> {
    let claimant = claimant(simulation, shard)?;
    simulation.workers.iter().find(|worker| worker.incarnation == claimant)
}

/// True when every owner has read its event tables to the end.
pub(super) fn owners_are_complete<A: Application>(simulation: &Simulation<A>) -> bool {
    let definition = simulation.application().definition();
    (0..definition.shards).all(|shard| {
        let Some(owner) = owner_of(simulation, shard) else { return false };
        definition.partitions_of(shard).iter().all(|partition| {
            let view = &owner.views[*partition as usize];
            view.is_running() && view.is_history_complete()
        })
    })
}

/// What owners hold is what the topics say.
pub(super) fn owners_agree<A: Application>(simulation: &Simulation<A>) -> Result<(), String> {
    let definition = simulation.application().definition();
    for partition in 0..definition.topics.partitions {
        let (owner, store) = owned_store(simulation, partition)?;
        agrees(simulation, partition, &store).map_err(|what| format!("{owner}: partition {partition}: {what}"))?;
    }
    Ok(())
}

/// Rows of a table over all partitions.
pub(super) fn owned_rows<A: Application>(
    simulation: &Simulation<A>,
    table: TableId,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let mut rows = Vec::new();
    for partition in 0..simulation.application().definition().topics.partitions {
        let (_, store) = owned_store(simulation, partition)?;
        let page = store.snapshot().and_then(|snapshot| snapshot.scan(table, &ScanRange::all()));
        rows.extend(page.map_err(|error| error.to_string())?.rows);
    }
    Ok(rows)
}

fn owned_store<A: Application>(simulation: &Simulation<A>, partition: i32) -> Result<(String, MemoryStore), String> {
    let shard = simulation.application().definition().shard_of(partition);
    let owner = owner_of(simulation, shard).ok_or_else(|| format!("shard {shard} has no owner"))?;
    let store = simulation.disks[owner.instance].look(partition);
    let store = store.ok_or_else(|| format!("partition {partition} has no store"))?;
    Ok((owner.incarnation.clone(), store))
}

fn agrees<A: Application>(simulation: &Simulation<A>, partition: i32, store: &dyn Store) -> Result<(), String> {
    let surroundings = &simulation.surroundings;
    let definition = surroundings.application.definition();
    let expected = expected::fold(&surroundings.log, &*surroundings.application, &surroundings.codecs, partition)?;
    let rows = expected::actual(definition, store)?;
    if let Some(difference) = expected::difference(&expected.rows, &rows) {
        return Err(difference);
    }
    let progress = store.snapshot().and_then(|snapshot| snapshot.progress()).map_err(|error| error.to_string())?;
    let position = expected.position.unwrap_or_default();
    let stored = (progress.next_offset, progress.commit_sequence as i64, progress.last_transaction, progress.layout);
    let told =
        (position.next_offset, position.commit_sequence, position.last_transaction, (position.layout, position.shards));
    if stored == told { Ok(()) } else { Err(format!("stands at {stored:?}, the changelog says {told:?}")) }
}
