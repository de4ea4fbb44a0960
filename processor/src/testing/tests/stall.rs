//! A changelog that cannot be read to its end, because nobody ends a transaction in it.

use std::time::Duration;

use super::harness::PARTITIONS;
use super::ledger::{Ledger, TOMBSTONE_RETENTION};
use super::world::World;
use crate::clock::Clock;
use crate::layout::Layout;
use crate::log::memory::{Injected, MemoryLog};
use crate::membership::Role;
use crate::query::view::Life;
use crate::shard::Shard;

const LAYOUT: Layout = Layout { number: 1, shards: 1 };

/// A shard of another process, ready to restore, and in the changelog of partition 0 a transaction whose owner is silent.
fn before_an_open_transaction() -> (World, Shard<MemoryLog, Ledger>) {
    let mut world = World::new();
    let mut owner = world.owners(LAYOUT).remove(0);
    world.command(0);
    world.log.inject(Injected::CommitRequestLost);
    owner.step().unwrap_err();
    let mut follower = world.elsewhere().shard(LAYOUT, 0);
    follower.prepare(Role::Active).unwrap();
    (world, follower)
}

#[test]
fn a_stalled_restore_says_so_and_goes_on_when_it_can() {
    let (world, mut follower) = before_an_open_transaction();
    let mut restore = |patience_s| {
        let until = world.clock.monotonic() + Duration::from_secs(patience_s);
        let restored = follower.catch_up(Role::Active, false, Some(until));
        let lives: Vec<Life> = follower.parts.views.iter().map(|view| view.life()).collect();
        (restored.is_ok(), lives)
    };
    let (_, lives) = restore(4);
    assert!(lives.iter().all(|life| life.reason().is_none()), "nothing to say yet");
    let (restored, lives) = restore(6);
    assert!(!restored);
    let said: Vec<_> = lives.iter().filter_map(Life::reason).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(matches!(&lives[0], Life::Stalled(_)) && said[0].contains("changelog of partition 0"), "{said:?}");
    assert!(said[0].ends_with("neither committed nor aborted"), "{said:?}");

    world.log.expire_transactions();
    let (restored, lives) = restore(1);
    assert!(restored && lives.len() == PARTITIONS as usize);
    assert!(lives.iter().all(|life| life.name() == "restoring"), "it is for its owner to say that it runs");
}

#[test]
fn a_broker_that_is_away_is_not_taken_for_a_stalled_restore() {
    let (world, mut follower) = before_an_open_transaction();
    // Away for longer than a restore is stalled for, with a word now and then.
    for _ in 0..200 {
        (0..100).for_each(|_| world.log.inject(Injected::PollEmpty));
        world.log.inject(Injected::PollUnavailable);
    }
    let until = world.clock.monotonic() + Duration::from_secs(12);
    follower.catch_up(Role::Active, false, Some(until)).unwrap_err();
    assert!(follower.parts.views.iter().all(|view| view.life().reason().is_none()));
}

/// What a restore writes on its way holds not everything yet: by the time of that a tombstone may be gone that comes later.
#[test]
fn f20_a_restore_that_was_interrupted_does_not_make_a_store_young() {
    let mut world = World::new();
    let mut owner = world.owners(LAYOUT).remove(0);
    world.command(0);
    owner.step().unwrap();
    let away = world.elsewhere();
    let restore = |until| {
        let mut follower = away.shard(LAYOUT, 0);
        follower.parts.options.restored_bytes_max = 0;
        follower.prepare(Role::Active).unwrap();
        follower.catch_up(Role::Active, false, Some(until))
    };
    let second = Duration::from_secs(1);
    restore(world.clock.monotonic() + second).unwrap();
    let (held, stood) = (away.progress(0).written_at_ms, away.progress(0).changelog_offset);

    world.clock.advance(TOMBSTONE_RETENTION / 2);
    world.command(0);
    owner.step().unwrap();
    world.command(0);
    world.log.inject(Injected::CommitRequestLost);
    owner.step().unwrap_err();
    restore(world.clock.monotonic() + second).unwrap_err();
    let progress = away.progress(0);
    assert!(progress.changelog_offset > stood, "nothing was written on the way");
    assert_eq!(progress.written_at_ms, held);
}
