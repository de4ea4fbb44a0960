//! The answer to a commit comes too late or not at all: the owner cannot know what became of it, discards its producer
//! and reads the outcome from the log. `KONTOR_KILLS` says how often.

use std::time::Duration;

use kontor_compose::eventually;
use kontor_compose::testing::{Broker, TestStack, Way};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Bank, Load, Processor, SHARDS, Stopped, kills_wanted, seed};

/// Commands per second meanwhile.
const RATE: u64 = 200;
/// A hold that no transaction has met by then is given up: nothing was under way.
const HOLD: Duration = Duration::from_secs(2);
/// Rounds after which a commit must have been met whose answer alone was missing.
const ROUNDS_MAX: usize = 100;
/// After this time the outcome of a commit is unknown.
const COMMIT_DEADLINE_MS: u64 = 300;

async fn discarded(processor: &Processor) -> f64 {
    processor.metric("kontor_transactions_total{outcome=\"discarded\"}").await
}

#[tokio::test(flavor = "multi_thread")]
async fn e10_after_answers_to_commits_that_were_late_or_lost_nothing_is_torn_lost_or_doubled() {
    let seed = seed("unknown outcome");
    let mut random = StdRng::seed_from_u64(seed);
    let broker = Broker::start(TestStack::shared().unwrap(), "unknown", 1).await.unwrap();
    let link = &broker.links[0];
    let bank = Bank::on(broker.stack(), "unknown", SHARDS).await;
    let mut processor = bank.launch_alone("p1", |builder| {
        let builder = builder.env("KONTOR_BOOTSTRAP", &link.address);
        builder.env("KONTOR_COMMIT_DEADLINE_MS", COMMIT_DEADLINE_MS.to_string())
    });
    processor.ready().await;
    let holders = bank.holders(&processor, 3, 1_000_000).await;
    let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
    // A restore that reads records is one that followed a commit which had reached the broker.
    let read_from_the_log = |processor: &Processor| processor.running().iter().any(|one| one.restored_records > 0);
    let rounds = kills_wanted(6);
    for round in 0..ROUNDS_MAX {
        if round >= rounds && read_from_the_log(&processor) {
            break;
        }
        load.another(random.random_range(1..RATE / 2)).await;
        if round % 2 == 0 {
            // What the broker has done is not heard of, until the producer is given up; then all of it comes late.
            let before = discarded(&processor).await;
            link.hold(Way::FromTarget);
            let given_up = || async { discarded(&processor).await > before };
            let _ = eventually(HOLD, "a producer is discarded", given_up).await;
        } else {
            // The requests arrive, their answers never do.
            link.hold(Way::FromTarget);
            load.another(random.random_range(1..RATE / 10)).await;
            link.cut();
        }
        link.mend();
        processor.ready().await;
    }
    load.another(RATE).await;
    let sent = load.stop().await;
    assert!(read_from_the_log(&processor), "no commit was met whose answer alone was missing: {}", processor.said());
    println!("{} transactions of unknown outcome were discarded", discarded(&processor).await);
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    assert_eq!(processor.metric("kontor_store_wipes_total").await, 0.0, "no store was given up for it");
    assert_eq!(processor.terminate().await.code(), Some(0), "{}", processor.said());
    let lack = Stopped::read(&bank, &processor.state_dir()).await.assert_committed_only(&bank).await;
    assert_eq!(lack.transactions, 0, "everything that is committed is in the stores");
}
