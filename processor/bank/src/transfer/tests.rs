//! Every row of the ladder, its neighbours, and what an accepted transfer does.

use super::*;
use crate::testing::*;
use crate::{OutcomeKind, Row, Token, Verdict};

/// The rows that most cases start from.
fn accounts() -> Vec<Account> {
    vec![account(ALICE, "alice", 1_000), account(BOB, "bob", 100)]
}

/// A refusal writes its outcome, tells the client, and does nothing else.
#[track_caller]
fn refuses(command: Transfer, reason: &str) {
    let outcome = outcome_of(&command, refused(reason));
    let key = command.key.clone();
    given(accounts())
        .when(command)
        .then(Verdict::Refused, [Event::OutcomeRecorded(outcome.clone()), transfer_failed(&key, reason)])
        .rows([Row::Outcome(outcome)]);
}

/// One thing that is wrong with a transfer: row of the contract, its text, how to bring it about, whether it holds.
type Wrong = (&'static str, &'static str, fn(&mut Transfer), fn(&Transfer) -> bool);

const MISTYPED: &str = "NL83OPEN0104642752";

/// What can be wrong with a transfer from an account, in the order of the contract.
const WRONG: [Wrong; 9] = [
    ("c", "amount must be positive", |t| t.amount = Cents(0), |t| t.amount.0 <= 0),
    ("d", "description is too long", |t| t.description = "é".repeat(141), |t| t.description.len() > 140),
    ("e", "from is invalid", |t| t.from = MISTYPED.into(), |t| t.from == MISTYPED),
    ("f", "from and to can't be same for transfer", |t| t.to = t.from.clone(), |t| t.to == t.from),
    ("g", "invalid token", |t| t.token = Token::new("1234"), |t| t.token.as_str() == "1234"),
    ("h", "from does not belong to user", |t| t.key = "bob".into(), |t| t.key == "bob"),
    ("i", "to is invalid", |t| t.to = MISTYPED.into(), |t| t.to == MISTYPED),
    ("j", "insufficient funds", |t| t.amount = Cents(51_001), |t| t.amount.0 > 51_000),
    ("l", "to is not known at this bank", |t| t.to = NOBODY.to_string(), |t| t.to == NOBODY.as_str()),
];

/// What can be wrong with a deposit.
const WRONG_DEPOSIT: [Wrong; 7] = [
    ("c", "amount must be positive", |t| t.amount = Cents(0), |t| t.amount.0 <= 0),
    ("d", "description is too long", |t| t.description = "é".repeat(141), |t| t.description.len() > 140),
    ("f", "from and to can't be same for transfer", |t| send(t, CASH), |t| t.to == CASH),
    ("h", "from does not belong to user", |t| t.key = "bob".into(), |t| t.key == "bob"),
    ("i", "to is invalid", |t| send(t, MISTYPED), |t| t.to == MISTYPED),
    ("k", "both to and from not known at this bank", |t| send(t, "a shop"), |t| t.to == "a shop"),
    ("l", "both to and from not known at this bank", |t| send(t, NOBODY.as_str()), |t| t.to == NOBODY.as_str()),
];

/// Changes the receiver of a deposit, and with it the key.
fn send(deposit: &mut Transfer, to: &str) {
    (deposit.key, deposit.to) = (to.into(), to.into());
}

#[test]
fn each_row_refuses_with_its_text() {
    for (original, wrong) in [(payment(), &WRONG[..]), (cash_deposit(BOB.as_str(), 100), &WRONG_DEPOSIT)] {
        for (row, reason, spoil, _) in wrong {
            let mut command = original.clone();
            spoil(&mut command);
            println!("{row}");
            refuses(command, reason);
        }
    }
}

/// Two things are wrong, brought about in either order: the row that comes first in the contract decides.
#[test]
fn the_first_row_that_matches_decides() {
    let mut pairs = std::collections::BTreeSet::new();
    for (original, wrong) in [(payment(), &WRONG[..]), (cash_deposit(BOB.as_str(), 100), &WRONG_DEPOSIT)] {
        for (at, (earlier, reason, spoil_first, first_holds)) in wrong.iter().enumerate() {
            for (later, _, spoil_then, then_holds) in &wrong[at + 1..] {
                let (mut one, mut other) = (original.clone(), original.clone());
                spoil_first(&mut one);
                spoil_then(&mut one);
                spoil_then(&mut other);
                spoil_first(&mut other);
                // Rows that exclude each other have no common case.
                for both in [one, other].into_iter().filter(|both| first_holds(both) && then_holds(both)) {
                    println!("{earlier} before {later}");
                    pairs.insert((original.from.clone(), *earlier, *later));
                    refuses(both, reason);
                }
            }
        }
    }
    // Excluding each other: for payments c and j (both the amount), and any two of f, i, l (all the receiver); for
    // deposits any two of f, i, k, l.
    assert_eq!(pairs.len(), (36 - 1 - 3) + (21 - 6), "{pairs:?}");
}

