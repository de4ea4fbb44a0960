//! Topics as data: a sound history first, then one with each kind of breach planted. Every plant is caught, and named.

mod history;

use super::breach::Invariant::{self, I1, I2, I3, I4};
use super::checks;
use super::facts::{At, Topic};
use super::kept_from_ms;
use history::{History, Rec};

/// How long ids are remembered here.
const RETENTION_MS: i64 = 1_000_000;

/// Every breach in a drained system, with its place.
fn broken(history: &History) -> Vec<(Invariant, String)> {
    let fold = history.fold();
    assert_eq!(checks::pending(&fold), Vec::<String>::new(), "the history is drained");
    let named = |check: checks::Check| {
        let line =
            |at: Option<At>, what: String| (check.invariant, format!("{:?} {what}", at.map(|at| at.to_string())));
        check.found.first.into_iter().map(|breach| line(breach.at, breach.what)).collect::<Vec<_>>()
    };
    checks::judge(&fold, true, RETENTION_MS).checks.into_iter().flat_map(named).collect()
}

fn check(plant: impl FnOnce(&mut History), expected: &[(Invariant, &str)]) {
    let mut history = History::sound();
    plant(&mut history);
    let found = broken(&history);
    for (invariant, text) in expected {
        let named = found.iter().any(|(broken, what)| broken == invariant && what.contains(text));
        assert!(named, "{invariant:?} with `{text}` is not in {found:#?}");
    }
    assert!(!found.is_empty());
}

fn is_debit(rec: &Rec, amount: i64) -> bool {
    matches!(rec, Rec::Balance(changed) if changed.changed_by == -amount)
}

fn is_credit(rec: &Rec, amount: i64) -> bool {
    matches!(rec, Rec::Balance(changed) if changed.changed_by == amount)
}

#[test]
fn a_sound_history_is_clean() {
    assert_eq!(broken(&History::sound()), vec![]);
}

#[test]
fn a_lost_credit_is_caught() {
    check(|h| drop(h.remove(|rec| is_credit(rec, History::ACROSS))), &[(I4, "credit events: 0, due: 1"), (I4, "")]);
}

#[test]
fn a_lost_debit_is_caught() {
    check(|h| drop(h.remove(|rec| is_debit(rec, History::ACROSS))), &[(I4, "debit events: 0, due: 1")]);
}

#[test]
fn a_double_debit_is_caught() {
    let plant = |h: &mut History| h.duplicate(|rec| is_debit(rec, History::WITHIN));
    check(plant, &[(I4, "debit events: 2, due: 1"), (I2, "comes where")]);
}

#[test]
fn a_double_debit_that_keeps_the_chain_is_caught() {
    // The second effect is worked into the chain and into the row: only the count by id shows it, and the money.
    let plant = |h: &mut History| h.debit_again(History::ACROSS);
    check(plant, &[(I4, "debit events: 2, due: 1"), (I1, "off from")]);
}

#[test]
fn a_duplicate_outcome_is_caught() {
    let confirmed = |rec: &Rec| matches!(rec, Rec::Moved(_));
    check(|h| h.duplicate(confirmed), &[(I3, "answered")]);
}

#[test]
fn an_outcome_without_a_command_is_caught() {
    let across = |rec: &Rec| matches!(rec, Rec::Transfer(command) if command.amount == History::ACROSS);
    let plant = |h: &mut History| while h.remove(across).is_some() {};
    check(plant, &[(I3, "but no command")]);
}

#[test]
fn a_command_without_an_answer_is_caught() {
    let refusal = |rec: &Rec| matches!(rec, Rec::NotMoved(failed) if failed.reason == "insufficient funds");
    check(|h| drop(h.remove(refusal)), &[(I3, "was never answered")]);
}

#[test]
fn a_repeat_without_its_answer_is_caught() {
    check(History::forget_one_repeat, &[(I3, "was sent 2 times and answered 1 times")]);
}

#[test]
fn a_pending_outcome_with_nothing_in_flight_is_caught() {
    check(History::forget_settlement, &[(I3, "still PENDING"), (I4, "are reserved for nothing")]);
}

#[test]
fn contradicting_answers_are_caught() {
    let plant = |h: &mut History| {
        h.change(|rec| match rec {
            Rec::NotMoved(failed) if failed.reason == "insufficient funds" => failed.reason = "invalid token".into(),
            _ => {}
        });
    };
    check(plant, &[(I3, "the answer is not what the outcome says")]);
}

