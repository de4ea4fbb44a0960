//! What the auditor keeps of one record: a small value without heap, so that millions of them cost nothing but time.
//!
//! Here typed records become facts; bodies are reduced to hashes that are only ever compared with each other. No
//! Kafka, no decoding (read.rs) and no judgement (fold.rs, checks.rs). Tokens and descriptions are never kept.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use schemas::records::{
    Account, AccountCreationConfirmed, AccountCreationFailed, BalanceChanged, ConfirmAccountCreation,
    ConfirmMoneyTransfer, CreditRequested, CreditSettled, MoneyTransferConfirmed, MoneyTransferFailed, Outcome,
    OutcomeKind, OutcomeState, Position,
};

/// The party that stands for money from or to outside the bank.
const CASH: &str = "cash";
/// How every refusal of a re-used id begins; such an answer is not the outcome of the id.
const CONFLICT: &str = "id was used for another";

/// The topics that an audit reads, by their base names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Topic {
    /// What clients asked for.
    Commands,
    /// Money in flight between partitions.
    Transfers,
    /// Answers to account creations.
    AccountFeedback,
    /// Answers to transfers.
    TransferFeedback,
    /// Every change of every balance.
    BalanceChanged,
    /// Rows of all tables, and the positions.
    Changelog,
    /// Records that could not be read.
    DeadLetters,
}

impl Topic {
    /// Every topic of an audit.
    pub const ALL: [Topic; 7] = [
        Topic::Commands,
        Topic::Transfers,
        Topic::AccountFeedback,
        Topic::TransferFeedback,
        Topic::BalanceChanged,
        Topic::Changelog,
        Topic::DeadLetters,
    ];

    /// The name in topics.yaml, without a prefix.
    pub fn base(self) -> &'static str {
        match self {
            Topic::Commands => "commands",
            Topic::Transfers => "transfers",
            Topic::AccountFeedback => "account_creation_feedback",
            Topic::TransferFeedback => "money_transfer_feedback",
            Topic::BalanceChanged => "balance_changed",
            Topic::Changelog => "changelog",
            Topic::DeadLetters => "dead_letters",
        }
    }

    /// Whether the processor reads it, so that its end says how much is still to do.
    pub fn is_input(self) -> bool {
        matches!(self, Topic::Commands | Topic::Transfers)
    }

    /// Whether records may be missing at its start without harm to the audit: compacted, trimmed below the committed
    /// position, or kept for days only.
    pub fn may_lose_its_start(self) -> bool {
        matches!(self, Topic::Transfers | Topic::Changelog | Topic::DeadLetters)
    }
}

/// Where a record lies. Shown as `topic-partition@offset`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct At {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic.base(), self.partition, self.offset)
    }
}

/// A command's id in its scope: the partition of the command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Id {
    /// The partition that decides about the command.
    pub partition: i32,
    /// The id that the client gave.
    pub id: [u8; 16],
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of partition {}", uuid::Uuid::from_bytes(self.id), self.partition)
    }
}

/// An iban of this bank, inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Iban([u8; 18]);

impl Iban {
    /// `text` when it has the shape of an iban of this bank. Check digits are the business of the rules.
    pub fn parse(text: &str) -> Option<Iban> {
        let bytes: [u8; 18] = text.as_bytes().try_into().ok()?;
        let digits = bytes[2..4].iter().chain(&bytes[9..]).all(u8::is_ascii_digit);
        (digits && bytes.starts_with(b"NL") && bytes[4..9] == *b"OPEN0").then_some(Iban(bytes))
    }

    /// The partition that owns the account.
    pub fn partition(&self, partitions: i32) -> i32 {
        schemas::partition_of(&self.0, partitions)
    }
}

impl fmt::Display for Iban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Which kind of command, or the answer to which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// ConfirmAccountCreation.
    Account,
    /// ConfirmMoneyTransfer.
    Transfer,
}

