//! `kill -9` at every step of the commit path and at random moments, under a steady load.
//!
//! After each kill the stores are read as the kill left them: they hold committed rows only, and lack one transaction
//! at most. `KONTOR_KILLS` says how many kills (a long run takes 100), `KONTOR_SEED` repeats their places.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use processor::probe::Step;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{
    Bank, Lack, Load, Processor, READY, Stopped, Stopwatch, Times, kills_by_hand, kills_wanted, seed,
};

/// Commands per second while processors die.
const RATE: u64 = 200;

/// How long a start may take until commands run.
#[derive(Clone, Copy)]
struct Bars {
    p50: Duration,
    max: Duration,
}

impl Bars {
    /// Of a restart over its own stores. By hand they are what is promised. In the suite other tests and builds share the
    /// machine, and what is measured is theirs as much: beside six compilers on two cores the longest took 3 s, where
    /// alone none takes more than one. So these are wide, and still find whoever waits for a timeout of the client
    /// library or of a transaction.
    fn in_place() -> Bars {
        if kills_by_hand() {
            Bars { p50: Duration::from_secs(1), max: Duration::from_secs(2) }
        } else {
            Bars { p50: Duration::from_secs(5), max: Duration::from_secs(10) }
        }
    }

    /// Of a start without stores: it takes as long as there is to restore.
    fn from_nothing() -> Bars {
        Bars { p50: READY, max: READY }
    }
}

/// A bank under load whose processor dies again and again.
struct Campaign {
    bank: Bank,
    load: Load,
    state_dir: PathBuf,
    bars: Bars,
    restarts: Times,
    inits: Times,
    /// What the stores lacked after the last kill.
    lack: Lack,
    lacked: usize,
    restored_records: u64,
    restoring: Duration,
}

impl Campaign {
    async fn begin(name: &str, seed: u64, bars: Bars) -> Campaign {
        let bank = Bank::new(name).await;
        let mut processor = bank.run().await;
        let holders = bank.holders(&processor, 3, 1_000_000).await;
        processor.kill();
        let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
        let state_dir = processor.state_dir();
        let (restarts, inits) = (Times::default(), Times::default());
        let (lack, restoring) = (Lack::default(), Duration::ZERO);
        Campaign { bank, load, state_dir, bars, restarts, inits, lack, lacked: 0, restored_records: 0, restoring }
    }

    /// Waits until the processor that was just started is ready, and measures how long it took. False: it died first.
    async fn comes_back(&mut self, processor: &mut Processor, began: &Stopwatch) -> bool {
        if !processor.ready_or_ended().await {
            return false;
        }
        self.restarts.add(began.elapsed());
        let running = processor.running();
        running.iter().for_each(|shard| self.inits.add(shard.init));
        let restored: u64 = running.iter().map(|shard| shard.restored_records).sum();
        // Shards restore beside each other: the slowest decides.
        let longest = running.iter().map(|shard| shard.restore).max().unwrap_or_default();
        self.restored_records += restored;
        self.restoring += longest;
        if self.lack.transaction_records_max > 0 {
            // One transaction of each shard, so of each of its partitions.
            let most = self.lack.transaction_records_max;
            assert!(restored <= most, "{restored} records were read again, a transaction has at most {most}");
        }
        // By what it says: it may have died again meanwhile.
        assert_eq!(processor.lines("wiping it"), Vec::<String>::new(), "a crash never forces a wipe");
        true
    }

    /// Looks at what the dead processor left.
    async fn inspect(&mut self) {
        let stores = Stopped::read(&self.bank, &self.state_dir).await;
        self.lack = stores.assert_committed_only(&self.bank).await;
        assert!(self.lack.transactions <= 1, "a store lacks {} transactions", self.lack.transactions);
        self.lacked += self.lack.transactions;
    }

