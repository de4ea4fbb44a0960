//! The process of the control loop: a thread, a consumer and a transactional producer per shard, as in the bank.
//!
//! Settings are those that were measured best: direct commit, linger 0, lz4, the position as a record instead of
//! group offsets, a millisecond of rest for an id after its commit. It starts on fresh topics and keeps nothing, so
//! any error ends the process.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use processor::log::kafka::commit_transaction;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::control::{Parcel, RECORD_BYTES, topic};
use crate::kafka;

/// Records of one transaction at most.
const BATCH: usize = 5_000;
/// Rest of a transactional id after its commit; without it librdkafka stalls for 20 ms now and then.
const REST: Duration = Duration::from_millis(1);
const CALL: Duration = Duration::from_secs(30);

/// Which loop, and how wide.
#[derive(clap::Args, Clone, Debug)]
pub struct WorkerArgs {
    /// Kafka, host:port.
    #[arg(long)]
    pub bootstrap: String,
    /// What its topics' names start with.
    #[arg(long)]
    pub name: String,
    /// Partitions of each topic.
    #[arg(long)]
    pub partitions: i32,
    /// Threads.
    #[arg(long)]
    pub shards: i32,
}

/// Runs until standard input is closed. Says `ready` on standard output once every shard can commit.
pub fn run(args: &WorkerArgs) -> anyhow::Result<()> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    for shard in 0..args.shards {
        let (args, ready) = (args.clone(), ready.clone());
        std::thread::spawn(move || {
            if let Err(error) = Shard::start(&args, shard).and_then(|shard| {
                ready.send(()).context("the process ends")?;
                shard.run()
            }) {
                eprintln!("loop, shard {shard}: {error:#}");
                std::process::exit(1);
            }
        });
    }
    for _ in 0..args.shards {
        is_ready.recv()?;
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

struct Topics {
    commands: String,
    transfers: String,
    events: String,
    answers: String,
    changelog: String,
}

struct Shard {
    topics: Topics,
    consumer: BaseConsumer,
    producer: ThreadedProducer<DefaultProducerContext>,
    touched: Vec<bool>,
    buffer: Vec<u8>,
}

impl Shard {
    fn start(args: &WorkerArgs, shard: i32) -> anyhow::Result<Shard> {
        let name = |role| topic(&args.name, role);
        let topics = Topics {
            commands: name("commands"),
            transfers: name("transfers"),
            events: name("events"),
            answers: name("answers"),
            changelog: name("changelog"),
        };
        let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
            .set("bootstrap.servers", &args.bootstrap)
            .set("transactional.id", format!("{}-{shard}", args.name))
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("compression.type", "lz4")
            .set("transaction.timeout.ms", "60000")
            .set("retry.backoff.ms", "5")
            .set("retry.backoff.max.ms", "50")
            .set("reconnect.backoff.max.ms", "500")
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        producer.init_transactions(CALL)?;
        let consumer = kafka::consumer(&args.bootstrap)?;
        let mut assignment = TopicPartitionList::new();
        for partition in (0..args.partitions).filter(|partition| partition % args.shards == shard) {
            for topic in [&topics.commands, &topics.transfers] {
                assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&assignment)?;
        let touched = vec![false; usize::try_from(args.partitions)?];
        Ok(Shard { topics, consumer, producer, touched, buffer: Vec::new() })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let mut rest_until = Instant::now();
        loop {
            let Some(parcel) = self.poll(Duration::from_millis(100))? else { continue };
            std::thread::sleep(rest_until.saturating_duration_since(Instant::now()));
            self.producer.begin_transaction()?;
            self.step(parcel)?;
            for _ in 1..BATCH {
                let Some(parcel) = self.poll(Duration::ZERO)? else { break };
                self.step(parcel)?;
            }
            self.write_positions()?;
            commit_transaction(self.producer.client(), CALL)?;
            rest_until = Instant::now() + REST;
        }
    }

    fn poll(&self, timeout: Duration) -> anyhow::Result<Option<(i32, Parcel)>> {
        let Some(polled) = self.consumer.poll(timeout) else { return Ok(None) };
        let message: BorrowedMessage<'_> = polled?;
        let parcel = message.payload().and_then(Parcel::read).context("a record that is no parcel")?;
        Ok(Some((message.partition(), parcel)))
    }

    /// As many records to as many topics as the bank writes at this step.
    fn step(&mut self, (here, parcel): (i32, Parcel)) -> anyhow::Result<()> {
        let next = Parcel { step: parcel.step + 1, ..parcel };
        next.write(&mut self.buffer);
        let within = parcel.from == parcel.to;
        let (events, answers, rows, hop) = match (within, parcel.step) {
            (true, _) => (2, 1, 3, None),
            (false, 0) => (0, 0, 2, Some(parcel.to)),
            (false, 1) => (1, 0, 1, Some(parcel.from)),
            (false, _) => (1, 1, 2, None),
        };
        if let Some(to) = hop {
            self.send(&self.topics.transfers, i32::from(to), "somebody")?;
        }
        for (topic, count) in
            [(&self.topics.events, events), (&self.topics.answers, answers), (&self.topics.changelog, rows)]
        {
            for _ in 0..count {
                self.send(topic, here, "somebody")?;
            }
        }
        if let Some(touched) = usize::try_from(here).ok().and_then(|here| self.touched.get_mut(here)) {
            *touched = true;
        }
        Ok(())
    }

    fn write_positions(&mut self) -> anyhow::Result<()> {
        self.buffer.resize(RECORD_BYTES, b'p');
        for (partition, touched) in self.touched.iter().enumerate() {
            if *touched {
                self.send(&self.topics.changelog, i32::try_from(partition)?, "position")?;
            }
        }
        self.touched.fill(false);
        Ok(())
    }

    fn send(&self, topic: &str, partition: i32, key: &str) -> anyhow::Result<()> {
        let record = BaseRecord::to(topic).partition(partition).key(key).payload(&self.buffer);
        self.producer.send(record).map_err(|(error, _)| error.into())
    }
}
