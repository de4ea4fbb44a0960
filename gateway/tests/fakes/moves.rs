//! Partitions that move from one processor to another: what is under way goes along, and is neither lost nor doubled.

use crate::fake::processor::FakeProcessor;
use crate::fake::two::Two;
use crate::fake::{Delivery, PARTITIONS, text};
use crate::streams::{Stream, with};
use gateway::routing::{Configured, Routing};
use gateway::serve::Behaviour;
use schemas::query::NotOwner;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tonic::Status;

/// Shorter than it takes the transport to find out that a processor was stopped.
const SOON: Duration = Duration::from_secs(4);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it waits for the processor that was stopped")
}

async fn balance(two: &Two, iban: &str) -> String {
    let data = two.world.data(&format!("{{ account(iban: \"{iban}\") {{ balance_cents }} }}")).await;
    text(&data["account"]["balance_cents"])
}

#[tokio::test]
async fn a_watch_moves_away_from_a_processor_that_was_stopped() {
    let two = Two::new().await;
    let (iban, _) = two.world.open("somebody").await;
    let mut stream = Stream::live(&two.world, &with("")).await;
    two.world.bank.change_balance(&iban, 1, "cash", "");
    assert_eq!(stream.amounts(1).await, [1]);
    two.a.freeze();
    two.world.bank.change_balance(&iban, 2, "cash", "written by the next owner");
    two.give_to(&two.b);
    two.world.bank.change_balance(&iban, 3, "cash", "");
    assert_eq!(soon(stream.amounts(2)).await, [2, 3]);
    assert!(stream.says_nothing());
}

#[tokio::test]
async fn a_partition_that_moves_to_and_fro_leaves_neither_gap_nor_duplicate() {
    let two = Two::new().await;
    let (iban, _) = two.world.open("somebody").await;
    let mut stream = Stream::live(&two.world, &with("")).await;
    let mut seen = Vec::new();
    for cents in 1..=60 {
        two.world.bank.change_balance(&iban, cents, "cash", "");
        if cents % 5 == 0 {
            two.give_to(if cents % 10 == 0 { &two.a } else { &two.b });
        }
        if cents % 12 == 0 {
            seen.extend(stream.amounts(6).await);
        }
    }
    seen.extend(stream.amounts(60 - seen.len()).await);
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
    assert!(stream.says_nothing());
}

#[tokio::test]
async fn a_watch_that_its_processor_ends_goes_to_the_one_that_is_named() {
    let two = Two::new().await;
    let (iban, _) = two.world.open("somebody").await;
    let mut stream = Stream::live(&two.world, &with("")).await;
    // The gateway does not read of the move at all.
    let hint = two.later(&two.b);
    two.a.refuse(move || hint.clone().into_status("not the owner"));
    two.world.bank.change_balance(&iban, 1, "cash", "");
    assert_eq!(stream.amounts(1).await, [1]);
}

#[tokio::test]
async fn account_changes_move_along() {
    let two = Two::new().await;
    let (iban, _) = two.world.open("somebody").await;
    let query = format!("subscription {{ account_changes(iban: \"{iban}\") {{ balance_cents }} }}");
    let mut stream = Stream::open(&two.world, &query);
    let balance = |response: serde_json::Value| text(&response["data"]["account_changes"]["balance_cents"]);
    assert_eq!(balance(stream.next().await), "0");
    two.a.freeze();
    two.world.bank.change_balance(&iban, 11, "cash", "");
    two.give_to(&two.b);
    assert_eq!(balance(soon(stream.next()).await), "11");
}

#[tokio::test]
async fn the_wait_for_an_outcome_moves_along() {
    for is_stopped in [true, false] {
        let two = Two::new().await;
        let (iban, _) = two.world.open("somebody").await;
        two.world.deliver(Delivery::Lost);
        let waiting = two.a.calls() + 1;
        let moved = async {
            two.a.until_called(waiting).await;
            if is_stopped {
                two.a.freeze();
                two.give_to(&two.b);
            } else {
                let hint = two.later(&two.b);
                two.a.refuse(move || hint.clone().into_status("not the owner"));
            }
            two.b.until_called(1).await;
            let (_, partition, command) = two.world.commands.sent.lock().last().unwrap().clone();
            two.world.bank.process(partition, &command);
        };
        let (result, ()) = soon(async { tokio::join!(two.world.transfer("cash", "cash", &iban, 5, ""), moved) }).await;
        assert_eq!(result["success"], true, "stopped: {is_stopped}");
        assert_eq!(balance(&two, &iban).await, "5");
    }
}