fn payment() -> Transfer {
    transfer("alice", ALICE, BOB.as_str(), 100)
}

#[test]
fn c06_from_is_invalid() {
    for from in ["bla", "", "Cash", "NL83OPEN0104642752", "nl12open0000000002", "NL91ABNA0417164300"] {
        refuses(Transfer { from: from.into(), ..transfer("alice", ALICE, BOB.as_str(), 1) }, "from is invalid");
    }
}

#[test]
fn c07_from_and_to_are_the_same_for_cash_too() {
    refuses(cash_deposit(CASH, 1), "from and to can't be same for transfer");
}

#[test]
fn c08_invalid_token() {
    for token in ["", "cash", "00000000000000000000", token_of(BOB).as_str()] {
        refuses(Transfer { token: Token::new(token), ..transfer("alice", ALICE, BOB.as_str(), 1) }, "invalid token");
    }
}

fn token_of(iban: Iban) -> Token {
    Stage::of(0, 2).config.tokens.token(&iban)
}

#[test]
fn c09_exactly_the_limit_is_allowed_and_one_cent_more_is_not() {
    let to = account(BOB, "bob", 0);
    for (balance, reserved, amount, enough) in [
        (0, 0, 50_000, true),
        (0, 0, 50_001, false),
        (-50_000, 0, 1, false),
        (-49_999, 0, 1, true),
        (1_000, 500, 50_500, true),
        (1_000, 500, 50_501, false),
        (1_000, 0, i64::MAX, false),
    ] {
        let from = Account { reserved: Cents(reserved), ..account(ALICE, "alice", balance) };
        for to_text in [BOB.as_str(), CAROL.as_str(), "a shop"] {
            let decided = given([from.clone(), to.clone()]).when(transfer("alice", ALICE, to_text, amount));
            let refusal = transfer_failed("alice", "insufficient funds");
            let events = decided.decision.unwrap().events;
            assert_eq!(!events.contains(&refusal), enough, "{balance} {reserved} {amount} {to_text}");
        }
    }
}

#[test]
fn c17_amounts_must_be_positive() {
    for amount in [0, -1, i64::MIN] {
        refuses(transfer("alice", ALICE, BOB.as_str(), amount), "amount must be positive");
        refuses(cash_deposit(BOB.as_str(), amount), "amount must be positive");
    }
}

#[test]
fn a_description_of_140_characters_is_not_too_long() {
    let command = Transfer { description: "é".repeat(140), ..transfer("alice", ALICE, BOB.as_str(), 1) };
    assert_eq!(given(accounts()).when(command).decision.unwrap().verdict, Verdict::Accepted);
}

#[test]
fn c05_both_accounts_change_in_one_step() {
    let command = transfer("alice", ALICE, BOB.as_str(), 250);
    let outcome = outcome_of(&command, confirmed());
    let rows = [
        Row::Account(Account { sequence: 1, ..account(ALICE, "alice", 750) }),
        Row::Account(Account { sequence: 1, ..account(BOB, "bob", 350) }),
        Row::Outcome(outcome.clone()),
    ];
    given(accounts())
        .when(command)
        .then(
            Verdict::Accepted,
            [
                balance_changed(ALICE, 750, -250, BOB.as_str(), 1, 0),
                balance_changed(BOB, 350, 250, ALICE.as_str(), 1, 1),
                Event::OutcomeRecorded(outcome),
                transfer_confirmed("alice"),
            ],
        )
        .rows(rows);
}

#[test]
fn c16_the_sequence_of_an_account_goes_on() {
    let from = Account { sequence: 41, ..account(ALICE, "alice", 1_000) };
    let decision = given([from]).when(transfer("alice", ALICE, "a shop", 1)).decision.unwrap();
    assert_eq!(decision.events[0], balance_changed(ALICE, 999, -1, "a shop", 42, 0));
    assert_eq!(decision.last_transaction(), Some(2));
}

