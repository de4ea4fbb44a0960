//! A bit of an input flips on the broker's disk. The client library says so once, leaves the batch out and goes on behind
//! it: a shard that went on with it would lose commands. Some versions of it end the process by an assertion instead.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use kontor_compose::testing::{Broker, TestStack};
use schemas::records::Uuid;

use crate::support::{Bank, DEADLINE, SHARDS, Stopwatch};

/// Payments, one batch each.
const PAYMENTS: usize = 30;
/// One of them is damaged.
const DAMAGED: usize = 12;
/// Times that the batch was tried before it is mended.
const TRIES: usize = 3;
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

/// How many of these commands were answered.
async fn answered(bank: &Bank, ids: &[Uuid]) -> usize {
    let feedback = bank.transfer_feedback().await;
    ids.iter().filter(|id| feedback.iter().any(|one| one.id == **id)).count()
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
    // It says so, or the client library ends the process by an assertion of its own: then somebody starts it again.
    let (watch, mut tries) = (Stopwatch::start(), 0);
    while tries + processor.lines("cannot be read").len() < TRIES {
        assert!(watch.elapsed() < DEADLINE, "{}", processor.said());
        if processor.ended().is_some() {
            tries += 1 + processor.lines("cannot be read").len();
            processor.launch_again();
        }
        tokio::task::yield_now().await;
    }
    let ids: Vec<_> = sent.iter().map(|one| one.id).collect();
    assert_eq!(answered(&bank, &ids[DAMAGED..]).await, 0, "commands at and behind the damage that were answered");

    flip(&segment, at);
    let watch = Stopwatch::start();
    while answered(&bank, &ids).await < PAYMENTS {
        assert!(watch.elapsed() < DEADLINE, "{}", processor.said());
        if processor.ended().is_some() {
            processor.launch_again();
        }
    }
    assert_eq!(processor.queries().balance(&holder.iban).await, 1_000 - PAYMENTS as i64);
    bank.assert_clean().await;
    bank.assert_answered_once(&ids).await;
}
