//! Third step of a transfer between partitions: the task of `from` settles, or voids.
//!
//! Settling cannot be refused any more: the credit exists. That the balance covers it was checked when the money was
//! reserved, and `balance - reserved >= limit` has held since. Rows that say otherwise are damaged.

use crate::account::Change;
use crate::{
    Account, BrokenState, Context, CreditPoint, CreditSettled, Event, Outcome, OutcomeState, Rejection, Reservation,
    State, Verdict,
};

pub(crate) fn decide(
    state: &State,
    answer: &CreditSettled,
    ctx: &Context<'_>,
) -> Result<(Verdict, Vec<Event>), BrokenState> {
    let Some((outcome, reservation)) = awaited(state, answer) else {
        return Ok((Verdict::Dropped, vec![]));
    };
    let from = state.account(&reservation.from).ok_or(BrokenState::AccountMissing { iban: reservation.from })?;
    let mut events = vec![released(from, reservation)?];
    let (key, id) = (outcome.key.clone(), outcome.id);
    let (verdict, decided, feedback) = match &answer.refused {
        None => {
            events.push(debited(from, id, reservation, ctx)?);
            let credit = CreditPoint { partition: answer.partition, commit_sequence: answer.commit_sequence };
            let confirmed = OutcomeState::Confirmed { iban: None, credit: Some(credit) };
            (Verdict::Accepted, confirmed, Event::MoneyTransferConfirmed { key, id })
        }
        Some(reason) => {
            let failed = OutcomeState::Failed { reason: reason.clone() };
            (Verdict::Refused, failed, Event::MoneyTransferFailed { key, id, reason: reason.clone() })
        }
    };
    events.push(Event::OutcomeRecorded(Outcome { state: decided, time_ms: ctx.time_ms, ..outcome.clone() }));
    events.push(feedback);
    Ok((verdict, events))
}

/// The pending outcome that the answer is for. Without one there is nothing to settle and nothing to void.
fn awaited<'s>(state: &'s State, answer: &CreditSettled) -> Option<(&'s Outcome, &'s Reservation)> {
    let outcome = state.outcome.as_ref()?;
    match &outcome.state {
        OutcomeState::Pending(held) if held.from == answer.from && held.to == answer.to => Some((outcome, held)),
        _ => None,
    }
}

fn released(from: &Account, reservation: &Reservation) -> Result<Event, BrokenState> {
    let reserved = from.reserved.checked_sub(reservation.amount).filter(|rest| rest.0 >= 0);
    let reserved = reserved.ok_or(BrokenState::ReservationMissing { iban: from.iban })?;
    Ok(Event::Released { iban: from.iban, reserved })
}

fn debited(
    from: &Account,
    transfer_id: crate::CommandId,
    reservation: &Reservation,
    ctx: &Context<'_>,
) -> Result<Event, BrokenState> {
    let by = reservation.amount.checked_neg().ok_or(Rejection::AmountTooLarge);
    let debit = by.and_then(|by| {
        let (from_to, description) = (reservation.to.as_str(), reservation.description.as_str());
        from.balance_changed(Change { nth: 0, by, from_to, description, transfer_id }, ctx)
    });
    let covered = debit.ok().filter(|debit| debit.new_balance >= from.limit);
    covered.map(Event::BalanceChanged).ok_or(BrokenState::ReservationMissing { iban: from.iban })
}

#[cfg(test)]
mod tests;
