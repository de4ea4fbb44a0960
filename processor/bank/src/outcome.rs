//! What became of a command: the row that makes an id count once.

use crate::{AccountCreation, Cents, CommandId, Context, Fingerprint, Iban, Transfer};

/// The outcome of one command, found by its id in the partition of the command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Id of the command.
    pub id: CommandId,
    /// Tells another command with the same id apart.
    pub fingerprint: Fingerprint,
    /// Key of the command's record: its feedback carries it.
    pub key: String,
    /// What the command wanted.
    pub kind: OutcomeKind,
    /// How far it is.
    pub state: OutcomeState,
    /// Time of the record that led to this state, in milliseconds since 1970.
    pub time_ms: i64,
}

/// What a command wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutcomeKind {
    /// To open an account.
    Account,
    /// To move money.
    Transfer,
}

/// How far a command is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutcomeState {
    /// The money is reserved, the credit asked for in another partition. Only transfers can be pending.
    Pending(Reservation),
    /// Done.
    Confirmed {
        /// The account that was opened; `None` for a transfer.
        iban: Option<Iban>,
        /// Where the credit was committed, if in another partition.
        credit: Option<CreditPoint>,
    },
    /// Refused, and nothing moved.
    Failed {
        /// As the client is told.
        reason: String,
    },
}

/// What is needed to settle or void a transfer to another partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// The account that pays, in this partition.
    pub from: Iban,
    /// The account that is credited, in another one.
    pub to: Iban,
    /// The reserved amount.
    pub amount: Cents,
    /// For the debit's event.
    pub description: String,
}

/// The commit that a reader has to wait for to see the credited side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreditPoint {
    /// Partition of the credited account.
    pub partition: i32,
    /// Its commit that holds the credit.
    pub commit_sequence: i64,
}

impl Outcome {
    /// Of an account creation.
    pub(crate) fn of_account_creation(command: &AccountCreation, state: OutcomeState, ctx: &Context<'_>) -> Outcome {
        Outcome {
            id: command.id,
            fingerprint: Fingerprint::of_account_creation(command),
            key: command.key.clone(),
            kind: OutcomeKind::Account,
            state,
            time_ms: ctx.time_ms,
        }
    }

    /// Of a transfer.
    pub(crate) fn of_transfer(command: &Transfer, state: OutcomeState, ctx: &Context<'_>) -> Outcome {
        Outcome {
            id: command.id,
            fingerprint: Fingerprint::of_transfer(command),
            key: command.key.clone(),
            kind: OutcomeKind::Transfer,
            state,
            time_ms: ctx.time_ms,
        }
    }

    /// Whether the row may go: it is final, and `retention_ms` have passed since. A pending outcome never expires,
    /// because the answer from the other partition needs it.
    pub fn is_expired(&self, now_ms: i64, retention_ms: i64) -> bool {
        !matches!(self.state, OutcomeState::Pending(_)) && now_ms.saturating_sub(self.time_ms) > retention_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(state: OutcomeState) -> Outcome {
        Outcome {
            id: CommandId([1; 16]),
            fingerprint: Fingerprint([1; 16]),
            key: "somebody".into(),
            kind: OutcomeKind::Transfer,
            state,
            time_ms: 1_000,
        }
    }

    #[test]
    fn only_final_outcomes_expire_and_only_after_their_retention() {
        let confirmed = outcome(OutcomeState::Confirmed { iban: None, credit: None });
        let failed = outcome(OutcomeState::Failed { reason: "insufficient funds".into() });
        let reservation =
            Reservation { from: Iban::COMPANY, to: Iban::COMPANY, amount: Cents(1), description: String::new() };
        let pending = outcome(OutcomeState::Pending(reservation));
        for (now_ms, expired) in [(1_000, false), (1_500, false), (1_501, true), (i64::MAX, true), (i64::MIN, false)] {
            assert_eq!(confirmed.is_expired(now_ms, 500), expired, "{now_ms}");
            assert_eq!(failed.is_expired(now_ms, 500), expired, "{now_ms}");
            assert!(!pending.is_expired(now_ms, 500), "{now_ms}");
        }
    }
}
