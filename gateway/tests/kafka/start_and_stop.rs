//! Starting, refusing to start, stopping.

use crate::socket::{Client, Heard};
use crate::support::{Bank, PATIENCE, address, holder};
use kontor_compose::testing::{Proxy, TestStack};
use std::time::{Duration, Instant};

#[tokio::test]
async fn sigterm_closes_connections_and_exits_with_0() {
    let mut bank = Bank::open("sigterm").await;
    let mut client = Client::introduced(address(&bank.gateway), "graphql-transport-ws").await;
    client.subscribe("1", "subscription { stream_transactions { id } }").await;
    let (status, heard) = tokio::join!(bank.gateway.sigterm(Duration::from_secs(10)), client.hear());
    assert_eq!(status.unwrap().code(), Some(0), "{}", bank.gateway.log_text());
    assert_eq!(heard, Heard::Closed(1001));
    let log = bank.gateway.log_text();
    assert!(log.contains("GraphiQL and introspection are on"), "{log}");
}

#[tokio::test]
async fn metrics_and_readiness_of_a_running_gateway() {
    let mut bank = Bank::open("metrics").await;
    holder(&bank.api(), "somebody").await;
    let (_, metrics) = bank.gateway.get("/metrics").await.unwrap();
    for name in [
        "kontor_graphql_operations_total",
        "kontor_graphql_operation_duration_seconds",
        "kontor_subscriptions_active",
        "kontor_logins_total",
        "kontor_commands_total",
        "kontor_query_duration_seconds",
        "kontor_build_info",
    ] {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }
    bank.processor.kill9();
    let not_ready = async || bank.gateway.get("/readyz").await.is_ok_and(|(status, _)| status == 503);
    kontor_compose::testing::eventually(PATIENCE, "not ready without the processor", not_ready).await.unwrap();
    assert_eq!(bank.gateway.get("/livez").await.unwrap().0, 200);
}

#[tokio::test]
async fn known_schemas_are_enough_to_start_while_the_registry_is_down() {
    let space = TestStack::shared().unwrap().namespace("registry").await.unwrap();
    let mut processor = space.processor("p1").start().unwrap();
    processor.wait_ready(PATIENCE).await.unwrap();
    let (host, path) = space.registry().trim_start_matches("http://").split_once('/').unwrap();
    let proxy = Proxy::start(host).unwrap();
    let registry = format!("http://{}/{path}", proxy.address);
    let mut gateway = space.gateway("g1", &[]).env("KONTOR_REGISTRY", registry).start().unwrap();
    gateway.wait_ready(PATIENCE).await.unwrap();
    proxy.cut();
    gateway.start().unwrap();
    gateway.wait_ready(PATIENCE).await.unwrap();
    holder(&gateway.graphql(), "somebody").await;
}

#[tokio::test]
async fn what_cannot_work_is_refused_in_one_line_that_names_the_way_out() {
    let space = TestStack::shared().unwrap().namespace("refused").await.unwrap();
    let processor = space.processor("p1").start().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (name, variable, value, says) in [
        ("prefix", "KONTOR_PREFIX", "nobody-has-this.", "topics apply"),
        ("listen", "KONTOR_LISTEN", taken.as_str(), "KONTOR_LISTEN"),
        ("topics", "KONTOR_TOPICS", "/nowhere/topics.yaml", "/nowhere/topics.yaml"),
        ("processors", "KONTOR_PROCESSORS", "localhost:1", "http://host:port"),
        ("kafka", "KONTOR_BOOTSTRAP", "127.0.0.1:1", "127.0.0.1:1"),
    ] {
        let started = Instant::now();
        let mut gateway = space.gateway(name, &[&processor]).env(variable, value).start().unwrap();
        let status = gateway.wait_end(Duration::from_secs(20)).await.unwrap();
        assert!(matches!(status.code(), Some(1 | 2)), "{name}: {status}");
        assert!(started.elapsed() < Duration::from_secs(12), "{name}: {:?}", started.elapsed());
        let log = gateway.log_text();
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("gateway: ") && last.contains(says), "{name}: {log}");
        assert!(!log.contains("panicked") && !log.contains("stack backtrace"), "{name}: {log}");
    }
}

#[tokio::test]
async fn no_password_or_token_reaches_the_log() {
    let bank = Bank::open("canary").await;
    let mut gateway = bank.space.gateway("g2", &[&bank.processor]).env("KONTOR_LOG", "debug").start().unwrap();
    gateway.wait_ready(PATIENCE).await.unwrap();
    let api = gateway.graphql();
    let document = "mutation ($p: String!) { get_account(username: \"canary-bird\", password: $p) { iban token } }";
    let password = "canary-password-4711";
    let data = api.data(document, serde_json::json!({ "p": password })).await.unwrap();
    let token = data["get_account"]["token"].as_str().unwrap().to_owned();
    api.data(document, serde_json::json!({ "p": password })).await.unwrap();
    for log in [gateway.log_text(), bank.processor.log_text(), bank.gateway.log_text()] {
        assert!(!log.contains(password) && !log.contains(&token) && !log.contains("$argon2id"));
    }
}