/// Which changes of balances a confirmed command must have caused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// None: it opens an account, or names parties that the bank can only refuse.
    Nothing,
    /// Within the bank: one debit and one credit.
    Within,
    /// Cash that enters: one credit.
    Enters,
    /// Money that leaves, as cash or to a foreign party: one debit.
    Leaves,
}

impl Flow {
    fn of(from: &str, to: &str) -> Flow {
        match (from == CASH, Iban::parse(from).is_some(), Iban::parse(to).is_some()) {
            (true, _, true) => Flow::Enters,
            (false, true, true) => Flow::Within,
            (false, true, false) => Flow::Leaves,
            _ => Flow::Nothing,
        }
    }
}

/// What an id was decided to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Reserved, not yet settled or void.
    Pending,
    /// Done.
    Confirmed,
    /// Refused; nothing moved.
    Failed,
}

/// One record, as far as an audit needs it.
#[derive(Clone, PartialEq, Debug)]
pub enum Fact {
    /// A command that can be read.
    Command { id: Id, kind: Kind, body: u64, amount: i64, flow: Flow, parties: u64 },
    /// An answer. `conflict`: it only says that the id belongs to another command.
    Feedback { id: Id, kind: Kind, confirmed: bool, answer: u64, conflict: bool, opened: Option<Iban> },
    /// A change of a balance. `enters`: the counterparty is outside of the bank.
    Balance {
        iban: Iban,
        transfer: Option<Id>,
        new_balance: i64,
        changed_by: i64,
        sequence: i64,
        transaction_id: i64,
        outside: bool,
        parties: u64,
    },
    /// A credit asked of another partition.
    Requested { id: Id },
    /// Its answer.
    Settled { id: Id },
    /// A row of the account table.
    Account { iban: Iban, balance: i64, reserved: i64, limit: i64, sequence: i64 },
    /// A row of the outcome table.
    Outcome { id: Id, verdict: Verdict, answer: u64 },
    /// An outcome that has expired.
    OutcomeGone { id: Id },
    /// How far the partition has come.
    Position { next_offset: [Option<i64>; 2], commit_sequence: i64 },
    /// A dead letter: the record at `source` counts as never sent.
    DeadLetter { source: Option<At> },
    /// A record that cannot be read, and why.
    Unreadable { why: String },
    /// Of no interest here (users, claims of owners).
    Other,
}

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
            flow: Flow::of(&r.from, &r.to),
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

    /// A credit is asked for, in the partition of the payee.
    pub fn credit_requested(&self, record: &CreditRequested) -> Fact {
        Fact::Requested { id: self.paid_by(&record.from, record.id) }
    }

    /// A credit was answered, in the partition of the payer.
    pub fn credit_settled(&self, record: &CreditSettled) -> Fact {
        Fact::Settled { id: self.here(record.id) }
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

fn opened_answer(iban: Option<&str>) -> u64 {
    hash(&("opened", iban))
}

fn moved_answer() -> u64 {
    hash(&"moved")
}

fn refused_answer(reason: Option<&str>) -> u64 {
    hash(&("refused", reason))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ibans_of_this_bank_are_accounts() {
        for (text, own) in [
            ("NL66OPEN0000000000", true),
            ("NL83OPEN0104642752", true),
            ("NL66OPEN1000000000", false),
            ("NL66OPEN000000000", false),
            ("NL66INGB0000000000", false),
            ("cash", false),
            ("", false),
        ] {
            assert_eq!(Iban::parse(text).is_some(), own, "{text}");
        }
    }

    #[test]
    fn the_parties_decide_which_changes_a_transfer_causes() {
        let own = "NL66OPEN0000000000";
        for (from, to, flow) in [
            (own, "NL83OPEN0104642752", Flow::Within),
            ("cash", own, Flow::Enters),
            (own, "cash", Flow::Leaves),
            (own, "a shop", Flow::Leaves),
            ("cash", "a shop", Flow::Nothing),
            ("a shop", own, Flow::Nothing),
        ] {
            assert_eq!(Flow::of(from, to), flow, "{from} to {to}");
        }
    }
}
