//! Accounts: opened once, named once, numbered once.

use super::*;
use crate::testing::*;
use crate::{AccountType, Cents, CommandId, Context, PasswordHash, Row};

const NAME: &str = "username0";

fn creation(username: &str) -> AccountCreation {
    AccountCreation {
        key: username.into(),
        id: ID,
        username: username.into(),
        account_type: AccountType::Auto,
        password_hash: Some(PasswordHash::new("$argon2id$secret")),
    }
}

fn outcome(command: &AccountCreation, state: OutcomeState) -> Outcome {
    let stage = Stage::of(0, 2);
    Outcome::of_account_creation(command, state, &stage.context())
}

fn opened_as(iban: Iban) -> OutcomeState {
    OutcomeState::Confirmed { iban: Some(iban), credit: None }
}

fn confirmation(iban: Iban) -> Event {
    Event::AccountCreationConfirmed {
        key: NAME.into(),
        id: ID,
        iban,
        token: Stage::of(0, 2).config.tokens.token(&iban),
        account_type: AccountType::Auto,
    }
}

fn failure(key: &str, reason: &str) -> Event {
    Event::AccountCreationFailed { key: key.into(), id: ID, reason: reason.into() }
}

fn drawn(nth: usize) -> Iban {
    candidates(ID, &Stage::of(0, 2).context()).nth(nth).unwrap()
}

#[track_caller]
fn refuses(given: Given, command: AccountCreation, reason: &str) {
    let recorded = outcome(&command, refused(reason));
    let key = command.key.clone();
    given
        .when(command)
        .then(Verdict::Refused, [Event::OutcomeRecorded(recorded.clone()), failure(&key, reason)])
        .rows([Row::Outcome(recorded)]);
}

#[test]
fn c01_a_new_account_is_empty_with_an_overdraft() {
    let iban = drawn(0);
    let account = Account {
        iban,
        username: NAME.into(),
        balance: Cents(0),
        reserved: Cents(0),
        limit: Cents(-50_000),
        sequence: 0,
        account_type: AccountType::Auto,
        opened_ms: NOW_MS,
    };
    let user = User {
        username: NAME.into(),
        password_hash: Some(PasswordHash::new("$argon2id$secret")),
        account_creation_id: ID,
        ibans: vec![iban],
    };
    let recorded = outcome(&creation(NAME), opened_as(iban));
    given([])
        .when(creation(NAME))
        .then(
            Verdict::Accepted,
            [
                Event::AccountOpened(account.clone()),
                Event::UserRegistered(user.clone()),
                Event::OutcomeRecorded(recorded.clone()),
                confirmation(iban),
            ],
        )
        .rows([Row::Account(account), Row::User(user), Row::Outcome(recorded)]);
}

#[test]
fn the_new_iban_lies_in_the_partition_of_its_user() {
    let stage = Stage::of(0, 2);
    let Context { partition_of, .. } = stage.context();
    for byte in 0..50 {
        let command = AccountCreation { id: CommandId([byte; 16]), ..creation(NAME) };
        let rows = given([]).when(command).decision.unwrap().rows;
        let Some(Row::Account(account)) = rows.first() else { panic!("{rows:?}") };
        assert_eq!(partition_of(account.iban.as_str()), partition_of(NAME));
    }
}

#[test]
fn c02_the_same_command_again_gives_the_same_iban_and_token_and_no_account() {
    let again = AccountCreation { password_hash: Some(PasswordHash::new("$argon2id$another salt")), ..creation(NAME) };
    let user = User { username: NAME.into(), password_hash: None, account_creation_id: ID, ibans: vec![drawn(0)] };
    given([account(drawn(0), NAME, 0)])
        .user(user)
        .outcome(outcome(&creation(NAME), opened_as(drawn(0))))
        .when(again)
        .then(Verdict::Repeated, [confirmation(drawn(0))])
        .rows([]);
}

