//! The ladder of a transfer: every check before any change, the first that fails decides.
//!
//! The ladder ends in the movements of money, or in a refusal. Only then events are put together, so nothing has moved
//! when a row refuses. A transfer to an account of another partition only reserves here: an append to many partitions
//! is atomic, but it is no lock on another task's balance. `credit` and `settle` do the rest.

use crate::account::Change;
use crate::rejection::ensure;
use crate::{
    Account, CASH, Cents, Context, CreditRequested, Event, Fingerprint, Iban, NAME_BYTES_MAX, Outcome, OutcomeState,
    Rejection, Reservation, State, Transfer, Verdict,
};

/// Characters of a description.
const DESCRIPTION_MAX: usize = 140;

/// What an accepted transfer does to money.
enum Movement {
    /// All in this partition: debit, credit, or both.
    Done(Vec<Event>),
    /// The account to credit is in another partition.
    Begun(Reservation, Vec<Event>),
}

pub(crate) fn decide(state: &State, command: &Transfer, ctx: &Context<'_>) -> (Verdict, Vec<Event>) {
    if let Some(earlier) = &state.outcome {
        return match earlier.fingerprint == Fingerprint::of_transfer(command) {
            true => (Verdict::Repeated, feedback(command, &earlier.state).into_iter().collect()), // a
            // b. The outcome stays that of the first command with this id.
            false => (Verdict::Refused, vec![failed(command, Rejection::IdUsedForAnotherTransfer.to_string())]),
        };
    }
    let (verdict, outcome, mut events) = match ladder(state, command, ctx) {
        Ok(Movement::Done(events)) => (Verdict::Accepted, OutcomeState::Confirmed { iban: None, credit: None }, events),
        Ok(Movement::Begun(reservation, events)) => (Verdict::Pending, OutcomeState::Pending(reservation), events),
        Err(rejection) => (Verdict::Refused, OutcomeState::Failed { reason: rejection.to_string() }, vec![]),
    };
    let answer = feedback(command, &outcome);
    events.push(Event::OutcomeRecorded(Outcome::of_transfer(command, outcome, ctx)));
    events.extend(answer);
    (verdict, events)
}

/// The rows c to m of the contract's table, in its order.
fn ladder(state: &State, command: &Transfer, ctx: &Context<'_>) -> Result<Movement, Rejection> {
    use Rejection::*;
    ensure(command.amount.is_positive(), AmountNotPositive)?; // c
    ensure(!is_too_long(&command.description), DescriptionTooLong)?; // d
    let payer = payer(command)?; // e
    ensure(command.from != command.to, FromAndToAreTheSame)?; // f
    ensure(is_authorised(payer, command, ctx), InvalidToken)?; // g
    let source = source(state, command, payer)?; // h
    let payee = payee(command)?; // i
    ensure(covers(source, command.amount), InsufficientFunds)?; // j
    match (source, payee) {
        // k
        (None, None) => Err(BothNotKnown),
        // l
        (None, Some(to)) => deposit(state.account(&to).ok_or(BothNotKnown)?, command, ctx),
        (Some(from), Some(to)) if !ctx.owns(to.as_str()) => reserve(from, to, command, ctx),
        (Some(from), Some(to)) => exchange(from, state.account(&to).ok_or(ToIsNotKnown)?, command, ctx),
        // m
        (Some(from), None) => withdraw(from, command, ctx),
    }
}

/// Characters are counted, not bytes.
fn is_too_long(description: &str) -> bool {
    description.len() > DESCRIPTION_MAX && description.chars().count() > DESCRIPTION_MAX
}

/// The account number that pays, `None` for cash.
fn payer(command: &Transfer) -> Result<Option<Iban>, Rejection> {
    match command.from.as_str() {
        CASH => Ok(None),
        from => Iban::parse(from).map(Some).ok_or(Rejection::FromIsInvalid),
    }
}

/// Cash needs no token.
fn is_authorised(payer: Option<Iban>, command: &Transfer, ctx: &Context<'_>) -> bool {
    payer.is_none_or(|iban| ctx.config.tokens.verify(&iban, &command.token))
}