#[test]
fn c15_a_transfer_may_be_keyed_by_the_iban_and_so_is_its_feedback() {
    let command = Transfer { key: ALICE.to_string(), ..transfer("alice", ALICE, BOB.as_str(), 1) };
    let events = given(accounts()).when(command).decision.unwrap().events;
    assert_eq!(events.last(), Some(&transfer_confirmed(ALICE.as_str())));
}

#[test]
fn rule_0_the_key_must_give_the_right_to_from() {
    for key in ["bob", "", BOB.as_str(), CASH, "Alice"] {
        let command = Transfer { key: key.into(), ..transfer("alice", ALICE, BOB.as_str(), 1) };
        refuses(command, "from does not belong to user");
    }
    for key in ["bob", "", ALICE.as_str(), CASH] {
        refuses(Transfer { key: key.into(), ..cash_deposit(BOB.as_str(), 1) }, "from does not belong to user");
    }
}

#[test]
fn an_unknown_from_credits_nobody() {
    refuses(transfer("alice", NOBODY, BOB.as_str(), 1), "from does not belong to user");
}

#[test]
fn c10_a_deposit_credits_only() {
    let command = cash_deposit(BOB.as_str(), 20);
    let outcome = outcome_of(&command, confirmed());
    given([account(BOB, "bob", 100)])
        .when(command)
        .then(
            Verdict::Accepted,
            [
                balance_changed(BOB, 120, 20, "cash", 1, 0),
                Event::OutcomeRecorded(outcome.clone()),
                transfer_confirmed(BOB.as_str()),
            ],
        )
        .rows([Row::Account(Account { sequence: 1, ..account(BOB, "bob", 120) }), Row::Outcome(outcome)]);
}

#[test]
fn c11_money_leaves_to_cash_shops_and_foreign_ibans() {
    for to in ["cash", "a shop", "NL91ABNA0417164300", "BE66OPEN0000000000", ""] {
        let command = transfer("alice", ALICE, to, 400);
        let outcome = outcome_of(&command, confirmed());
        given(accounts()).when(command).then(
            Verdict::Accepted,
            [balance_changed(ALICE, 600, -400, to, 1, 0), Event::OutcomeRecorded(outcome), transfer_confirmed("alice")],
        );
    }
}

#[test]
fn c12_cash_to_nobody_known() {
    for to in ["a shop", "NL91ABNA0417164300", "", NOBODY.as_str()] {
        refuses(cash_deposit(to, 1), "both to and from not known at this bank");
    }
}

#[test]
fn money_for_a_mistyped_own_iban_does_not_vanish() {
    for to in ["NL83OPEN0104642752", "nl55open0000000004", "NL55OPEN000000000", "NL55OPEN00000000044"] {
        refuses(transfer("alice", ALICE, to, 1), "to is invalid");
        refuses(cash_deposit(to, 1), "to is invalid");
    }
}

#[test]
fn nobody_is_paid_whose_name_fits_into_no_page() {
    let longest = "s".repeat(crate::NAME_BYTES_MAX);
    let funded = given([account(ALICE, "alice", 10)]);
    let paid = funded.when(transfer("alice", ALICE, &longest, 1)).decision.unwrap();
    assert_eq!(paid.verdict, Verdict::Accepted);
    refuses(transfer("alice", ALICE, &format!("{longest}s"), 1), "to is invalid");
}

#[test]
fn c13_an_unknown_own_receiver_moves_nothing() {
    refuses(transfer("alice", ALICE, NOBODY.as_str(), 1), "to is not known at this bank");
}

#[test]
fn an_overflow_of_the_receiver_is_a_refusal_and_moves_nothing() {
    let full = vec![account(ALICE, "alice", 1_000), account(BOB, "bob", i64::MAX)];
    for command in [transfer("alice", ALICE, BOB.as_str(), 1), cash_deposit(BOB.as_str(), 1)] {
        let outcome = outcome_of(&command, refused("amount is too large"));
        given(full.clone())
            .when(command)
            .then(
                Verdict::Refused,
                [Event::OutcomeRecorded(outcome.clone()), transfer_failed(&outcome.key, "amount is too large")],
            )
            .rows([Row::Outcome(outcome)]);
    }
}

