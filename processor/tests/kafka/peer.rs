//! An instance without state copies it from one that has it. The topics alone are always enough.

use std::fs;
use std::time::Duration;

use kontor_compose::eventually;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::{
    Bank, Cluster, DEADLINE, Load, Meddle, Meddler, PARTITIONS, Processor, SHARDS, Stopped, Stopwatch, seed,
};

/// Copies of small stores, too.
const COPY_ALL: (&str, &str) = ("KONTOR_COPY_RECORDS_MIN", "1");
/// Never a copy.
const COPY_NONE: (&str, &str) = ("KONTOR_COPY_RECORDS_MIN", "1000000000000");
const COPIED: &str = "copied from a peer";
const NOT_COPIED: &str = "not copied from this peer";

/// Rows of the measurement: `KONTOR_ROWS`, or a few.
fn rows_wanted() -> u64 {
    std::env::var("KONTOR_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000)
}

fn launch(cluster: &mut Cluster, bank: &Bank, name: &str, setting: (&str, &str)) {
    let processor = bank.launch(name, |builder| builder.env(setting.0, setting.1));
    cluster.instances.insert(name.to_owned(), processor);
}

/// Ends all but this one, which then owns everything, and then this one too. Its stores must be the topics' fold.
async fn assert_stores_are_whole(bank: &Bank, cluster: &mut Cluster, last: &str) {
    for name in cluster.names().into_iter().filter(|name| name != last) {
        let mut leaving = cluster.instances.remove(&name).unwrap();
        assert_eq!(leaving.terminate().await.code(), Some(0), "{}", leaving.said());
    }
    cluster.settled().await;
    let mut left = cluster.instances.remove(last).unwrap();
    left.history_complete().await;
    assert_eq!(left.metric("kontor_store_wipes_total").await, 0.0, "{}", left.said());
    assert_eq!(left.terminate().await.code(), Some(0), "{}", left.said());
    bank.assert_clean_with_stores(&left.state_dir()).await;
    let stores = Stopped::read(bank, &left.state_dir()).await;
    assert_eq!(stores.assert_committed_only(bank).await.transactions, 0);
    stores.assert_history_complete(bank).await;
    let exchange = left.state_dir().join("peer");
    let files = ["in", "out"].map(|side| fs::read_dir(exchange.join(side)).unwrap().count());
    assert_eq!(files, [0, 0], "nothing is left in {}", exchange.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_an_empty_instance_copies_its_stores_from_a_peer_and_follows_from_there() {
    let seed = seed("peer");
    let bank = Bank::with_shards("peer", PARTITIONS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 3, 1_000_000).await;
    let mut sent = Load::start(&bank, &holders, 2_000, 6_000, seed).finish().await;
    cluster.launch(&bank, "p2");
    cluster.settled().await;
    assert!(cluster.instances["p2"].lines(COPIED).is_empty(), "there is too little for a copy");
    let load = Load::start(&bank, &holders, 200, u64::MAX, seed + 1);
    load.another(200).await;
    launch(&mut cluster, &bank, "p3", COPY_ALL);
    cluster.settled().await;
    let copies = cluster.instances["p3"].lines(COPIED);
    println!("{}", copies.join("\n"));
    assert!(!copies.is_empty(), "{}", cluster.said());
    assert_eq!(cluster.instances["p3"].metric("kontor_peer_copies_total").await, copies.len() as f64);
    load.another(200).await;
    sent.extend(load.stop().await);
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    assert_stores_are_whole(&bank, &mut cluster, "p3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_a_peer_that_dies_or_lies_in_the_middle_leaves_it_to_the_changelog() {
    let seed = seed("meddled");
    let bank = Bank::with_shards("meddled", PARTITIONS).await;
    let meddler = Meddler::start(Meddle::CutAfter(30_000));
    let p1 = bank.launch("p1", |builder| builder.env("KONTOR_ADVERTISE", meddler.address.as_str()));
    meddler.to(&p1.grpc());
    let mut cluster = Cluster { instances: [("p1".to_owned(), p1)].into() };
    cluster.settled().await;
    // A port that another process had taken is chosen anew.
    meddler.to(&cluster.instances["p1"].grpc());
    let holders = bank.holders(&cluster.instances["p1"], 3, 1_000_000).await;
    let sent = Load::start(&bank, &holders, 2_000, 6_000, seed).finish().await;
    bank.assert_clean().await;
    for meddle in [Meddle::CutAfter(30_000), Meddle::FlipEvery(5_000)] {
        meddler.set(meddle);
        let before = meddler.connections();
        launch(&mut cluster, &bank, "p2", COPY_ALL);
        cluster.settled().await;
        let joined = &cluster.instances["p2"];
        let failed = joined.lines(NOT_COPIED);
        println!("{meddle:?}: {} connections\n{}", meddler.connections() - before, failed.join("\n"));
        assert!(meddler.connections() > before && !failed.is_empty(), "{meddle:?}: {}", joined.said());
        assert!(joined.lines(COPIED).is_empty(), "{meddle:?}: {}", joined.said());
        if matches!(meddle, Meddle::CutAfter(_)) {
            let dead = cluster.kill("p2");
            fs::remove_dir_all(dead.state_dir()).unwrap();
            cluster.settled().await;
        }
    }
    bank.assert_answered_once(&sent).await;
    assert_stores_are_whole(&bank, &mut cluster, "p2").await;
}

/// Seconds and rates, for reports; the small default only shows that it still measures.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_from_a_peer_from_the_changelog_and_a_raw_read_of_it() {
    let (seed, rows) = (seed("restore-rates"), rows_wanted());
    let bank = Bank::with_shards("restore-rates", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 25, 1_000_000_000).await;
    let sent = Load::start(&bank, &holders, 20_000, rows, seed).finish().await;
    bank.assert_clean_within(600).await;
    println!("{} commands", sent.len());
    for round in 0..3 {
        for topic in ["changelog", "balance_changed"] {
            let (records, bytes, took) = raw_read(&bank, topic).await;
            println!("round {round}: raw read of {topic}: {}, {bytes} bytes", rate(records, took));
        }
        for (name, setting) in [("the changelog", COPY_NONE), ("a peer", COPY_ALL)] {
            let watch = Stopwatch::start();
            launch(&mut cluster, &bank, "p2", setting);
            // Or owns one: a move to the p2 of before may not have ended when that was killed.
            let has = |part: &str, shard: i32| {
                cluster.instances["p2"]
                    .lines(&format!("{part} shard={shard} "))
                    .iter()
                    .any(|line| !line.contains(COPIED))
            };
            let all = || async { (0..SHARDS).all(|shard| has("follows", shard) || has(" running", shard)) };
            eventually(DEADLINE * 20, "p2 has every shard", all).await.unwrap();
            let took = watch.elapsed();
            let joined = &cluster.instances["p2"];
            println!("round {round}: from {name}: {} ms from its start", took.as_millis());
            joined.lines("follows shard=").iter().chain(&joined.lines(COPIED)).for_each(|line| println!("  {line}"));
            assert_eq!(joined.lines(COPIED).is_empty(), setting == COPY_NONE, "{}", joined.said());
            let dead = cluster.kill("p2");
            fs::remove_dir_all(dead.state_dir()).unwrap();
            cluster.settled().await;
            settled_again(&cluster.instances["p1"]).await;
        }
    }
}

/// Waits until the one that is left owns everything: moves under way would disturb the next measurement.
async fn settled_again(processor: &Processor) {
    let running = || async { processor.states().await.iter().all(|state| state == "running") };
    eventually(DEADLINE, "every partition runs at the one that is left", running).await.unwrap();
}

fn rate(records: u64, took: Duration) -> String {
    let per_second = records as f64 / took.as_secs_f64();
    format!("{records} records in {} ms, {per_second:.0} per second", took.as_millis())
}

/// Reads all committed records of a topic by one plain consumer: records, bytes of keys and values, time.
async fn raw_read(bank: &Bank, topic: &str) -> (u64, u64, Duration) {
    let (topic, bootstrap) = (bank.space.topic(topic), bank.space.bootstrap().to_owned());
    let read = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", "raw").set("isolation.level", "read_committed");
        config.set("enable.auto.commit", "false").set("enable.partition.eof", "true").set("check.crcs", "true");
        config.set("fetch.message.max.bytes", "4194304");
        // By default it rests for a second whenever its queue is full, which was most of the time that it took.
        config.set("fetch.queue.backoff.ms", "10");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
        }
        let watch = Stopwatch::start();
        consumer.assign(&partitions).unwrap();
        let (mut records, mut bytes, mut ended) = (0, 0, 0);
        while ended < PARTITIONS {
            match consumer.poll(DEADLINE).unwrap() {
                Ok(record) => {
                    records += 1;
                    bytes += (record.payload_len() + record.key_len()) as u64;
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        (records, bytes, watch.elapsed())
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}
