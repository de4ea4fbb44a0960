//! Changes of layout: in simulations, and against owners of the old layout that do not know of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use schemas::Encoder;
use state_store::{MemoryStore, Store, StoreError};

use super::harness::{PARTITIONS, Run, run_through};
use super::ledger::{Ledger, home};
use crate::clock::SharedClock;
use crate::layout::{Change, ChangeError, Layout, Site, Step};
use crate::log::TopicPartition;
use crate::log::memory::MemoryLog;
use crate::membership::Alone;
use crate::probe::Probe;
use crate::query::view::PartitionView;
use crate::shard::{Codecs, Exit, Interrupt, Shard, ShardOptions, ShardParts, Stores};
use crate::testing::{Conditions, ManualClock, codecs, for_each_seed};
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

/// Stores that outlive the shards that use them.
#[derive(Clone, Default)]
struct Directory(Arc<Mutex<BTreeMap<i32, MemoryStore>>>);

impl Stores for Directory {
    fn open(&self, partition: i32) -> Result<Arc<dyn Store>, StoreError> {
        Ok(Arc::new(self.0.lock().entry(partition).or_default().clone()))
    }

    fn wipe(&self, partition: i32) -> Result<(), StoreError> {
        self.0.lock().remove(&partition);
        Ok(())
    }
}

struct World {
    log: MemoryLog,
    clock: SharedClock,
    codecs: Arc<Codecs>,
    directory: Directory,
    commands: i64,
}

impl World {
    fn new() -> World {
        let clock = ManualClock::shared(1_700_000_000_000);
        let log = MemoryLog::simulated(Ledger::new(PARTITIONS, 1).definition().topics.clone(), clock.clone());
        World { log, clock, codecs: codecs(&[]).unwrap(), directory: Directory::default(), commands: 0 }
    }

    /// A shard of a process that owns all and asks nobody.
    fn shard(&self, layout: Layout, id: i32) -> Shard<MemoryLog, Ledger> {
        let application = Arc::new(Ledger::of_layout(PARTITIONS, layout));
        let view = |partition| Arc::new(PartitionView::new(partition, application.definition().shard_of(partition)));
        Shard::new(ShardParts {
            id,
            log: Arc::new(self.log.clone()),
            options: ShardOptions { one_thread: true, ..ShardOptions::default() },
            codecs: Arc::clone(&self.codecs),
            clock: Arc::clone(&self.clock),
            stores: Arc::new(self.directory.clone()),
            views: (0..PARTITIONS).map(view).collect(),
            probe: Probe::none(),
            roles: Arc::new(Alone::default()),
            copier: None,
            application,
        })
    }

    fn owners(&self, layout: Layout) -> Vec<Shard<MemoryLog, Ledger>> {
        let mut shards: Vec<_> = (0..layout.shards).map(|id| self.shard(layout, id)).collect();
        shards.iter_mut().for_each(|shard| shard.own().unwrap());
        shards
    }

    /// A command for this partition.
    fn command(&mut self, partition: i32) {
        self.commands += 1;
        let mut accounts = (0..).map(|number| format!("account-{number}"));
        let account = accounts.find(|account| home(account, PARTITIONS) == partition).unwrap();
        let topic = Ledger::new(PARTITIONS, 1).commands;
        let text = format!("c{} deposit 1", self.commands);
        self.log
            .append(TopicPartition { topic, partition }, Some(account.as_bytes()), Some(text.as_bytes()), None)
            .unwrap();
    }

    fn with_site<T>(&self, to: Layout, act: impl FnOnce(&Site<'_, MemoryLog>) -> T) -> T {
        let ledger = Ledger::of_layout(PARTITIONS, to);
        act(&Site {
            log: &self.log,
            clock: &self.clock,
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

    fn commits(&self, partition: i32) -> u64 {
        self.directory.0.lock()[&partition].progress().unwrap().commit_sequence
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
