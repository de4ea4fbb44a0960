//! Reads the whole dead-letter topic as it is now.

use std::time::Duration;

use anyhow::Context;
use processor::dead_letter;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use schemas::topics::TopicSpec;

const TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// One dead letter: the raw record and where it came from.
#[derive(Debug)]
pub struct Letter {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub reason: String,
    /// Milliseconds since 1970 at which the letter was written; `None`: it does not say.
    pub written_at_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// `None`: the record had none.
    pub value: Option<Vec<u8>>,
    pub is_cut: bool,
}

/// All letters, partition by partition.
pub fn letters(bootstrap: &str, spec: &TopicSpec) -> anyhow::Result<Vec<Letter>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "kontor-dead-letters")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()?;
    let mut letters = Vec::new();
    for partition in 0..spec.partitions {
        let (low, stable) = consumer
            .fetch_watermarks(&spec.name, partition, TIMEOUT)
            .with_context(|| format!("{} on {bootstrap}", spec.name))?;
        if low < stable {
            read_partition(&consumer, spec, partition, low..stable, &mut letters)?;
        }
    }
    Ok(letters)
}

fn read_partition(
    consumer: &BaseConsumer,
    spec: &TopicSpec,
    partition: i32,
    offsets: std::ops::Range<i64>,
    letters: &mut Vec<Letter>,
) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&spec.name, partition, Offset::Offset(offsets.start))?;
    consumer.assign(&list)?;
    // Markers and aborted records take offsets: the position says when the end is passed.
    while position(consumer, spec, partition)?.is_none_or(|position| position < offsets.end) {
        if let Some(message) = consumer.poll(POLL) {
            letters.push(letter(&message?));
        }
    }
    Ok(())
}

fn position(consumer: &BaseConsumer, spec: &TopicSpec, partition: i32) -> anyhow::Result<Option<i64>> {
    let positions = consumer.position()?;
    Ok(match positions.find_partition(&spec.name, partition).map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    })
}

fn letter(message: &BorrowedMessage<'_>) -> Letter {
    let text = |name: &str| {
        let headers = message.headers()?;
        let header = headers.iter().find(|header| header.key == name)?;
        Some(String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
    };
    let had_value = text(dead_letter::NULL_VALUE).is_none();
    Letter {
        topic: text(dead_letter::TOPIC).unwrap_or_default(),
        partition: text(dead_letter::PARTITION).and_then(|text| text.parse().ok()).unwrap_or(-1),
        offset: text(dead_letter::OFFSET).and_then(|text| text.parse().ok()).unwrap_or(-1),
        reason: text(dead_letter::MESSAGE).unwrap_or_default(),
        written_at_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().filter(|_| had_value).map(<[u8]>::to_vec),
        is_cut: text(dead_letter::CUT_FROM).is_some(),
    }
}
