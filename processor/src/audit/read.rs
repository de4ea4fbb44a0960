//! Reads whole topics, read_committed, up to offsets that were taken before.
//!
//! One consumer and one thread per topic decode; the caller's thread folds, so the fold needs no lock and memory holds
//! a few thousand records at a time. Never commits offsets, never joins a group (`assign`), never writes.
//! Positions and dead letters are read before the rest, because the fold needs them first.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use schemas::topics::Topology;
use schemas::{Lookup, SchemaCache, Writer};

use super::decode::{Raw, decode, source_of};
use super::facts::{At, Fact, Topic};
use super::fold::Fold;
use super::scope::Scope;

/// Facts handed over at once.
const BATCH: usize = 1024;
/// How long one call to the broker may take.
const CALL: Duration = Duration::from_secs(10);
/// How long a topic may stay silent before its end.
const SILENCE_POLLS: u32 = 60;
const POLL: Duration = Duration::from_millis(500);

/// Why topics could not be read to their ends.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The broker is away, or refuses.
    #[error("cannot read {topic}; is the broker up, and is the prefix right?")]
    Kafka {
        /// Topic with its prefix, or the address of the broker.
        topic: String,
        /// What librdkafka says.
        source: KafkaError,
    },
    /// topics.yaml lacks a topic of the bank.
    #[error("the topology declares no topic `{0}`")]
    Undeclared(&'static str),
    /// The end that the broker names was not reached.
    #[error("{topic} stayed silent for 30 s before its end was reached; see whether its leader is up")]
    Stalled {
        /// Topic with its prefix.
        topic: String,
    },
    /// A reading thread died.
    #[error("the reader of {0} died")]
    Died(String),
}

/// One partition's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// First offset that exists.
    pub low: i64,
    /// Last stable offset: where read_committed ends.
    pub stable: i64,
    /// End with open transactions.
    pub high: i64,
}

/// Ends of all topics.
pub type Ends = BTreeMap<(Topic, i32), End>;
/// Where each partition is to be read next.
pub type Cursor = HashMap<(Topic, i32), i64>;

/// A cluster with the bank's topics.
pub struct Source {
    bootstrap: String,
    topology: Topology,
    cache: SchemaCache,
}

impl Source {
    /// Reads from `bootstrap` the topics of `topology`, with the schemas of `cache`.
    pub fn new(bootstrap: String, topology: Topology, cache: SchemaCache) -> Source {
        Source { bootstrap, topology, cache }
    }

    /// Partitions of the co-partitioned topics.
    pub fn partitions(&self) -> i32 {
        self.topology.partitions
    }

    /// The ends of `topics` now.
    pub fn ends(&self, topics: &[Topic]) -> Result<Ends, ReadError> {
        let committed = self.consumer("read_committed", "error")?;
        let uncommitted = self.consumer("read_uncommitted", "error")?;
        let mut ends = Ends::new();
        for topic in topics {
            let (name, partitions) = self.spec(*topic)?;
            let failed = |source| ReadError::Kafka { topic: name.to_owned(), source };
            for partition in 0..partitions {
                let (low, high) = uncommitted.fetch_watermarks(name, partition, CALL).map_err(failed)?;
                let (_, stable) = committed.fetch_watermarks(name, partition, CALL).map_err(failed)?;
                ends.insert((*topic, partition), End { low, stable, high });
            }
        }
        Ok(ends)
    }

    /// Folds everything between `cursor` and the ends, and moves `cursor`. `progress` gets the topics that are done.
    pub fn read(
        &self,
        ends: &Ends,
        cursor: &mut Cursor,
        fold: &mut Fold,
        progress: &dyn Fn(Topic, u64),
    ) -> Result<(), ReadError> {
        let first = [Topic::Changelog, Topic::DeadLetters];
        self.read_topics(&first, ends, cursor, fold, progress)?;
        let rest: Vec<Topic> = Topic::ALL.into_iter().filter(|topic| !first.contains(topic)).collect();
        self.read_topics(&rest, ends, cursor, fold, progress)?;
        for ((topic, partition), end) in ends {
            let next = match topic {
                // The fold left those at or beyond the position for the next time.
                Topic::Commands => end.stable.min(fold.commands_done(*partition)).max(end.low),
                _ => end.stable,
            };
            cursor.insert((*topic, *partition), next);
        }
        Ok(())
    }

    fn read_topics(
        &self,
        topics: &[Topic],
        ends: &Ends,
        cursor: &Cursor,
        fold: &mut Fold,
        progress: &dyn Fn(Topic, u64),
    ) -> Result<(), ReadError> {
        std::thread::scope(|scope| {
            let (sender, receiver) = crossbeam_channel::bounded(32);
            let mut readers = Vec::new();
            for topic in topics {
                let reader = self.reader(*topic, ends, cursor, sender.clone())?;
                readers.push((*topic, scope.spawn(move || reader.run())));
            }
            drop(sender);
            fold_all(&receiver, fold);
            for (topic, reader) in readers {
                let count = reader.join().map_err(|_| ReadError::Died(topic.base().to_owned()))??;
                progress(topic, count);
            }
            Ok(())
        })
    }