#[test]
fn another_partition_is_asked_and_the_money_set_aside() {
    let command = transfer("alice", ALICE, CAROL.as_str(), 250);
    let reservation = Reservation { from: ALICE, to: CAROL, amount: Cents(250), description: "rent".into() };
    let outcome = outcome_of(&command, OutcomeState::Pending(reservation));
    let request = CreditRequested {
        id: ID,
        from: ALICE,
        to: CAROL,
        amount: Cents(250),
        description: "rent".into(),
        time_ms: NOW_MS,
    };
    let before = Account { reserved: Cents(50), ..account(ALICE, "alice", 1_000) };
    let after = Account { reserved: Cents(300), ..before.clone() };
    given([before])
        .when(command)
        .then(
            Verdict::Pending,
            [
                Event::Reserved { iban: ALICE, reserved: Cents(300) },
                Event::CreditRequested(request),
                Event::OutcomeRecorded(outcome.clone()),
            ],
        )
        .rows([Row::Account(after), Row::Outcome(outcome)]);
}

#[test]
fn the_sum_of_reservations_does_not_overflow() {
    let rich = Account { reserved: Cents(i64::MAX), limit: Cents(i64::MIN), ..account(ALICE, "alice", i64::MAX) };
    let decision = given([rich]).when(transfer("alice", ALICE, CAROL.as_str(), 1)).decision.unwrap();
    assert_eq!(decision.events[1], transfer_failed("alice", "amount is too large"));
}

#[test]
fn c14_the_same_command_again_gives_the_earlier_feedback_and_nothing_else() {
    let command = transfer("alice", ALICE, BOB.as_str(), 250);
    for (state, feedback) in [
        (confirmed(), vec![transfer_confirmed("alice")]),
        (refused("insufficient funds"), vec![transfer_failed("alice", "insufficient funds")]),
        (pending(), vec![]),
    ] {
        // Spoiled money does not matter: the row a comes before all others.
        given([account(ALICE, "alice", -50_000)])
            .outcome(outcome_of(&command, state))
            .when(command.clone())
            .then(Verdict::Repeated, feedback)
            .rows([]);
    }
}

#[test]
fn the_same_command_under_another_key_is_answered_under_that_key() {
    let command = transfer("alice", ALICE, BOB.as_str(), 250);
    let again = Transfer { key: ALICE.to_string(), ..command.clone() };
    given([])
        .outcome(outcome_of(&command, confirmed()))
        .when(again)
        .then(Verdict::Repeated, [transfer_confirmed(ALICE.as_str())]);
}

#[test]
fn another_body_with_a_known_id_is_refused_before_anything_else() {
    let first = transfer("alice", ALICE, BOB.as_str(), 250);
    for state in [confirmed(), refused("insufficient funds"), pending()] {
        for (_, _, spoil, _) in WRONG {
            let mut other = first.clone();
            spoil(&mut other);
            if other.key != first.key {
                continue;
            }
            given(accounts())
                .outcome(outcome_of(&first, state.clone()))
                .when(other)
                .then(Verdict::Refused, [transfer_failed("alice", "id was used for another transfer")])
                .rows([]);
        }
    }
}

#[test]
fn an_id_of_an_account_creation_is_known_to_transfers() {
    let command = transfer("alice", ALICE, BOB.as_str(), 250);
    let creation = Outcome {
        fingerprint: Fingerprint([0; 16]),
        kind: OutcomeKind::Account,
        ..outcome_of(&command, OutcomeState::Confirmed { iban: Some(ALICE), credit: None })
    };
    given(accounts())
        .outcome(creation)
        .when(command)
        .then(Verdict::Refused, [transfer_failed("alice", "id was used for another transfer")])
        .rows([]);
}

#[test]
fn the_company_pays_with_its_configured_token() {
    let company = account(Iban::COMPANY, Iban::COMPANY.as_str(), 1_000_000);
    let command = Transfer {
        token: Token::new("00000000000000000000"),
        ..transfer(Iban::COMPANY.as_str(), Iban::COMPANY, BOB.as_str(), 100)
    };
    let decision = given([company, account(BOB, "bob", 0)]).when(command).decision.unwrap();
    assert_eq!(decision.verdict, Verdict::Accepted);
}

#[test]
fn debugging_shows_no_token() {
    let command = transfer("alice", ALICE, BOB.as_str(), 1);
    assert!(!format!("{command:?}").contains(command.token.as_str()));
}

fn pending() -> OutcomeState {
    OutcomeState::Pending(Reservation { from: ALICE, to: BOB, amount: Cents(250), description: "rent".into() })
}
