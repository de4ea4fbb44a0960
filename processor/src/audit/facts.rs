//! What the auditor keeps of one record: a small value without heap, so that millions of them cost nothing but time.
//!
//! Only data: scope.rs makes facts of typed records, fold.rs adds them up. Tokens and descriptions are never kept;
//! bodies are reduced to hashes that are only ever compared with each other.

use std::fmt;

/// The party that stands for money from or to outside the bank.
const CASH: &str = "cash";
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
    /// Between two accounts of one partition: one debit and one credit, at once.
    Within,
    /// Between two partitions: one debit and one credit, one after the other.
    Across,
    /// Cash that enters: one credit.
    Enters,
    /// Money that leaves, as cash or to a foreign party: one debit.
    Leaves,
}

impl Flow {
    /// What a transfer does, by its parties and the partition of its command.
    pub fn of(from: &str, to: &str, here: i32, partitions: i32) -> Flow {
        match (from == CASH, Iban::parse(from), Iban::parse(to)) {
            (true, _, Some(_)) => Flow::Enters,
            (false, Some(_), Some(to)) if to.partition(partitions) == here => Flow::Within,
            (false, Some(_), Some(_)) => Flow::Across,
            (false, Some(_), None) => Flow::Leaves,
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
    Command { id: Id, kind: Kind, body: u32, amount: i64, flow: Flow, parties: u32 },
    /// An answer. `conflict`: it only says that the id belongs to another command.
    Feedback { id: Id, kind: Kind, confirmed: bool, answer: u32, conflict: bool, opened: Option<Iban> },
    /// A change of a balance. `enters`: the counterparty is outside of the bank.
    Balance {
        iban: Iban,
        transfer: Option<Id>,
        new_balance: i64,
        changed_by: i64,
        sequence: i64,
        transaction_id: i64,
        outside: bool,
        parties: u32,
    },
    /// A row of the account table.
    Account { iban: Iban, balance: i64, reserved: i64, limit: i64, sequence: i64 },
    /// A row of the outcome table.
    Outcome { id: Id, verdict: Verdict, answer: u32 },
    /// An outcome that has expired.
    OutcomeGone { id: Id },
    /// How far the partition has come.
    Position { next_offset: [Option<i64>; 2], commit_sequence: i64 },
    /// A dead letter: the record at `source` counts as never sent.
    DeadLetter { source: Option<At> },
    /// A record that cannot be read, and why.
    Unreadable { why: String },
    /// Of no interest here (users, claims of owners, money in flight).
    Other,
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
        let here = schemas::partition_of(b"NL83OPEN0104642752", 12);
        for (from, to, flow) in [
            (own, "NL83OPEN0104642752", Flow::Within),
            ("NL83OPEN0104642752", own, Flow::Across),
            ("cash", own, Flow::Enters),
            (own, "cash", Flow::Leaves),
            (own, "a shop", Flow::Leaves),
            ("cash", "a shop", Flow::Nothing),
            ("a shop", own, Flow::Nothing),
        ] {
            assert_eq!(Flow::of(from, to, here, 12), flow, "{from} to {to}");
        }
    }
}
