//! A processor and gateways in a name space of their own.

use kontor_compose::testing::{GraphQl, Namespace, Service, TestStack, eventually_some};
use schemas::{AvroRecord, CacheConfig, Lookup, SchemaCache, partition_of, unframe};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(60);
/// Of the topics as they are declared.
pub const PARTITIONS: i32 = 12;
pub const PASSWORD: &str = "correct horse";

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
    let result = log_in(api, username, PASSWORD).await;
    assert_eq!(result["reason"], Value::Null, "{result}");
    let text = |name: &str| result[name].as_str().unwrap().to_owned();
    Holder { username: username.to_owned(), iban: text("iban"), token: text("token") }
}

/// A holder whose account and commands are in this partition.
pub async fn holder_in(api: &GraphQl, partition: i32) -> Holder {
    let mut names = (0..).map(|attempt| format!("holder-{attempt}-in-{partition}"));
    let holder = holder(api, &names.find(|name| partition_of(name.as_bytes(), PARTITIONS) == partition).unwrap()).await;
    assert_eq!(partition_of(holder.iban.as_bytes(), PARTITIONS), partition);
    holder
}

pub const TRANSFER: &str = "mutation ($uuid: String!, $token: String!, $amount: Int!, $from: String!, $to: String!, $username: String, $descr: String! = \"test\") { money_transfer(uuid: $uuid, token: $token, amount: $amount, from: $from, to: $to, descr: $descr, username: $username) { uuid success reason } }";

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

/// A transfer with this description, which must succeed.
pub async fn pay(api: &GraphQl, mut variables: Value, descr: &str) {
    variables["descr"] = descr.into();
    let result = transfer(api, variables).await;
    assert_eq!(result["success"], true, "{result}");
}

/// Learns the schemas of a name space.
pub fn schemas_of(space: &Namespace) -> SchemaCache {
    SchemaCache::start(CacheConfig { registry_url: space.registry().to_owned(), file: None }).unwrap()
}

/// The value of a record.
pub async fn decoded<T: AvroRecord>(schemas: &SchemaCache, value: &[u8]) -> T {
    let (id, datum) = unframe(value).unwrap();
    let writer = eventually_some(PATIENCE, "the schema is known", async || match schemas.writer(id) {
        Lookup::Known(writer) => Some(writer),
        Lookup::Pending => None,
        Lookup::Absent(reason) => panic!("schema {id}: {reason}"),
    });
    writer.await.unwrap().decode(datum).unwrap()
}
