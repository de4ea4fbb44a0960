//! Records that cannot be processed, and the harness seeing what it should.

use super::harness::{PARTITIONS, SHARDS};
use super::ledger::{ACCOUNTS, Account, Ledger, home};
use crate::log::TopicPartition;
use crate::testing::{Conditions, Simulation, codecs};
use crate::topology::Application;

fn simulation() -> Simulation<Ledger> {
    Simulation::new(1, Conditions::CALM, Ledger::new(PARTITIONS, SHARDS), codecs(&[]).unwrap())
}

/// Appends to a topic by name, in the home of the key.
fn append(simulation: &Simulation<Ledger>, topic: &str, key: &[u8], value: &[u8]) -> TopicPartition {
    let partition = home(&String::from_utf8_lossy(key), PARTITIONS);
    let topic = simulation.application().definition().topics.find(topic).unwrap();
    let at = TopicPartition { topic, partition };
    simulation.log().append(at, Some(key), Some(value), None).unwrap();
    at
}

#[test]
fn a_record_of_ours_that_cannot_be_processed_stops_the_shard() {
    for value in ["nonsense", "panic"] {
        let mut simulation = simulation();
        append(&simulation, "transfers", b"account-1", value.as_bytes());
        let stopped = simulation.drain().unwrap_err();
        assert!(stopped.what.contains("holds work in flight"), "{stopped}");
        let at = append(&simulation, "dead_letters", b"account-1", b"marker");
        assert_eq!(simulation.log().read_committed(at).unwrap().len(), 1, "nothing but this went there");
    }
}

#[test]
fn a_client_record_that_would_outgrow_the_producer_becomes_a_dead_letter() {
    let mut simulation = simulation();
    simulation.log().limit_record_bytes(2_000);
    simulation.options().record_bytes_max = 1_000;
    let long = "x".repeat(900);
    append(&simulation, "commands", long.as_bytes(), format!("{long} deposit 1").as_bytes());
    append(&simulation, "commands", b"account-1", b"c1 deposit 7");
    simulation.drain().unwrap();
    let accounts = simulation.rows(ACCOUNTS).unwrap();
    let row = accounts.iter().find(|(name, _)| name == b"account-1").map(|(_, row)| row).unwrap();
    assert_eq!(state_store::rows::decode::<Account>(row).unwrap(), (7, 0));
    assert!(accounts.iter().all(|(name, _)| name.len() < 900));
}

#[test]
fn a_store_that_differs_from_the_topics_is_seen() {
    let mut simulation = simulation();
    append(&simulation, "commands", b"account-1", b"c1 deposit 7");
    simulation.drain().unwrap();
    simulation.check_rules().unwrap();
    let mut row = Vec::new();
    state_store::rows::encode(&(8i64, 0i64), &mut row).unwrap();
    append(&simulation, "changelog", b"account/account-1", &row);
    let breach = simulation.check_rules().unwrap_err();
    assert!(breach.what.contains("account-1"), "{breach}");
}
