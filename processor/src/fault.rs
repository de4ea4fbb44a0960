//! What went wrong, sorted by what the caller does next. The only place that sorts the errors of producers.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Outcome of a failed call on a transactional producer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The same may be asked for again: nothing happened, or (of an initialisation) whatever did is undone by the next.
    #[error("not now: {0}")]
    Retry(String),
    /// The transaction must be aborted; the producer lives on if the abort succeeds.
    #[error("transaction must be aborted: {0}")]
    Abort(String),
    /// Another producer has initialised this transactional id, or our transaction outlived its time-out (the broker
    /// does not tell these apart): read the claim.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The outcome is unknown or the producer is broken: destroy it, make a new one, read the changelog again.
    #[error("producer must be discarded: {0}")]
    Discard(String),
}

/// Outcome of a failed read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The broker cannot be reached or is slow; try again later.
    #[error("broker is not available: {0}")]
    Unavailable(String),
    /// The log no longer (or not yet) holds the offset: never skipped silently.
    #[error("{topic}-{partition} does not hold the wanted offset {offset}: {reason}")]
    OffsetLost {
        /// Topic name.
        topic: String,
        /// Partition, -1 when the client library did not say.
        partition: i32,
        /// The offset asked for, -1 when the client library did not say.
        offset: i64,
        /// What the client library said.
        reason: String,
    },
    /// The topic does not exist, access is denied, or the configuration is wrong.
    #[error("reading is refused: {0}")]
    Refused(String),
}

/// Sorts an error of a transactional call.
pub fn of_transaction(error: KafkaError) -> Fault {
    match &error {
        KafkaError::Transaction(inner) => of_commit(inner.code(), inner.txn_requires_abort(), &inner.string()),
        _ => of_code(error.rdkafka_error_code(), error.to_string()),
    }
}

/// Sorts what a commit or abort came back with. Without any flag set it is treated as fatal.
///
/// Retriable ones come only after the deadline: the operation goes on inside the client and its outcome is unknown.
/// Resuming it would mean to go on with a producer after an unclear answer.
pub fn of_commit(code: RDKafkaErrorCode, requires_abort: bool, text: &str) -> Fault {
    let text = format!("{text} ({code})");
    if is_fence(code) {
        Fault::Fenced(text)
    } else if requires_abort {
        Fault::Abort(text)
    } else {
        Fault::Discard(text)
    }
}

/// Sorts an error of producing one record.
pub fn of_send(error: KafkaError) -> Fault {
    of_code(error.rdkafka_error_code(), error.to_string())
}

fn of_code(code: Option<RDKafkaErrorCode>, text: String) -> Fault {
    match code {
        Some(code) if is_fence(code) => Fault::Fenced(text),
        Some(RDKafkaErrorCode::QueueFull) => Fault::Retry(text),
        // Fatal on the producer; which kind, its client is asked for.
        Some(RDKafkaErrorCode::Fatal) => Fault::Discard(text),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::State
            | RDKafkaErrorCode::PurgeQueue
            | RDKafkaErrorCode::PurgeInflight,
        ) => Fault::Abort(text),
        _ => Fault::Discard(text),
    }
}

fn is_fence(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::TransactionCoordinatorFenced
    )
}

/// Whether records of an answer were left out because their batch is damaged. The client library goes on behind them: who
/// goes on with it loses them.
fn is_damage(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::Underflow
            | RDKafkaErrorCode::NotImplemented
    )
}

/// Sorts an error of reading; `topic` names what was read.
pub fn of_read(error: KafkaError, topic: &str) -> LogError {
    let text = error.to_string();
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            LogError::OffsetLost { topic: topic.to_owned(), partition: -1, offset: -1, reason: text }
        }
        Some(
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::InvalidArgument,
        ) => LogError::Refused(format!("{topic}: {text}")),
        Some(code) if is_damage(code) => LogError::Refused(format!("{topic}: records that cannot be read: {text}")),
        _ => LogError::Unavailable(format!("{topic}: {text}")),
    }
}
