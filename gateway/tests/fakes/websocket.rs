//! Both WebSocket protocols over real sockets.

use crate::fake::socket::{Client, Heard};
use crate::fake::{Delivery, World};
use gateway::http::ws::SocketLimits;
use gateway::serve::Behaviour;
use serde_json::json;
use std::time::{Duration, Instant};

const TRANSPORT: &str = "graphql-transport-ws";
const LEGACY: &str = "graphql-ws";
const WATCH: &str = "subscription { stream_transactions { amount_cents } }";

fn sockets(limits: SocketLimits) -> Behaviour {
    Behaviour { sockets: limits, ..Behaviour::default() }
}

async fn active(world: &World, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.gateway.api.active_subscriptions() != count {
        assert!(Instant::now() < deadline, "{} active", world.gateway.api.active_subscriptions());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Deposits until the client hears of it: the subscription begins a moment after it was asked for.
async fn hear_a_deposit(world: &World, iban: &str, client: &mut Client, kind: &str) -> serde_json::Value {
    let keep_depositing = async {
        loop {
            world.bank.change_balance(iban, 7, "cash", "");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        message = client.expect(kind) => message,
        () = keep_depositing => unreachable!("depositing never ends"),
    }
}

#[tokio::test]
async fn the_current_protocol_subscribes_and_completes() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    client.subscribe("one", WATCH).await;
    let next = hear_a_deposit(&world, &iban, &mut client, "next").await;
    assert_eq!(next["id"], "one");
    assert_eq!(next["payload"]["data"]["stream_transactions"]["amount_cents"], "7");
    client.say(json!({ "type": "ping" })).await;
    loop {
        match client.hear().await {
            Heard::Message(message) if message["type"] == "pong" => break,
            Heard::Message(message) => assert_eq!(message["type"], "next"),
            other => panic!("{other:?}"),
        }
    }
    client.say(json!({ "type": "complete", "id": "one" })).await;
    active(&world, 0).await;
}

#[tokio::test]
async fn the_older_protocol_starts_and_stops_as_the_predecessors_clients_do() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let mut client = Client::connect(world.gateway.address, LEGACY).await;
    // These clients do not wait for the acknowledgement.
    client.say(json!({ "type": "connection_init", "payload": null })).await;
    client.start("aXv1", WATCH).await;
    client.expect("connection_ack").await;
    let data = hear_a_deposit(&world, &iban, &mut client, "data").await;
    assert_eq!(data["payload"]["data"]["stream_transactions"]["amount_cents"], "7");
    client.say(json!({ "type": "stop", "id": "aXv1" })).await;
    loop {
        match client.hear().await {
            Heard::Message(message) if message["type"] == "complete" => break,
            Heard::Message(message) => assert_eq!(message["type"], "data"),
            other => panic!("{other:?}"),
        }
    }
    active(&world, 0).await;
    client.say(json!({ "type": "connection_terminate" })).await;
    assert_eq!(client.hear().await, Heard::Closed(1000));
}

#[tokio::test]
async fn the_older_protocol_may_leave_the_introduction_out() {
    let world = World::new().await;
    let mut client = Client::connect(world.gateway.address, LEGACY).await;
    client
        .start("1", r#"subscription { get_account(username: "somebody", password: "correct horse") { iban } }"#)
        .await;
    client.expect("connection_ack").await;
    let data = client.expect("data").await;
    assert!(data["payload"]["data"]["get_account"]["iban"].is_string(), "{data}");
    client.expect("complete").await;
}

#[tokio::test]
async fn queries_and_mutations_work_over_the_socket_too() {
    let world = World::new().await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    client.subscribe("1", "{ transaction_by_id(id: 1) { id } }").await;
    let next = client.expect("next").await;
    assert_eq!(next["payload"]["data"]["transaction_by_id"], serde_json::Value::Null);
    client.expect("complete").await;
}

#[tokio::test]
async fn who_does_not_introduce_itself_in_time_is_closed_with_4408() {
    let world =
        World::with(sockets(SocketLimits { init_timeout: Duration::from_millis(100), ..Default::default() })).await;
    for protocol in [TRANSPORT, LEGACY] {
        let mut client = Client::connect(world.gateway.address, protocol).await;
        assert_eq!(client.hear().await, Heard::Closed(4408), "{protocol}");
    }
}

#[tokio::test]
async fn breaches_of_the_protocol_close_with_their_codes() {
    let world = World::new().await;
    let address = world.gateway.address;

    let mut twice = Client::introduced(address, TRANSPORT).await;
    twice.say(json!({ "type": "connection_init" })).await;
    assert_eq!(twice.hear().await, Heard::Closed(4429));

    let mut early = Client::connect(address, TRANSPORT).await;
    early.subscribe("1", WATCH).await;
    assert_eq!(early.hear().await, Heard::Closed(4401));

    let mut duplicate = Client::introduced(address, TRANSPORT).await;
    duplicate.subscribe("1", WATCH).await;
    duplicate.subscribe("1", WATCH).await;
    assert_eq!(duplicate.hear().await, Heard::Closed(4409));

    for nonsense in [
        "",
        "{}",
        "[1]",
        r#"{"type":"start"}"#,
        r#"{"type":"subscribe","id":"1"}"#,
        r#"{"type":"subscribe","payload":{"query":"{a}"}}"#,
    ] {
        let mut client = Client::introduced(address, TRANSPORT).await;
        client.raw(nonsense.to_owned()).await;
        assert_eq!(client.hear().await, Heard::Closed(4400), "{nonsense}");
    }
    active(&world, 0).await;
}

#[tokio::test]
async fn an_id_can_be_used_again_after_its_end() {
    let world = World::new().await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    for _ in 0..3 {
        client.subscribe("1", "{ transaction_by_id(id: 1) { id } }").await;
        client.expect("next").await;
        client.expect("complete").await;
    }
}

#[tokio::test]
async fn a_refused_document_is_an_error_message_and_the_connection_goes_on() {
    let world = World::new().await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    for (id, document) in [
        ("1", "{ nonsense }"),
        ("2", "subscription { "),
        ("3", "subscription { nonsense { a } }"),
        ("4", "subscription { ...f } fragment f on Subscription { stream_transactions { id } }"),
        ("5", "subscription { a: stream_transactions { id } b: stream_transactions { id } }"),
    ] {
        client.subscribe(id, document).await;
        let error = client.expect("error").await;
        assert_eq!(error["id"], id);
        assert!(error["payload"][0]["extensions"]["code"].is_string(), "{error}");
    }
    let mut legacy = Client::introduced(world.gateway.address, LEGACY).await;
    legacy.start("1", "{ nonsense }").await;
    let error = legacy.expect("error").await;
    assert!(error["payload"]["message"].is_string(), "{error}");
}

#[tokio::test]
async fn operations_of_one_connection_are_bounded() {
    let world = World::with(sockets(SocketLimits { most_operations: 3, ..Default::default() })).await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    for id in ["1", "2", "3", "4"] {
        client.subscribe(id, WATCH).await;
    }
    let error = client.expect("error").await;
    assert_eq!(error["id"], "4");
    assert_eq!(error["payload"][0]["extensions"]["code"], "TOO_MANY_OPERATIONS");
    client.say(json!({ "type": "complete", "id": "1" })).await;
    client.subscribe("5", "{ transaction_by_id(id: 1) { id } }").await;
    assert_eq!(client.expect("next").await["id"], "5");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_neither_its_own_operations_nor_anybody_else() {
    // Nobody loses patience while this test runs.
    let long = Duration::from_secs(300);
    let limits = SocketLimits { send_timeout: long, most_operations: 10_000, ..Default::default() };
    let world = World::with(Behaviour { command_timeout: long, ..sockets(limits) }).await;
    let (iban, _) = world.open("somebody").await;
    for _ in 0..250 {
        world.bank.change_balance(&iban, 1, "cash", &"x".repeat(4096));
    }
    world.deliver(Delivery::Lost);
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    let deposit = |name| {
        let uuid = uuid::Uuid::now_v7();
        format!(
            r#"{name}: money_transfer(uuid: "{uuid}", token: "cash", from: "cash", to: "{iban}", descr: "", amount: 1) {{ success }}"#
        )
    };
    client.subscribe("deposits", &format!("mutation {{ {} {} }}", deposit("a"), deposit("b"))).await;
    // The first is the account.
    world.until_sent(2).await;

    // A megabyte each, until the gateway waits for the client and so takes nothing more from it.
    let large =
        format!("{{ transactions_by_iban(iban: \"{iban}\", max_items: 250) {{ descr }} }} # {}", "x".repeat(8000));
    for id in 0_u32.. {
        let id = id.to_string();
        let said = client.subscribe(&id, &large);
        if tokio::time::timeout(Duration::from_secs(1), said).await.is_err() {
            break;
        }
    }
    let (_, partition, command) = world.commands.sent.lock()[1].clone();
    world.bank.process(partition, &command);
    world.until_sent(3).await;
    world.data("{ all_last_transactions { iban } }").await;
    client.vanish();
}

#[tokio::test]
async fn subscriptions_end_with_their_client_however_it_leaves() {
    let world = World::new().await;
    for leave in 0..3 {
        let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
        client.subscribe("1", WATCH).await;
        client.subscribe("2", WATCH).await;
        active(&world, 2).await;
        match leave {
            0 => client.close().await,
            1 => client.vanish(),
            _ => {
                client.say(json!({ "type": "complete", "id": "1" })).await;
                client.say(json!({ "type": "complete", "id": "2" })).await;
            }
        }
        active(&world, 0).await;
    }
}

#[tokio::test]
async fn too_large_a_message_ends_the_connection() {
    let world = World::new().await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    client.subscribe("1", &format!("# {}\n{{ a }}", "x".repeat(65 * 1024))).await;
    let heard = client.hear().await;
    assert!(matches!(heard, Heard::Closed(1009) | Heard::Gone), "{heard:?}");
    active(&world, 0).await;
}

#[tokio::test]
async fn foreign_pages_and_unknown_subprotocols_are_refused_at_the_handshake() {
    let world = World::new().await;
    let address = world.gateway.address;
    let own = format!("http://{address}");
    for (headers, refused) in [
        (vec![("sec-websocket-protocol", TRANSPORT)], false),
        (vec![("sec-websocket-protocol", TRANSPORT), ("origin", own.as_str())], false),
        (vec![("sec-websocket-protocol", TRANSPORT), ("origin", "http://evil.example")], true),
        (vec![("sec-websocket-protocol", TRANSPORT), ("origin", "null")], true),
        (vec![("sec-websocket-protocol", "soap")], true),
        (vec![], true),
    ] {
        assert_eq!(Client::handshake(address, &headers).await.is_err(), refused, "{headers:?}");
    }
}

#[tokio::test]
async fn a_client_that_shows_no_sign_of_life_is_dropped() {
    let limits = SocketLimits { ping_interval: Duration::from_millis(40), ..Default::default() };
    let world = World::with(sockets(limits)).await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    client.subscribe("1", WATCH).await;
    active(&world, 1).await;
    // Nobody reads on the client's side, so nobody answers the pings.
    active(&world, 0).await;
    client.vanish();
}

#[tokio::test]
async fn stopping_closes_every_connection_with_1001() {
    let world = World::new().await;
    let mut client = Client::introduced(world.gateway.address, TRANSPORT).await;
    client.subscribe("1", WATCH).await;
    active(&world, 1).await;
    let World { gateway, .. } = &world;
    let api = gateway.api.clone();
    let started = Instant::now();
    let (heard, ()) = tokio::join!(client.hear(), world.stop());
    assert_eq!(heard, Heard::Closed(1001));
    assert_eq!(api.active_subscriptions(), 0);
    assert!(started.elapsed() < Duration::from_secs(5));
}