#[test]
fn a_torn_transfer_is_caught() {
    // The answer says failed, one side moved all the same.
    check(|h| h.refuse_after_the_fact(History::ACROSS), &[(I4, "(not confirmed, "), (I3, "outcome")]);
}

#[test]
fn a_credit_to_another_account_is_caught() {
    check(|h| h.credit_elsewhere(History::WITHIN), &[(I4, "")]);
}

#[test]
fn a_balance_below_its_limit_is_caught() {
    check(|h| h.overdraw(), &[(I2, "fell to")]);
}

#[test]
fn a_changed_order_is_caught() {
    check(|h| h.swap_first_two_changes(), &[(I2, "comes where"), (I2, "")]);
}

#[test]
fn made_money_is_caught() {
    let plant = |h: &mut History| {
        h.change(|rec| match rec {
            Rec::Account(row) if row.username == "alice" => row.balance += 1,
            _ => {}
        });
    };
    check(plant, &[(I1, "2 off from"), (I4, "the row says")]);
}

#[test]
fn a_lost_row_is_caught() {
    let row = |rec: &Rec| matches!(rec, Rec::Account(row) if row.username == "bob");
    check(|h| while h.remove(row).is_some() {}, &[(I4, "no row in the changelog")]);
}

#[test]
fn a_second_effect_of_a_repeated_command_is_caught() {
    check(|h| h.answer_conflict_as_done(), &[(I3, "with another body")]);
}

#[test]
fn an_expired_outcome_is_no_breach() {
    let mut history = History::sound();
    history.now(RETENTION_MS + 1);
    history.expire_all_outcomes();
    assert_eq!(broken(&history), vec![]);
    // But an answer must still be there.
    while history.remove(|rec| matches!(rec, Rec::NotMoved(failed) if failed.reason == "insufficient funds")).is_some()
    {
    }
    assert!(broken(&history).iter().any(|(invariant, what)| *invariant == I3 && what.contains("never answered")));
}

/// What is forgotten too early can be carried out twice, and balances add up all the same.
#[test]
fn an_outcome_that_is_gone_too_early_is_caught() {
    let too_early = "forgotten too early";
    check(|h| h.expire_all_outcomes(), &[(I3, too_early)]);
    check(|h| while h.remove(|rec| matches!(rec, Rec::Outcome(_))).is_some() {}, &[(I3, too_early)]);
}

#[test]
fn a_transfer_carried_out_again_within_the_retention_is_caught_whatever_became_of_its_outcome() {
    let again = |h: &mut History| {
        h.now(1);
        h.carry_out_again();
    };
    let twice = [(I4, "debit events: 2, due: 1"), (I4, "credit events: 2, due: 1")];
    check(again, &twice);
    check(
        |h| {
            h.expire_all_outcomes();
            again(h);
        },
        &twice,
    );
    check(
        |h| {
            again(h);
            while h.remove(|rec| matches!(rec, Rec::Outcome(_))).is_some() {}
        },
        &twice,
    );
}

#[test]
fn poison_needs_a_dead_letter() {
    let mut history = History::sound();
    history.push(Topic::Commands, 0, Rec::Poison);
    assert!(broken(&history).iter().any(|(invariant, what)| *invariant == I3 && what.contains("no dead letter")));
    let at = history.last_of(Topic::Commands, 0);
    history.push(Topic::DeadLetters, 0, Rec::DeadLetter(at));
    assert_eq!(broken(&history), vec![]);
}

#[test]
fn commands_beyond_the_position_are_pending_and_nothing_else() {
    let mut history = History::sound();
    let (partition, command) = history.unanswered_transfer();
    history.push_beyond_position(Topic::Commands, partition, command);
    let fold = history.fold();
    assert_eq!(checks::pending(&fold), vec![format!("commands-{partition}: pending: 1")]);
    let checks = checks::judge(&fold, false, RETENTION_MS).checks;
    assert!(checks.iter().all(|check| check.found.count == 0), "{checks:?}");
    assert_eq!(checks.iter().filter(|check| check.partial).count(), 3);
}

#[test]
fn a_broken_chain_is_a_breach_even_when_work_is_pending() {
    let mut history = History::sound();
    history.swap_first_two_changes();
    let checks = checks::judge(&history.fold(), false, RETENTION_MS).checks;
    assert!(checks.iter().any(|check| check.invariant == I2 && check.found.count > 0));
}

