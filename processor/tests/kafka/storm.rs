//! Instances that come and go all the time. What stays where it is, goes on.
//!
//! `KONTOR_STORM_S` says for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Bank, Cluster, Load, PARTITIONS, Phase, Stopwatch, now_ms, seed, time_wanted};

/// Commands per second.
const RATE: u64 = 400;
/// One for each partition.
const SHARDS: i32 = PARTITIONS;
/// An instance joins or leaves so often.
const BEAT: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn f12_partitions_that_stay_go_on_while_instances_come_and_go() {
    let seed = seed("storm");
    let mut random = StdRng::seed_from_u64(seed);
    let lasts = time_wanted("KONTOR_STORM_S", Duration::from_secs(18));
    let bank = Bank::with_shards("storm", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 3, 10_000_000).await;
    cluster.launch(&bank, "p2");
    cluster.settled().await;
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    load.another(RATE / 2).await;
    let from_ms = now_ms();
    load.another(RATE * 5).await;
    let calm = Phase::since(from_ms);

    let (from_ms, watch, mut beats) = (now_ms(), Stopwatch::start(), 0);
    // The first one comes at once.
    let mut beat = tokio::time::interval(BEAT);
    while watch.elapsed() < lasts {
        beat.tick().await;
        beats += 1;
        if !cluster.instances.contains_key("p3") {
            cluster.launch(&bank, "p3");
        } else if random.random() || cluster.instances["p3"].lines(" started ").is_empty() {
            // Also one that heeds no signal yet.
            drop(cluster.kill("p3"));
        } else {
            cluster.dismiss("p3").await;
        }
    }
    let storm = Phase::since(from_ms);
    if !cluster.instances.contains_key("p3") {
        cluster.launch(&bank, "p3");
    }
    cluster.settled().await;
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;

    let moved: BTreeSet<i32> = bank
        .claims()
        .await
        .into_iter()
        .filter(|(at_ms, ..)| *at_ms >= storm.from_ms)
        .map(|(_, shard, _)| shard)
        .collect();
    let timeline = bank.timeline().await;
    let (before, during) = (timeline.rates(calm), timeline.rates(storm));
    println!("{beats} instances came or went; {}", timeline.line("calm", calm));
    println!("{}", timeline.line("storm", storm));
    for partition in 0..PARTITIONS {
        let (before, during) = (before[&partition], during[&partition]);
        let what = if moved.contains(&partition) { "moved" } else { "stayed" };
        let pause_ms = timeline.longest_pause_ms(partition, storm);
        println!(
            "partition {partition} {what}: {before:.0}/s before, {during:.0}/s while, {:.0} %, longest pause {pause_ms} ms",
            100.0 * during / before
        );
        assert!(during > 0.0, "partition {partition} stood still");
    }
}
