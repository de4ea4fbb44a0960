//! Reads that name how old rows may be, and what they must hold.

use crate::fake::two::Two;
use crate::fake::{World, text, transfer_document};
use gateway::query::read_token;
use gateway::serve::Behaviour;
use schemas::query::Token;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// How old the rows of the standby are.
const OLD_MS: u32 = 100;

/// The second processor follows the first one.
async fn with_standby() -> Two {
    let two = Two::with(Behaviour { query_timeout: Duration::from_millis(1500), ..Behaviour::default() }).await;
    two.b.stand_by(OLD_MS);
    two
}

fn account(iban: &str, arguments: &str) -> String {
    format!("{{ account(iban: \"{iban}\"{arguments}) {{ balance_cents stale }} }}")
}

fn code(response: &Value) -> String {
    text(&response["errors"][0]["extensions"]["code"])
}

#[tokio::test]
async fn as_long_as_the_owner_answers_nobody_else_is_asked() {
    let two = with_standby().await;
    let (iban, _) = two.world.open("somebody").await;
    let data = two.world.data(&account(&iban, ", max_staleness_ms: 60000")).await;
    assert_eq!(data["account"], json!({ "balance_cents": "0", "stale": false }));
    assert_eq!(two.b.calls(), 0);
}

#[tokio::test]
async fn a_standby_answers_for_an_owner_that_stands_still_and_only_who_asked_for_it_is_shown_old_rows() {
    let two = with_standby().await;
    let (iban, _) = two.world.open("somebody").await;
    two.world.deposit(&iban, 5, "").await;
    two.a.freeze();
    let data = two.world.data(&account(&iban, ", max_staleness_ms: 100")).await;
    assert_eq!(data["account"], json!({ "balance_cents": "5", "stale": true }));
    let pages = "accounts(max_staleness_ms: 100) { stale nodes { stale } } ";
    let history = format!("transactions(iban: \"{iban}\", max_staleness_ms: 100) {{ stale nodes {{ amount_cents }} }}");
    let data = two.world.data(&format!("{{ {pages} {history} }}")).await;
    assert_eq!(data["accounts"], json!({ "stale": true, "nodes": [{ "stale": true }] }));
    assert_eq!(data["transactions"], json!({ "stale": true, "nodes": [{ "amount_cents": "5" }] }));

    for too_little in ["", ", max_staleness_ms: 0", ", max_staleness_ms: 99"] {
        let response = two.world.execute(&account(&iban, too_little)).await;
        assert!(["TIMED_OUT", "UNAVAILABLE"].contains(&&*code(&response)), "{too_little}: {response}");
    }
    let response = two.world.execute(&account(&iban, ", max_staleness_ms: -1")).await;
    assert_eq!(code(&response), "BAD_INPUT", "{response}");
}

#[tokio::test]
async fn a_standby_answers_when_there_is_no_owner() {
    let two = with_standby().await;
    let (iban, _) = two.world.open("somebody").await;
    two.a.refuse(|| tonic::Status::unavailable("restoring"));
    two.orphan();
    let data = two.world.data(&account(&iban, ", max_staleness_ms: 100")).await;
    assert_eq!(data["account"]["stale"], true);
    assert_eq!(code(&two.world.execute(&account(&iban, "")).await), "UNAVAILABLE");
}

#[tokio::test]
async fn that_there_is_no_account_is_never_said_by_old_rows() {
    let two = with_standby().await;
    let fresh = two.world.data(&account("nobody", ", max_staleness_ms: 100")).await;
    assert_eq!(fresh["account"], Value::Null);
    two.a.freeze();
    let response = two.world.execute(&account("nobody", ", max_staleness_ms: 100")).await;
    assert_eq!(code(&response), "UNAVAILABLE", "{response}");
}

#[tokio::test]
async fn a_read_token_is_given_with_a_result_and_taken_by_every_read() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let document = transfer_document(&Uuid::now_v7().to_string(), "cash", "cash", &iban, 7, "");
    let document = document.replace("success", "success read_token");
    let token = text(&world.data(&document).await["money_transfer"]["read_token"]);
    assert!(!read_token::decode(&token, crate::fake::PARTITIONS).unwrap().is_empty());
    let data = world.data(&account(&iban, &format!(", at_least: \"{token}\""))).await;
    assert_eq!(data["account"]["balance_cents"], "7");
    let pages = format!(
        "{{ accounts(at_least: \"{token}\") {{ stale }} transactions(iban: \"{iban}\", at_least: \"{token}\") {{ stale }} }}"
    );
    assert_eq!(world.data(&pages).await["transactions"]["stale"], false);
    for foreign in ["nonsense", "", "AWEAAAAAAAAAGQAAAAAAAAAD"] {
        let response = world.execute(&account(&iban, &format!(", at_least: \"{foreign}\""))).await;
        assert_eq!(code(&response), "BAD_INPUT", "{foreign}: {response}");
    }
}

#[tokio::test]
async fn a_commit_that_nobody_has_is_stale_and_the_answer_says_how_far_it_is() {
    let two = with_standby().await;
    let (iban, _) = two.world.open("somebody").await;
    let partition = two.a.partition_of(&iban);
    let token = read_token::encode(&[Token { partition, commit_sequence: 99 }]);
    let stale = |response: &Value| response["errors"][0]["extensions"].clone();
    let wanted = json!({ "code": "STALE", "partition": partition, "have": 1, "want": 99 });
    let response = two.world.execute(&account(&iban, &format!(", at_least: \"{token}\""))).await;
    assert_eq!(stale(&response), wanted, "by the owner: {response}");
    two.a.freeze();
    let both = format!(", at_least: \"{token}\", max_staleness_ms: 100");
    let response = two.world.execute(&account(&iban, &both)).await;
    assert_eq!(stale(&response), wanted, "by the standby: {response}");
}
