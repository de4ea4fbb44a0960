//! The bank as its clients see it: `money_transfer` over HTTP, on connections that are kept, against all gateways in
//! turn. Same ruler as the level of topics: an answer's latency counts from the time its request was due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::accounts::{Account, Accounts, username_in};
use crate::latency::{Answer, Tally};
use crate::mix::{Class, Mix, Plan, Transfer, deposit};
use crate::probe::{Outcome, Tag};
use crate::schedule::{Schedule, wait_until};

const GET_ACCOUNT: &str = "mutation($username: String!, $password: String!) \
     { get_account(username: $username, password: $password) { iban token reason } }";
const MONEY_TRANSFER: &str = "mutation($uuid: String!, $token: String!, $from: String!, $to: String!, $descr: String!, \
     $amount: Int!, $username: String) { money_transfer(uuid: $uuid, token: $token, from: $from, to: $to, \
     descr: $descr, amount: $amount, username: $username) { uuid success reason } }";
/// Longer than any gateway lets a mutation take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Cents paid into every account first: the most that one transfer carries as a GraphQL Int.
const FUNDS_CENTS: i64 = 1_000_000_000;

/// Gateways, with users of this run.
pub struct Gateways {
    client: reqwest::Client,
    endpoints: Arc<Vec<String>>,
    partitions: i32,
    accounts: Accounts,
    phase: u32,
    runtime: tokio::runtime::Runtime,
}

/// One answer, or why there is none.
struct Done {
    tag: Tag,
    class: Class,
    result: Result<Verdict, String>,
    at: Duration,
}

/// What the bank decided: `None` when it was done, else why not.
type Verdict = Option<String>;

impl Gateways {
    /// Of these addresses.
    pub fn connect(addresses: &[String], partitions: i32) -> anyhow::Result<Gateways> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(1024)
            .pool_idle_timeout(Duration::from_secs(300))
            .build()?;
        let endpoints = Arc::new(addresses.iter().map(|address| format!("{address}/graphql")).collect());
        let phase = rand::random::<u32>() & 0x00ff_ff00;
        Ok(Gateways { client, endpoints, partitions, accounts: Accounts::new(partitions), phase, runtime })
    }

    /// Logs in new users, the same number in every partition, and pays cash into their accounts.
    pub fn open_accounts(&mut self, count: u64) -> anyhow::Result<()> {
        let run = format!("{:06x}", self.phase);
        for n in 0..count {
            let partition = i32::try_from(n % u64::from(self.partitions.unsigned_abs()))?;
            let username = username_in(&run, n, partition, self.partitions);
            let variables = json!({ "username": username, "password": format!("secret of {username}") });
            let data = self.runtime.block_on(post(&self.client, &self.endpoints[0], GET_ACCOUNT, variables))?;
            let result = &data["get_account"];
            let text = |field: &str| result[field].as_str().map(str::to_owned);
            let (Some(iban), Some(token)) = (text("iban"), text("token")) else {
                bail!("user {username} got no account: {}", result["reason"]);
            };
            let partition = schemas::partition_of(iban.as_bytes(), self.partitions);
            let account = Account { username, iban, token, partition };
            let tag = Tag { phase: self.phase, n, due_us: 0 };
            let transfer = deposit(&account, FUNDS_CENTS);
            let done = transfer_once(self.client.clone(), self.endpoints[0].clone(), tag, transfer, Instant::now());
            let result = self.runtime.block_on(done).result;
            ensure!(result == Ok(None), "a deposit was not done: {result:?}");
            self.accounts.add(account);
        }
        Ok(())
    }

    /// Sends transfers by a schedule. Connections are opened in the warm-up, by the same means.
    pub fn run(&mut self, across: f64, schedule: Schedule) -> anyhow::Result<Outcome> {
        self.phase += 1;
        let plans = self.plans(across, schedule)?;
        let (phase, count) = (self.phase, schedule.count());
        let (pace, mut due) = mpsc::unbounded_channel();
        let start = Instant::now();
        // A thread keeps the time: timers of the runtime are only as fine as a millisecond.
        let pacer = std::thread::spawn(move || {
            for n in 0..count {
                wait_until(start, schedule.due(n));
                if pace.send(n).is_err() {
                    return;
                }
            }
        });
        let tally = self.runtime.block_on(async {
            let (answers, mut answered) = mpsc::unbounded_channel();
            let mut plans = plans.into_iter();
            let mut tally = Tally::new(count);
            let mut sending = true;
            let mut finished = 0;
            while sending || finished < count {
                tokio::select! {
                    n = due.recv(), if sending => match n.zip(plans.next()) {
                        Some((n, transfer)) => {
                            let due_us = u64::try_from(schedule.due(n).as_micros()).unwrap_or(u64::MAX);
                            let tag = Tag { phase, n, due_us };
                            let client = self.client.clone();
                            let endpoint = self.endpoint(n);
                            let answers = answers.clone();
                            tokio::spawn(async move {
                                // The receiver only goes when the run is over.
                                let _ = answers.send(transfer_once(client, endpoint, tag, transfer, start).await);
                            });
                        }
                        None => sending = false,
                    },
                    Some(done) = answered.recv() => {
                        finished += 1;
                        note(&mut tally, &done);
                    }
                }
            }
            tally
        });
        pacer.join().map_err(|_| anyhow::anyhow!("the pacing thread died"))?;
        Ok(Outcome { tally, sent: count, undelivered: 0, elapsed: start.elapsed() })
    }

    fn endpoint(&self, n: u64) -> String {
        let turn = usize::try_from(n).unwrap_or(0) % self.endpoints.len().max(1);
        self.endpoints[turn].clone()
    }

    fn plans(&self, across: f64, schedule: Schedule) -> anyhow::Result<Vec<Transfer>> {
        ensure!(!self.accounts.is_empty(), "no accounts were opened");
        let mut rng = StdRng::seed_from_u64(u64::from(self.phase));
        let (mix, company) = (Mix::Transfers { across }, Account::company(self.partitions));
        let plan = |n| match mix.plan(n, &self.accounts, &company, &mut rng) {
            Plan::Move(transfer) => Ok(transfer),
            Plan::Open => bail!("a transfers-only mix opens no accounts"),
        };
        (0..schedule.count()).map(plan).collect()
    }
}

