//! Whoever has the answer to a command reads what it did, through any gateway, while partitions move: balances and
//! history, of the payer and of the payee. Its read token goes with the question: the payee's side is committed before the
//! answer, and may be applied a moment after it.

use crate::campaign::{BEGINNING, Fleet, Refusals, ask, pay, times, wanted};
use crate::support::Holder;
use kontor_compose::testing::GraphQl;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What a pair of accounts must look like: balances, and the last transfer between them.
struct Expected {
    from_cents: i64,
    to_cents: i64,
    last: Uuid,
}

const PAIR: &str = "query ($a: String!, $b: String!, $t: String!) {
    a: account(iban: $a, at_least: $t) { balance_cents } b: account(iban: $b, at_least: $t) { balance_cents }
    outs: transactions(iban: $a, first: 1, at_least: $t) { nodes { transfer_id } }
    ins: transactions(iban: $b, first: 1, at_least: $t) { nodes { transfer_id } }
}";

impl Expected {
    /// What an answer shows of an earlier time, by name.
    fn stale(&self, data: &Value) -> Vec<&'static str> {
        let last = self.last.to_string();
        let cents = |name: &str| data[name]["balance_cents"].as_str().unwrap().parse::<i64>().unwrap();
        let is_last = |name: &str| data[name]["nodes"][0]["transfer_id"] == last;
        let shown = [
            ("balance of the payer", cents("a") == self.from_cents),
            ("balance of the payee", cents("b") == self.to_cents),
            ("history of the payer", is_last("outs")),
            ("history of the payee", is_last("ins")),
        ];
        shown.into_iter().filter(|(_, now)| !now).map(|(name, _)| name).collect()
    }
}

/// Clients that write through one gateway and read through the other, each on a pair of accounts of its own.
#[derive(Default)]
struct Pairs {
    stop: AtomicBool,
    done: AtomicUsize,
    refused_writes: Refusals,
    refused_reads: Refusals,
    stale: Mutex<Vec<String>>,
    reads: Mutex<Vec<Duration>>,
}

impl Pairs {
    async fn work(&self, apis: &[GraphQl], number: usize, from: &Holder, to: &Holder) {
        let mut expected = Expected { from_cents: BEGINNING, to_cents: BEGINNING, last: Uuid::nil() };
        let (writes, reads) = (&apis[number % 2..][..1], &apis[(number + 1) % 2..][..1]);
        while !self.stop.load(Ordering::Relaxed) {
            let paid = pay(writes, 0, from, to, 1, &self.refused_writes).await;
            expected.from_cents -= 1;
            expected.to_cents += 1;
            expected.last = paid.uuid;
            let began = Instant::now();
            let variables = json!({ "a": from.iban, "b": to.iban, "t": paid.read_token });
            let data = ask(reads, 0, PAIR, variables, &self.refused_reads).await;
            self.reads.lock().push(began.elapsed());
            self.done.fetch_add(1, Ordering::Relaxed);
            let stale = expected.stale(&data);
            if !stale.is_empty() {
                self.stale.lock().push(format!("after {}: {stale:?} in {data}", paid.uuid));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_read_through_another_gateway_while_partitions_move() {
    let count = wanted("KONTOR_READS", 500);
    let mut fleet = Fleet::open("own-writes", 3).await;
    let holders = fleet.holders(2).await;
    let pairs = Arc::new(Pairs::default());
    let before = fleet.owners.moves();
    let mut workers = tokio::task::JoinSet::new();
    // Neighbours are in different partitions.
    for (number, pair) in holders.chunks_exact(2).take(8).enumerate() {
        let (pairs, apis, from, to) = (Arc::clone(&pairs), fleet.apis(), pair[0].clone(), pair[1].clone());
        workers.spawn(async move { pairs.work(&apis, number, &from, &to).await });
    }
    // One that is killed and one that leaves, at least.
    let mut shakes = 0;
    while shakes < 2 || pairs.done.load(Ordering::Relaxed) < count {
        fleet.shake().await;
        shakes += 1;
        if let Some(ended) = workers.try_join_next() {
            ended.unwrap();
        }
    }
    pairs.stop.store(true, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let moved = fleet.owners.moves() - before;
    println!("{moved} moves; reads: {}", times(pairs.reads.lock().clone()));
    println!("other answers to writes: {:?}", pairs.refused_writes.counts());
    println!("other answers to reads: {:?}", pairs.refused_reads.counts());
    let stale = pairs.stale.lock().clone();
    assert!(
        stale.is_empty(),
        "{} reads were stale and did not say so:\n{}",
        stale.len(),
        stale[..stale.len().min(10)].join("\n")
    );
    fleet.assert_clean().await;
}
