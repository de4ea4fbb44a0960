//! A shard's thread that takes long over a batch, or stands still. Heartbeats have a thread of their own, so nobody is
//! suspected; and an instance that is, decides nothing twice. `KONTOR_KILLS` says how often one is overtaken.

use std::time::Duration;

use kontor_compose::eventually;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Bank, Cluster, DEADLINE, Load, PARTITIONS, Phase, SHARDS, Stopwatch, kills_wanted, now_ms, seed};

/// Commands per second.
const RATE: u64 = 200;

/// Stalls of the first test.
const STALLS: usize = 3;

/// Two instances, the first one with these stalls (see the program's probe). It owns and leads before the second comes.
async fn begin(name: &str, stalls: &str, seed: u64) -> (Bank, Cluster, Load) {
    let bank = Bank::with_shards(name, SHARDS).await;
    let mut cluster = Cluster { instances: std::collections::BTreeMap::new() };
    cluster.launch_with(&bank, "p1", |builder| builder.program("processor-faults").env("KONTOR_STALL_AT", stalls));
    cluster.settled().await;
    let holders = bank.holders(&cluster.instances["p1"], 2, 1_000_000).await;
    cluster.launch(&bank, "p2");
    cluster.settled().await;
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    load.another(RATE / 2).await;
    (bank, cluster, load)
}

/// Waits until the first instance has begun or ended so many stalls.
async fn stalls(cluster: &Cluster, word: &str, count: usize) {
    let reached = || async { cluster.instances["p1"].lines(word).len() >= count };
    eventually(DEADLINE, "a stall", reached).await.unwrap_or_else(|error| panic!("{error}\n{}", cluster.said()));
}

#[tokio::test(flavor = "multi_thread")]
async fn f24_a_slow_batch_and_a_stalled_thread_are_not_taken_for_a_dead_instance() {
    let seed = seed("slow");
    // Each batch takes ten times as long as usual; three times the thread stands still for longer than an instance may be
    // silent, with nothing done yet, in an open transaction, and with a commit that is not in the store.
    let all = "mid-batch:each:50,after-stage:120:2500,before-commit:170:2500,after-commit:220:2500";
    let (bank, cluster, load) = begin("slow", all, seed).await;
    let (claims, from_ms) = (bank.claims().await.len(), now_ms());
    let owned = cluster.owned("p1").await;
    let (mut fresh, mut ready) = (0, 0);
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for stall in 1..=STALLS {
        stalls(&cluster, "stands still", stall).await;
        let instance = &cluster.instances["p1"];
        // It has everything that was committed, and nobody else commits: its answers stay fresh.
        while instance.lines("goes on after a stall").len() < stall {
            pace.tick().await;
            ready += usize::from(instance.status("/readyz").await == 200);
            for partition in &owned {
                fresh += usize::from(instance.queries().sequence(*partition).await.is_ok());
            }
        }
    }
    load.another(RATE).await;
    let stalled = Phase::since(from_ms);
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    let moved = bank.claims().await.len() - claims;
    println!("{STALLS} stalls, {moved} moves, {fresh} fresh answers meanwhile");
    println!("{}", bank.timeline().await.line("with stalls", stalled));
    assert!(fresh > 0 && ready > 0, "a stalled thread was taken for a dead instance");
    // A machine without time may cost a move; that every stall does would be another thing.
    assert!(moved < STALLS, "{moved} moves after {STALLS} stalls");
}

#[tokio::test(flavor = "multi_thread")]
async fn f24_a_shard_that_is_taken_over_in_the_middle_of_a_commit_decides_nothing_twice() {
    let seed = seed("overtaken");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..kills_wanted(1) {
        let step = ["after-stage", "before-commit", "after-commit"][random.random_range(0..3)];
        let (bank, mut cluster, load) = begin("overtaken", &format!("{step}:300:1000"), seed).await;
        stalls(&cluster, "stands still", 1).await;
        let stalled = cluster.instances.remove("p1").unwrap();
        let watch = Stopwatch::start();
        stalled.freeze();
        // Its heartbeats stand still too now, and the other takes over while the transaction is where it is.
        let taken = || async { cluster.owned("p2").await.len() == PARTITIONS as usize };
        eventually(DEADLINE, "all is taken over", taken).await.unwrap();
        println!("{step}: taken over after {} ms", watch.elapsed().as_millis());
        stalled.thaw();
        cluster.instances.insert("p1".to_owned(), stalled);
        stalls(&cluster, "goes on after a stall", 1).await;
        cluster.settled().await;
        let sent = load.stop().await;
        bank.assert_clean().await;
        bank.assert_answered_once(&sent).await;
    }
}
