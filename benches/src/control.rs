//! The control: a bare transactional copy loop with as many topics, hops and records as a transfer of the bank takes,
//! and nothing else: no rules, no store, no queries.
//!
//! Within a partition: one transaction (2 events, 1 answer, 3 rows, 1 position). Across: three transactions over two
//! hops. It runs in a process of its own (`load loop-worker`), so that its CPU time is told apart, on topics of its
//! own, which are deleted at the end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message};

use crate::kafka::{Sender, reader_at_end};
use crate::mix::Class;
use crate::probe::{self, Outcome, Outgoing, Replies, Reply, Tag, Traffic};
use crate::schedule::Schedule;

/// The loop's topics, by their roles in the bank.
pub const ROLES: [&str; 5] = ["commands", "transfers", "events", "answers", "changelog"];
/// Bytes of a record, about as many as the bank's take.
pub const RECORD_BYTES: usize = 130;

/// Name of a topic of the loop.
pub fn topic(name: &str, role: &str) -> String {
    format!("{name}-{role}")
}

/// The loop, running.
pub struct Control {
    name: String,
    partitions: i32,
    worker: Child,
    sender: Sender,
    consumer: BaseConsumer,
    phase: u32,
    topics: LoopTopics,
}

impl Control {
    /// Creates its topics and starts its process with a thread per shard. Waits until all of them can commit.
    pub fn start(
        bootstrap: &str,
        prefix: &str,
        partitions: i32,
        shards: i32,
        linger_ms: u32,
    ) -> anyhow::Result<Control> {
        let run: u32 = rand::random();
        let name = format!("{prefix}loop-{run:08x}");
        let topics = LoopTopics::create(bootstrap, &name, partitions)?;
        let worker = Command::new(std::env::current_exe()?)
            .args(["loop-worker", "--bootstrap", bootstrap, "--name", &name])
            .args(["--partitions", &partitions.to_string(), "--shards", &shards.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = topic(&name, "answers");
        let mut control = Control {
            sender: Sender::new(bootstrap, linger_ms)?,
            consumer: reader_at_end(bootstrap, &[&answers], partitions)?,
            phase: run & 0x00ff_ff00,
            name,
            partitions,
            worker,
            topics,
        };
        let stdout = control.worker.stdout.take().context("the loop has no output")?;
        let mut line = String::new();
        BufReader::new(stdout.take(64)).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the loop did not start");
        Ok(control)
    }

    /// Process id of the loop.
    pub fn pid(&self) -> Option<i32> {
        i32::try_from(self.worker.id()).ok()
    }

    /// What the names of its topics start with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Full names of its topics.
    pub fn topics(&self) -> Vec<String> {
        self.topics.names.clone()
    }

    /// Sends events by a schedule, this share of them between partitions.
    pub fn run(&mut self, across: f64, schedule: Schedule) -> anyhow::Result<Outcome> {
        self.phase += 1;
        let rng = StdRng::seed_from_u64(u64::from(self.phase));
        let mut traffic =
            LoopTraffic { topic: topic(&self.name, "commands"), partitions: self.partitions, across, rng };
        probe::run(self.phase, schedule, &self.sender, &mut traffic, &self.consumer, &mut LoopReplies)
    }

    /// Ends the process; the topics go with it.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.worker.stdin.take()); // The worker ends with its input.
        let status = self.worker.wait()?;
        ensure!(status.success(), "the loop ended with {status}");
        Ok(())
    }
}

impl Drop for Control {
    /// After an error: no process stays behind.
    fn drop(&mut self) {
        drop(self.worker.stdin.take());
        let _ = self.worker.wait();
    }
}

fn admin(bootstrap: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", bootstrap).create()?)
}

/// Topics that are deleted when nobody needs them any more, whatever went wrong before.
struct LoopTopics {
    bootstrap: String,
    names: Vec<String>,
}

impl LoopTopics {
    fn create(bootstrap: &str, name: &str, partitions: i32) -> anyhow::Result<LoopTopics> {
        let names: Vec<String> = ROLES.iter().map(|role| topic(name, role)).collect();
        let created = LoopTopics { bootstrap: bootstrap.to_owned(), names };
        let new = |name| NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topics: Vec<NewTopic<'_>> = created.names.iter().map(|name| new(name)).collect();
        let results = runtime()?.block_on(admin(bootstrap)?.create_topics(&topics, &options()))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic} was not created: {code}"))?;
        }
        Ok(created)
    }

    fn delete(&self) -> anyhow::Result<()> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        runtime()?.block_on(admin(&self.bootstrap)?.delete_topics(&names, &options()))?;
        Ok(())
    }
}

