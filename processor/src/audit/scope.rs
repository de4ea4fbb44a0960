//! Typed records to facts.
//!
//! Knows what each record means for money and outcomes, and which partition an id belongs to. No Kafka, no decoding
//! (decode.rs) and no judgement (fold.rs, checks.rs).

use std::hash::{DefaultHasher, Hash, Hasher};

use schemas::records::{
    Account, AccountCreationConfirmed, AccountCreationFailed, BalanceChanged, ConfirmAccountCreation,
    ConfirmMoneyTransfer, MoneyTransferConfirmed, MoneyTransferFailed, Outcome, OutcomeKind, OutcomeState, Position,
};

use super::facts::{Fact, Flow, Iban, Id, Kind, Topic, Verdict};

/// How every refusal of a re-used id begins; such an answer is not the outcome of the id.
const CONFLICT: &str = "id was used for another";

/// What all records of one partition of a topic share when they become facts.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// The partition that the record lies in.
    pub partition: i32,
    /// Partitions of every topic.
    pub partitions: i32,
}

impl Scope {
    fn here(&self, id: schemas::records::Uuid) -> Id {
        Id { partition: self.partition, id: id.0 }
    }

    /// The id of a transfer by the partition of its payer; cash is paid in where it is credited.
    fn paid_by(&self, from: &str, id: schemas::records::Uuid) -> Id {
        let partition = Iban::parse(from).map_or(self.partition, |iban| iban.partition(self.partitions));
        Id { partition, id: id.0 }
    }

    /// A command to open an account. The password hash is salted and so no part of the body.
    pub fn account_command(&self, record: &ConfirmAccountCreation) -> Fact {
        let body = hash(&("account", &record.username, record.a_type));
        Fact::Command {
            id: self.here(record.id),
            kind: Kind::Account,
            body,
            amount: 0,
            flow: Flow::Nothing,
            parties: 0,
        }
    }

    /// A command to move money.
    pub fn transfer_command(&self, record: &ConfirmMoneyTransfer) -> Fact {
        let r = record;
        Fact::Command {
            id: self.here(r.id),
            kind: Kind::Transfer,
            body: hash(&("transfer", &r.token, r.amount, &r.from, &r.to, &r.description)),
            amount: r.amount,
            flow: Flow::of(&r.from, &r.to, self.partition, self.partitions),
            parties: hash(&(&r.from, &r.to)),
        }
    }

    /// An account was opened. The token is no part of the answer: it may be signed anew.
    pub fn account_confirmed(&self, record: &AccountCreationConfirmed) -> Fact {
        Fact::Feedback {
            id: self.here(record.id),
            kind: Kind::Account,
            confirmed: true,
            answer: opened_answer(Some(&record.iban)),
            conflict: false,
            opened: Iban::parse(&record.iban),
        }
    }

    /// An account was refused.
    pub fn account_failed(&self, record: &AccountCreationFailed) -> Fact {
        self.refusal(self.here(record.id), Kind::Account, &record.reason)
    }

    /// A transfer was done.
    pub fn transfer_confirmed(&self, record: &MoneyTransferConfirmed) -> Fact {
        Fact::Feedback {
            id: self.here(record.id),
            kind: Kind::Transfer,
            confirmed: true,
            answer: moved_answer(),
            conflict: false,
            opened: None,
        }
    }

    /// A transfer was refused.
    pub fn transfer_failed(&self, record: &MoneyTransferFailed) -> Fact {
        self.refusal(self.here(record.id), Kind::Transfer, &record.reason)
    }

    fn refusal(&self, id: Id, kind: Kind, reason: &str) -> Fact {
        Fact::Feedback {
            id,
            kind,
            confirmed: false,
            answer: refused_answer(Some(reason)),
            conflict: reason.starts_with(CONFLICT),
            opened: None,
        }
    }

    /// A balance changed.
    pub fn balance_changed(&self, record: &BalanceChanged) -> Fact {
        let Some(iban) = Iban::parse(&record.iban) else {
            return Fact::Unreadable { why: format!("`{}` is no iban of this bank", record.iban) };
        };
        let r = record;
        let (from, to) = if r.changed_by < 0 { (&r.iban, &r.from_to) } else { (&r.from_to, &r.iban) };
        Fact::Balance {
            iban,
            transfer: r.transfer_id.map(|id| self.paid_by(from, id)),
            new_balance: r.new_balance,
            changed_by: r.changed_by,
            sequence: r.sequence,
            transaction_id: r.transaction_id,
            outside: Iban::parse(&r.from_to).is_none(),
            parties: hash(&(from, to)),
        }
    }

    /// A credit is asked for, or answered: what comes of it shows in balances and outcomes.
    pub fn in_flight<T>(&self, _record: &T) -> Fact {
        Fact::Other
    }

    /// An account row.
    pub fn account(&self, record: &Account) -> Fact {
        let Some(iban) = Iban::parse(&record.iban) else {
            return Fact::Unreadable { why: format!("`{}` is no iban of this bank", record.iban) };
        };
        Fact::Account {
            iban,
            balance: record.balance,
            reserved: record.reserved,
            limit: record.limit,
            sequence: record.sequence,
        }
    }

    /// An outcome row.
    pub fn outcome(&self, record: &Outcome) -> Fact {
        let (verdict, answer) = match (record.state, record.kind) {
            (OutcomeState::Pending, _) => (Verdict::Pending, 0),
            (OutcomeState::Failed, _) => (Verdict::Failed, refused_answer(record.reason.as_deref())),
            (OutcomeState::Confirmed, OutcomeKind::Account) => {
                (Verdict::Confirmed, opened_answer(record.iban.as_deref()))
            }
            (OutcomeState::Confirmed, OutcomeKind::Transfer) => (Verdict::Confirmed, moved_answer()),
        };
        Fact::Outcome { id: self.here(record.id), verdict, answer }
    }

    /// A record without a value in the changelog.
    pub fn tombstone(&self, key: &str) -> Fact {
        match key.strip_prefix("outcome/").map(uuid::Uuid::parse_str) {
            Some(Ok(id)) => Fact::OutcomeGone { id: Id { partition: self.partition, id: id.into_bytes() } },
            Some(Err(_)) => Fact::Unreadable { why: format!("`{key}` names no outcome") },
            None if key.starts_with("account/") => Fact::Unreadable { why: format!("`{key}` was deleted") },
            None => Fact::Other,
        }
    }

    /// A position. Input topics are found by their base names, whatever the prefix.
    pub fn position(&self, record: &Position) -> Fact {
        let next = |topic: Topic| {
            record.next_offset.iter().find(|(name, _)| name.ends_with(topic.base())).map(|(_, offset)| *offset)
        };
        Fact::Position {
            next_offset: [next(Topic::Commands), next(Topic::Transfers)],
            commit_sequence: record.commit_sequence,
        }
    }
}

fn opened_answer(iban: Option<&str>) -> u32 {
    hash(&("opened", iban))
}

fn moved_answer() -> u32 {
    hash(&"moved")
}

fn refused_answer(reason: Option<&str>) -> u32 {
    hash(&("refused", reason))
}

/// 32 bits are enough: hashes are only compared within one id.
fn hash(value: &impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish() as u32
}
