//! From an input to what is to be written: the one door into the rules.

use crate::{Context, Event, Iban, Input, Row, State, account_creation, credit, evolve, settle, transfer};

/// What the rules decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// In one word, for metrics.
    pub verdict: Verdict,
    /// What happened, in order; those that are records go to their topics (see [`Event`]).
    pub events: Vec<Event>,
    /// The rows to write, each once, in its last state.
    pub rows: Vec<Row>,
}

/// A decision in one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// Done.
    Accepted,
    /// Money is reserved; the answer of another partition decides.
    Pending,
    /// Not done; the events say why.
    Refused,
    /// The id was decided before: the earlier feedback again, or none yet.
    Repeated,
    /// Nothing to decide: an answer that nothing waits for.
    Dropped,
}

impl Verdict {
    /// The word, lower case, as a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Pending => "pending",
            Verdict::Refused => "refused",
            Verdict::Repeated => "repeated",
            Verdict::Dropped => "dropped",
        }
    }
}

/// Rows contradict each other. No input leads here: the state is damaged or was loaded wrongly. The partition has to
/// stop, and its store to be restored from its changelog.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BrokenState {
    /// An account that holds a reservation, or that an event changes, is not among the rows.
    #[error("account {iban} is missing from the state of its partition, restore the store from the changelog")]
    AccountMissing {
        /// The account.
        iban: Iban,
    },
    /// An account cannot pay what it has reserved.
    #[error("account {iban} does not hold the money it reserved, restore the store from the changelog")]
    ReservationMissing {
        /// The account.
        iban: Iban,
    },
}

/// Decides one input. `state` holds the rows of [`crate::keys_of`] that exist.
pub fn decide(state: &State, input: &Input, ctx: &Context<'_>) -> Result<Decision, BrokenState> {
    let (verdict, events) = match input {
        Input::AccountCreation(command) => account_creation::decide(state, command, ctx),
        Input::Transfer(command) => transfer::decide(state, command, ctx),
        Input::CreditRequested(request) => credit::decide(state, request, ctx),
        Input::CreditSettled(answer) => settle::decide(state, answer, ctx)?,
    };
    let after = events.iter().try_fold(state.clone(), evolve)?;
    Ok(Decision { verdict, rows: after.changed_since(state), events })
}

impl Decision {
    /// The last transaction id that this decision gave, for the task's position; `None` when it gave none.
    pub fn last_transaction(&self) -> Option<i64> {
        self.events.iter().rev().find_map(|event| match event {
            Event::BalanceChanged(change) => Some(change.transaction_id),
            _ => None,
        })
    }
}