    fn reader<'a>(
        &'a self,
        topic: Topic,
        ends: &Ends,
        cursor: &Cursor,
        out: Sender<Vec<(At, i64, Fact)>>,
    ) -> Result<Reader<'a>, ReadError> {
        let (name, _) = self.spec(topic)?;
        let failed = |source| ReadError::Kafka { topic: name.to_owned(), source };
        let mut open = HashMap::new();
        let mut assignment = TopicPartitionList::new();
        for ((_, partition), end) in ends.iter().filter(|((of, _), _)| *of == topic) {
            let from = cursor.get(&(topic, *partition)).copied().unwrap_or(end.low);
            if from < end.stable {
                open.insert(*partition, end.stable);
                assignment.add_partition_offset(name, *partition, Offset::Offset(from)).map_err(failed)?;
            }
        }
        // A topic that may be trimmed or compacted while we read goes on at its new start; any other must be whole.
        let reset = if topic.may_lose_its_start() { "earliest" } else { "error" };
        let consumer = self.consumer("read_committed", reset)?;
        consumer.assign(&assignment).map_err(failed)?;
        Ok(Reader { source: self, topic, name, consumer, open, out })
    }

    fn consumer(&self, isolation: &str, reset: &str) -> Result<BaseConsumer<Quiet>, ReadError> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            // librdkafka wants a group for `assign`; nothing is ever committed to it.
            .set("group.id", "kontor-audit")
            .set("client.id", "kontor-audit")
            .set("isolation.level", isolation)
            .set("auto.offset.reset", reset)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The end of a partition may lie behind markers, which are never delivered.
            .set("enable.partition.eof", "true")
            // Per topic: enough to keep a core busy, little enough that an audit fits beside a live system.
            .set("max.partition.fetch.bytes", "1048576")
            .set("fetch.max.bytes", "8388608")
            .set("queued.max.messages.kbytes", "8192")
            .set("queued.min.messages", "10000")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "100")
            .create_with_context(Quiet)
            .map_err(|source| ReadError::Kafka { topic: self.bootstrap.clone(), source })
    }

    fn spec(&self, topic: Topic) -> Result<(&str, i32), ReadError> {
        let spec = self.topology.topic(topic.base()).ok_or(ReadError::Undeclared(topic.base()))?;
        Ok((&spec.name, spec.partitions))
    }

    fn topic_named(&self, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.spec(*topic).is_ok_and(|(known, _)| known == name))
    }

    /// The schema of `id`; waits for the registry a few seconds when it is not known yet.
    fn writer(&self, id: u32) -> Result<&'static Writer, String> {
        for _ in 0..100 {
            match self.cache.writer(id) {
                Lookup::Known(writer) => return Ok(writer),
                Lookup::Absent(why) => return Err(why),
                // The cache has no signal to wait for; this is a tool and not the engine.
                #[expect(clippy::disallowed_methods, reason = "polls the registry, outside of the engine")]
                Lookup::Pending => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        Err(format!("schema {id} is not known and the registry does not answer"))
    }
}

fn fold_all(receiver: &Receiver<Vec<(At, i64, Fact)>>, fold: &mut Fold) {
    for batch in receiver {
        for (at, at_ms, fact) in batch {
            fold.apply(at, at_ms, fact);
        }
    }
}

/// The end of a partition is no error here, so it is not logged as one.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        if !is_end(&error) {
            tracing::warn!(%error, reason, "kafka");
        }
    }
}

impl ConsumerContext for Quiet {}

fn is_end(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF)
}

/// One topic on its thread.
struct Reader<'a> {
    source: &'a Source,
    topic: Topic,
    name: &'a str,
    consumer: BaseConsumer<Quiet>,
    open: HashMap<i32, i64>,
    out: Sender<Vec<(At, i64, Fact)>>,
}

impl Reader<'_> {
    /// Reads until every partition has reached its end. Returns the number of records.
    fn run(mut self) -> Result<u64, ReadError> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut count = 0;
        let mut silent = 0;
        while !self.open.is_empty() {
            let polled = self.consumer.poll(POLL);
            silent = if polled.is_some() { 0 } else { silent + 1 };
            match polled {
                None if silent < SILENCE_POLLS => {}
                None => {
                    return Err(ReadError::Stalled { topic: self.name.to_owned() });
                }
                Some(Ok(message)) => {
                    let Some(end) = self.open.get(&message.partition()).copied() else {
                        continue;
                    };
                    if message.offset() < end {
                        // Without a time it is older than anything.
                        let at_ms = message.timestamp().to_millis().unwrap_or(0);
                        let (at, fact) = self.fact(&message);
                        batch.push((at, at_ms, fact));
                        count += 1;
                    }
                    if message.offset() + 1 >= end {
                        self.open.remove(&message.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(source)) => {
                    return Err(ReadError::Kafka { topic: self.name.to_owned(), source });
                }
            }
            if batch.len() == BATCH || (self.open.is_empty() && !batch.is_empty()) {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                if self.out.send(full).is_err() {
                    break; // The fold is gone, and with it the reason to read.
                }
            }
        }
        Ok(count)
    }

    fn fact(&self, message: &BorrowedMessage<'_>) -> (At, Fact) {
        let at = At { topic: self.topic, partition: message.partition(), offset: message.offset() };
        if self.topic == Topic::DeadLetters {
            let header = |name: &str| message.headers()?.iter().find(|header| header.key == name)?.value;
            return (at, Fact::DeadLetter { source: source_of(header, |name| self.source.topic_named(name)) });
        }
        let raw = Raw { topic: self.topic, key: message.key(), value: message.payload() };
        let scope = Scope { partition: at.partition, partitions: self.source.partitions() };
        (at, decode(raw, scope, |id| self.source.writer(id)))
    }
}

/// Errors after which librdkafka goes on by itself.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve)
    )
}
