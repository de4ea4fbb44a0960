//! The audit of a log in memory, for simulations of the bank.

use processor::log::memory::{MemoryLog, StoredRecord};
use processor::log::{Log, TopicPartition};
use schemas::{Lookup, SchemaCache};

use super::checks;
use super::decode::{Raw, decode, source_of};
use super::facts::{At, Fact, Topic};
use super::fold::Fold;
use super::scope::Scope;

/// Everything that is wrong with a drained system, a line each. `outcome_retention_ms`: how long ids are remembered.
pub(crate) fn breaches(log: &MemoryLog, cache: &SchemaCache, outcome_retention_ms: i64) -> Vec<String> {
    let partitions = log.topics().partitions;
    let mut fold = Fold::new(partitions);
    // Positions and dead letters before commands, as the fold wants them.
    let first = [Topic::Changelog, Topic::DeadLetters];
    let rest = Topic::ALL.into_iter().filter(|topic| !first.contains(topic));
    for topic in first.into_iter().chain(rest) {
        let id = log.topics().find(topic.base()).unwrap();
        for partition in 0..partitions {
            for record in log.read_committed(TopicPartition { topic: id, partition }).unwrap() {
                let at = At { topic, partition, offset: record.offset };
                fold.apply(at, record.timestamp_ms, fact(at, partitions, &record, cache));
            }
        }
    }
    let mut wrong = checks::pending(&fold);
    let judged = checks::judge(&fold, true, outcome_retention_ms);
    wrong.extend(judged.undecided);
    for check in judged.checks {
        wrong.extend(check.found.first.iter().map(|breach| format!("{}: {breach:?}", check.sentence)));
    }
    wrong
}

fn fact(at: At, partitions: i32, record: &StoredRecord, cache: &SchemaCache) -> Fact {
    if at.topic == Topic::DeadLetters {
        let header = |name: &str| Some(record.headers.iter().find(|(key, _)| key == name)?.1.as_slice());
        let topic_named = |name: &str| Topic::ALL.into_iter().find(|topic| topic.base() == name);
        return Fact::DeadLetter { source: source_of(header, topic_named) };
    }
    let raw = Raw { topic: at.topic, key: record.key.as_deref(), value: record.value.as_deref() };
    decode(raw, Scope { partition: at.partition, partitions }, |id| match cache.writer(id) {
        Lookup::Known(writer) => Ok(writer),
        other => Err(format!("schema {id}: {other:?}")),
    })
}
