//! Live transactions from a real processor.

use crate::socket::{Client, Heard};
use crate::support::{Bank, PATIENCE, address, deposit, holder, holder_in, payment, transfer};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

const TRANSPORT: &str = "graphql-transport-ws";

fn watch(arguments: &str) -> String {
    format!("subscription {{ stream_transactions{arguments} {{ id iban amount_cents descr cursor }} }}")
}

async fn next(client: &mut Client) -> Value {
    client.expect("next").await["payload"]["data"]["stream_transactions"].clone()
}

/// Subscriptions begin a moment after they are asked for: deposits of this many cents until one is heard.
async fn surely_live(bank: &Bank, client: &mut Client, iban: &str, cents: i64) {
    for _ in 0..100 {
        transfer(&bank.api(), deposit(Uuid::now_v7(), iban, cents)).await;
        let wait = tokio::time::timeout(Duration::from_millis(200), client.hear()).await;
        if let Ok(Heard::Message(message)) = wait {
            assert_eq!(message["type"], "next", "{message}");
            return;
        }
    }
    panic!("nothing is heard");
}

/// The next one that is no deposit of a few cents.
async fn next_large(client: &mut Client) -> Value {
    loop {
        let transaction = next(client).await;
        if transaction["amount_cents"].as_str().is_some_and(|cents| cents.len() > 1) {
            return transaction;
        }
    }
}

#[tokio::test]
async fn transactions_are_pushed_filtered_and_resume_after_a_processor_died() {
    let mut bank = Bank::open("live").await;
    let api = bank.api();
    let payer = holder(&api, "somebody").await;
    let receiver = holder(&api, "receiver").await;
    transfer(&api, deposit(Uuid::now_v7(), &payer.iban, 100_000)).await;

    let mut all = Client::introduced(address(&bank.gateway), TRANSPORT).await;
    all.subscribe("1", &watch("")).await;
    let mut credits = Client::introduced(address(&bank.gateway), TRANSPORT).await;
    credits.subscribe("1", &watch(&format!("(iban: \"{}\", direction: CREDIT)", receiver.iban))).await;
    surely_live(&bank, &mut all, &receiver.iban, 1).await;
    surely_live(&bank, &mut credits, &receiver.iban, 2).await;

    assert_eq!(transfer(&api, payment(Uuid::now_v7(), &payer, &receiver.iban, 1234)).await["success"], true);
    let mut seen = [next_large(&mut all).await, next_large(&mut all).await];
    seen.sort_by_key(|row| row["amount_cents"].as_str().unwrap().to_owned());
    assert_eq!((&seen[0]["amount_cents"], &seen[0]["iban"]), (&json!("-1234"), &json!(payer.iban)));
    assert_eq!((&seen[1]["amount_cents"], &seen[1]["iban"]), (&json!("1234"), &json!(receiver.iban)));
    assert_eq!(next_large(&mut credits).await["amount_cents"], "1234");
    let cursor = seen.iter().map(|row| row["cursor"].as_str().unwrap().to_owned()).max_by_key(String::len).unwrap();

    bank.processor.kill9();
    bank.processor.start().unwrap();
    bank.processor.wait_ready(PATIENCE).await.unwrap();
    assert_eq!(transfer(&api, deposit(Uuid::now_v7(), &receiver.iban, 77)).await["success"], true);
    assert_eq!(next(&mut all).await["amount_cents"], "77", "neither gap nor duplicate");
    assert_eq!(next(&mut credits).await["amount_cents"], "77");

    // Another gateway takes the cursor of the first.
    let second = bank.second_gateway().await;
    let mut resumed = Client::introduced(address(&second), TRANSPORT).await;
    resumed.subscribe("1", &watch(&format!("(after: \"{cursor}\", min_amount: 70, max_amount: 80)"))).await;
    assert_eq!(next(&mut resumed).await["amount_cents"], "77");
}

/// Across partitions: three transactions one after the other. The bound is loose, because other tests run beside it.
#[tokio::test]
async fn g04_a_transfer_is_pushed_to_an_open_subscription_within_the_latency_target() {
    let bank = Bank::open("pushed").await;
    let api = bank.api();
    let [payer, payee] = [holder_in(&api, 4).await, holder_in(&api, 11).await];
    let mut client = Client::introduced(address(&bank.gateway), TRANSPORT).await;
    client.subscribe("1", &watch(&format!("(iban: \"{}\")", payee.iban))).await;
    surely_live(&bank, &mut client, &payee.iban, 1).await;
    let mut delays = Vec::new();
    for cents in 100..150 {
        let sent = Instant::now();
        let pushed = async {
            let transaction = next_large(&mut client).await;
            (transaction, sent.elapsed())
        };
        let order = payment(Uuid::now_v7(), &payer, &payee.iban, cents);
        let (result, (transaction, delay)) = tokio::join!(transfer(&api, order), pushed);
        assert_eq!((&result["success"], &transaction["amount_cents"]), (&json!(true), &json!(cents.to_string())));
        delays.push(delay);
    }
    delays.sort();
    let (p50, p99) = (delays[delays.len() / 2 - 1], delays[delays.len() - 1]);
    println!("from the mutation to the push: {} transfers, p50 {p50:.1?}, p99 {p99:.1?}", delays.len());
    assert!(p50 < Duration::from_secs(1), "{delays:?}");
}

#[tokio::test]
async fn queries_see_the_history() {
    let bank = Bank::open("history").await;
    let api = bank.api();
    let account = holder(&api, "somebody").await;
    for cents in [100, 200, 300] {
        transfer(&api, deposit(Uuid::now_v7(), &account.iban, cents)).await;
    }
    let document = "query ($i: String!) { transactions_by_iban(iban: $i, max_items: 2) { id amount_cents new_balance } all_last_transactions { iban amount_cents } accounts(first: 100) { nodes { iban } } }";
    let complete = async || {
        let data = api.data(document, json!({ "i": account.iban })).await.unwrap();
        let newest = &data["transactions_by_iban"];
        (newest[0]["amount_cents"] == "300" && newest[1]["amount_cents"] == "200").then_some(data)
    };
    // The history is read from the topic of events, a moment behind the accounts.
    let data = kontor_compose::testing::eventually_some(PATIENCE, "the history is complete", complete).await.unwrap();
    assert_eq!(data["transactions_by_iban"][0]["new_balance"], "€ 6,00");
    assert_eq!(data["all_last_transactions"], json!([{ "iban": account.iban, "amount_cents": "300" }]));
    let ibans: Vec<&str> =
        data["accounts"]["nodes"].as_array().unwrap().iter().map(|node| node["iban"].as_str().unwrap()).collect();
    assert!(ibans.contains(&account.iban.as_str()) && ibans.contains(&"NL66OPEN0000000000"), "{ibans:?}");
    assert!(ibans.is_sorted());
    let id = &data["transactions_by_iban"][0]["id"];
    let one = api.data("query ($id: Int!) { transaction_by_id(id: $id) { amount_cents } }", json!({ "id": id })).await;
    assert_eq!(one.unwrap()["transaction_by_id"]["amount_cents"], "300");
}