#[test]
fn a_position_that_goes_back_is_caught() {
    check(|h| h.repeat_an_old_position(), &[(I3, "the position went back")]);
}

#[test]
fn an_id_used_again_after_the_retention_is_a_new_command() {
    // Its row is that of the later command, and no tombstone says that there was an earlier one.
    let spread = |ms| {
        let mut history = History::sound();
        history.now(ms);
        history.carry_out_again();
        broken(&history)
    };
    assert_eq!(spread(RETENTION_MS + 1), vec![]);
    // A tenth is left to clocks that differ.
    let found = spread(RETENTION_MS - RETENTION_MS / 10);
    assert!(found.iter().any(|(invariant, what)| *invariant == I4 && what.contains("debit events: 2")), "{found:#?}");
}

/// Breaches, and how often something is undecided.
fn judged(history: &History) -> (Vec<(Invariant, String)>, Vec<String>) {
    (broken(history), checks::judge(&history.fold(), true, RETENTION_MS).undecided)
}

#[test]
fn a_command_whose_letter_may_be_deleted_is_undecided_and_no_breach() {
    let mut history = History::sound();
    history.forgotten_transfer();
    let never_answered = |history: &History| {
        let (found, undecided) = judged(history);
        assert!(undecided.is_empty(), "{undecided:?}");
        found.iter().any(|(invariant, what)| *invariant == I3 && what.contains("was never answered"))
    };
    assert!(never_answered(&history), "no letter was deleted");
    history.lose_letters(0);
    assert!(never_answered(&history), "none of its time was deleted");
    history.lose_letters(1);
    let (found, undecided) = judged(&history);
    assert_eq!(found, vec![]);
    assert!(undecided.len() == 1 && undecided[0].contains("1 commands"), "{undecided:?}");
}

#[test]
fn a_letter_that_is_there_says_which_ones_may_be_deleted() {
    for (is_behind, breaches) in [(false, 0), (true, 1)] {
        let mut history = History::sound();
        history.lose_letters(i64::MAX);
        let add_letter = |history: &mut History, partition: i32| {
            history.push(Topic::Commands, partition, Rec::Poison);
            let at = history.last_of(Topic::Commands, partition);
            history.push(Topic::DeadLetters, partition, Rec::DeadLetter(at));
        };
        if is_behind {
            let (partition, _) = history.unanswered_transfer();
            add_letter(&mut history, partition);
        }
        let (at, _) = history.forgotten_transfer();
        if !is_behind {
            add_letter(&mut history, at.partition);
        }
        let (found, undecided) = judged(&history);
        assert_eq!((found.len(), undecided.len()), (breaches, 1 - breaches), "{found:#?} {undecided:?}");
    }
}

#[test]
fn a_command_that_left_something_is_no_forgotten_letter() {
    // It has its outcome in the changelog, but no answer.
    let mut history = History::sound();
    history.lose_letters(i64::MAX);
    history.remove(|rec| matches!(rec, Rec::NotMoved(failed) if failed.reason == "insufficient funds"));
    let (found, undecided) = judged(&history);
    assert!(found.iter().any(|(invariant, what)| *invariant == I3 && what.contains("never answered")), "{found:#?}");
    assert!(undecided.is_empty(), "{undecided:?}");
}

#[test]
fn a_letter_that_was_replayed_and_deleted_is_no_missing_answer() {
    let mut history = History::sound();
    let (_, command) = history.forgotten_transfer();
    history.carry_out(&command);
    let (found, _) = judged(&history);
    assert!(found.iter().any(|(invariant, what)| *invariant == I3 && what.contains("sent 2 times")), "{found:#?}");
    history.lose_letters(1);
    let (found, undecided) = judged(&history);
    assert_eq!((found, undecided.len()), (vec![], 1));
}

#[test]
fn poison_needs_no_letter_once_letters_of_its_time_are_deleted() {
    let mut history = History::sound();
    history.push(Topic::Commands, 0, Rec::Poison);
    history.lose_letters(0);
    assert!(broken(&history).iter().any(|(invariant, what)| *invariant == I3 && what.contains("no dead letter")));
    history.lose_letters(1);
    assert_eq!(judged(&history), (vec![], vec![]));
}

#[test]
fn letters_are_there_for_their_retention_less_a_tenth() {
    assert_eq!(kept_from_ms(Some(1_000), 5_000), 4_100);
    // They were to stay for ever and did not: any may be deleted.
    assert_eq!(kept_from_ms(None, 5_000), i64::MAX);
}
