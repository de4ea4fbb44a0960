//! A gateway that dies, with subscribers and with commands that were not answered: the other one goes on for it.

use crate::campaign::{Fleet, Paid, Plan, Refusals, Subscribers, Traffic, ask, times, wanted};
use crate::moves::{assert_all_heard, plans};
use crate::support::{Holder, PATIENCE, TRANSFER, payment};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kontor_compose::{GraphQl, eventually};
use serde_json::Value;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Commands under way at the kill.
const IN_FLIGHT: usize = 100;

/// A transfer between neighbours.
fn order(holders: &[Holder], number: usize) -> (Paid, Value) {
    let (from, to) = (&holders[number % holders.len()], &holders[(number + 1) % holders.len()]);
    let uuid = Uuid::now_v7();
    let cents = 1 + number as i64;
    (
        Paid { uuid, from: from.iban.clone(), to: to.iban.clone(), cents, read_token: String::new() },
        payment(uuid, from, &to.iban, cents),
    )
}

/// Asks the first gateway; when that does not answer, the second one, with the same id. Returns when the second one has
/// answered; `None`: it was not asked.
async fn answered_by(apis: &[GraphQl], body: Value, refusals: &Refusals) -> Option<Instant> {
    let first = apis[0].post(TRANSFER, body.clone()).await;
    let answered = first.as_ref().is_ok_and(|(_, answer)| answer["errors"].is_null());
    let data = match first {
        Ok((_, answer)) if answered => answer["data"].clone(),
        _ => ask(&apis[1..], 0, TRANSFER, body, refusals).await,
    };
    assert_eq!(data["money_transfer"]["success"], true, "{data}");
    (!answered).then(Instant::now)
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_a_killed_gateway_leaves_neither_a_gap_nor_a_second_transfer() {
    let count = wanted("KONTOR_SUBSCRIBERS", 60);
    let mut fleet = Fleet::open("gateway-killed", 2).await;
    let holders = fleet.holders(2).await;
    // All of them at the gateway that will die, and none leaves it before.
    let here = |plan| Plan { gateway: 0, roam_every: None, ..plan };
    let all = plans(&fleet, &holders, count).await.into_iter().map(here).collect();
    let subscribers = Subscribers::start(&fleet.addresses(), all);
    let traffic = Traffic::start(&fleet.apis(), &holders, 8, 6);
    let begun = async || subscribers.counts().iter().all(|heard| *heard > 0);
    eventually(PATIENCE, "every subscriber has begun", begun).await.unwrap();

    let orders: Vec<(Paid, Value)> = (0..IN_FLIGHT).map(|number| order(&holders, number)).collect();
    let (apis, refusals) = (fleet.apis(), Refusals::default());
    let bodies = orders.iter().map(|(_, body)| body.clone());
    let mut asked: FuturesUnordered<_> = bodies.map(|body| answered_by(&apis, body, &refusals)).collect();
    assert_eq!(asked.next().await, Some(None), "the first gateway answers the first");
    // Taken before the call, which returns when the process is gone: subscribers may have gone on by then.
    let killed = Instant::now();
    fleet.gateways[0].kill9();
    let retried: Vec<Instant> = asked.filter_map(std::future::ready).collect().await;
    let retried: Vec<Duration> = retried.into_iter().map(|at| at.saturating_duration_since(killed)).collect();
    let resumed = async || subscribers.all_heard_through(1);
    eventually(PATIENCE, "every subscriber hears again", resumed).await.unwrap();
    let (connected, heard_again) = subscribers.delays_since(killed);

    let paid = traffic.stop().await;
    fleet.assert_clean().await;
    let (truth, heard) = assert_all_heard(&fleet, &subscribers).await;
    truth.assert_paid_once(&paid);
    truth.assert_paid_once(&orders.into_iter().map(|(paid, _)| paid).collect::<Vec<_>>());
    println!("{count} subscribers heard {heard} transactions; ends: {:?}", subscribers.ends());
    println!("commands in flight answered by the other gateway: {}; {:?}", times(retried.clone()), refusals.counts());
    println!("subscribers connected again: {}; heard again: {}", times(connected), times(heard_again));
    assert!(!retried.is_empty(), "commands were in flight at the kill");
}
