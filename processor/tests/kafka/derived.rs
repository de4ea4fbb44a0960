//! What follows from a command follows once and in the end: a restart emits nothing again, and no transfer stays half
//! done.

use std::collections::HashSet;

use kontor_compose::eventually;
use prost::Message;
use schemas::bank_view::{self as view, outcome::State};

use crate::support::{Bank, Cluster, DEADLINE, Load, PARTITIONS, Sent, seed};

/// Topics that others read.
const EVENTS: [&str; 4] = ["balance_changed", "money_transfer_feedback", "account_creation_feedback", "transfers"];

/// Everything that was ever committed to a topic of events, by where it lies.
async fn events(bank: &Bank) -> HashSet<(&'static str, i32, i64, Option<Vec<u8>>)> {
    let mut all = HashSet::new();
    // Records of `transfers` leave when they are done with; those that are there must be the same ones.
    for topic in EVENTS {
        let records = bank.space.read(topic).await.unwrap().into_iter();
        all.extend(records.map(|record| (topic, record.partition, record.offset, record.value)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_restart_emits_no_event_again() {
    let seed = seed("restart");
    let bank = Bank::new("restart").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let sent = Load::start(&bank, &holders, 2_000, 500, seed).finish().await;
    bank.assert_clean().await;
    let before = events(&bank).await;
    assert!(before.len() > 1_000, "{} events", before.len());
    for end in ["killed", "stopped", "robbed of its state"] {
        if end == "stopped" {
            assert_eq!(processor.terminate().await.code(), Some(0));
        } else {
            processor.kill();
        }
        if end == "robbed of its state" {
            std::fs::remove_dir_all(processor.state_dir()).unwrap();
        }
        processor.restart().await;
        processor.history_complete().await;
        let after = events(&bank).await;
        let new: Vec<_> = after.difference(&before).collect();
        assert!(new.is_empty(), "{end}: {} new events, such as {:?}", new.len(), new.first());
    }
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

/// The state of a transfer as the owner of the paying side has it.
async fn state(cluster: &Cluster, sent: &Sent) -> Option<State> {
    for instance in cluster.instances.values() {
        if let Ok(Some(entry)) = instance.queries().get(sent.partition, "outcome", &sent.id.0).await {
            return Some(view::Outcome::decode(entry.value.as_slice()).unwrap().state());
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_a_transfer_between_two_owners_that_die_ends_confirmed() {
    seed("limbo");
    let bank = Bank::with_shards("limbo", PARTITIONS).await;
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    let holders = bank.holders(&cluster.instances["p1"], 1, 1_000_000).await;
    // It says that it will be back: its partitions wait for it, and nobody credits anything there.
    cluster.launch_with(&bank, "p2", |builder| builder.env("KONTOR_GRACE_SECONDS", "30"));
    cluster.settled().await;
    let (near, far) = (cluster.owned("p1").await, cluster.owned("p2").await);
    cluster.dismiss("p2").await;
    let mut sent = Vec::new();
    for from in &near {
        for to in &far {
            let to = &holders[*to as usize].iban;
            sent.extend((0..5).map(|_| bank.pay(&holders[*from as usize], to, 10)));
        }
    }
    for one in &sent {
        let pending = || async { state(&cluster, one).await == Some(State::Pending) };
        eventually(DEADLINE, "a reservation", pending).await.unwrap();
    }
    drop(cluster.kill("p1"));
    // A stranger to both has to begin; the others come later.
    cluster.launch(&bank, "p3");
    cluster.launch(&bank, "p2");
    cluster.launch(&bank, "p1");
    cluster.settled().await;
    for one in &sent {
        cluster.outcome(one).await;
        assert_eq!(state(&cluster, one).await, Some(State::Confirmed));
    }
    let sent: Vec<_> = sent.into_iter().map(|one| one.id).collect();
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}
