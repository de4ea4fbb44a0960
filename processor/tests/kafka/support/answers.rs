//! What the bank's topics say, decoded.

use schemas::records::{self, Uuid};
use schemas::{AvroRecord, Lookup};

use super::Bank;

/// What a command was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An account was opened.
    Opened {
        /// Its number.
        iban: String,
        /// Its token.
        token: String,
    },
    /// The money has moved.
    Moved,
    /// Neither; why.
    Refused(String),
}

/// One record of a feedback topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// Key of the record.
    pub key: String,
    /// Its partition.
    pub partition: i32,
    /// When the processor produced it, milliseconds since 1970.
    pub at_ms: i64,
    /// Id of the command.
    pub id: Uuid,
    /// The answer.
    pub answer: Answer,
}

impl Bank {
    /// The answers in a feedback topic, in the order of each partition.
    pub async fn feedback(&self, topic: &str) -> Vec<Feedback> {
        let read = self.space.read(topic).await.unwrap();
        let of = |record: kontor_compose::testing::Record| {
            let (id, answer) = self.answer(record.value.as_deref().unwrap());
            let key = String::from_utf8(record.key.unwrap()).unwrap();
            Feedback { key, partition: record.partition, at_ms: record.timestamp_ms, id, answer }
        };
        read.into_iter().map(of).collect()
    }

    /// The answers to transfers.
    pub async fn transfer_feedback(&self) -> Vec<Feedback> {
        self.feedback("money_transfer_feedback").await
    }

    /// The answers to account creations.
    pub async fn account_feedback(&self) -> Vec<Feedback> {
        self.feedback("account_creation_feedback").await
    }

    /// Changes of balances with their partitions, in the order of each.
    pub async fn balance_changes(&self) -> Vec<(i32, records::BalanceChanged)> {
        let read = self.space.read("balance_changed").await.unwrap();
        read.into_iter().map(|record| (record.partition, self.decode(record.value.as_deref().unwrap()))).collect()
    }

    /// Changes that one transfer made.
    pub async fn changes_of(&self, id: Uuid) -> Vec<records::BalanceChanged> {
        let all = self.balance_changes().await.into_iter().map(|(_, change)| change);
        all.filter(|change| change.transfer_id == Some(id)).collect()
    }

    /// Every id of `sent` has exactly one answer in the feedback topics.
    pub async fn assert_answered_once(&self, sent: &[Uuid]) {
        let mut counts = std::collections::HashMap::new();
        for feedback in self.transfer_feedback().await.into_iter().chain(self.account_feedback().await) {
            *counts.entry(feedback.id).or_insert(0) += 1;
        }
        let wrong: Vec<_> =
            sent.iter().map(|id| (id, counts.get(id).copied().unwrap_or(0))).filter(|(_, count)| *count != 1).collect();
        assert!(wrong.is_empty(), "{} of {} were not answered once: {:?}", wrong.len(), sent.len(), wrong.first());
    }

    /// A record of a known type.
    pub fn decode<T: AvroRecord>(&self, value: &[u8]) -> T {
        let (id, datum) = schemas::unframe(value).unwrap();
        match self.schemas.writer(id) {
            Lookup::Known(writer) => writer.decode(datum).unwrap(),
            other => panic!("schema {id}: {other:?}"),
        }
    }

    /// Full name of the record that is framed in `value`.
    pub fn name_of(&self, value: &[u8]) -> String {
        let (id, _) = schemas::unframe(value).unwrap();
        match self.schemas.writer(id) {
            Lookup::Known(writer) => writer.full_name.clone(),
            other => panic!("schema {id}: {other:?}"),
        }
    }

    fn answer(&self, value: &[u8]) -> (Uuid, Answer) {
        let name = self.name_of(value);
        if name == records::AccountCreationConfirmed::full_name() {
            let record: records::AccountCreationConfirmed = self.decode(value);
            (record.id, Answer::Opened { iban: record.iban, token: record.token })
        } else if name == records::AccountCreationFailed::full_name() {
            let record: records::AccountCreationFailed = self.decode(value);
            (record.id, Answer::Refused(record.reason))
        } else if name == records::MoneyTransferConfirmed::full_name() {
            let record: records::MoneyTransferConfirmed = self.decode(value);
            (record.id, Answer::Moved)
        } else {
            let record: records::MoneyTransferFailed = self.decode(value);
            (record.id, Answer::Refused(record.reason))
        }
    }
}
