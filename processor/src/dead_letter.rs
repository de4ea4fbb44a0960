//! Dead letters: the raw bytes of a record that cannot be processed, with the reason and where it came from.
//!
//! The header names are those of Kafka Streams (KIP-1034), less the stack trace, so that its tools read them.

use crate::log::{Record, TopicId};
use crate::outbox::Outbox;

/// Bytes of key and value together that a producer may send with its default limits, less room for the headers.
const BYTES_MAX: usize = 900_000;

/// Header: what went wrong.
pub const MESSAGE: &str = "__streams.errors.message";
/// Header: kind of the error.
pub const EXCEPTION: &str = "__streams.errors.exception";
/// Header: topic of the record.
pub const TOPIC: &str = "__streams.errors.topic";
/// Header: partition of the record.
pub const PARTITION: &str = "__streams.errors.partition";
/// Header: offset of the record.
pub const OFFSET: &str = "__streams.errors.offset";
/// Header: the record was cut; the original size of its value in bytes.
pub const CUT_FROM: &str = "kontor.cut-from-bytes";
/// Header: the record had no value.
pub const NULL_VALUE: &str = "kontor.null-value";

/// Stages the dead letter of `record` in the same partition of the dead-letter topic.
pub(crate) fn stage(outbox: &mut Outbox, dead_letters: TopicId, topic: &str, record: &Record<'_>, reason: &str) {
    let key = record.key.map(|key| &key[..key.len().min(BYTES_MAX / 2)]);
    let value = record.value.unwrap_or_default();
    let cut = &value[..value.len().min(BYTES_MAX - key.map_or(0, <[u8]>::len))];
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(cut);
        Ok::<(), std::convert::Infallible>(())
    };
    // A value that was null is an empty value with a header: a tombstone would say something else in most tools.
    let Ok(()) = outbox.push(dead_letters, record.partition, key, Some(write));
    let mut headers = vec![
        (EXCEPTION.to_owned(), b"Poison".to_vec()),
        (MESSAGE.to_owned(), reason.as_bytes()[..reason.len().min(4096)].to_vec()),
        (TOPIC.to_owned(), topic.as_bytes().to_vec()),
        (PARTITION.to_owned(), record.partition.to_string().into_bytes()),
        (OFFSET.to_owned(), record.offset.to_string().into_bytes()),
    ];
    if cut.len() < value.len() || key.map(<[u8]>::len) != record.key.map(<[u8]>::len) {
        headers.push((CUT_FROM.to_owned(), value.len().to_string().into_bytes()));
    }
    if record.value.is_none() {
        headers.push((NULL_VALUE.to_owned(), b"true".to_vec()));
    }
    outbox.with_headers(headers);
}