#[test]
fn c02_a_refusal_is_repeated_as_well() {
    given([])
        .outcome(outcome(&creation(NAME), refused("username already exists")))
        .when(creation(NAME))
        .then(Verdict::Repeated, [failure(NAME, "username already exists")])
        .rows([]);
}

#[test]
fn an_id_is_for_one_command() {
    let first = outcome(&creation(NAME), opened_as(drawn(0)));
    let others = [creation("username2"), AccountCreation { account_type: AccountType::Manual, ..creation(NAME) }];
    for other in others {
        let key = other.key.clone();
        given([])
            .outcome(first.clone())
            .when(other)
            .then(Verdict::Refused, [failure(&key, "id was used for another command")])
            .rows([]);
    }
    let of_transfer = outcome_of(&transfer("alice", ALICE, BOB.as_str(), 1), confirmed());
    given([])
        .outcome(of_transfer)
        .when(creation(NAME))
        .then(Verdict::Refused, [failure(NAME, "id was used for another command")]);
}

#[test]
fn a_name_exists_once() {
    let user = User {
        username: NAME.into(),
        password_hash: None,
        account_creation_id: CommandId([1; 16]),
        ibans: vec![ALICE],
    };
    refuses(given([]).user(user), creation(NAME), "username already exists");
}

#[test]
fn names_that_could_be_taken_for_accounts_are_refused() {
    for name in [
        "",
        "cash",
        "NL66OPEN0000000000",
        "NL83OPEN0104642752",
        "nl66open0000000000",
        "NL91ABNA0417164300",
        "MT84MALT011000012345MTLCAST001S",
    ] {
        refuses(given([]), creation(name), "username is not allowed");
    }
    for name in ["cashier0", "cash flow", "nl12fredericks", "AB12", "ééééééé0", "NL12 with spaces"] {
        assert_eq!(given([]).when(creation(name)).decision.unwrap().verdict, Verdict::Accepted, "{name}");
    }
}

#[test]
fn names_are_no_longer_than_a_page_can_carry() {
    let longest = "é".repeat(crate::NAME_BYTES_MAX / 2);
    assert_eq!(given([]).when(creation(&longest)).decision.unwrap().verdict, Verdict::Accepted);
    refuses(given([]), creation(&format!("{longest}e")), "username is not allowed");
}

#[test]
fn only_the_partition_of_the_name_can_say_whether_it_is_free() {
    let command = AccountCreation { key: "another key".into(), ..creation(NAME) };
    refuses(given([]), command, "key is not the username");
}

#[test]
fn an_iban_that_is_taken_is_drawn_again() {
    let taken = [account(drawn(0), "one", 0), account(drawn(1), "two", 0)];
    let events = given(taken).when(creation(NAME)).decision.unwrap().events;
    assert_eq!(events.last(), Some(&confirmation(drawn(2))));
}

#[test]
fn c03_when_all_draws_are_taken_the_creation_fails_and_no_account_or_user_is_made() {
    let reason = "generated iban already exists, try again";
    refuses(given([account(drawn(0), "one", 0)]).iban_draws_max(1), creation(NAME), reason);
    refuses(given([]).iban_draws_max(0), creation(NAME), reason);
}

#[test]
fn g15_after_a_failed_creation_the_name_is_free() {
    let failed = given([]).iban_draws_max(0).when(creation(NAME)).decision.unwrap();
    assert!(failed.rows.iter().all(|row| matches!(row, Row::Outcome(_))));
    // Another id finds another outcome row, none, and no user.
    let command = AccountCreation { id: CommandId([1; 16]), ..creation(NAME) };
    assert_eq!(given([]).when(command).decision.unwrap().verdict, Verdict::Accepted);
}

#[test]
fn debugging_shows_neither_hash_nor_token() {
    let shown = format!("{:?}", given([]).when(creation(NAME)).decision.unwrap());
    assert!(!shown.contains("argon2id") && !shown.contains(Stage::of(0, 2).config.tokens.token(&drawn(0)).as_str()));
}