#[tokio::test]
async fn a_call_goes_at_once_to_the_later_owner_that_is_named() {
    let two = Two::new().await;
    let (iban, _) = two.world.open("somebody").await;
    let hint = two.later(&two.b);
    two.a.refuse(move || hint.clone().into_status("not the owner"));
    let before = two.a.calls();
    for times in 1..=3 {
        assert_eq!(balance(&two, &iban).await, "0");
        assert_eq!((two.a.calls() - before, two.b.calls()), (times, times), "one hop for each call");
    }
}

#[tokio::test]
async fn an_owner_that_the_gateway_knew_before_is_not_gone_to() {
    let two = Two::new().await;
    let (iban, _) = two.world.open("somebody").await;
    let known = NotOwner { epoch: two.later(&two.b).epoch - 1, ..two.later(&two.b) };
    two.a.refuse(move || known.clone().into_status("not the owner"));
    let again = two.a.calls() + 3;
    let moved = async {
        two.a.until_called(again).await;
        assert_eq!(two.b.calls(), 0);
        two.give_to(&two.b);
    };
    let (balance, ()) = tokio::join!(balance(&two, &iban), moved);
    assert_eq!(balance, "0");
}

#[tokio::test]
async fn two_processors_that_name_each_other_do_not_make_a_call_spin() {
    let behaviour = Behaviour { query_timeout: Duration::from_millis(400), ..Behaviour::default() };
    let two = Two::with(behaviour).await;
    // Each knows better than the other, every time.
    let epoch = Arc::new(AtomicI64::new(100));
    for (one, other) in [(&two.a, &two.b), (&two.b, &two.a)] {
        let (epoch, endpoint) = (Arc::clone(&epoch), other.endpoint());
        one.refuse(move || -> Status {
            let hint = NotOwner { epoch: epoch.fetch_add(1, Ordering::SeqCst), endpoint: endpoint.clone() };
            hint.into_status("the other one is the owner")
        });
    }
    let before = two.a.calls() + two.b.calls();
    let response = two.world.execute("{ account(iban: \"x\") { iban } }").await;
    assert!(response["errors"].is_array(), "{response}");
    // At most the first call, three hops, and a call after each of the pauses of 10, 20, 40, 80, 160 and 250 ms.
    let calls = two.a.calls() + two.b.calls() - before;
    assert!((2..=10).contains(&calls), "{calls} calls");
}

#[tokio::test]
async fn of_several_configured_addresses_the_one_that_owns_the_partition_is_called() {
    let (one, other) = (FakeProcessor::start(PARTITIONS).await, FakeProcessor::start(PARTITIONS).await);
    let routing = Configured::new(PARTITIONS, &[one.endpoint(), other.endpoint()]).unwrap();
    let mut changes = routing.changes();
    for (states, owner) in [
        (("running", "elsewhere"), Some(&one)),
        (("stopped", "restoring"), Some(&other)),
        (("standby", "elsewhere"), None),
    ] {
        one.say_state(states.0);
        other.say_state(states.1);
        routing.refresh().await;
        changes.next().await;
        let found = routing.owner(0).map(|owner| owner.processor.endpoint.to_string());
        assert_eq!(found, owner.map(|owner| owner.endpoint()), "{states:?}");
    }
    one.kill();
    other.kill();
}

#[tokio::test]
async fn a_stream_of_everything_names_the_partitions_that_nobody_serves_and_the_others_go_on() {
    let two = Two::half_served().await;
    let bank = &two.world.bank;
    let iban = (0..).map(|number| format!("NL{number}")).find(|iban| bank.partition_of(iban) == 2).unwrap();
    bank.put_account(&iban, 0);
    let mut one = Stream::live(&two.world, &with(&format!("(iban: \"{iban}\")"))).await;
    bank.change_balance(&iban, 1, "cash", "");
    assert_eq!(one.amounts(1).await, [1]);
    let response = Stream::open(&two.world, &with("")).next().await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    assert!(text(&response["errors"][0]["message"]).ends_with("partition 1, 3"), "{response}");
    // Who subscribes again after that has them all.
    two.give_to(&two.a);
    let mut all = Stream::live(&two.world, &with("")).await;
    bank.change_balance(&iban, 2, "cash", "");
    assert_eq!((one.amounts(1).await, all.amounts(1).await), (vec![2], vec![2]));
}
