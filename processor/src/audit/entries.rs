//! What a fold keeps: one entry per account, per command id and per partition. Plain data of fixed size.

use serde::Serialize;

use super::facts::{At, Flow, Id, Kind, Topic, Verdict};

/// The changes of one account.
#[derive(Clone, Copy, Default, Debug)]
pub struct Chain {
    /// Balance before the first change.
    pub opening: i64,
    /// Balance after the last.
    pub balance: i64,
    /// Sequence of the last.
    pub sequence: i64,
    /// The lowest balance so far, and the offset where it was reached.
    pub lowest: i64,
    /// See `lowest`.
    pub lowest_offset: i64,
}

/// The row of one account in the changelog.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Where the last version of the row lies.
    pub at: At,
    /// Cents.
    pub balance: i64,
    /// Cents that leave with transfers under way.
    pub reserved: i64,
    /// The lowest balance allowed.
    pub limit: i64,
    /// Changes so far.
    pub sequence: i64,
}

/// One account.
#[derive(Clone, Copy, Default, Debug)]
pub struct AccountFold {
    /// By balance_changed.
    pub chain: Option<Chain>,
    /// By the changelog.
    pub row: Option<Row>,
    /// The command that opened it, by its answer.
    pub opened_by: Option<Id>,
}

/// The first command with an id.
#[derive(Clone, Copy, Debug)]
pub struct First {
    /// Where it lies in `commands`.
    pub offset: i64,
    /// When the broker took it, milliseconds since 1970.
    pub at_ms: i64,
    /// Hash of everything that the client asked for.
    pub body: u32,
    /// What it is.
    pub kind: Kind,
    /// Cents; 0 for accounts.
    pub amount: i64,
    /// What it does to balances when confirmed.
    pub flow: Flow,
    /// Hash of payer and payee.
    pub parties: u32,
}

/// The changes of balances in one direction under one id.
#[derive(Clone, Copy, Default, Debug)]
pub struct Leg {
    /// How many.
    pub count: u16,
    /// Partition of the last one.
    pub partition: u16,
    /// Hash of payer and payee of the last one.
    pub parties: u32,
    /// Offset of the last one.
    pub offset: i64,
    /// Sum of the changes, signed cents.
    pub sum: i64,
}

impl Leg {
    /// Where the last change lies, if there is one.
    pub fn at(&self) -> Option<At> {
        let at = At { topic: Topic::BalanceChanged, partition: i32::from(self.partition), offset: self.offset };
        (self.count > 0).then_some(at)
    }
}

/// The answers to an id, refusals of other bodies left out.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    /// How many; they all agree, or a breach was noted.
    pub count: u32,
    /// Which command they answer.
    pub kind: Kind,
    /// Whether it was done.
    pub confirmed: bool,
    /// Hash of the reason, or of what was opened.
    pub answer: u32,
    /// Where the first one lies.
    pub offset: i64,
}

/// What the outcome table says about an id.
#[derive(Clone, Copy, Default, Debug)]
pub enum OutcomeRow {
    /// Nothing in the changelog.
    #[default]
    Absent,
    /// A tombstone.
    Expired,
    /// A row: the verdict and the hash of the answer.
    Present(Verdict, u32),
}

/// Everything under one id.
#[derive(Clone, Copy, Default, Debug)]
pub struct IdFold {
    /// The first command.
    pub first: Option<First>,
    /// When the broker took the last command, of whatever body.
    pub latest_ms: i64,
    /// Commands that repeat the first one, it included.
    pub same: u32,
    /// Commands of another body, by kind (account, transfer).
    pub other: [u16; 2],
    /// Commands, of whatever body, that have no dead letter but may have had one that was deleted.
    pub letterless: u16,
    /// Answers `id was used for another ..`, by kind.
    pub conflicts: [u16; 2],
    /// The answers.
    pub answers: Option<Answers>,
    /// Debits.
    pub debit: Leg,
    /// Credits.
    pub credit: Leg,
    /// The row of the outcome table.
    pub outcome: OutcomeRow,
    /// Some answer differs from the first one.
    pub disagrees: bool,
    /// The outcome expired at least once, so the id may have been used anew.
    pub expired: bool,
}

impl IdFold {
    /// Time between its first command and its last one, milliseconds.
    pub fn span_ms(&self) -> i64 {
        self.first.map_or(0, |first| self.latest_ms.saturating_sub(first.at_ms))
    }
}

/// There are millions of these: what they cost is what an audit costs.
const _: () = assert!(size_of::<IdFold>() <= 144);

/// How far a partition has come.
#[derive(Clone, Copy, Default, Debug)]
pub struct PartitionFold {
    /// Offset after the last readable record of `commands` and `transfers`.
    pub input_end: [i64; 2],
    /// Next offsets of the last Position; `None` before the first one.
    pub next_offset: Option<[Option<i64>; 2]>,
    /// Its commit sequence.
    pub commit_sequence: i64,
    /// The last transaction id in balance_changed.
    pub last_transaction_id: Option<i64>,
    /// Dead letters of it were deleted.
    pub lost_letters: bool,
    /// Offset in `commands` of the first command whose dead letter is there.
    pub first_letter: Option<i64>,
}

/// Numbers for the report.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Commands that count (readable, not dead-lettered).
    pub commands: u64,
    /// Answers.
    pub feedbacks: u64,
    /// Changes of balances.
    pub balance_changes: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Outcomes that have expired.
    pub expired: u64,
}
