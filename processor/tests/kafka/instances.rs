//! Instances that come and go: their partitions move, no command is lost or doubled, and nothing waits for long.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schemas::partition_of;

use crate::support::{Bank, Cluster, Holder, Load, PARTITIONS, Stopwatch, Times, kills_wanted, seed};

/// Commands per second while instances come and go.
const RATE: u64 = 200;
/// One for each partition, so that three instances have one or two each.
const SHARDS: i32 = PARTITIONS;

/// One holder of each partition.
fn one_of_each(holders: &[Holder]) -> BTreeMap<i32, Holder> {
    let partition = |holder: &Holder| partition_of(holder.iban.as_bytes(), PARTITIONS);
    holders.iter().map(|holder| (partition(holder), holder.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f3_e04_the_partitions_of_a_killed_instance_are_taken_over_by_its_standbys() {
    let seed = seed("instances");
    let mut random = StdRng::seed_from_u64(seed);
    let kills = kills_wanted(3);
    let bank = Bank::with_shards("instances", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 3, 1_000_000).await;
    cluster.launch(&bank, "p2");
    cluster.launch(&bank, "p3");
    cluster.settled().await;
    let of_partition = one_of_each(&holders);
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    load.another(RATE).await;
    let (mut reads, mut commands) = (Times::default(), Times::default());
    for _ in 0..kills {
        let victim = cluster.names()[random.random_range(0..3)].clone();
        let owned = cluster.owned(&victim).await;
        assert!(!owned.is_empty(), "{victim} owns something");
        let watch = Stopwatch::start();
        drop(cluster.kill(&victim));
        let answers = owned.iter().map(|partition| cluster.answers(&bank, &of_partition[partition], &watch));
        for (read, command) in futures_util::future::join_all(answers).await {
            reads.add(read);
            commands.add(command);
        }
        cluster.launch(&bank, &victim);
        cluster.settled().await;
    }
    let sent = load.stop().await;
    println!("{}", reads.line("a fresh answer after kill -9 of its owner"));
    println!("{}", commands.line("the outcome of a command after kill -9 of its owner"));
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p04_instances_that_are_added_and_removed_lose_and_double_nothing() {
    let seed = seed("scale");
    let bank = Bank::with_shards("scale", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 3, 1_000_000).await;
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    load.another(RATE).await;
    for _ in 0..2 {
        cluster.launch(&bank, "p2");
        cluster.launch(&bank, "p3");
        cluster.settled().await;
        load.another(RATE).await;
        for name in ["p1", "p3"] {
            let mut leaving = cluster.instances.remove(name).unwrap();
            assert_eq!(leaving.terminate().await.code(), Some(0), "{}", leaving.said());
            cluster.settled().await;
        }
        cluster.launch(&bank, "p1");
        cluster.settled().await;
        let mut leaving = cluster.instances.remove("p2").unwrap();
        assert_eq!(leaving.terminate().await.code(), Some(0), "{}", leaving.said());
        cluster.settled().await;
    }
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    assert_eq!(cluster.owned("p1").await.len(), PARTITIONS as usize);
}

/// An owner that stood still while another took its place: what it writes is rejected, what it reads it does not call
/// fresh, and it comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn f4_a_frozen_instance_is_replaced_and_rejoins_without_a_stale_answer() {
    let seed = seed("frozen");
    let bank = Bank::with_shards("frozen", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 2, 1_000_000).await;
    for name in ["p2", "p3"] {
        cluster.launch(&bank, name);
    }
    cluster.settled().await;
    let of_partition = one_of_each(&holders);
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    load.another(RATE).await;
    let owned = cluster.owned("p2").await;
    let frozen = cluster.instances.remove("p2").unwrap();
    let watch = Stopwatch::start();
    frozen.freeze();
    let mut reads = Times::default();
    for partition in &owned {
        reads.add(cluster.answers(&bank, &of_partition[partition], &watch).await.0);
    }
    println!("{}", reads.line("a fresh answer after SIGSTOP of its owner"));
    let mut committed = BTreeMap::new();
    for partition in &owned {
        committed.insert(*partition, cluster.sequence(*partition).await);
    }
    let parts = || frozen.lines("follows").len() + frozen.lines(" running shard=").len();
    let before = parts();
    frozen.thaw();
    // At once, again and again, until it has a part again: what it answers is of now, or it does not answer.
    let (queries, mut refused) = (frozen.queries(), 0);
    while parts() == before {
        for (partition, committed) in &committed {
            match queries.sequence(*partition).await {
                Err(_) => refused += 1,
                Ok(sequence) => assert!(sequence >= *committed, "partition {partition} went back to {sequence}"),
            }
        }
    }
    assert!(refused > 0, "it was asked before it knew");
    cluster.instances.insert("p2".to_owned(), frozen);
    cluster.settled().await;
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}
