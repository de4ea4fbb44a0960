//! Open subscriptions: what each filter lets pass, and how subscriptions end.

use crate::rows::{LEGACY, TRANSPORT};
use crate::socket::{Client, Heard};
use crate::support::{Bank, Holder, PATIENCE, address, deposit, holder, holder_in, pay, payment, transfer};
use kontor_compose::eventually;
use kontor_compose::testing::GraphQl;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Of transfers until each subscription hears something, and of the last ones.
const BEGIN: &str = "huur begin";
const END: &str = "huur einde";

/// What each subscription of one connection has heard, by its id: account, cents and description.
type Ears = Arc<Mutex<BTreeMap<String, Vec<(String, i64, String)>>>>;

/// Hears until the connection ends.
async fn listen(mut client: Client, ears: Ears) {
    while let Heard::Message(message) = client.hear().await {
        assert_eq!(message["type"], "next", "{message}");
        let row = &message["payload"]["data"]["stream_transactions"];
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let heard = (text("iban"), text("amount_cents").parse().unwrap(), text("descr"));
        ears.lock().entry(message["id"].as_str().unwrap().to_owned()).or_default().push(heard);
    }
}

/// Both pay each other, so that the last rows of both accounts meet every filter.
async fn both_pay(bank: &Bank, one: &Holder, other: &Holder, descr: &str) {
    pay(&bank.api(), payment(Uuid::now_v7(), one, &other.iban, 1000), descr).await;
    pay(&bank.api(), payment(Uuid::now_v7(), other, &one.iban, 1200), descr).await;
}

/// Amounts below, at and above the bounds of the filters, in both directions, with and without the word.
async fn pay_this_and_that(api: &GraphQl, a: &Holder, b: &Holder) {
    let to_b = |cents: i64| payment(Uuid::now_v7(), a, &b.iban, cents);
    let to_a = |cents: i64| payment(Uuid::now_v7(), b, &a.iban, cents);
    pay(api, to_b(100), "Brood").await;
    pay(api, to_a(500), "Huur april").await;
    pay(api, to_b(2000), "HUUR mei").await;
    pay(api, to_b(2001), "boek").await;
    pay(api, to_a(499), "huurachterstand").await;
    pay(api, payment(Uuid::now_v7(), a, "shop", 1500), "De huur").await;
    pay(api, deposit(Uuid::now_v7(), &b.iban, 3000), "storting").await;
    pay(api, to_b(700), "koffie").await;
    pay(api, to_b(300), "huur van een fiets").await;
    pay(api, to_b(2500), "huur van een jaar").await;
}

#[tokio::test]
async fn g05_to_g10_each_filter_of_a_subscription_lets_exactly_its_rows_pass() {
    let bank = Bank::open("filters").await;
    let api = bank.api();
    let [a, b] = [holder_in(&api, 2).await, holder_in(&api, 7).await];
    let only_a = format!("iban: \"{}\"", a.iban);
    let all_of_them =
        format!("{only_a}, min_amount: 500, max_amount: 2000, direction: DEBIT, descr_includes: \"hUUr\"");
    // Cents of the rows of `a` and of `b` that each lets pass, in the order of their commits.
    let wanted: [(&str, &[i64], &[i64]); 8] = [
        (
            "",
            &[-100, 500, -2000, -2001, 499, -1500, -700, -300, -2500, -1000, 1200],
            &[100, -500, 2000, 2001, -499, 3000, 700, 300, 2500, 1000, -1200],
        ),
        (&only_a, &[-100, 500, -2000, -2001, 499, -1500, -700, -300, -2500, -1000, 1200], &[]),
        (
            "min_amount: 500",
            &[500, -2000, -2001, -1500, -700, -2500, -1000, 1200],
            &[-500, 2000, 2001, 3000, 700, 2500, 1000, -1200],
        ),
        (
            "max_amount: 2000",
            &[-100, 500, -2000, 499, -1500, -700, -300, -1000, 1200],
            &[100, -500, 2000, -499, 700, 300, 1000, -1200],
        ),
        ("direction: DEBIT", &[-100, -2000, -2001, -1500, -700, -300, -2500, -1000], &[-500, -499, -1200]),
        ("direction: CREDIT", &[500, 499, 1200], &[100, 2000, 2001, 3000, 700, 300, 2500, 1000]),
        (
            "descr_includes: \"hUUr\"",
            &[500, -2000, 499, -1500, -300, -2500, -1000, 1200],
            &[-500, 2000, -499, 300, 2500, 1000, -1200],
        ),
        (&all_of_them, &[-2000, -1500, -1000], &[]),
    ];
    let mut client = Client::introduced(address(&bank.gateway), TRANSPORT).await;
    for (filter, ..) in &wanted {
        let arguments = if filter.is_empty() { String::new() } else { format!("({filter})") };
        let document = format!("subscription {{ stream_transactions{arguments} {{ iban amount_cents descr }} }}");
        client.subscribe(&format!("({filter})"), &document).await;
    }
    let ears = Ears::default();
    let listening = tokio::spawn(listen(client, Arc::clone(&ears)));
    // Subscriptions begin a moment after they are asked for.
    let begun = async || {
        both_pay(&bank, &a, &b, BEGIN).await;
        ears.lock().len() == wanted.len()
    };
    eventually(PATIENCE, "every subscription has begun", begun).await.unwrap();

    pay_this_and_that(&api, &a, &b).await;
    both_pay(&bank, &a, &b, END).await;

    // The rows of an account come in their order, so whoever has heard its last has heard all.
    let ended = |filter: &str, (of_a, of_b): (&[i64], &[i64])| {
        let ears = ears.lock();
        let has_heard = |holder: &Holder, rows: &[i64]| {
            let is_last =
                |row: &(String, i64, String)| row.2 == END && row.0 == holder.iban && Some(&row.1) == rows.last();
            rows.is_empty() || ears[&format!("({filter})")].iter().any(is_last)
        };
        has_heard(&a, of_a) && has_heard(&b, of_b)
    };
    let all_ended = async || wanted.iter().all(|(filter, of_a, of_b)| ended(filter, (of_a, of_b)));
    eventually(PATIENCE, "every subscription has heard the last", all_ended).await.unwrap();
    let ears = ears.lock();
    let heard = wanted.map(|(filter, ..)| {
        let rows = &ears[&format!("({filter})")];
        assert!(rows.iter().all(|(iban, ..)| *iban == a.iban || *iban == b.iban));
        let of = |holder: &Holder| {
            let own = rows.iter().filter(|(iban, _, descr)| *iban == holder.iban && descr != BEGIN);
            own.map(|(_, cents, _)| *cents).collect::<Vec<_>>()
        };
        (filter, of(&a), of(&b))
    });
    assert_eq!(heard, wanted.map(|(filter, of_a, of_b)| (filter, of_a.to_vec(), of_b.to_vec())));
    assert!(!listening.is_finished());
    listening.abort();
}

