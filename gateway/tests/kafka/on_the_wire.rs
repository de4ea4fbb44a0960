//! What lies in the topics, and which pages may call.

use crate::request::send;
use crate::rows::TRANSPORT;
use crate::socket::Client;
use crate::support::{
    Bank, PARTITIONS, PASSWORD, PATIENCE, address, decoded, deposit, holder, log_in, payment, schemas_of, transfer,
};
use gateway::command::passwords::Passwords;
use kontor_compose::Service;
use kontor_compose::testing::{Isolation, Record, list_topics, read_topic};
use schemas::partition_of;
use schemas::records::{ConfirmAccountCreation, User};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The key of a record; it must be text, and its partition the one of the key.
fn key_of(record: &Record) -> String {
    let key = record.key.as_deref().unwrap();
    assert_eq!(record.partition, partition_of(key, PARTITIONS));
    String::from_utf8(key.to_vec()).unwrap()
}

/// Keys by the id of the command, which is the first field of every command and of every answer.
async fn keys(bank: &Bank, topic: &str) -> BTreeMap<Uuid, String> {
    let records = bank.space.read(topic).await.unwrap();
    let of = |record: &Record| {
        let id = &record.value.as_ref().unwrap()[schemas::FRAME_BYTES..][..16];
        (Uuid::from_slice(id).unwrap(), key_of(record))
    };
    records.iter().map(of).collect()
}

/// Of all kinds of commands, of their answers and of the changes.
async fn assert_keys(bank: &Bank) {
    let api = bank.api();
    let somebody = holder(&api, "somebody").await;
    let of_somebody = |mut order: Value, username: Option<&str>| {
        order["username"] = username.into();
        order
    };
    let ids: [Uuid; 4] = std::array::from_fn(|_| Uuid::now_v7());
    for order in [
        of_somebody(deposit(ids[0], &somebody.iban, 1000), Some("somebody")),
        of_somebody(deposit(ids[1], &somebody.iban, 1000), None),
        of_somebody(payment(ids[2], &somebody, "shop", 1), Some("somebody")),
        of_somebody(payment(ids[3], &somebody, "shop", 1), None),
    ] {
        let result = transfer(&api, order).await;
        assert_eq!(result["success"], true, "{result}");
    }
    let iban = somebody.iban.as_str();
    let by_rule: BTreeMap<Uuid, String> =
        ids.into_iter().zip([iban, iban, "somebody", iban].map(str::to_owned)).collect();
    assert_eq!(keys(bank, "money_transfer_feedback").await, by_rule);
    let mut commands = keys(bank, "commands").await;
    let creations: BTreeMap<Uuid, String> = commands.extract_if(.., |id, _| !by_rule.contains_key(id)).collect();
    assert_eq!(commands, by_rule);
    assert_eq!(creations.values().collect::<Vec<_>>(), ["somebody"]);
    assert_eq!(keys(bank, "account_creation_feedback").await, creations);
    let changes = bank.space.read("balance_changed").await.unwrap();
    assert_eq!(changes.iter().map(key_of).collect::<Vec<_>>(), [iban; 4].map(str::to_owned));
}

