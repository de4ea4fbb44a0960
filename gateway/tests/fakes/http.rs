//! HTTP over real sockets: what is taken, what is refused, and how.

use crate::fake::request::{Reply, send};
use crate::fake::two::Two;
use crate::fake::{Delivery, World};
use gateway::serve::Behaviour;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_post_of_json_is_answered() {
    let world = World::new().await;
    let body = json!({ "query": "query Q($id: Int!) { transaction_by_id(id: $id) { id } }", "variables": { "id": 5 }, "operationName": "Q" });
    for content_type in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        let headers = [("content-type", content_type)];
        let reply = send(world.gateway.address, "POST", "/graphql", &headers, &body.to_string()).await;
        assert_eq!((reply.status, reply.json()), (200, json!({ "data": { "transaction_by_id": null } })));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn what_a_form_of_a_foreign_page_can_send_is_refused() {
    let world = World::new().await;
    let body = json!({ "query": "{ __typename }" }).to_string();
    for content_type in ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""] {
        let headers = [("content-type", content_type)];
        let reply = send(world.gateway.address, "POST", "/graphql", &headers, &body).await;
        assert_eq!(reply.status, 415, "{content_type}");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let reply = send(world.gateway.address, method, "/graphql?query=%7B__typename%7D", &[JSON], "").await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn batches_large_bodies_and_nonsense_are_refused() {
    let world = World::new().await;
    let large = json!({ "query": "{ a }", "variables": { "x": "y".repeat(65 * 1024) } }).to_string();
    let deep = format!("{{\"query\":\"{{a}}\",\"variables\":{{\"a\":{}1{}}}}}", "[".repeat(5000), "]".repeat(5000));
    for (body, status) in [
        (r#"[{"query":"{ __typename }"}]"#, 400),
        ("  [ ]", 400),
        ("", 400),
        ("nonsense", 400),
        (r#"{"query": 5}"#, 400),
        (large.as_str(), 413),
        (deep.as_str(), 400),
    ] {
        let reply = send(world.gateway.address, "POST", "/graphql", &[JSON], body).await;
        assert_eq!(reply.status, status, "{}", &body[..body.len().min(60)]);
        assert!(reply.json()["errors"][0]["message"].is_string());
    }
}

#[tokio::test]
async fn only_configured_origins_are_accepted() {
    let behaviour = Behaviour { allowed_origins: vec!["https://bank.example".into()], ..Behaviour::default() };
    let world = World::with(behaviour).await;
    let body = json!({ "query": "{ __typename }" }).to_string();
    let own = format!("http://{}", world.gateway.address);
    for (origin, status) in
        [("https://bank.example", 200), ("https://evil.example", 403), (own.as_str(), 403), ("null", 403)]
    {
        let reply = send(world.gateway.address, "POST", "/graphql", &[JSON, ("origin", origin)], &body).await;
        assert_eq!(reply.status, status, "{origin}");
        let allowed = reply.header("access-control-allow-origin");
        assert_eq!(allowed, (status == 200).then_some(origin));

        let asked = [("origin", origin), ("access-control-request-method", "POST")];
        let preflight = send(world.gateway.address, "OPTIONS", "/graphql", &asked, "").await;
        assert_eq!(preflight.status, if status == 200 { 204 } else { 403 });
        assert_eq!(preflight.header("access-control-allow-origin"), allowed);
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
    }
}

#[tokio::test]
async fn ready_means_that_all_partitions_are_served_and_commands_are_taken() {
    let world = World::new().await;
    let address = world.gateway.address;
    let until = async |status: u16| until_readyz(address, |reply| reply.status == status).await;
    let ready = until(200).await;
    assert_eq!((&ready["ready"], &ready["served"]), (&json!(true), &json!(crate::fake::PARTITIONS)));

    world.bank.say_state("restoring");
    let body = until(503).await;
    assert_eq!(body["partitions"][0]["state"], "restoring");
    world.bank.say_state("running");
    until(200).await;

    world.bank.kill();
    assert_eq!(until(503).await["partitions"][0]["state"], "unknown");
    world.bank.restart().await;
    until(200).await;

    world.deliver(Delivery::NotSent);
    assert_eq!(until(503).await["commands"], false);
    assert_eq!(send(address, "GET", "/livez", &[], "").await.status, 200, "alive all the same");
}

/// Asks until the answer is as wanted.
async fn until_readyz(address: SocketAddr, is_wanted: impl Fn(&Reply) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let reply = send(address, "GET", "/readyz", &[], "").await;
        if is_wanted(&reply) {
            return reply.json();
        }
        assert!(Instant::now() < deadline, "{}", reply.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn readiness_names_the_owners_and_waits_for_their_answer() {
    let two = Two::new().await;
    let address = two.world.gateway.address;
    let is = |status: u16, owner: &'static str, state: &'static str| {
        until_readyz(address, move |reply| {
            let body = reply.json();
            let first = &body["partitions"][0];
            reply.status == status && first["owner"] == owner && first["state"] == state
        })
    };
    is(200, "a", "running").await;
    two.a.freeze();
    is(503, "a", "unknown").await;
    let moved = Instant::now();
    two.give_to(&two.b);
    let ready = is(200, "b", "running").await;
    assert!(moved.elapsed() < Duration::from_secs(1), "{:?}", moved.elapsed());
    assert_eq!((&ready["ready"], &ready["served"]), (&json!(true), &json!(crate::fake::PARTITIONS)));
}

#[tokio::test]
async fn pages_open_and_graphiql_is_for_development() {
    let world = World::new().await;
    for (path, contains) in [("/", "graphiql"), ("/graphiql", "get_account"), ("/schema.graphql", "type Query")] {
        let reply = send(world.gateway.address, "GET", path, &[], "").await;
        assert!(reply.status == 200 && reply.body.contains(contains), "{path}: {}", reply.status);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(send(world.gateway.address, "GET", "/nowhere", &[], "").await.status, 404);

    let scripts = tempfile::tempdir().unwrap();
    std::fs::write(scripts.path().join("graphiql.min.js"), "// of GraphiQL").unwrap();
    let script = "/graphiql/lib/graphiql.min.js";
    let with = |dev| Behaviour { dev, graphiql_dir: Some(scripts.path().into()), ..Behaviour::default() };
    let scripted = World::with(with(true)).await;
    let reply = send(scripted.gateway.address, "GET", script, &[], "").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "// of GraphiQL"));
    assert_eq!(reply.header("content-type"), Some("text/javascript"), "nosniff wants it");
    for outside in
        ["/graphiql/lib/../../Cargo.toml", "/graphiql/lib/%2e%2e/%2e%2e/etc/passwd", "/graphiql/lib/nothing.js"]
    {
        assert_eq!(send(scripted.gateway.address, "GET", outside, &[], "").await.status, 404, "{outside}");
    }
    assert_eq!(send(world.gateway.address, "GET", script, &[], "").await.status, 404, "it has no scripts");

    let public = World::with(with(false)).await;
    for path in ["/graphiql", script] {
        assert_eq!(send(public.gateway.address, "GET", path, &[], "").await.status, 404, "{path}");
    }
    let body = json!({ "query": "{ __schema { types { name } } }" }).to_string();
    let reply = send(public.gateway.address, "POST", "/graphql", &[JSON], &body).await;
    assert_eq!(reply.json()["data"]["__schema"], Value::Null, "introspection is off: {}", reply.body);
}

#[tokio::test]
async fn metrics_are_served_as_text() {
    let world = World::new().await;
    let reply = send(world.gateway.address, "GET", "/metrics", &[], "").await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").unwrap().starts_with("text/plain"));
}
