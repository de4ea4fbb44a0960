//! Instances that come and go: their partitions move, no command is lost or doubled, and nothing waits for long.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schemas::partition_of;

use crate::support::{
    Bank, Cluster, DEADLINE, Holder, Load, PARTITIONS, Pace, Stopwatch, Times, kills_wanted, seed, time_wanted, wanted,
};

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

/// Whoever is killed may be about to take over from the one before. `KONTOR_KILLS=300` is ten minutes.
#[tokio::test(flavor = "multi_thread")]
async fn f3_instances_that_are_killed_every_two_seconds_lose_nothing_and_answers_go_on() {
    let seed = seed("killed often");
    let mut random = StdRng::seed_from_u64(seed);
    let bank = Bank::with_shards("often", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 3, 1_000_000).await;
    cluster.launch(&bank, "p2");
    cluster.launch(&bank, "p3");
    cluster.settled().await;
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    for _ in 0..kills_wanted(4) {
        load.another(2 * RATE).await;
        let victim = cluster.names()[random.random_range(0..3)].clone();
        drop(cluster.kill(&victim));
        cluster.launch(&bank, &victim);
    }
    load.another(RATE).await;
    cluster.settled().await;
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    let silence = bank.longest_silence(holders.len()).await;
    println!("longest time without any answer: {} ms", silence.as_millis());
    assert!(silence.as_secs() < 10, "throughput in every ten seconds: {silence:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p04_p06_instances_that_are_added_and_removed_lose_and_double_nothing() {
    let seed = seed("scale");
    let bank = Bank::with_shards("scale", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 3, 1_000_000).await;
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    load.another(RATE).await;
    let mut pace = Pace::start(&cluster).await;
    for round in 0..wanted("KONTOR_SCALES", 2) {
        // From one to three, to two, to one: another one is left each time.
        let names = ["p1", "p2", "p3"];
        let (keeps, second, third) = (names[round % 3], names[(round + 1) % 3], names[(round + 2) % 3]);
        pace.changing();
        cluster.launch(&bank, second);
        cluster.launch(&bank, third);
        cluster.settled().await;
        pace.changed(&cluster).await;
        for leaves in [third, keeps] {
            load.another(RATE).await;
            pace.changing();
            let mut leaving = cluster.instances.remove(leaves).unwrap();
            assert_eq!(leaving.terminate().await.code(), Some(0), "{}", leaving.said());
            cluster.settled().await;
            pace.changed(&cluster).await;
        }
        load.another(RATE).await;
    }
    let sent = load.stop().await;
    pace.print(&bank).await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    let (name, last) = cluster.instances.first_key_value().unwrap();
    assert_eq!(cluster.owned(name).await.len(), PARTITIONS as usize);
    for holder in &holders {
        assert!(last.queries().account(&holder.iban).await.is_some(), "{} is at whoever is left", holder.iban);
    }
}

/// A shard whose thread ended at one instance is held by the others, until that one is started anew.
#[tokio::test(flavor = "multi_thread")]
async fn shards_that_stopped_at_one_instance_are_held_by_the_others() {
    let bank = Bank::with_shards("stopped", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 1, 1_000).await;
    cluster.launch(&bank, "p2");
    cluster.settled().await;
    let mut p2 = cluster.instances.remove("p2").unwrap();
    assert_eq!(p2.terminate().await.code(), Some(0), "{}", p2.said());
    let secret = bank.space.dir.join("another-secret");
    std::fs::write(&secret, "another secret of this bank, long enough").unwrap();
    let mut misled = bank.launch("p2", |builder| builder.env("KONTOR_TOKEN_SECRET_FILE", &secret));
    // Told to follow them all, and cannot: the stores were written under another secret.
    let stopped = || async { misled.states().await.iter().filter(|state| *state == "stopped").count() == 4 };
    kontor_compose::eventually(DEADLINE, "every shard stops there", stopped).await.unwrap();
    for holder in &holders {
        cluster.outcome(&bank.pay(holder, "a shop", 1)).await;
    }
    assert_eq!(cluster.owned("p1").await.len(), PARTITIONS as usize);
    // The owner leaves: there is nobody who could, and that is said.
    let mut p1 = cluster.instances.remove("p1").unwrap();
    assert_eq!(p1.terminate().await.code(), Some(0), "{}", p1.said());
    assert!(misled.states().await.iter().all(|state| state == "stopped"));
    misled.kill();
    cluster.launch(&bank, "p1");
    cluster.launch(&bank, "p2");
    cluster.settled().await;
    bank.assert_clean().await;
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
    // `KONTOR_FROZEN_S`: for longer than the takeover takes.
    let seconds = time_wanted("KONTOR_FROZEN_S", Duration::ZERO).as_secs();
    load.another(RATE * seconds).await;
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
