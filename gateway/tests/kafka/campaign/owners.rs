//! Who owns what, followed on the control topic while it happens: compaction would leave only the last word.
//!
//! A partition has moved when another instance says that its commands run there, and the assignment agrees. What was
//! only planned, and what a late heartbeat of an earlier owner says, does not count.

use kontor_compose::Namespace;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use schemas::control::{Change, ControlError, Directory, PARTITIONS};
use schemas::records::{Member, ShardRole};
use schemas::{CacheConfig, SchemaCache};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(100);

/// See the module. Ends when dropped.
pub struct Owners {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    directory: Directory,
    /// Who said last that it runs the shard.
    runs: BTreeMap<i32, String>,
    moved_shards: usize,
}

impl Owners {
    /// From the beginning of the topic.
    pub fn follow(space: &Namespace) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let config = CacheConfig { registry_url: space.registry().to_owned(), file: None };
        let schemas = SchemaCache::start(config).unwrap();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", space.bootstrap())
            .set("group.id", "kontor-test-owners")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("log_level", "0")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(&space.topic("control"), partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        let thread = {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Errors of a broker that is away pass by themselves.
                    if let Some(Ok(message)) = consumer.poll(POLL) {
                        fold(&seen, &schemas, message.partition(), message.key(), message.payload());
                    }
                }
            })
        };
        Self { seen, stop, thread: Some(thread) }
    }

    /// Partitions that began to run at another instance than before.
    pub fn moves(&self) -> usize {
        let seen = self.seen.lock();
        // Every shard of these tests has as many partitions as any other.
        seen.moved_shards * (super::fleet::PARTITIONS / super::fleet::SHARDS) as usize
    }

    /// Whether the commands of every partition run at one of these instances.
    pub fn served_by(&self, names: &[String]) -> bool {
        let seen = self.seen.lock();
        let Some(assignment) = &seen.directory.assignment else { return false };
        let mut shards = assignment.shards.iter().enumerate();
        shards.all(|(shard, owners)| {
            names.contains(&owners.active) && seen.holds(&owners.active, shard, ShardRole::Active)
        })
    }

    /// The same, shared evenly, and each followed by another of them that lacks little.
    pub fn settled_on(&self, names: &[String]) -> bool {
        if !self.served_by(names) {
            return false;
        }
        let seen = self.seen.lock();
        let Some(assignment) = &seen.directory.assignment else { return false };
        let owned = names.iter().map(|name| assignment.shards.iter().filter(|owners| owners.active == *name).count());
        let owned: Vec<usize> = owned.collect();
        let even = owned.iter().max().unwrap_or(&0) - owned.iter().min().unwrap_or(&0) <= 1;
        let standbys = usize::from(names.len() > 1);
        let followed = assignment.shards.iter().enumerate().all(|(shard, owners)| {
            let follows = |name: &String| names.contains(name) && seen.holds(name, shard, ShardRole::Standby);
            owners.warming.is_empty() && owners.standbys.len() == standbys && owners.standbys.iter().all(follows)
        });
        even && followed && seen.directory.members.len() == names.len()
    }

    /// Instances that own something.
    pub fn owning(&self) -> usize {
        let seen = self.seen.lock();
        let actives = seen.directory.assignment.iter().flat_map(|assignment| &assignment.shards);
        actives.map(|owners| &owners.active).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// All of it, for the message of a failure.
    pub fn text(&self) -> String {
        let seen = self.seen.lock();
        let assignment = seen.directory.assignment.as_ref();
        let shards = assignment.map(|assignment| (assignment.epoch, &assignment.leader, &assignment.shards));
        format!("{shards:?}\n{:?}", seen.directory.members.values().collect::<Vec<_>>())
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Seen {
    /// Whether the instance says that it has this part in the shard, and knows how far it is.
    fn holds(&self, name: &str, shard: usize, role: ShardRole) -> bool {
        let said = |member: &Member| {
            member.shards.iter().any(|one| one.shard as usize == shard && one.role == role && one.lag >= 0)
        };
        self.directory.members.get(name).is_some_and(said)
    }

    fn count_moves_to(&mut self, name: &str) {
        let Some(member) = self.directory.members.get(name) else { return };
        for part in member.shards.iter().filter(|part| part.role == ShardRole::Active) {
            if self.directory.owners(part.shard).is_none_or(|owners| owners.active != name) {
                continue;
            }
            let before = self.runs.insert(part.shard, name.to_owned());
            self.moved_shards += usize::from(before.is_some_and(|before| before != name));
        }
    }
}

fn fold(seen: &Mutex<Seen>, schemas: &SchemaCache, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
    loop {
        let mut seen = seen.lock();
        match seen.directory.apply(schemas, partition, key, value) {
            Ok(Change::Beat(name)) => return seen.count_moves_to(&name),
            Ok(_) => return,
            // The registry is being asked, by another thread.
            Err(ControlError::Wait(_)) => {
                drop(seen);
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(ControlError::Bad(reason)) => panic!("the control topic: {reason}"),
        }
    }
}