/// A request that failed or timed out has no answer: it counts as lost, and its latency as none.
fn note(tally: &mut Tally, done: &Done) {
    match &done.result {
        Ok(refusal) => {
            let answer = Answer { n: done.tag.n, class: done.class, refusal: refusal.as_deref() };
            tally.answer(&answer, Duration::from_micros(done.tag.due_us), done.at);
        }
        Err(why) => tally.failed(why),
    }
}

/// The bank's verdict in a response. `timed out` and `unavailable` are the gateway's words for having none.
fn verdict(response: anyhow::Result<Value>) -> Result<Verdict, String> {
    let data = response.map_err(|error| format!("{error:#}"))?;
    let result = &data["money_transfer"];
    if result["success"] == Value::Bool(true) {
        return Ok(None);
    }
    let reason = result["reason"].as_str().unwrap_or("no reason was given").to_owned();
    let none = reason.starts_with("timed out") || reason.starts_with("unavailable");
    if none { Err(reason) } else { Ok(Some(reason)) }
}

async fn transfer_once(
    client: reqwest::Client,
    endpoint: String,
    tag: Tag,
    transfer: Transfer,
    start: Instant,
) -> Done {
    let class = transfer.class;
    let variables = json!({
        "uuid": uuid::Uuid::from_bytes(tag.id(class)).to_string(),
        "token": transfer.token,
        "from": transfer.from,
        "to": transfer.to,
        "descr": transfer.description,
        "amount": transfer.amount,
        "username": transfer.key,
    });
    let result = verdict(post(&client, &endpoint, MONEY_TRANSFER, variables).await);
    Done { tag, class, result, at: start.elapsed() }
}

async fn post(client: &reqwest::Client, endpoint: &str, query: &str, variables: Value) -> anyhow::Result<Value> {
    let body = json!({ "query": query, "variables": variables });
    let response = client.post(endpoint).json(&body).send().await.context("no answer from the gateway")?;
    let status = response.status();
    let mut answer: Value = response.json().await.with_context(|| format!("answer {status} is no JSON"))?;
    if let Some(error) = answer["errors"].get(0) {
        bail!("{}", error["message"].as_str().unwrap_or("error without a message"));
    }
    Ok(answer["data"].take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_decision_of_the_bank_is_an_answer() {
        let of = |result: Value| verdict(Ok(json!({ "money_transfer": result })));
        assert_eq!(of(json!({ "success": true, "reason": null })), Ok(None));
        let refused = json!({ "success": false, "reason": "insufficient funds" });
        assert_eq!(of(refused), Ok(Some("insufficient funds".to_owned())));
        for reason in ["timed out: ask again with transfer(uuid)", "unavailable"] {
            assert_eq!(of(json!({ "success": false, "reason": reason })), Err(reason.to_owned()));
        }
        assert!(verdict(Err(anyhow::anyhow!("connection refused"))).is_err());
    }

    #[test]
    fn a_request_without_an_answer_is_lost_and_not_a_refusal() {
        let tag = Tag { phase: 1, n: 0, due_us: 0 };
        let done = Done { tag, class: Class::Within, result: Err("timed out".into()), at: Duration::from_secs(5) };
        let mut tally = Tally::new(1);
        note(&mut tally, &done);
        assert_eq!((tally.answered(), tally.failures()["timed out"]), (0, 1));
        assert!(tally.refused().is_empty());
    }
}