    /// Drains, and checks everything that must hold in the end.
    async fn end(mut self, kills: usize) {
        let began = Stopwatch::start();
        let mut processor = self.bank.launch("p1", |builder| builder);
        assert!(self.comes_back(&mut processor, &began).await, "it starts: {}", processor.said());
        let sent = self.load.stop().await;
        self.bank.assert_clean().await;
        self.bank.assert_answered_once(&sent).await;
        processor.history_complete().await;
        assert_eq!(processor.terminate().await.code(), Some(0));
        let stores = Stopped::read(&self.bank, &self.state_dir).await;
        let lack = stores.assert_committed_only(&self.bank).await;
        assert_eq!(lack.transactions, 0, "a clean stop leaves nothing to restore");
        stores.assert_history_complete(&self.bank).await;
        println!(
            "{kills} kills under {} commands, {} of them between commit and batch; {} records restored, {:.0}/s; {}; {}",
            sent.len(),
            self.lacked,
            self.restored_records,
            self.restored_records as f64 / self.restoring.as_secs_f64().max(0.001),
            self.restarts.line("ready again after the start"),
            self.inits.line("init of a producer")
        );
        let Bars { p50, max } = self.bars;
        let line = self.restarts.line("ready again after the start");
        assert!(self.restarts.p50() <= p50 && self.restarts.max() <= max, "{line}; at most p50 {p50:?}, max {max:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_f2_c18_e01_e02_killed_at_every_step_of_the_commit_path() {
    let seed = seed("crashes");
    let mut random = StdRng::seed_from_u64(seed);
    let mut campaign = Campaign::begin("crashes", seed, Bars::in_place()).await;
    let kills = kills_wanted(Step::ALL.len());
    for kill in 0..kills {
        let step = Step::ALL[kill % Step::ALL.len()];
        // Each shard passes most steps once for its claim: the first ones are kills in the middle of a start.
        let nth = if kill >= Step::ALL.len() && random.random_ratio(1, 8) { 1 } else { random.random_range(3..60) };
        let crash_at = format!("{}:{nth}", step.name());
        let began = Stopwatch::start();
        let mut processor = campaign.bank.launch_to_crash("p1", &crash_at);
        campaign.comes_back(&mut processor, &began).await;
        let ended = processor.end().await;
        assert_eq!(ended.signal(), Some(9), "{crash_at}: {}", processor.said());
        campaign.inspect().await;
    }
    campaign.end(kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_c18_killed_at_random_moments() {
    killed_at_random_moments("kills", 5, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_killed_at_random_moments_and_its_state_deleted() {
    killed_at_random_moments("lost-disks", 2, true).await;
}

async fn killed_at_random_moments(name: &str, usual: usize, delete: bool) {
    let seed = seed(name);
    let mut random = StdRng::seed_from_u64(seed);
    let bars = if delete { Bars::from_nothing() } else { Bars::in_place() };
    let mut campaign = Campaign::begin(name, seed, bars).await;
    let kills = kills_wanted(usual);
    for _ in 0..kills {
        let began = Stopwatch::start();
        let mut processor = campaign.bank.launch("p1", |builder| builder);
        assert!(campaign.comes_back(&mut processor, &began).await, "{}", processor.said());
        // A moment, as the load counts it.
        campaign.load.another(random.random_range(1..100)).await;
        processor.kill();
        campaign.inspect().await;
        if delete {
            std::fs::remove_dir_all(&campaign.state_dir).unwrap();
            // All of it is read again, not a transaction at most.
            campaign.lack = Lack::default();
        }
    }
    campaign.end(kills).await;
}

/// Uncommitted work is at its largest right before the commit, and small write buffers make the stores write tables
/// all the time: still nothing of it is in a file.
#[tokio::test(flavor = "multi_thread")]
async fn f2_killed_with_a_large_open_transaction_while_stores_flush() {
    let seed = seed("flushes");
    let bank = Bank::new("flushes").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 2, 1_000_000).await;
    let state_dir = processor.state_dir();
    processor.kill();
    let mut load = Load::start(&bank, &holders, 100_000, 6_000, seed);
    let sent = load.finish().await;
    // A few large transactions run, then one dies at the last moment.
    for crash_at in ["before-commit:4", "after-produce:4", "after-commit:4"] {
        let mut processor = bank.launch("p1", |builder| {
            let builder = builder.program("processor-faults").env("KONTOR_CRASH_AT", crash_at);
            builder.env("KONTOR_WRITE_BUFFERS_MIB", "1").env("KONTOR_TRANSACTION_RECORDS_MAX", "500")
        });
        assert_eq!(processor.end().await.signal(), Some(9), "{crash_at}: {}", processor.said());
        let stores = Stopped::read(&bank, &state_dir).await;
        let lack = stores.assert_committed_only(&bank).await;
        assert!(lack.transactions <= 1, "{lack:?}");
        println!(
            "{crash_at}: {} rows, a transaction of {} changelog records",
            stores.len(),
            lack.transaction_records_max
        );
    }
    let _processor = bank.run().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

/// Crash points are for tests: the program that is released does not know them.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_binary_has_no_crash_points() {
    let bank = Bank::new("release").await;
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_CRASH_AT", "after-stage:1"));
    processor.ready().await;
    let holder = bank.holder(&processor, 0, 100).await;
    assert_eq!(processor.queries().balance(&holder.iban).await, 100);
    let ended = processor.terminate().await;
    assert_eq!(ended.code(), Some(0));
    bank.assert_clean().await;
}