/// Every record of every topic of the name space, those of aborted transactions too, by the topic's name without the
/// prefix.
async fn everything(bank: &Bank) -> BTreeMap<String, Vec<Record>> {
    let (bootstrap, prefix) = (bank.space.bootstrap().to_owned(), bank.space.prefix.clone());
    let read = move || {
        let topics = list_topics(&bootstrap).unwrap().into_keys();
        let own = topics.filter_map(|name| Some((name.strip_prefix(&prefix)?.to_owned(), name)));
        own.map(|(base, name)| (base, read_topic(&bootstrap, &name, Isolation::Uncommitted).unwrap())).collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Topics in which this text is, in a key, a value or a header.
fn where_is(text: &str, topics: &BTreeMap<String, Vec<Record>>) -> BTreeSet<String> {
    let holds_it = |record: &Record| {
        let plain = record.key.iter().chain(&record.value).any(|bytes| holds(bytes, text));
        plain || record.headers.iter().any(|(name, value)| holds(name.as_bytes(), text) || holds(value, text))
    };
    let found = topics.iter().filter(|(_, records)| records.iter().any(holds_it));
    found.map(|(name, _)| name.clone()).collect()
}

/// Of everybody who logged in, first with the right one and then with a wrong one.
async fn assert_no_password_is_stored(bank: &Bank, usernames: [&str; 2]) {
    let topics = everything(bank).await;
    let named = ["account_creation_feedback", "changelog", "commands", "money_transfer_feedback"].map(str::to_owned);
    assert_eq!(where_is("somebody", &topics), named.into(), "what is looked for is found: {:?}", topics.keys());
    for password in [PASSWORD, "wrong horse"] {
        assert_eq!(where_is(password, &topics), BTreeSet::new(), "{password}");
    }
    let schemas = schemas_of(&bank.space);
    let mut sent = BTreeMap::new();
    let creations = topics["commands"].iter().filter_map(|record| record.value.as_ref());
    for value in creations.filter(|value| holds(value, "$argon2id$")) {
        let command: ConfirmAccountCreation = decoded(&schemas, value).await;
        sent.insert(command.username, command.password_hash.unwrap());
    }
    assert_eq!(sent.len(), usernames.len());
    let hashes: BTreeSet<&String> = sent.values().collect();
    assert_eq!(hashes.len(), usernames.len(), "the same password, another salt");
    for username in usernames {
        let key = format!("user/{username}").into_bytes();
        let row = topics["changelog"].iter().rfind(|record| record.key.as_ref() == Some(&key)).unwrap();
        let user: User = decoded(&schemas, row.value.as_ref().unwrap()).await;
        let hash = user.password_hash.unwrap();
        assert_eq!(hash, sent[username]);
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        assert!(Passwords::new().unwrap().verify(PASSWORD, Some(&hash), deadline).await.unwrap());
    }
}

#[tokio::test]
async fn b05_g14_keys_follow_the_rules_and_passwords_are_nowhere_but_in_salted_slow_hashes() {
    let bank = Bank::open("on-the-wire").await;
    assert_keys(&bank).await;
    let usernames = ["somebody", "another-one"];
    for username in usernames {
        holder(&bank.api(), username).await;
        assert_eq!(log_in(&bank.api(), username, "wrong horse").await["reason"], "incorrect password");
    }
    assert_no_password_is_stored(&bank, usernames).await;
}

/// Whether a page of this origin may call, by HTTP and by WebSocket.
async fn assert_accepted(gateway: &Service, origin: &str, accepted: bool) {
    let body = json!({ "query": "{ __typename }" }).to_string();
    let headers = [("content-type", "application/json"), ("origin", origin)];
    let reply = send(address(gateway), "POST", "/graphql", &headers, &body).await;
    let named = reply.header("access-control-allow-origin").map(str::to_owned);
    if accepted {
        assert_eq!((reply.status, named.as_deref()), (200, Some(origin)), "{origin}");
        assert_eq!(reply.json()["data"]["__typename"], "Query");
    } else {
        assert_eq!((reply.status, named), (403, None), "{origin}");
        assert!(reply.body.contains("KONTOR_ALLOWED_ORIGINS"), "{}", reply.body);
    }
    let shaken =
        Client::handshake(address(gateway), &[("sec-websocket-protocol", TRANSPORT), ("origin", origin)]).await;
    assert_eq!(shaken.is_ok(), accepted, "{origin}");
}

#[tokio::test]
async fn g25_only_pages_of_configured_origins_may_call() {
    let bank = Bank::open("origins").await;
    let configured =
        bank.space.gateway("g2", &[]).env("KONTOR_ALLOWED_ORIGINS", "https://bank.example,https://b.example");
    let mut configured = configured.start().unwrap();
    configured.wait_ready(PATIENCE).await.unwrap();
    for (origin, accepted) in [
        ("https://bank.example", true),
        ("https://b.example", true),
        ("https://evil.example", false),
        ("http://bank.example", false),
        (configured.http().as_str(), false),
        ("null", false),
    ] {
        assert_accepted(&configured, origin, accepted).await;
    }
    // Without a list, the gateway's own pages and no others.
    assert_accepted(&bank.gateway, &bank.gateway.http(), true).await;
    assert_accepted(&bank.gateway, "https://bank.example", false).await;
    assert_accepted(&bank.gateway, &configured.http(), false).await;
    // Programs send no origin.
    holder(&configured.graphql(), "somebody").await;
}
