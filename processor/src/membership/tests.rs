//! Several memberships on one log in memory, each with shards that do as they are told at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use schemas::records::{Assignment, Member, ShardRole};
use schemas::{AvroRecord, Encoder, SchemaCache};

use super::*;
use crate::clock::{SharedClock, SystemClock};
use crate::layout::Layout;
use crate::log::memory::MemoryLog;
use crate::log::{TopicId, Topics};

const SHARDS: i32 = 6;
const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    log: Arc<MemoryLog>,
    control: TopicId,
    clock: SharedClock,
    schemas: SchemaCache,
    lives: u32,
}

/// A member and the thread that plays its shards.
struct Instance {
    name: String,
    membership: Membership,
    ended: Arc<AtomicBool>,
    shards: Option<std::thread::JoinHandle<()>>,
}

impl Cluster {
    fn new() -> Cluster {
        let mut topics = Topics::new(12);
        let control = topics.add("control");
        let clock = SystemClock::shared();
        let log = Arc::new(MemoryLog::new(topics, Arc::clone(&clock)));
        let schemas = SchemaCache::fixed(&[(1, Member::schema_json()), (2, Assignment::schema_json())]).unwrap();
        Cluster { log, control, clock, schemas, lives: 0 }
    }

    fn start(&mut self, name: &str) -> Instance {
        self.lives += 1;
        let options = MembershipOptions {
            control: self.control,
            application: "test".to_owned(),
            layout: Layout { number: 1, shards: SHARDS },
            instance: name.to_owned(),
            incarnation: format!("{:04}", self.lives),
            endpoint: format!("http://{name}"),
            rack: String::new(),
            rules: Rules::default(),
            grace: Duration::ZERO,
        };
        let encoders = (Encoder::new(1), Encoder::new(2));
        let membership = Membership::start(&self.log, &self.clock, &self.schemas, encoders, options).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (board, stop, clock) = (Arc::clone(membership.board()), Arc::clone(&ended), Arc::clone(&self.clock));
        let shards = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for shard in 0..SHARDS {
                    let part = match board.role(shard) {
                        Role::Active => Some((ShardRole::Active, 0)),
                        Role::Standby => Some((ShardRole::Standby, 0)),
                        Role::Nothing | Role::Ended => None,
                    };
                    board.report(shard, part);
                }
                clock.pause(Duration::from_millis(5));
            }
        });
        Instance { name: name.to_owned(), membership, ended, shards: Some(shards) }
    }

    fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let until = self.clock.monotonic() + PATIENCE;
        while !holds() {
            assert!(self.clock.monotonic() < until, "{what}");
            self.clock.pause(Duration::from_millis(5));
        }
    }

    /// Waits until each of these owns so many shards, each shard is owned once, and nothing moves.
    fn settles(&self, instances: &[&Instance], counts: &[usize]) {
        self.eventually(&format!("counts of {counts:?}"), || {
            let owned: Vec<usize> = instances.iter().map(|instance| instance.owned().len()).collect();
            let directory = instances[0].membership.board().directory();
            let moving = directory.assignment.iter().flat_map(|assignment| &assignment.shards);
            owned == counts && moving.into_iter().all(|owners| owners.warming.is_empty())
        });
    }
}

impl Instance {
    fn owned(&self) -> Vec<i32> {
        let board = self.membership.board();
        (0..SHARDS).filter(|shard| board.role(*shard) == Role::Active).collect()
    }

    fn stop_shards(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(shards) = self.shards.take() {
            shards.join().unwrap();
        }
    }

    fn leave(mut self) {
        self.stop_shards();
        self.membership.board().end_shards();
        self.membership.leave();
    }

    /// Falls silent without a word.
    fn die(mut self) {
        self.stop_shards();
        self.membership.end();
    }
}

#[test]
fn members_share_the_shards_and_every_change_heals() {
    let mut cluster = Cluster::new();
    let first = cluster.start("a");
    cluster.settles(&[&first], &[6]);
    assert_eq!(first.membership.board().confirm(0).unwrap(), Some(first.membership.board().directory().epoch()));

    let second = cluster.start("b");
    cluster.settles(&[&first, &second], &[3, 3]);
    let third = cluster.start("c");
    cluster.settles(&[&first, &second, &third], &[2, 2, 2]);
    // No shard has two owners in anybody's eyes.
    let mut all: Vec<i32> = [&first, &second, &third].iter().flat_map(|instance| instance.owned()).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    let lost = third.owned();
    let hint = first.membership.board().owner(lost[0]);
    assert_eq!(hint.endpoint, "http://c");

    // One that is no leader dies: its standbys take over.
    third.die();
    cluster.settles(&[&first, &second], &[3, 3]);
    // The leader leaves: the other one leads.
    assert_eq!(first.name, "a");
    first.leave();
    cluster.settles(&[&second], &[6]);
    assert_eq!(second.membership.board().directory().assignment.unwrap().leader, "b");
}

#[test]
fn a_leader_that_dies_is_followed_by_another() {
    let mut cluster = Cluster::new();
    let first = cluster.start("a");
    cluster.settles(&[&first], &[6]);
    let (second, third) = (cluster.start("b"), cluster.start("c"));
    cluster.settles(&[&first, &second, &third], &[2, 2, 2]);
    first.die();
    cluster.settles(&[&second, &third], &[3, 3]);
    // The first in the order of names, unless the machine had no time for it.
    assert_ne!(second.membership.board().directory().assignment.unwrap().leader, "a");
}

#[test]
fn a_restart_under_the_same_name_keeps_its_shards_and_the_lead() {
    let mut cluster = Cluster::new();
    let first = cluster.start("a");
    cluster.settles(&[&first], &[6]);
    let second = cluster.start("b");
    cluster.settles(&[&first, &second], &[3, 3]);
    let before = first.owned();
    first.die();
    let first = cluster.start("a");
    cluster.eventually("the same shards", || first.owned() == before);
    let led_again = || {
        let assignment = first.membership.board().directory().assignment.unwrap();
        (assignment.leader.as_str(), assignment.leader_incarnation.as_str()) == ("a", "0003")
    };
    cluster.eventually("the new life leads", led_again);
    cluster.settles(&[&first, &second], &[3, 3]);
    assert_eq!(first.owned(), before, "nothing moved");
}

#[test]
fn the_older_of_two_processes_with_one_name_ends() {
    let mut cluster = Cluster::new();
    let older = cluster.start("a");
    cluster.settles(&[&older], &[6]);
    let younger = cluster.start("a");
    cluster
        .eventually("the older ends", || (0..SHARDS).all(|shard| older.membership.board().role(shard) == Role::Ended));
    cluster.settles(&[&younger], &[6]);
}

#[test]
fn who_cannot_beat_stops_calling_itself_current() {
    let mut cluster = Cluster::new();
    let only = cluster.start("a");
    cluster.settles(&[&only], &[6]);
    let board = Arc::clone(only.membership.board());
    assert!(board.is_current());
    only.die();
    cluster.eventually("not current any more", || !board.is_current());
}
