//! A gateway over fakes: a processor that serves the query protocol from maps over a real socket, and a way to Kafka
//! that hands commands straight to it. The rules of this bank are a few lines; the real ones have their own tests.

mod filtered;
pub mod processor;
pub mod request;
pub mod socket;
pub mod two;

use futures_util::future::BoxFuture;
use gateway::command::{Begun, Command, Commands, SendError};
use gateway::routing::{Configured, Routing};
use gateway::serve::{Behaviour, Gateway, Parts, start};
use kontor_compose::testing::eventually;
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;
use processor::FakeProcessor;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Partitions of the fakes.
pub const PARTITIONS: i32 = 4;

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is processed.
    Works,
    /// It is never handed over.
    NotSent,
    /// It waits to be handed over, for ever.
    Waits,
    /// Nobody knows, and it is processed.
    UnknownButWorks,
    /// It is handed over and never processed.
    Lost,
}

/// The way to Kafka.
pub struct FakeCommands {
    bank: Arc<FakeProcessor>,
    delivery: Mutex<Delivery>,
    /// Key and partition of each command that was handed over.
    pub sent: Mutex<Vec<(String, i32, Command)>>,
}

impl Commands for FakeCommands {
    fn send(
        &self,
        key: String,
        partition: i32,
        command: Command,
        begun: Begun,
    ) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let delivery = *self.delivery.lock();
            if delivery == Delivery::NotSent {
                return Err(SendError::NotSent("Kafka cannot be reached".into()));
            }
            if delivery == Delivery::Waits {
                return std::future::pending().await;
            }
            begun.set();
            self.sent.lock().push((key, partition, command.clone()));
            match delivery {
                Delivery::Lost => Ok(()),
                Delivery::UnknownButWorks => {
                    self.bank.process(partition, &command);
                    Err(SendError::Unknown("message timed out".into()))
                }
                _ => {
                    self.bank.process(partition, &command);
                    Ok(())
                }
            }
        })
    }

    fn is_up(&self) -> bool {
        *self.delivery.lock() != Delivery::NotSent
    }
}

/// A running gateway with its fakes.
pub struct World {
    pub gateway: Gateway,
    pub bank: Arc<FakeProcessor>,
    pub commands: Arc<FakeCommands>,
    background: CancellationToken,
    owns_the_bank: bool,
}

impl World {
    /// With the usual behaviour.
    pub async fn new() -> Self {
        Self::with(Behaviour::default()).await
    }

    pub async fn with(behaviour: Behaviour) -> Self {
        let bank = FakeProcessor::start(PARTITIONS).await;
        let mut world = Self::beside(bank, behaviour).await;
        world.owns_the_bank = true;
        world
    }

    /// One more gateway for the same bank.
    pub async fn beside(bank: Arc<FakeProcessor>, behaviour: Behaviour) -> Self {
        let routing = Arc::new(Configured::new(PARTITIONS, &[bank.endpoint()]).unwrap());
        routing.refresh().await;
        let background = CancellationToken::new();
        tokio::spawn({
            let (routing, background) = (Arc::clone(&routing), background.clone());
            async move { routing.follow(background).await }
        });
        Self::over(bank, routing, background, behaviour).await
    }

    /// A gateway that finds the bank by this routing, and follows every partition.
    async fn over(
        bank: Arc<FakeProcessor>,
        routing: Arc<dyn Routing>,
        background: CancellationToken,
        behaviour: Behaviour,
    ) -> Self {
        let world = Self::begun(bank, routing, background, behaviour).await;
        world.until_followed().await;
        world
    }

    /// The same at once: there may be partitions that nobody serves.
    pub async fn begun(
        bank: Arc<FakeProcessor>,
        routing: Arc<dyn Routing>,
        background: CancellationToken,
        behaviour: Behaviour,
    ) -> Self {
        let commands = Arc::new(FakeCommands {
            bank: Arc::clone(&bank),
            delivery: Mutex::new(Delivery::Works),
            sent: Mutex::default(),
        });
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let parts = Parts { routing, commands: Arc::clone(&commands) as Arc<dyn Commands>, metrics };
        let gateway = start(listener, parts, behaviour).unwrap();
        Self { gateway, bank, commands, background, owns_the_bank: false }
    }

    /// The gateway knows where every partition stands.
    pub async fn until_followed(&self) {
        let all: Vec<i32> = (0..PARTITIONS).collect();
        // One attempt may be too short for a busy machine.
        let followed = async { while self.gateway.live.subscribe(&all).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(20), followed).await.expect("a partition is not served");
    }

    pub fn deliver(&self, delivery: Delivery) {
        *self.commands.delivery.lock() = delivery;
    }

    /// So many commands have been handed over.
    pub async fn until_sent(&self, count: usize) {
        let sent = || std::future::ready(self.commands.sent.lock().len() >= count);
        eventually(Duration::from_secs(20), "commands are sent", sent).await.unwrap();
    }

    pub async fn stop(&self) {
        self.gateway.stop().await;
    }

    /// Executes a document without HTTP; the response as JSON.
    pub async fn execute(&self, query: &str) -> serde_json::Value {
        serde_json::to_value(self.gateway.api.execute(async_graphql::Request::new(query)).await).unwrap()
    }

    /// Data of a document that must succeed.
    pub async fn data(&self, query: &str) -> serde_json::Value {
        let response = self.execute(query).await;
        assert!(response.get("errors").is_none(), "{query}: {response}");
        response["data"].clone()
    }

    /// Opens an account; iban and token.
    pub async fn open(&self, username: &str) -> (String, String) {
        let query = format!(
            r#"mutation {{ get_account(username: "{username}", password: "correct horse") {{ iban token reason }} }}"#
        );
        let result = self.data(&query).await["get_account"].clone();
        assert_eq!(result["reason"], serde_json::Value::Null, "{result}");
        (text(&result["iban"]), text(&result["token"]))
    }

    /// Deposits cents.
    pub async fn deposit(&self, iban: &str, cents: i64, descr: &str) {
        let result = self.transfer("cash", "cash", iban, cents, descr).await;
        assert_eq!(result["success"], true, "{result}");
    }

    pub async fn transfer(&self, token: &str, from: &str, to: &str, cents: i64, descr: &str) -> serde_json::Value {
        let query = transfer_document(&uuid::Uuid::now_v7().to_string(), token, from, to, cents, descr);
        self.data(&query).await["money_transfer"].clone()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.background.cancel();
        if self.owns_the_bank {
            self.bank.kill();
        }
    }
}

pub fn transfer_document(uuid: &str, token: &str, from: &str, to: &str, cents: i64, descr: &str) -> String {
    format!(
        r#"mutation {{ money_transfer(uuid: "{uuid}", token: "{token}", from: "{from}", to: "{to}", descr: "{descr}", amount: {cents}) {{ uuid success reason }} }}"#
    )
}

pub fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
