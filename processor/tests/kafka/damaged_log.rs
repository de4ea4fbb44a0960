//! A bit of an input flips on the broker's disk. The client library says so once, leaves the batch out and goes on behind
//! it: a shard that went on with it would lose commands.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use kontor_compose::eventually;
use kontor_compose::testing::{Broker, TestStack};

use crate::support::{Bank, DEADLINE, SHARDS};

/// Payments, one batch each.
const PAYMENTS: usize = 30;
/// One of them is damaged.
const DAMAGED: usize = 12;
/// Bytes before the records of a batch, <https://kafka.apache.org/documentation/#recordbatch>.
const BATCH_HEADER_BYTES: usize = 61;

/// Where the batches of a segment begin.
fn batches(segment: &Path) -> Vec<usize> {
    let bytes = fs::read(segment).unwrap();
    let mut starts = Vec::new();
    let mut at = 0;
    while at + BATCH_HEADER_BYTES < bytes.len() {
        starts.push(at);
        let length = i32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        at += 12 + usize::try_from(length).unwrap();
    }
    starts
}

/// Flips a bit; a second time, back.
fn flip(segment: &Path, at: usize) {
    let file = OpenOptions::new().read(true).write(true).open(segment).unwrap();
    let (mut byte, at) = ([0], at as u64);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_behind_a_damaged_batch_wait_until_it_can_be_read() {
    let broker = Broker::start(TestStack::shared().unwrap(), "damaged-log", 0).await.unwrap();
    let bank = Bank::on(broker.stack(), "damaged-log", SHARDS).await;
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 0, 1_000).await;
    assert_eq!(processor.terminate().await.code(), Some(0), "{}", processor.said());

    let sent: Vec<_> = (0..PAYMENTS).map(|_| bank.pay(&holder, "a shop", 1)).collect();
    let topic = bank.space.topic("commands");
    let segment = broker.data_dir().join(format!("{topic}-{}/00000000000000000000.log", sent[0].partition));
    let starts = batches(&segment);
    let at = starts[starts.len() - PAYMENTS + DAMAGED] + BATCH_HEADER_BYTES + 8;
    flip(&segment, at);
    processor.launch_again();
    let tries = || async { processor.lines("cannot be read").len() >= 3 };
    eventually(DEADLINE, "it says so, and tries again", tries).await.unwrap();
    let answered: Vec<_> = bank.transfer_feedback().await.into_iter().map(|feedback| feedback.id).collect();
    let passed = sent[DAMAGED..].iter().filter(|one| answered.contains(&one.id)).count();
    assert_eq!(passed, 0, "commands at and behind the damage that were answered");

    flip(&segment, at);
    for one in &sent {
        assert_eq!(processor.queries().reason(one).await, "");
    }
    assert_eq!(processor.queries().balance(&holder.iban).await, 1_000 - PAYMENTS as i64);
    let ids: Vec<_> = sent.iter().map(|one| one.id).collect();
    bank.assert_clean().await;
    bank.assert_answered_once(&ids).await;
}
