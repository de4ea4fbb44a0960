//! A processor and gateways in a name space of their own.

use kontor_compose::testing::{GraphQl, Namespace, Service, TestStack};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bank {
    pub space: Namespace,
    pub processor: Service,
    pub gateway: Service,
}

/// Number, token and name of somebody's account.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    pub username: String,
    pub iban: String,
    pub token: String,
}

impl Bank {
    /// The gateway finds the processor by the control topic.
    pub async fn open(name: &str) -> Self {
        let space = TestStack::shared().unwrap().namespace(name).await.unwrap();
        let mut processor = space.processor("p1").start().unwrap();
        processor.wait_ready(PATIENCE).await.unwrap();
        let mut gateway = space.gateway("g1", &[]).start().unwrap();
        gateway.wait_ready(PATIENCE).await.unwrap();
        Self { space, processor, gateway }
    }

    /// This one is told where the processor is.
    pub async fn second_gateway(&self) -> Service {
        let mut gateway = self.space.gateway("g2", &[&self.processor]).start().unwrap();
        gateway.wait_ready(PATIENCE).await.unwrap();
        gateway
    }

    pub fn api(&self) -> GraphQl {
        self.gateway.graphql()
    }
}

pub fn address(gateway: &Service) -> SocketAddr {
    gateway.http().trim_start_matches("http://").parse().unwrap()
}

pub async fn log_in(api: &GraphQl, username: &str, password: &str) -> Value {
    let document =
        "mutation ($u: String!, $p: String!) { get_account(username: $u, password: $p) { iban token reason } }";
    api.data(document, json!({ "u": username, "p": password })).await.unwrap()["get_account"].clone()
}

pub async fn holder(api: &GraphQl, username: &str) -> Holder {
    let result = log_in(api, username, "correct horse").await;
    assert_eq!(result["reason"], Value::Null, "{result}");
    let text = |name: &str| result[name].as_str().unwrap().to_owned();
    Holder { username: username.to_owned(), iban: text("iban"), token: text("token") }
}

pub const TRANSFER: &str = "mutation ($uuid: String!, $token: String!, $amount: Int!, $from: String!, $to: String!, $username: String) { money_transfer(uuid: $uuid, token: $token, amount: $amount, from: $from, to: $to, descr: \"test\", username: $username) { uuid success reason } }";

pub fn deposit(uuid: Uuid, to: &str, cents: i64) -> Value {
    json!({ "uuid": uuid, "token": "cash", "amount": cents, "from": "cash", "to": to })
}

pub fn payment(uuid: Uuid, from: &Holder, to: &str, cents: i64) -> Value {
    json!({ "uuid": uuid, "token": from.token, "amount": cents, "from": from.iban, "to": to, "username": from.username })
}

pub async fn transfer(api: &GraphQl, variables: Value) -> Value {
    api.data(TRANSFER, variables).await.unwrap()["money_transfer"].clone()
}

pub async fn balance(api: &GraphQl, iban: &str) -> i64 {
    let data = api.data("query ($i: String!) { account(iban: $i) { balance_cents } }", json!({ "i": iban })).await;
    data.unwrap()["account"]["balance_cents"].as_str().unwrap().parse().unwrap()
}
