//! Partitions on which nothing happens for days.

use std::time::Duration;

use super::ledger::TOMBSTONE_RETENTION;
use super::world::World;
use crate::layout::Layout;
use crate::shard::Interrupt;

const LAYOUT: Layout = Layout { number: 1, shards: 1 };
const HOUR: Duration = Duration::from_secs(3600);

/// An owner of all partitions with one command processed in partition 0, then idle for twice as long as tombstones are
/// kept. Another process takes over and commits something; gives how a start of the first one, with its stores, ends.
fn start_after_idling(world: &mut World, is_up: bool) -> Result<(), Interrupt> {
    let mut owner = world.owners(LAYOUT).remove(0);
    world.command(0);
    owner.step().unwrap();
    for _ in 0..2 * TOMBSTONE_RETENTION.as_secs() / HOUR.as_secs() {
        world.clock.advance(HOUR);
        if is_up {
            owner.step().unwrap();
        }
    }
    let mut successor = world.elsewhere();
    let mut other = successor.owners(LAYOUT).remove(0);
    successor.command(0);
    other.step().unwrap();
    world.shard(LAYOUT, 0).own()
}

#[test]
fn a_store_whose_owner_was_idle_for_days_is_not_taken_for_old() {
    let mut world = World::new();
    start_after_idling(&mut world, true).unwrap();
}

#[test]
fn a_store_that_was_away_for_days_is() {
    let mut world = World::new();
    let interrupt = start_after_idling(&mut world, false).unwrap_err();
    assert!(matches!(interrupt, Interrupt::Corrupt { partition: 0, .. }), "{interrupt:?}");
}
