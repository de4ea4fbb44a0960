//! Another number of shards: an operator's act between two runs, which keeps every row, store and answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kontor_compose::eventually;

use crate::support::{Bank, DEADLINE, Load, PARTITIONS, Processor, seed};

/// Shards before the first change.
const SHARDS: i32 = 3;

/// The declaration with another layout.
fn declaration(bank: &Bank, layout: i32, shards: i32) -> PathBuf {
    let text = fs::read_to_string(&bank.space.topics_file).unwrap();
    let (from, to) = (format!("shards: {SHARDS}\nlayout: 1\n"), format!("shards: {shards}\nlayout: {layout}\n"));
    assert!(text.contains(&from), "{text}");
    let path = bank.space.dir.join(format!("layout-{layout}.yaml"));
    fs::write(&path, text.replace(&from, &to)).unwrap();
    path
}

/// `processor layout`: its exit code and what it said.
async fn layout(bank: &Bank, declaration: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(bank.space.program("processor"));
    command.arg("layout").args(arguments).args(["--bootstrap", bank.space.bootstrap()]);
    command.args(["--registry", bank.space.registry(), "--prefix", &bank.space.prefix]);
    command.arg("--topics").arg(declaration);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

async fn run(bank: &Bank, declaration: &Path) -> Processor {
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_TOPICS", declaration));
    processor.ready().await;
    processor
}

/// A member with this declaration ends at once, and says why in one line.
async fn refused(bank: &Bank, declaration: &Path) -> String {
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_TOPICS", declaration));
    assert_eq!(processor.end().await.code(), Some(1), "{}", processor.said());
    let lines = processor.lines("error: ");
    assert_eq!(lines.len(), 1, "one line: {lines:?}");
    lines.into_iter().next().unwrap()
}

/// Waits until each of these shards has stopped, with this reason.
async fn stopped(processor: &Processor, shards: i32, reason: &str) {
    let said = || async { processor.lines("stopped; needs an operator").len() == shards as usize };
    eventually(DEADLINE, "every shard stops", said)
        .await
        .unwrap_or_else(|error| panic!("{error}: {}", processor.said()));
    let lines = processor.lines("stopped; needs an operator");
    assert!(lines.iter().all(|line| line.contains(reason)), "{lines:?}");
}

/// Changelog records that it read at its start.
fn restored(processor: &Processor) -> u64 {
    processor.running().iter().map(|shard| shard.restored_records).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_shards_changes_between_two_runs_and_nothing_is_restored() {
    let seed = seed("layouts");
    let bank = Bank::with_shards("layouts", SHARDS).await;
    let (first, second, third) = (declaration(&bank, 1, 3), declaration(&bank, 2, 2), declaration(&bank, 3, 4));
    let mut processor = run(&bank, &first).await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let payment = bank.payment(&holders[0], &holders[1].iban, 5);
    assert_eq!(processor.queries().reason(&bank.send_transfer(&holders[0].username, &payment)).await, "");
    let mut sent = Load::start(&bank, &holders, 1_000, 2_000, seed).finish().await;
    bank.assert_clean().await;

    // While it runs nothing is changed, neither by the tool nor by whoever starts with the new declaration.
    let (code, said) = layout(&bank, &second, &["--apply"]).await;
    assert_eq!((code, said.contains("instances run: processor-p1")), (1, true), "{said}");
    let line = refused_beside(&bank, &second).await;
    assert!(line.contains("run `processor layout --apply`"), "{line}");
    assert_eq!(processor.status("/readyz").await, 200);
    assert_eq!(processor.terminate().await.code(), Some(0));

    // Stopped, it is not changed by itself either.
    assert!(refused(&bank, &second).await.contains("stop all instances and run `processor layout --apply`"));
    let (code, said) = layout(&bank, &second, &[]).await;
    assert_eq!((code, said.contains("layout 1 with 3 shards: 4 partitions")), (1, true), "{said}");

    let (code, said) = layout(&bank, &second, &["--apply"]).await;
    assert_eq!((code, said.contains("layout 2 with 2 shards is in force")), (0, true), "{said}");
    bank.assert_clean().await;
    let (code, said) = layout(&bank, &second, &["--apply"]).await;
    assert_eq!((code, said.contains("nothing to do")), (0, true), "{said}");

    // The old layout is over, for members and for who asks nobody.
    assert!(refused(&bank, &first).await.contains("a topics.yaml of before a change of layout"));
    let mut old = bank.launch_alone("p1", |builder| builder.env("KONTOR_TOPICS", &first));
    stopped(&old, SHARDS, "a topics.yaml of before a change of layout").await;
    assert_eq!(old.terminate().await.code(), Some(0));

    let mut processor = run(&bank, &second).await;
    assert!(restored(&processor) <= 2 * PARTITIONS as u64, "the seals at most: {}", restored(&processor));
    // What it answered before it still knows, and it goes on.
    assert_eq!(processor.queries().reason(&bank.send_transfer(&holders[0].username, &payment)).await, "");
    let load = Load::start(&bank, &holders, 500, u64::MAX, seed + 1);
    load.another(500).await;

    // The next change comes after a kill: nobody said goodbye, and transactions are open.
    processor.kill();
    sent.extend(load.stop().await);
    let (code, said) = layout(&bank, &third, &["--apply"]).await;
    assert_eq!((code, said.contains("layout 3 with 4 shards is in force")), (0, true), "{said}");
    let mut processor = run(&bank, &third).await;
    println!("restored {} records after a kill and a change", restored(&processor));
    assert_eq!(processor.metric("kontor_store_wipes_total").await, 0.0);
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    processor.history_complete().await;
    assert_eq!(processor.terminate().await.code(), Some(0));
    let stores = crate::support::Stopped::read(&bank, &processor.state_dir()).await;
    assert_eq!(stores.assert_committed_only(&bank).await.transactions, 0);
    stores.assert_history_complete(&bank).await;
}

/// As [`refused`], beside another.
async fn refused_beside(bank: &Bank, declaration: &Path) -> String {
    let mut processor = bank.launch("p2", |builder| builder.env("KONTOR_TOPICS", declaration));
    assert_eq!(processor.end().await.code(), Some(1), "{}", processor.said());
    processor.lines("error: ").join("\n")
}

/// An owner that is no member of anything cannot be seen. It is fenced, commits nothing more, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_membership_is_fenced_by_a_change_of_layout() {
    let seed = seed("layout-alone");
    let bank = Bank::with_shards("layout-alone", SHARDS).await;
    let second = declaration(&bank, 2, 4);
    let mut older = bank.run_alone("older").await;
    let holders = bank.holders(&older, 2, 1_000_000).await;
    let load = Load::start(&bank, &holders, 200, u64::MAX, seed);
    load.another(100).await;
    let (code, said) = loop {
        // It may take a shard back before it is sealed; then the tool says so, and goes on the next time.
        let (code, said) = layout(&bank, &second, &["--apply"]).await;
        if code == 0 || !said.contains("run it again") {
            break (code, said);
        }
    };
    assert_eq!((code, said.contains("layout 2 with 4 shards is in force")), (0, true), "{said}");
    stopped(&older, SHARDS, "the state is of layout 2 with 4 shards, configured is layout 1 with 3").await;
    let produced = older.metric("kontor_records_produced_total").await;
    let mut younger = bank.launch_alone("younger", |builder| builder.env("KONTOR_TOPICS", &second));
    younger.ready().await;
    let taken = load.taken();
    let goes_on = || async { younger.metric("kontor_decisions_total").await > 200.0 && load.taken() > taken + 100 };
    let waited = eventually(DEADLINE, "commands go on in the new layout", goes_on).await;
    assert!(waited.is_ok(), "{}", younger.said());
    assert_eq!(older.metric("kontor_records_produced_total").await, produced);
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    assert_eq!(older.terminate().await.code(), Some(0));
}
