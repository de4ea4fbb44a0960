//! What is permitted, and the control topic in a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use schemas::control::{ASSIGNMENT_KEY, ASSIGNMENT_PARTITION, MEMBER_PARTITION, member_key};
use schemas::records::{Member, ShardOwners};
use schemas::{AvroRecord, Encoder, SchemaCache};

use super::*;
use crate::clock::{SharedClock, SystemClock};
use crate::log::memory::MemoryLog;
use crate::log::{TopicId, TopicPartition, Topics};
use crate::testing::ManualClock;
use crate::topology::Definition;

const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn a_configuration_of_another_layout_is_told_the_way_out() {
    let layout = |number, shards| Layout { number, shards };
    assert_eq!(permit(layout(2, 4), layout(2, 4)), Ok(()));
    assert_eq!(permit(Layout::default(), layout(2, 4)), Ok(()));
    for (configured, way_out) in [
        (layout(3, 4), "run `processor layout --apply`"),
        (layout(1, 6), "give it the one of now"),
        (layout(2, 5), "restore `shards`"),
    ] {
        let refusal = permit(layout(2, 4), configured).unwrap_err();
        assert!(refusal.starts_with("the state is of layout 2 with 4 shards, configured is layout"), "{refusal}");
        assert!(refusal.contains(way_out), "{refusal}");
    }
}

struct World {
    log: MemoryLog,
    clock: SharedClock,
    control: TopicId,
    schemas: SchemaCache,
    definition: Definition,
}

impl World {
    /// Time passes only while somebody waits.
    fn new() -> World {
        let clock = ManualClock::shared(0);
        World::with(clock.clone(), |topics| MemoryLog::simulated(topics, clock))
    }

    /// Several threads share it.
    fn shared() -> World {
        let clock = SystemClock::shared();
        World::with(Arc::clone(&clock), |topics| MemoryLog::new(topics, clock))
    }

    fn with(clock: SharedClock, log: impl FnOnce(Topics) -> MemoryLog) -> World {
        let mut topics = Topics::new(4);
        let (changelog, control) = (topics.add("changelog"), topics.add("control"));
        let log = log(topics.clone());
        let writers = [(1, Position::schema_json()), (2, Member::schema_json()), (3, Assignment::schema_json())];
        let definition = Definition {
            application: "test".to_owned(),
            layout: 2,
            shards: 3,
            standbys: 1,
            topics,
            inputs: Vec::new(),
            changelog,
            tombstone_retention: Duration::from_secs(60),
            dead_letters: changelog,
            tables: Vec::new(),
            events: Vec::new(),
        };
        World { log, clock, control, schemas: SchemaCache::fixed(&writers).unwrap(), definition }
    }

    fn site(&self) -> Site<'_, MemoryLog> {
        Site {
            log: &self.log,
            clock: &self.clock,
            definition: &self.definition,
            control: Some(self.control),
            schemas: &self.schemas,
            position: Encoder::new(1),
            assignment: Encoder::new(3),
        }
    }

    fn append(&self, partition: i32, key: &[u8], value: Option<&[u8]>) {
        let at = TopicPartition { topic: self.control, partition };
        self.log.append(at, Some(key), value, None).unwrap();
    }

    fn beat(&self, name: &str) {
        let record = Member { instance: name.to_owned(), incarnation: "1".to_owned(), beat: 1, ..Member::default() };
        let mut value = Vec::new();
        Encoder::new(2).encode(&record, &mut value).unwrap();
        self.append(MEMBER_PARTITION, &member_key(name), Some(&value));
    }

    fn assign(&self, epoch: i64, layout: Layout) {
        let shards = vec![ShardOwners::default(); layout.shards as usize];
        let record = Assignment { epoch, layout: layout.number, shards, ..Assignment::default() };
        let mut value = Vec::new();
        Encoder::new(3).encode(&record, &mut value).unwrap();
        self.append(ASSIGNMENT_PARTITION, ASSIGNMENT_KEY, Some(&value));
    }
}

#[test]
fn the_last_words_of_the_dead_are_no_sign_of_life() {
    let world = World::new();
    world.beat("killed");
    assert_eq!(control::living(&world.site(), PATIENCE).unwrap(), Vec::<String>::new());
}

#[test]
fn who_beats_meanwhile_lives() {
    let world = World::shared();
    world.beat("killed");
    let ended = AtomicBool::new(false);
    let living = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                world.beat("lives");
                world.clock.pause(Duration::from_millis(5));
            }
        });
        let living = control::living(&world.site(), Duration::from_millis(500));
        ended.store(true, Ordering::Relaxed);
        living
    });
    assert_eq!(living.unwrap(), ["lives"]);
}

#[test]
fn the_new_layout_begins_with_an_assignment_of_nobody() {
    let world = World::new();
    let to = world.definition.placement();
    assert_eq!(control::publish(&world.site(), to).unwrap(), None, "there never was one");
    world.assign(7, Layout { number: 1, shards: 6 });
    let survey = survey(&world.site()).unwrap();
    assert_eq!(survey.source(to).unwrap(), Some(Layout { number: 1, shards: 6 }));
    let mut change = Change::plan(&world.site()).unwrap().unwrap();
    let mut last = None;
    while let Some(step) = change.step(&world.site()).unwrap() {
        last = Some(step);
    }
    assert_eq!(last, Some(Step::Published(Some(8))));
    let assignment = control::read(&world.site()).unwrap().assignment.unwrap();
    assert_eq!((assignment.epoch, Layout::of_assignment(&assignment)), (8, to));
    assert!(assignment.shards.iter().all(|owners| owners.active.is_empty()));
    assert!(Change::plan(&world.site()).unwrap().is_none(), "nothing is left to do");
    assert_eq!(control::publish(&world.site(), to).unwrap(), Some(8), "and once is enough");
}
