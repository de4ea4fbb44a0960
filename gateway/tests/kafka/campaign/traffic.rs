//! Transfers through the gateways, whatever happens behind them: each is repeated with its id until it is answered.

use crate::support::{Holder, PATIENCE, payment};
use kontor_compose::testing::GraphQl;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Before another attempt at a gateway that has just refused.
const PAUSE: Duration = Duration::from_millis(20);

/// A transfer that was answered with success.
#[derive(Debug, Clone)]
pub struct Paid {
    /// Its id.
    pub uuid: Uuid,
    /// Whose account paid.
    pub from: String,
    /// Whose account was paid.
    pub to: String,
    /// How much.
    pub cents: i64,
    /// What a reader names who has to see it.
    pub read_token: String,
}

const PAY: &str = "mutation ($uuid: String!, $token: String!, $amount: Int!, $from: String!, $to: String!, $username: String) { money_transfer(uuid: $uuid, token: $token, amount: $amount, from: $from, to: $to, descr: \"test\", username: $username) { uuid success reason read_token } }";

/// How often something was not answered, by what was said instead.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<String, usize>>>);

impl Refusals {
    /// The code of the first error; `lost` when the connection broke.
    fn note(&self, answer: &kontor_compose::Result<(u16, Value)>) {
        let code = match answer {
            Ok((_, answer)) => answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("no code").to_owned(),
            Err(_) => "lost".to_owned(),
        };
        *self.0.lock().entry(code).or_default() += 1;
    }

    /// By code.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.0.lock().clone()
    }
}

/// Asks the gateways in turn, from number `first`, until one answers without an error. Commands may be asked so,
/// because their ids make them safe to repeat.
pub async fn ask(apis: &[GraphQl], first: usize, document: &str, variables: Value, refusals: &Refusals) -> Value {
    let began = Instant::now();
    let mut gateway = first;
    loop {
        let asked = apis[gateway % apis.len()].post(document, variables.clone()).await;
        if let Ok((200, answer)) = &asked
            && answer["errors"].is_null()
        {
            return answer["data"].clone();
        }
        refusals.note(&asked);
        assert!(began.elapsed() < PATIENCE, "not answered: {asked:?}");
        tokio::time::sleep(PAUSE).await;
        gateway += 1;
    }
}

/// A transfer with a new id, repeated until it is answered; it must succeed.
pub async fn pay(apis: &[GraphQl], first: usize, from: &Holder, to: &Holder, cents: i64, refusals: &Refusals) -> Paid {
    let uuid = Uuid::now_v7();
    let order = payment(uuid, from, &to.iban, cents);
    let mut data = ask(apis, first, PAY, order, refusals).await;
    let read_token = data["money_transfer"]["read_token"].take().as_str().unwrap().to_owned();
    assert_eq!(data["money_transfer"], json!({ "uuid": uuid, "success": true, "reason": null, "read_token": null }));
    Paid { uuid, from: from.iban.clone(), to: to.iban.clone(), cents, read_token }
}

/// A steady load of transfers among holders, through all gateways. Ends when it is stopped or dropped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Vec<Paid>>>,
    /// What was said instead of answers.
    pub refusals: Refusals,
}

impl Traffic {
    /// `workers` clients, each with `per_second` transfers at most; every holder pays and is paid.
    pub fn start(apis: &[GraphQl], holders: &[Holder], workers: usize, per_second: u32) -> Self {
        let (stop, refusals) = (Arc::new(AtomicBool::new(false)), Refusals::default());
        let start = |number| {
            let (apis, holders) = (apis.to_vec(), holders.to_vec());
            let (stop, refusals) = (Arc::clone(&stop), refusals.clone());
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                let mut paid = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let count = paid.len();
                    let (from, to) = pair(number, count, holders.len());
                    let cents = 1 + (count % 97) as i64;
                    paid.push(pay(&apis, number + count, &holders[from], &holders[to], cents, &refusals).await);
                }
                paid
            })
        };
        let workers = (0..workers).map(start).collect();
        Self { stop, workers, refusals }
    }

    /// Ends it. Returns all its transfers, every one answered.
    pub async fn stop(mut self) -> Vec<Paid> {
        self.stop.store(true, Ordering::Relaxed);
        let mut paid = Vec::new();
        for worker in self.workers.drain(..) {
            paid.extend(worker.await.unwrap());
        }
        paid
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Who pays whom: all holders in turn, at all distances but to oneself.
fn pair(worker: usize, count: usize, holders: usize) -> (usize, usize) {
    let from = (worker + count) % holders;
    let distance = 1 + (worker * 5 + count / holders) % (holders - 1);
    (from, (from + distance) % holders)
}
