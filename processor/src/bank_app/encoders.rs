//! Encoders of every record that the bank and its processor write.

use schemas::topics::Topology;
use schemas::{AvroRecord, Encoder, SchemaCache, records};

/// The registry does not know the schema of a record that we write.
#[derive(Debug, thiserror::Error)]
#[error("no schema is known for {record} on {topic}; run `topics apply`")]
pub struct MissingSchema {
    topic: String,
    record: String,
}

/// One encoder per topic and record.
#[derive(Clone, Copy, Debug)]
pub struct Encoders {
    pub account: Encoder<records::Account>,
    pub user: Encoder<records::User>,
    pub outcome: Encoder<records::Outcome>,
    pub position: Encoder<records::Position>,
    pub owner: Encoder<records::Owner>,
    pub member: Encoder<records::Member>,
    pub assignment: Encoder<records::Assignment>,
    pub balance_changed: Encoder<records::BalanceChanged>,
    pub credit_requested: Encoder<records::CreditRequested>,
    pub credit_settled: Encoder<records::CreditSettled>,
    pub account_creation_confirmed: Encoder<records::AccountCreationConfirmed>,
    pub account_creation_failed: Encoder<records::AccountCreationFailed>,
    pub money_transfer_confirmed: Encoder<records::MoneyTransferConfirmed>,
    pub money_transfer_failed: Encoder<records::MoneyTransferFailed>,
}

impl Encoders {
    /// With the schema ids that `schemas` has resolved.
    pub fn resolve(topology: &Topology, schemas: &SchemaCache) -> Result<Encoders, MissingSchema> {
        fn of<T: AvroRecord>(
            topology: &Topology,
            schemas: &SchemaCache,
            base: &str,
        ) -> Result<Encoder<T>, MissingSchema> {
            let topic = topology.topic(base).map_or(base, |spec| &spec.name);
            let missing = || MissingSchema { topic: topic.to_owned(), record: T::full_name().to_owned() };
            schemas.id_of(topic, T::full_name()).map(Encoder::new).ok_or_else(missing)
        }
        Ok(Encoders {
            account: of(topology, schemas, "changelog")?,
            user: of(topology, schemas, "changelog")?,
            outcome: of(topology, schemas, "changelog")?,
            position: of(topology, schemas, "changelog")?,
            owner: of(topology, schemas, "changelog")?,
            member: of(topology, schemas, "control")?,
            assignment: of(topology, schemas, "control")?,
            balance_changed: of(topology, schemas, "balance_changed")?,
            credit_requested: of(topology, schemas, "transfers")?,
            credit_settled: of(topology, schemas, "transfers")?,
            account_creation_confirmed: of(topology, schemas, "account_creation_feedback")?,
            account_creation_failed: of(topology, schemas, "account_creation_feedback")?,
            money_transfer_confirmed: of(topology, schemas, "money_transfer_feedback")?,
            money_transfer_failed: of(topology, schemas, "money_transfer_feedback")?,
        })
    }
}