impl Drop for LoopTopics {
    fn drop(&mut self) {
        if let Err(error) = self.delete() {
            eprintln!("topics {} were not deleted: {error:#}", self.names.join(", "));
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// What a record of the loop says: the event's id, the step to be taken, and the partitions of both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parcel {
    /// Id of the event.
    pub id: [u8; 16],
    /// 0: arrives; 1: at the other side; 2: back.
    pub step: u8,
    /// Where it began.
    pub from: u8,
    /// Where it goes, which may be the same.
    pub to: u8,
}

impl Parcel {
    /// Writes it as a record of the usual size.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.id);
        out.extend_from_slice(&[self.step, self.from, self.to]);
        out.resize(RECORD_BYTES, b'x');
    }

    /// Reads it back.
    pub fn read(bytes: &[u8]) -> Option<Parcel> {
        let id = bytes.get(..16)?.try_into().ok()?;
        let [step, from, to] = bytes.get(16..19)?.try_into().ok()?;
        Some(Parcel { id, step, from, to })
    }
}

struct LoopTraffic {
    topic: String,
    partitions: i32,
    across: f64,
    rng: StdRng,
}

impl Traffic for LoopTraffic {
    fn beat(&mut self, tag: Tag, out: &mut Outgoing) -> anyhow::Result<()> {
        let partitions = u8::try_from(self.partitions)?;
        let from = self.rng.random_range(0..partitions);
        let crosses = partitions > 1 && self.rng.random_bool(self.across.clamp(0.0, 1.0));
        let to = if crosses { (from + self.rng.random_range(1..partitions)) % partitions } else { from };
        let class = if crosses { Class::Across } else { Class::Within };
        out.topic.clone_from(&self.topic);
        out.partition = i32::from(from);
        out.key.clear();
        out.key.push_str("somebody");
        Parcel { id: tag.id(class), step: 0, from, to }.write(&mut out.payload);
        Ok(())
    }
}

struct LoopReplies;

impl Replies for LoopReplies {
    fn read(&mut self, message: &BorrowedMessage<'_>) -> anyhow::Result<Option<Reply>> {
        let parcel = message.payload().and_then(Parcel::read);
        Ok(parcel.map(|parcel| Reply { id: parcel.id, refusal: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_comes_back() {
        let parcel = Parcel { id: [9; 16], step: 2, from: 3, to: 11 };
        let mut bytes = vec![];
        parcel.write(&mut bytes);
        assert_eq!((bytes.len(), Parcel::read(&bytes)), (RECORD_BYTES, Some(parcel)));
        assert_eq!(Parcel::read(&bytes[..18]), None);
    }

    #[test]
    fn the_share_that_crosses_is_kept() {
        let rng = StdRng::seed_from_u64(3);
        let mut traffic = LoopTraffic { topic: "t".into(), partitions: 12, across: 0.75, rng };
        let mut out = Outgoing::default();
        let crossing = (0..2000).filter(|n| {
            traffic.beat(Tag { phase: 1, n: *n, due_us: 0 }, &mut out).unwrap();
            let parcel = Parcel::read(&out.payload).unwrap();
            assert_eq!(i32::from(parcel.from), out.partition);
            parcel.from != parcel.to
        });
        assert!(crossing.count().abs_diff(1500) < 100);
    }
}
