//! SIGTERM: what is under way is finished, nothing is left to do again.

use std::fs;
use std::time::Duration;

use schemas::control;

use crate::support::{Bank, Load, PARTITIONS, Processor, SHARDS, Stopped, Stopwatch, seed};

#[tokio::test(flavor = "multi_thread")]
async fn f23_sigterm_under_load_ends_cleanly_and_the_next_start_repeats_nothing() {
    let seed = seed("sigterm");
    let bank = Bank::new("sigterm").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let load = Load::start(&bank, &holders, 500, u64::MAX, seed);
    for _ in 0..3 {
        load.another(200).await;
        assert!(!has_left(&bank).await, "it is a member while it runs");
        let watch = Stopwatch::start();
        let ended = processor.terminate().await;
        let took = watch.elapsed();
        assert_eq!(ended.code(), Some(0), "{}", processor.said());
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        let lack = Stopped::read(&bank, &processor.state_dir()).await.assert_committed_only(&bank).await;
        assert_eq!(lack.transactions, 0, "every commit is in the stores");
        bank.assert_no_open_transaction().await;
        assert!(has_left(&bank).await, "its last word is a goodbye");
        assert_eq!(log_bytes(&processor), 0, "all rows are in tables: the next start replays no log");
        let ready = processor.restart().await;
        println!("ended after {} ms, ready after {} ms", took.as_millis(), ready.as_millis());
        let running = processor.running();
        assert_eq!(running.len(), SHARDS as usize);
        assert!(running.iter().all(|shard| shard.restored_records == 0), "{running:?}");
    }
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

/// Whether the last record of the processor in the control topic is a tombstone: nobody has to find out that it is gone.
async fn has_left(bank: &Bank) -> bool {
    let key = control::member_key("processor-p1");
    let records = bank.space.read("control").await.unwrap();
    let last = records.into_iter().rfind(|record| record.key.as_ref() == Some(&key));
    last.unwrap().value.is_none()
}

/// Bytes of the write-ahead logs of all stores.
fn log_bytes(processor: &Processor) -> u64 {
    let mut bytes = 0;
    for partition in 0..PARTITIONS {
        let store = processor.state_dir().join(format!("partition-{partition}"));
        let files = fs::read_dir(store).unwrap().map(|entry| entry.unwrap());
        let logs = files.filter(|file| file.file_name().to_string_lossy().ends_with(".log"));
        bytes += logs.map(|file| file.metadata().unwrap().len()).sum::<u64>();
    }
    bytes
}

/// A caller that waits for an answer does not hold the process.
#[tokio::test(flavor = "multi_thread")]
async fn f23_callers_that_wait_are_told() {
    let bank = Bank::new("callers").await;
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 0, 100).await;
    let never = crate::support::Sent { id: bank.id(), fingerprint: [0; 16], partition: 0 };
    let queries = processor.queries();
    let waiting = tokio::spawn(async move { queries.answer(&never).await });
    // Asked after the waiting call was sent on the same kind of connection.
    assert_eq!(processor.queries().balance(&holder.iban).await, 100);
    let watch = Stopwatch::start();
    assert_eq!(processor.terminate().await.code(), Some(0));
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
    assert!(waiting.await.unwrap().is_err(), "no answer, and said so");
    bank.assert_clean().await;
}
