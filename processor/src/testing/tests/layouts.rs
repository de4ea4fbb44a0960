//! Changes of layout: in simulations, and against owners of the old layout that do not know of them.

use schemas::Encoder;

use super::harness::{PARTITIONS, Run, run_through};
use super::ledger::Ledger;
use super::world::World;
use crate::clock::SharedClock;
use crate::layout::{Change, ChangeError, Layout, Site, Step};
use crate::log::TopicPartition;
use crate::log::memory::MemoryLog;
use crate::shard::{Exit, Interrupt};
use crate::testing::{Conditions, for_each_seed};
use crate::topology::Application;

const OLD: Layout = Layout { number: 1, shards: 2 };
const NEW: Layout = Layout { number: 2, shards: 3 };

#[test]
fn changes_of_layout_lose_and_double_nothing() {
    let layouts = [(2, 4), (3, 1), (5, 3)].map(|(number, shards)| Layout { number, shards });
    for_each_seed(100, |seed| {
        let run = run_through(seed, Conditions::ROUGH, &layouts);
        run.and_then(Run::check).unwrap_or_else(|breach| panic!("{breach}"));
    });
}

impl World {
    fn with_site<T>(&self, to: Layout, act: impl FnOnce(&Site<'_, MemoryLog>) -> T) -> T {
        let ledger = Ledger::of_layout(PARTITIONS, to);
        let clock: SharedClock = self.clock.clone();
        act(&Site {
            log: &self.log,
            clock: &clock,
            definition: ledger.definition(),
            control: None,
            schemas: &self.codecs.schemas,
            position: self.codecs.position,
            assignment: Encoder::new(0),
        })
    }

    fn plan(&self, to: Layout) -> Result<Option<Change>, ChangeError> {
        self.with_site(to, Change::plan)
    }

    fn change_step(&self, change: &mut Change) -> Step {
        self.with_site(change.to, |site| change.step(site)).unwrap().unwrap()
    }
}

fn stop_of(interrupt: Result<(), Interrupt>) -> String {
    match interrupt {
        Err(Interrupt::Stop(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_owner_that_knows_nothing_of_a_change_commits_nothing_behind_it_and_says_so() {
    let mut world = World::new();
    let mut owners = world.owners(OLD);
    world.command(0);
    owners[0].step().unwrap();
    let mut change = world.plan(NEW).unwrap().unwrap();
    assert_eq!((change.from, change.to), (OLD, NEW));
    assert_eq!(world.change_step(&mut change), Step::Sealed(0));

    // Shard 0 of the old layout is over. Its owner finds out by its next transaction, and does not take it back.
    let before = world.commits(0);
    world.command(0);
    let interrupt = owners[0].step().unwrap_err();
    assert!(matches!(interrupt, Interrupt::Fenced(_)), "{interrupt:?}");
    let exit = owners[0].recover(interrupt);
    let Some(Exit::Stopped(reason)) = exit else { panic!("{exit:?}") };
    assert!(reason.contains("the state is of layout 2 with 3 shards, configured is layout 1 with 2"), "{reason}");
    // The seal is all that came.
    assert_eq!(world.commits(0), before + 1);
    // Nor does one that starts now.
    assert!(stop_of(world.shard(OLD, 0).own()).contains("topics.yaml of before a change of layout"));

    // Shard 1 still belongs to the old layout: its owner goes on, and none of the new one takes its partitions.
    world.command(1);
    owners[1].step().unwrap();
    assert!(stop_of(world.shard(NEW, 1).own()).contains("run `processor layout --apply`"));

    // Whoever made the change died here. Begun again, it does what is left.
    let mut change = world.plan(NEW).unwrap().unwrap();
    assert_eq!([(); 2].map(|()| world.change_step(&mut change)), [Step::WasSealed(0), Step::Sealed(1)]);
    assert!(world.plan(NEW).unwrap().is_none());
    for partition in 0..PARTITIONS {
        world.command(partition);
    }
    let interrupt = owners[1].step().unwrap_err();
    let exit = owners[1].recover(interrupt);
    assert!(matches!(exit, Some(Exit::Stopped(_))), "{exit:?}");

    for mut owner in world.owners(NEW) {
        owner.step().unwrap();
    }
    assert!((0..PARTITIONS).all(|partition| world.commits(partition) >= 3));
}

#[test]
fn a_layout_is_changed_to_a_later_one_only() {
    let world = World::new();
    assert!(world.plan(NEW).unwrap().is_none(), "nothing has run yet");
    drop(world.owners(NEW));
    assert!(world.plan(NEW).unwrap().is_none());
    let refusal = |number, shards| world.plan(Layout { number, shards }).unwrap_err().to_string();
    assert!(refusal(1, 2).contains("a layout is never gone back to"), "{}", refusal(1, 2));
    assert!(refusal(2, 4).contains("raise `layout` in topics.yaml to 3"), "{}", refusal(2, 4));

    // One that was begun has to be ended first.
    let third = Layout { number: 3, shards: 1 };
    let mut change = world.plan(third).unwrap().unwrap();
    world.change_step(&mut change);
    let reason = refusal(4, 2);
    assert!(reason.contains("from layout 2 with 3 shards to layout 3 with 1 shards was begun"), "{reason}");
}

/// The last Position is found however far from the end it lies.
#[test]
fn a_quiet_partition_behind_much_else_is_sealed_too() {
    let world = World::new();
    drop(world.owners(OLD));
    let topic = Ledger::new(PARTITIONS, 1).definition().changelog;
    // As after a long row of transactions that were aborted.
    for partition in 0..PARTITIONS {
        for _ in 0..500 {
            let at = TopicPartition { topic, partition };
            world.log.append(at, Some(b"account/x"), Some(b"y"), None).unwrap();
        }
    }
    let before: Vec<u64> = (0..PARTITIONS).map(|partition| world.commits(partition)).collect();
    let mut change = world.plan(NEW).unwrap().unwrap();
    assert_eq!([(); 2].map(|()| world.change_step(&mut change)), [Step::Sealed(0), Step::Sealed(1)]);
    drop(world.owners(NEW));
    for (partition, before) in (0..).zip(before) {
        let claims = u64::from(partition < NEW.shards);
        assert_eq!(world.commits(partition), before + 1 + claims, "the seal, and the claim of a shard");
    }
}
