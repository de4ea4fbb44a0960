//! The answer of the other partition: settled, voided, or nothing to do.

use super::*;
use crate::testing::*;
use crate::{Cents, Iban, Row};

fn answer(refused: Option<&str>) -> CreditSettled {
    CreditSettled {
        id: ID,
        from: ALICE,
        to: CAROL,
        refused: refused.map(str::to_owned),
        partition: 1,
        commit_sequence: 500,
    }
}

fn pending(from: Iban, to: Iban) -> Outcome {
    let command = transfer("alice", from, to.as_str(), 250);
    let reservation = Reservation { from, to, amount: Cents(250), description: "rent".into() };
    Outcome { time_ms: 1, ..outcome_of(&command, OutcomeState::Pending(reservation)) }
}

fn alice(balance: i64, reserved: i64) -> Account {
    Account { reserved: Cents(reserved), ..account(ALICE, "alice", balance) }
}

#[test]
fn c05_an_accepted_credit_settles_the_debit() {
    let credit = CreditPoint { partition: 1, commit_sequence: 500 };
    let state = OutcomeState::Confirmed { iban: None, credit: Some(credit) };
    let outcome = Outcome { state, time_ms: NOW_MS, ..pending(ALICE, CAROL) };
    given([alice(1_000, 300)])
        .outcome(pending(ALICE, CAROL))
        .when(answer(None))
        .then(
            Verdict::Accepted,
            [
                Event::Released { iban: ALICE, reserved: Cents(50) },
                balance_changed(ALICE, 750, -250, CAROL.as_str(), 1, 0),
                Event::OutcomeRecorded(outcome.clone()),
                transfer_confirmed("alice"),
            ],
        )
        .rows([Row::Account(Account { sequence: 1, ..alice(750, 50) }), Row::Outcome(outcome)]);
}

#[test]
fn c13_a_refused_credit_releases_the_money_with_the_reason() {
    let reason = "to is not known at this bank";
    let outcome = Outcome { state: refused(reason), time_ms: NOW_MS, ..pending(ALICE, CAROL) };
    given([alice(1_000, 300)])
        .outcome(pending(ALICE, CAROL))
        .when(answer(Some(reason)))
        .then(
            Verdict::Refused,
            [
                Event::Released { iban: ALICE, reserved: Cents(50) },
                Event::OutcomeRecorded(outcome.clone()),
                transfer_failed("alice", reason),
            ],
        )
        .rows([Row::Account(alice(1_000, 50)), Row::Outcome(outcome)]);
}

#[test]
fn settling_down_to_exactly_the_limit_works() {
    let decision = given([alice(-49_750, 250)]).outcome(pending(ALICE, CAROL)).when(answer(None)).decision.unwrap();
    assert_eq!(decision.events[1], balance_changed(ALICE, -50_000, -250, CAROL.as_str(), 1, 0));
}

#[test]
fn an_answer_that_nothing_waits_for_is_dropped() {
    let final_outcomes = [confirmed(), refused("insufficient funds")];
    let known = final_outcomes.map(|state| Outcome { state, ..pending(ALICE, CAROL) });
    // Of another transfer: same id, other accounts.
    let others = [pending(ALICE, BOB), pending(BOB, CAROL)];
    for accepted in [answer(None), answer(Some("to is not known at this bank"))] {
        given([alice(1_000, 300)]).when(accepted.clone()).then(Verdict::Dropped, []).rows([]);
        for outcome in known.iter().chain(&others) {
            given([alice(1_000, 300)])
                .outcome(outcome.clone())
                .when(accepted.clone())
                .then(Verdict::Dropped, [])
                .rows([]);
        }
    }
}

#[test]
fn rows_that_contradict_each_other_are_no_answer() {
    let missing = BrokenState::AccountMissing { iban: ALICE };
    given([]).outcome(pending(ALICE, CAROL)).when(answer(None)).broken(missing);
    let unreserved = BrokenState::ReservationMissing { iban: ALICE };
    given([alice(1_000, 249)]).outcome(pending(ALICE, CAROL)).when(answer(None)).broken(unreserved);
    given([alice(1_000, 249)]).outcome(pending(ALICE, CAROL)).when(answer(Some("no"))).broken(unreserved);
    given([alice(-49_751, 250)]).outcome(pending(ALICE, CAROL)).when(answer(None)).broken(unreserved);
}
