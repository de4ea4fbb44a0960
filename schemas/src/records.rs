//! The records, as structs. Fields, their meaning and their order are those of `avro/<name>.avsc`, where they are
//! documented.
//!
//! Fields that were added to a record after its first version come last and have a default, here and there, so that
//! old and new records are read by old and new readers (a test holds every record against its first shape). The serde
//! form of a record is also its local row, in a format that does not describe itself: no field may be skipped.
//! `Debug` of a secret prints `<redacted>`.

mod kind;
mod secret;
mod uuid;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::uuid::Uuid;
use kind::avro_records;
pub use kind::{AvroRecord, RecordType, record_type};

/// How an account is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Atype {
    /// By a program.
    Auto,
    /// By a person.
    #[default]
    Manual,
}

/// How far a command is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OutcomeState {
    /// Waits for the other partition; never expires.
    Pending,
    /// Final, and as asked.
    Confirmed,
    /// Final; refused.
    Failed,
}

/// Which command an outcome belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OutcomeKind {
    /// [`ConfirmAccountCreation`]
    Account,
    /// [`ConfirmMoneyTransfer`]
    Transfer,
}

/// What an instance does for a shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ShardRole {
    /// Owns it: its commands run here.
    Active,
    /// Follows its changelog.
    Standby,
    /// Told to own it, and not there yet.
    Restoring,
}

/// One shard of a [`Member`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema file documents each field")]
pub struct MemberShard {
    pub shard: i32,
    pub role: ShardRole,
    pub lag: i64,
}

/// One shard of an [`Assignment`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the schema file documents each field")]
pub struct ShardOwners {
    pub active: String,
    pub standbys: Vec<String>,
    pub warming: String,
}

avro_records! {
    /// Command: open an account.
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    pub struct ConfirmAccountCreation {
        pub id: Uuid,
        pub username: String,
        #[serde(default)]
        pub a_type: Atype,
        #[serde(default)]
        pub password_hash: Option<String>,
    }

    /// Answer: the account is open.
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    pub struct AccountCreationConfirmed {
        pub id: Uuid,
        pub iban: String,
        pub token: String,
        #[serde(default)]
        pub a_type: Atype,
    }

    /// Answer: no account was opened.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct AccountCreationFailed {
        pub id: Uuid,
        pub reason: String,
    }

    /// Command: move money.
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    pub struct ConfirmMoneyTransfer {
        pub id: Uuid,
        pub token: String,
        pub amount: i64,
        pub from: String,
        pub to: String,
        pub description: String,
    }

    /// Answer: the money has moved.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct MoneyTransferConfirmed {
        pub id: Uuid,
    }

    /// Answer: nothing has moved.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct MoneyTransferFailed {
        pub id: Uuid,
        pub reason: String,
    }

    /// Event: the balance of one account changed.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct BalanceChanged {
        pub iban: String,
        pub new_balance: i64,
        pub changed_by: i64,
        pub from_to: String,
        pub description: String,
        #[serde(default)]
        pub transfer_id: Option<Uuid>,
        #[serde(default)]
        pub sequence: i64,
        #[serde(default)]
        pub transaction_id: i64,
        #[serde(default)]
        pub time: i64,
    }

    /// Sign of life.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct Heartbeat {
        pub beat: i64,
    }

    /// Internal, to the partition of `to`: credit what is reserved at `from`.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct CreditRequested {
        pub id: Uuid,
        pub from: String,
        pub to: String,
        pub amount: i64,
        pub description: String,
        pub time: i64,
    }

    /// Internal, back to the partition of `from`: credited, or refused.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct CreditSettled {
        pub id: Uuid,
        pub from: String,
        pub to: String,
        pub accepted: bool,
        pub reason: Option<String>,
        pub partition: i32,
        pub commit_sequence: i64,
    }

    /// Changelog: an account as it is now.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct Account {
        pub iban: String,
        pub username: String,
        pub balance: i64,
        pub reserved: i64,
        pub limit: i64,
        pub sequence: i64,
        pub a_type: Atype,
        pub opened: i64,
    }

    /// Changelog: a user as it is now.
    #[derive(Clone, PartialEq, Serialize, Deserialize)]
    pub struct User {
        pub username: String,
        pub password_hash: Option<String>,
        pub account_creation_id: Uuid,
        pub ibans: Vec<String>,
    }

    /// Changelog: what became of a command.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct Outcome {
        pub id: Uuid,
        #[serde(with = "uuid::bytes16")]
        pub fingerprint: [u8; 16],
        pub state: OutcomeState,
        pub kind: OutcomeKind,
        pub reason: Option<String>,
        pub from: String,
        pub to: String,
        pub amount: i64,
        pub description: String,
        pub iban: Option<String>,
        pub username: String,
        pub key: String,
        pub credit_partition: i32,
        pub credit_sequence: i64,
        pub time: i64,
    }

    /// Changelog: how far a task is.
    #[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
    pub struct Position {
        pub next_offset: BTreeMap<String, i64>,
        pub commit_sequence: i64,
        pub last_transaction: i64,
        #[serde(default)]
        pub layout: i32,
        #[serde(default)]
        pub shards: i32,
    }

    /// Changelog: who writes a shard.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    pub struct Owner {
        pub instance: String,
        pub incarnation: String,
        pub epoch: i64,
        pub layout: i32,
        pub shards: i32,
    }

    /// Control: an instance and its shards.
    #[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    pub struct Member {
        pub instance: String,
        pub incarnation: String,
        pub endpoint: String,
        pub rack: String,
        pub beat: i64,
        pub grace_beats: i32,
        pub seen: i64,
        pub shards: Vec<MemberShard>,
        #[serde(default)]
        pub stopped: Vec<i32>,
        #[serde(default)]
        pub layout: i32,
        #[serde(default)]
        pub epoch: i64,
    }

    /// Control: who owns which shard.
    #[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    pub struct Assignment {
        pub epoch: i64,
        pub layout: i32,
        pub leader: String,
        pub leader_incarnation: String,
        pub shards: Vec<ShardOwners>,
    }
}
