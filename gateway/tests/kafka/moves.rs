//! Partitions that move under subscribers: none of them may notice more than a delay.

use crate::campaign::{Fleet, Plan, Subscribers, Traffic, Truth, wanted};
use crate::socket::Client;
use crate::support::{Holder, PATIENCE, address, deposit, transfer};
use kontor_compose::eventually;
use kontor_compose::testing::GraphQl;
use serde_json::json;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The cursor of everything until now: that of the last transaction which one subscriber of everything has heard.
pub async fn cursor_of_all(fleet: &Fleet, iban: &str) -> String {
    let mut client = Client::introduced(address(&fleet.gateways[0]), "graphql-transport-ws").await;
    client.subscribe("1", "subscription { stream_transactions { cursor } }").await;
    let api = fleet.gateways[0].graphql();
    // The subscription begins a moment after it is asked for: deposits until one is heard.
    let heard = async {
        loop {
            transfer(&api, deposit(Uuid::now_v7(), iban, 1)).await;
            if let Ok(message) = tokio::time::timeout(Duration::from_millis(200), client.expect("next")).await {
                return message;
            }
        }
    };
    let message = tokio::time::timeout(PATIENCE, heard).await.expect("one deposit is heard");
    message["payload"]["data"]["stream_transactions"]["cursor"].as_str().unwrap().to_owned()
}

/// The cursor of the newest transaction of an account.
async fn cursor_of(api: &GraphQl, iban: &str) -> String {
    let document = "query ($i: String!) { transactions(iban: $i, first: 1) { nodes { cursor } } }";
    let newest = async || {
        let data = api.data(document, json!({ "i": iban })).await.unwrap();
        data["transactions"]["nodes"][0]["cursor"].as_str().map(str::to_owned)
    };
    kontor_compose::eventually_some(PATIENCE, "the account has a transaction", newest).await.unwrap()
}

/// Every twentieth on everything, the others on one account each; two of three from a cursor; some of both kinds roam.
pub async fn plans(fleet: &Fleet, holders: &[Holder], count: usize) -> Vec<Plan> {
    let api = fleet.gateways[0].graphql();
    let all = cursor_of_all(fleet, &holders[0].iban).await;
    let mut own = Vec::new();
    for holder in holders {
        own.push(cursor_of(&api, &holder.iban).await);
    }
    let plan = |number: usize| {
        let holder = number % holders.len();
        let on_all = number % 20 == 7;
        let cursor = if on_all { &all } else { &own[holder] };
        Plan {
            iban: (!on_all).then(|| holders[holder].iban.clone()),
            after: (!number.is_multiple_of(3)).then(|| cursor.clone()),
            gateway: number / 2,
            roam_every: (number % 40 == 7 || number % 10 == 3).then_some(if on_all { 40 } else { 4 }),
        }
    };
    (0..count).map(plan).collect()
}

/// Waits until every subscriber has heard everything, and compares. Nothing may be under way any more.
pub async fn assert_all_heard(fleet: &Fleet, subscribers: &Subscribers) -> (Truth, usize) {
    let truth = Truth::read(&fleet.space).await;
    let expected = truth.counts(&subscribers.plans, &subscribers.heard());
    let complete = async || subscribers.counts().iter().zip(&expected).all(|(heard, expected)| heard >= expected);
    // Who is late is named by the comparison.
    let _ = eventually(PATIENCE, "everything is heard", complete).await;
    let heard = truth.assert_heard(&subscribers.plans, &subscribers.heard());
    (truth, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn e07_every_subscriber_hears_everything_once_and_in_order_while_partitions_move() {
    let (moves, count) = (wanted("KONTOR_MOVES", 12), wanted("KONTOR_SUBSCRIBERS", 60));
    let mut fleet = Fleet::open("subscribers", 3).await;
    let holders = fleet.holders(2).await;
    let subscribers = Subscribers::start(&fleet.addresses(), plans(&fleet, &holders, count).await);
    let traffic = Traffic::start(&fleet.apis(), &holders, 8, 6);
    let begun = async || subscribers.counts().iter().all(|heard| *heard > 0);
    eventually(PATIENCE, "every subscriber has begun", begun).await.unwrap();
    let (began, before) = (Instant::now(), fleet.owners.moves());
    while fleet.owners.moves() < before + moves {
        fleet.shake().await;
    }
    let (took, moved) = (began.elapsed(), fleet.owners.moves() - before);
    let refusals = traffic.refusals.clone();
    let paid = traffic.stop().await;
    fleet.assert_clean().await;
    let (truth, heard) = assert_all_heard(&fleet, &subscribers).await;
    truth.assert_paid_once(&paid);
    println!("{moved} moves in {} s, {count} subscribers heard {heard} transactions", took.as_secs());
    println!("ends of subscriptions: {:?}", subscribers.ends());
    println!("{} transfers, other answers to them: {:?}", paid.len(), refusals.counts());
}
