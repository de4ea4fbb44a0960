//! The bank as a topology of the engine: which topics and tables it has, and how its rules meet them.
//!
//! The rules themselves are in the crate `bank` and know nothing of topics, rows or bytes; this module loads the rows
//! that a record names, asks the rules, and stages what they decided.

mod app;
mod codec;
mod encoders;
mod outcome_rows;
mod present;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use processor::formats::AvroRows;
use processor::log::Topics;
use processor::topology::{BadRecord, Definition, EventTopic, Input, Table};
use schemas::topics::Topology;
use schemas::{SchemaCache, records};
use state_store::{Identity, TableId};

pub use app::Bank;
pub use encoders::Encoders;

/// Accounts by iban.
pub const ACCOUNT: TableId = TableId(1);
/// Users by username.
pub const USER: TableId = TableId(2);
/// Outcomes by command id, 16 bytes.
pub const OUTCOME: TableId = TableId(3);
/// Local index of final outcomes: time and id.
pub const OUTCOME_BY_TIME: TableId = TableId(4);
/// Balance changes by iban and sequence.
pub const HISTORY: TableId = TableId(10);
/// Keys of [`HISTORY`] by transaction id.
pub const TRANSACTION: TableId = TableId(11);

/// The bank's topics by role.
#[derive(Clone, Copy, Debug)]
pub struct BankTopics {
    pub changelog: processor::log::TopicId,
    pub dead_letters: processor::log::TopicId,
    pub commands: processor::log::TopicId,
    pub transfers: processor::log::TopicId,
    pub account_creation_feedback: processor::log::TopicId,
    pub money_transfer_feedback: processor::log::TopicId,
    pub balance_changed: processor::log::TopicId,
    pub control: processor::log::TopicId,
}

/// A topic that the declaration lacks.
#[derive(Debug, thiserror::Error)]
#[error("topics.yaml declares no topic {0}; the bank needs it")]
pub struct MissingTopic(&'static str);

/// Names transactions, stores and the consumer group.
pub fn application_name(topology: &Topology) -> String {
    format!("{}kontor", topology.prefix)
}

/// The declared topics that the bank uses.
pub fn topics(topology: &Topology) -> Result<(Topics, BankTopics), MissingTopic> {
    let mut topics = Topics::new(topology.partitions);
    let mut add =
        |base: &'static str| topology.topic(base).map(|spec| topics.add(&spec.name)).ok_or(MissingTopic(base));
    let roles = BankTopics {
        commands: add("commands")?,
        transfers: add("transfers")?,
        account_creation_feedback: add("account_creation_feedback")?,
        money_transfer_feedback: add("money_transfer_feedback")?,
        balance_changed: add("balance_changed")?,
        changelog: add("changelog")?,
        dead_letters: add("dead_letters")?,
        control: add("control")?,
    };
    Ok((topics, roles))
}

/// The shape of the bank on the declared topics.
pub fn definition(
    topology: &Topology,
    schemas: &SchemaCache,
    encoders: &Encoders,
) -> Result<(Definition, BankTopics), MissingTopic> {
    let (topics, roles) = topics(topology)?;
    let tables = vec![
        Table {
            name: "account",
            id: ACCOUNT,
            format: Box::new(AvroRows::<records::Account>::new(encoders.account, schemas.clone())),
            index: None,
            awaited: false,
        },
        Table {
            name: "user",
            id: USER,
            format: Box::new(AvroRows::<records::User>::new(encoders.user, schemas.clone())),
            index: None,
            awaited: false,
        },
        Table {
            name: "outcome",
            id: OUTCOME,
            format: Box::new(outcome_rows::OutcomeRows::new(encoders.outcome, schemas.clone())),
            index: Some(OUTCOME_BY_TIME),
            awaited: true,
        },
    ];
    let definition = Definition {
        application: application_name(topology),
        layout: topology.layout,
        shards: topology.shards,
        standbys: topology.standbys,
        topics,
        inputs: vec![
            Input { topic: roles.commands, bad_record: BadRecord::DeadLetter, prune: false },
            Input { topic: roles.transfers, bad_record: BadRecord::Stop, prune: true },
        ],
        changelog: roles.changelog,
        tombstone_retention: tombstone_retention(topology),
        dead_letters: roles.dead_letters,
        tables,
        events: vec![EventTopic {
            topic: roles.balance_changed,
            tables: vec![("history", HISTORY), ("transaction", TRANSACTION)],
        }],
    };
    Ok((definition, roles))
}

/// As declared; a topic without the setting has Kafka's default of a day.
fn tombstone_retention(topology: &Topology) -> Duration {
    let declared = topology.topic("changelog").and_then(|topic| topic.config.get("delete.retention.ms"));
    Duration::from_millis(declared.and_then(|text| text.parse().ok()).unwrap_or(86_400_000))
}

/// Key of a row of [`HISTORY`]: changes of one account lie together, in order.
pub fn history_key(iban: &str, sequence: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(iban.len() + 9);
    key.extend_from_slice(iban.as_bytes());
    key.push(0);
    key.extend_from_slice(&(sequence as u64).to_be_bytes());
    key
}

/// Whose stores they are; the partition is filled in for each.
pub fn identity(topology: &Topology, cluster_id: String, tokens: &bank::Tokens) -> Identity {
    Identity {
        application: application_name(topology),
        cluster_id,
        partition: 0,
        prefix: topology.prefix.clone(),
        check: tokens.check_value().0.to_vec(),
        earlier_checks: tokens.earlier_check_values().map(|check| check.0.to_vec()).collect(),
    }
}

/// Settings of the bank besides its rules.
#[derive(Clone, Debug)]
pub struct BankOptions {
    /// Of the rules.
    pub config: bank::Config,
    /// Final outcomes leave after this time, in milliseconds of record time.
    pub outcome_retention_ms: i64,
}

/// The bank over the declared topics.
pub fn build(topology: &Topology, schemas: &SchemaCache, options: BankOptions) -> Result<Arc<Bank>, anyhow::Error> {
    let encoders = Encoders::resolve(topology, schemas)?;
    let (definition, topics) = definition(topology, schemas, &encoders)?;
    Ok(Arc::new(Bank::new(definition, topics, encoders, schemas.clone(), options)))
}