/// By the readiness and by the metrics of the gateway.
async fn until_open(bank: &Bank, count: u32) {
    let are_open = async || {
        let (_, readiness) = bank.gateway.get("/readyz").await.unwrap();
        let (_, metrics) = bank.gateway.get("/metrics").await.unwrap();
        serde_json::from_str::<Value>(&readiness).unwrap()["active_subscriptions"] == count
            && metrics.lines().any(|line| line == format!("kontor_subscriptions_active {count}"))
    };
    eventually(PATIENCE, &format!("{count} subscriptions are open"), are_open).await.unwrap();
}

/// Deposits until a subscription of this connection hears one; its id.
async fn hear_a_deposit(bank: &Bank, client: &mut Client, iban: &str) -> Value {
    let deposits = async {
        loop {
            transfer(&bank.api(), deposit(Uuid::now_v7(), iban, 1)).await;
        }
    };
    tokio::select! {
        data = client.expect("data") => data["id"].clone(),
        () = deposits => unreachable!("depositing never ends"),
    }
}

/// As the predecessors' clients do.
async fn assert_started_and_stopped(bank: &Bank) {
    let api = bank.api();
    let somebody = holder(&api, "somebody").await;
    let document = "subscription { stream_transactions { amount_cents } }";
    let mut client = Client::connect(address(&bank.gateway), LEGACY).await;
    // These clients do not wait for the acknowledgement.
    client.say(json!({ "type": "connection_init", "payload": null })).await;
    client.start("first", document).await;
    client.expect("connection_ack").await;
    assert_eq!(hear_a_deposit(bank, &mut client, &somebody.iban).await, "first");
    client.start("second", document).await;
    while hear_a_deposit(bank, &mut client, &somebody.iban).await != "second" {}
    until_open(bank, 2).await;

    client.say(json!({ "type": "stop", "id": "first" })).await;
    until_open(bank, 1).await;
    transfer(&api, deposit(Uuid::now_v7(), &somebody.iban, 4711)).await;
    let mut stopped = false;
    loop {
        let Heard::Message(message) = client.hear().await else { panic!("the connection ended") };
        if message["type"] == "complete" {
            assert_eq!((&message["id"], stopped), (&json!("first"), false), "{message}");
            stopped = true;
            continue;
        }
        assert!(!stopped || message["id"] == "second", "after its end: {message}");
        if message["payload"]["data"]["stream_transactions"]["amount_cents"] == "4711" {
            assert!(stopped, "stopped before that deposit: {message}");
            break;
        }
    }
    client.say(json!({ "type": "stop", "id": "second" })).await;
    until_open(bank, 0).await;
}

/// By a word, by a farewell, by nothing.
async fn assert_gone_with_their_clients(bank: &Bank) {
    let document = "subscription { stream_transactions { id } }";
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::introduced(address(&bank.gateway), TRANSPORT).await;
        client.subscribe("1", document).await;
        client.subscribe("2", document).await;
        clients.push(client);
    }
    until_open(bank, 6).await;
    let [mut completes, closes, vanishes] = <[Client; 3]>::try_from(clients).ok().unwrap();
    completes.say(json!({ "type": "complete", "id": "1" })).await;
    until_open(bank, 5).await;
    completes.say(json!({ "type": "complete", "id": "2" })).await;
    until_open(bank, 4).await;
    closes.close().await;
    until_open(bank, 2).await;
    vanishes.vanish();
    until_open(bank, 0).await;
}

#[tokio::test]
async fn g22_g23_the_older_protocol_starts_and_stops_and_no_subscription_outlives_its_client() {
    let bank = Bank::open("unsubscribe").await;
    assert_started_and_stopped(&bank).await;
    assert_gone_with_their_clients(&bank).await;
}
