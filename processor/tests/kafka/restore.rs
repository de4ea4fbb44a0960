//! State comes from the topics: local stores may be lost at any time.

use std::fs;

use kontor_compose::eventually;

use crate::support::{Bank, DEADLINE, Load, OpenTransaction, Processor, Rows, Stopped, seed};

/// Commands that make the state which is restored: `KONTOR_COMMANDS`, or a few.
fn commands_wanted() -> u64 {
    std::env::var("KONTOR_COMMANDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000)
}

/// Every row, once the history is complete.
async fn all_rows(processor: &Processor) -> Rows {
    processor.history_complete().await;
    processor.queries().rows().await
}

fn print_rate(processor: &Processor) {
    let running = processor.running();
    let records: u64 = running.iter().map(|shard| shard.restored_records).sum();
    let slowest = running.iter().map(|shard| shard.restore).max().unwrap();
    let rate = records as f64 / slowest.as_secs_f64();
    println!("restored {records} records in {} ms: {rate:.0} per second", slowest.as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn c19_f16_a_deleted_state_directory_is_rebuilt_row_for_row() {
    let seed = seed("rebuild");
    let bank = Bank::new("rebuild").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 3, 1_000_000).await;
    let sent = Load::start(&bank, &holders, 2_000, commands_wanted(), seed).finish().await;
    bank.assert_clean().await;
    let before = all_rows(&processor).await;
    let payment = bank.payment(&holders[0], &holders[1].iban, 5);
    for delete_while in ["killed", "stopped"] {
        if delete_while == "killed" {
            processor.kill();
        } else {
            assert_eq!(processor.terminate().await.code(), Some(0));
        }
        fs::remove_dir_all(processor.state_dir()).unwrap();
        let ready = processor.restart().await;
        println!("ready after {} ms without a state directory", ready.as_millis());
        print_rate(&processor);
        let after = all_rows(&processor).await;
        assert!(after == before, "{delete_while}: {}", difference(&before, &after));
        assert_eq!(processor.metric("kontor_store_wipes_total").await, 0.0, "nothing was damaged");
    }
    // It goes on from there, and what it answered before it still knows.
    assert_eq!(processor.queries().reason(&bank.send_transfer(&holders[0].username, &payment)).await, "");
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    assert_eq!(processor.terminate().await.code(), Some(0));
    let stores = Stopped::read(&bank, &processor.state_dir()).await;
    assert_eq!(stores.assert_committed_only(&bank).await.transactions, 0);
    stores.assert_history_complete(&bank).await;
}

/// The files of an open store live on without their names for as long as nothing new must be written. Then the store
/// fails, and is restored; or all goes on, and the next start restores. Never is an answer wrong.
#[tokio::test(flavor = "multi_thread")]
async fn f16_a_state_directory_that_is_deleted_while_running_costs_no_answer() {
    let seed = seed("deleted");
    let bank = Bank::new("deleted").await;
    // Small write buffers: the stores have to write tables soon.
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_WRITE_BUFFERS_MIB", "1"));
    processor.ready().await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let mut load = Load::start(&bank, &holders, 1_000, 6_000, seed);
    load.another(500).await;
    // Its stores make files meanwhile: what comes up then goes with the next try.
    while let Err(error) = fs::remove_dir_all(processor.state_dir()) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
    let sent = load.finish().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    let wipes = processor.metric("kontor_store_wipes_total").await;
    println!("wiped {wipes} times while running without a directory");
    processor.ready().await;
    let before = all_rows(&processor).await;
    processor.kill();
    processor.restart().await;
    let after = all_rows(&processor).await;
    assert!(after == before, "{}", difference(&before, &after));
    bank.assert_clean().await;
}

/// The first row that is not on both sides.
pub fn difference(before: &Rows, after: &Rows) -> String {
    let missing = before.iter().find(|(key, row)| after.get(*key) != Some(row));
    let added = after.keys().find(|key| !before.contains_key(*key));
    let text =
        |key: &(&str, i32, Vec<u8>)| format!("{} of partition {}: {}", key.0, key.1, String::from_utf8_lossy(&key.2));
    format!("lost or changed: {:?}; added: {:?}", missing.map(|(key, _)| text(key)), added.map(text))
}

/// A restore that is killed leaves a part of the rows with the offset that they reach: the next one goes on there.
#[tokio::test(flavor = "multi_thread")]
async fn f16_killed_in_the_middle_of_a_restore_it_goes_on_where_it_was() {
    let seed = seed("half-restored");
    let bank = Bank::new("half-restored").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let sent = Load::start(&bank, &holders, 2_000, 3_000, seed).finish().await;
    bank.assert_clean().await;
    let before = all_rows(&processor).await;
    processor.kill();
    fs::remove_dir_all(processor.state_dir()).unwrap();
    // What is below the high watermark of partition 0 does not come to its end: a restore that takes long. Partition 2 of
    // the same shard is restored meanwhile.
    let open = OpenTransaction::begin(&bank, 0, "account/nobody").await;
    for _ in 0..3 {
        processor.launch_again();
        let restoring = || async {
            let states = processor.states().await;
            states.first().is_some_and(|state| state == "restoring" || state == "stalled") && states[1] == "running"
        };
        eventually(DEADLINE, "one shard restores, the other runs", restoring).await.unwrap();
        processor.kill();
    }
    open.abort().await;
    processor.restart().await;
    let after = all_rows(&processor).await;
    assert!(after == before, "{}", difference(&before, &after));
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}