/// The account that pays, `None` for cash, and rule 0: the key of the command gives the right to use it. The key is
/// the iban itself or the name of its owner; a deposit is keyed by the account it credits, so that it is always one
/// step in one partition.
fn source<'s>(state: &'s State, command: &Transfer, payer: Option<Iban>) -> Result<Option<&'s Account>, Rejection> {
    let Some(iban) = payer else {
        return ensure(command.key == command.to, Rejection::FromDoesNotBelongToUser).map(|()| None);
    };
    let account = state.account(&iban).ok_or(Rejection::FromDoesNotBelongToUser)?;
    let entitled = command.key == command.from || command.key == account.username;
    ensure(entitled, Rejection::FromDoesNotBelongToUser).map(|()| Some(account))
}

/// The account number that receives, `None` where the money would leave the bank. What is meant as one of ours but is
/// not valid may not leave: nobody would get it. Nor may it go to a name that no reader of a history could be sent.
fn payee(command: &Transfer) -> Result<Option<Iban>, Rejection> {
    let payee = Iban::parse(&command.to);
    let is_outside = !Iban::resembles(&command.to) && command.to.len() <= NAME_BYTES_MAX;
    ensure(payee.is_some() || is_outside, Rejection::ToIsInvalid).map(|()| payee)
}

/// Whether the account can pay; cash always can.
fn covers(source: Option<&Account>, amount: Cents) -> bool {
    source.is_none_or(|account| account.can_spend(amount))
}

/// Cash comes in.
fn deposit(to: &Account, command: &Transfer, ctx: &Context<'_>) -> Result<Movement, Rejection> {
    Ok(Movement::Done(vec![credit(to, 0, command, ctx)?]))
}

/// Money leaves the bank: to cash, to a foreign iban, to a shop.
fn withdraw(from: &Account, command: &Transfer, ctx: &Context<'_>) -> Result<Movement, Rejection> {
    Ok(Movement::Done(vec![debit(from, command, ctx)?]))
}

/// Both accounts are here: both change, or none.
fn exchange(from: &Account, to: &Account, command: &Transfer, ctx: &Context<'_>) -> Result<Movement, Rejection> {
    Ok(Movement::Done(vec![debit(from, command, ctx)?, credit(to, 1, command, ctx)?]))
}

/// Sets the money aside and asks the partition of `to`.
fn reserve(from: &Account, to: Iban, command: &Transfer, ctx: &Context<'_>) -> Result<Movement, Rejection> {
    let reserved = from.reserved.checked_add(command.amount).ok_or(Rejection::AmountTooLarge)?;
    let (amount, description) = (command.amount, command.description.clone());
    let request = CreditRequested {
        id: command.id,
        from: from.iban,
        to,
        amount,
        description: description.clone(),
        time_ms: ctx.time_ms,
    };
    Ok(Movement::Begun(
        Reservation { from: from.iban, to, amount, description },
        vec![Event::Reserved { iban: from.iban, reserved }, Event::CreditRequested(request)],
    ))
}

fn debit(from: &Account, command: &Transfer, ctx: &Context<'_>) -> Result<Event, Rejection> {
    let by = command.amount.checked_neg().ok_or(Rejection::AmountTooLarge)?;
    from.balance_changed(change(0, by, &command.to, command), ctx).map(Event::BalanceChanged)
}

fn credit(to: &Account, nth: i64, command: &Transfer, ctx: &Context<'_>) -> Result<Event, Rejection> {
    to.balance_changed(change(nth, command.amount, &command.from, command), ctx).map(Event::BalanceChanged)
}

fn change<'a>(nth: i64, by: Cents, from_to: &'a str, command: &'a Transfer) -> Change<'a> {
    Change { nth, by, from_to, description: &command.description, transfer_id: command.id }
}

/// What the client is told; nothing while the outcome is pending. Carries the key of the command that asks.
fn feedback(command: &Transfer, outcome: &OutcomeState) -> Option<Event> {
    match outcome {
        OutcomeState::Pending(_) => None,
        OutcomeState::Confirmed { .. } => {
            Some(Event::MoneyTransferConfirmed { key: command.key.clone(), id: command.id })
        }
        OutcomeState::Failed { reason } => Some(failed(command, reason.clone())),
    }
}

fn failed(command: &Transfer, reason: String) -> Event {
    Event::MoneyTransferFailed { key: command.key.clone(), id: command.id, reason }
}

#[cfg(test)]
mod tests;
