//! A rolling upgrade and the way back: one instance after the other is stopped and another build of the program goes on
//! over its state.
//!
//! The other build is the one with crash points, which dies nowhere here: the formats are the same, the program is not.

use crate::support::{Answer, Bank, Cluster, Load, PARTITIONS, Phase, Stopwatch, now_ms, seed};

/// Commands per second.
const RATE: u64 = 200;
/// One for each partition.
const SHARDS: i32 = PARTITIONS;
/// Transfers before the first restart: a full restore would have to read them all.
const HISTORY: u64 = 4_000;
const NAMES: [&str; 3] = ["p1", "p2", "p3"];

/// A build of the program.
const OLD: &str = "processor";
/// Another one.
const NEW: &str = "processor-faults";

/// Keeps its shards for so long when it is stopped. `None`: gives them away.
type Grace = Option<u16>;

fn launch(bank: &Bank, cluster: &mut Cluster, name: &str, program: &str, grace: Grace) {
    cluster.launch_with(bank, name, |builder| {
        builder.program(program).env("KONTOR_GRACE_SECONDS", grace.unwrap_or(0).to_string())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_rolling_upgrade_and_back_restores_nothing_and_refuses_nothing() {
    let seed = seed("upgrade");
    let bank = Bank::with_shards("upgrade", SHARDS).await;
    let mut cluster = Cluster { instances: std::collections::BTreeMap::new() };
    let grace = Some(20);
    launch(&bank, &mut cluster, NAMES[0], OLD, grace);
    cluster.settled().await;
    let holders = bank.holders(&cluster.instances[NAMES[0]], 3, 10_000_000).await;
    let mut sent = Load::start(&bank, &holders, 100_000, HISTORY, seed).finish().await;
    for name in &NAMES[1..] {
        launch(&bank, &mut cluster, name, OLD, grace);
    }
    cluster.settled().await;
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed + 1);
    let from_ms = now_ms();
    load.another(RATE * 3).await;
    let mut phases = vec![("calm".to_owned(), Phase::since(from_ms))];

    // The last one gives its shards away: a standby has everything.
    let steps = NAMES.map(|name| (name, NEW, grace)).into_iter().chain(NAMES.map(|name| (name, OLD, grace)));
    for (name, program, next_grace) in steps.chain([(NAMES[1], OLD, None), (NAMES[1], NEW, grace)]) {
        let (from_ms, watch) = (now_ms(), Stopwatch::start());
        let records = bank.space.read("changelog").await.unwrap().len() as f64;
        cluster.dismiss(name).await;
        let ended = watch.elapsed();
        launch(&bank, &mut cluster, name, program, next_grace);
        cluster.settled().await;
        let instance = &cluster.instances[name];
        let restored = instance.metric("kontor_restore_records_total").await;
        println!(
            "{name} goes on as {program}: ended after {} ms, everything as before after {} ms, {restored} of {records} \
             records restored",
            ended.as_millis(),
            watch.elapsed().as_millis()
        );
        assert!(restored < records / 2.0, "{restored} of {records} records: that was a full restore");
        assert_eq!(instance.lines("wiping it"), Vec::<String>::new());
        load.another(RATE).await;
        phases.push((format!("{name} to {program}"), Phase::since(from_ms)));
    }
    sent.extend(load.stop().await);
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    let refused = bank.transfer_feedback().await.into_iter().filter_map(|feedback| match feedback.answer {
        // These the load wants to be refused.
        Answer::Refused(reason) if reason != "invalid token" => Some(reason),
        _ => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), Vec::<String>::new());
    let timeline = bank.timeline().await;
    for (name, phase) in phases {
        println!("{}", timeline.line(&name, phase));
    }
}
