//! Reads while the owner of a partition stands still: old ones for who takes them, and said to be old; never without
//! what the caller has caused.

use crate::support::{PATIENCE, deposit, holder};
use gateway::query::read_token;
use kontor_compose::testing::{GraphQl, Service, TestStack, eventually, eventually_some};
use schemas::query::Token;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

const ACCOUNT: &str = "query ($i: String!, $t: String, $s: Int) { account(iban: $i, at_least: $t, max_staleness_ms: $s) { balance_cents stale } }";
const DEPOSIT: &str = "mutation ($uuid: String!, $token: String!, $amount: Int!, $from: String!, $to: String!) { money_transfer(uuid: $uuid, token: $token, amount: $amount, from: $from, to: $to, descr: \"test\") { success read_token } }";
/// Times that the owner is stopped: a standby that takes over very quickly answers fresh.
const ROUNDS: i64 = 5;

/// Owners by partition, as the gateway knows them.
async fn owners(gateway: &Service) -> Vec<String> {
    let (_, body) = gateway.get("/readyz").await.unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    let name = |partition: &Value| partition["owner"].as_str().unwrap_or_default().to_owned();
    body["partitions"].as_array().unwrap().iter().map(name).collect()
}

/// Waits until both own something and follow the rest.
async fn shared(gateway: &Service, processors: &BTreeMap<String, Service>) {
    let settled = async || {
        let owners = owners(gateway).await;
        let mut told = 0;
        for processor in processors.values() {
            let Ok((200, body)) = processor.get("/readyz").await else { return false };
            let body: Value = serde_json::from_str(&body).unwrap();
            let partitions = body["partitions"].as_array().unwrap();
            told += partitions
                .iter()
                .filter(|one| ["running", "standby"].contains(&one["state"].as_str().unwrap()))
                .count();
        }
        processors.keys().all(|name| owners.contains(name)) && told == processors.len() * owners.len()
    };
    eventually(PATIENCE, "both have a part in everything", settled).await.unwrap();
}

async fn account(api: &GraphQl, iban: &str, token: &str, staleness_ms: Option<u32>) -> Value {
    let variables = json!({ "i": iban, "t": token, "s": staleness_ms });
    let (_, response) = api.post(ACCOUNT, variables).await.unwrap();
    response
}

#[tokio::test]
async fn e05_e06_a_standby_answers_for_an_owner_that_stands_still_within_the_bound_that_the_caller_names() {
    let space = TestStack::shared().unwrap().namespace("stale").await.unwrap();
    let mut processors = BTreeMap::new();
    for name in ["p1", "p2"] {
        let mut processor = space.instance(name).start().unwrap();
        processor.wait_ready(PATIENCE).await.unwrap();
        processors.insert(name.to_owned(), processor);
    }
    let mut gateway = space.gateway("g1", &[]).start().unwrap();
    gateway.wait_ready(PATIENCE).await.unwrap();
    let (_, body) = gateway.get("/readyz").await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["routes"], true, "{body}");
    let api = gateway.graphql();
    let holder = holder(&api, "somebody").await;
    let mut stale = 0;
    for round in 1..=ROUNDS {
        shared(&gateway, &processors).await;
        let owners = owners(&gateway).await;
        let partition = schemas::partition_of(holder.iban.as_bytes(), i32::try_from(owners.len()).unwrap());
        let owner = &processors[&owners[usize::try_from(partition).unwrap()]];
        let result =
            api.data(DEPOSIT, deposit(Uuid::now_v7(), &holder.iban, 1)).await.unwrap()["money_transfer"].clone();
        let token = result["read_token"].as_str().unwrap().to_owned();
        owner.sigstop();
        let answer = account(&api, &holder.iban, &token, Some(60_000)).await;
        assert_eq!(answer["data"]["account"]["balance_cents"], round.to_string(), "{answer}");
        stale += i64::from(answer["data"]["account"]["stale"] == true);
        // Who takes no old rows, waits for the next owner.
        let fresh = async || {
            let answer = account(&api, &holder.iban, &token, None).await;
            answer["data"]["account"].is_object().then_some(answer)
        };
        let answer = eventually_some(PATIENCE, "a fresh answer", fresh).await.unwrap();
        let wanted = json!({ "balance_cents": round.to_string(), "stale": false });
        assert_eq!(answer["data"]["account"], wanted, "{answer}");
        owner.sigcont();
        if stale > 0 {
            break;
        }
    }
    assert!(stale > 0, "no standby ever answered");

    let beyond = (0..12).map(|partition| Token { partition, commit_sequence: 1_000_000 }).collect::<Vec<_>>();
    let answer = account(&api, &holder.iban, &read_token::encode(&beyond), Some(60_000)).await;
    let said = &answer["errors"][0]["extensions"];
    assert_eq!((&said["code"], &said["want"]), (&json!("STALE"), &json!(1_000_000)), "{answer}");
    assert!(said["have"].as_u64().is_some_and(|have| have > 0), "{answer}");
}
