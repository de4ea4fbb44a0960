//! Second step of a transfer between partitions: the task of `to` credits, or refuses, and answers.
//!
//! There is no outcome row on this side and no check for a repetition: that each request is decided once is what
//! exactly-once processing of its record means. The money is the sender's until the answer has been read there.

use crate::account::Change;
use crate::{Context, CreditRequested, CreditSettled, Event, Rejection, State, Verdict};

pub(crate) fn decide(state: &State, request: &CreditRequested, ctx: &Context<'_>) -> (Verdict, Vec<Event>) {
    match credited(state, request, ctx) {
        Ok(event) => (Verdict::Accepted, vec![event, answer(request, None, ctx)]),
        Err(rejection) => (Verdict::Refused, vec![answer(request, Some(rejection), ctx)]),
    }
}

fn credited(state: &State, request: &CreditRequested, ctx: &Context<'_>) -> Result<Event, Rejection> {
    let to = state.account(&request.to).ok_or(Rejection::ToIsNotKnown)?;
    let change = Change {
        nth: 0,
        by: request.amount,
        from_to: request.from.as_str(),
        description: &request.description,
        transfer_id: request.id,
    };
    to.balance_changed(change, ctx).map(Event::BalanceChanged)
}

fn answer(request: &CreditRequested, refused: Option<Rejection>, ctx: &Context<'_>) -> Event {
    Event::CreditSettled(CreditSettled {
        id: request.id,
        from: request.from,
        to: request.to,
        refused: refused.map(|rejection| rejection.to_string()),
        partition: ctx.partition,
        commit_sequence: ctx.commit_sequence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Cents, Row};

    fn request(amount: i64) -> CreditRequested {
        CreditRequested { id: ID, from: ALICE, to: BOB, amount: Cents(amount), description: "rent".into(), time_ms: 5 }
    }

    fn settled(refused: Option<&str>) -> Event {
        Event::CreditSettled(CreditSettled {
            id: ID,
            from: ALICE,
            to: BOB,
            refused: refused.map(str::to_owned),
            partition: 0,
            commit_sequence: COMMIT_SEQUENCE,
        })
    }

    #[test]
    fn c05_the_credit_changes_the_balance_and_answers() {
        let after = account(BOB, "bob", 350);
        given([account(BOB, "bob", 100)])
            .when(request(250))
            .then(Verdict::Accepted, [balance_changed(BOB, 350, 250, ALICE.as_str(), 1, 0), settled(None)])
            .rows([Row::Account(crate::Account { sequence: 1, ..after })]);
    }

    #[test]
    fn c13_no_such_account_is_answered_and_nothing_changes() {
        given([]).when(request(250)).then(Verdict::Refused, [settled(Some("to is not known at this bank"))]).rows([]);
    }

    #[test]
    fn an_overflow_is_answered_and_nothing_changes() {
        given([account(BOB, "bob", 1)])
            .when(request(i64::MAX))
            .then(Verdict::Refused, [settled(Some("amount is too large"))])
            .rows([]);
    }
}
