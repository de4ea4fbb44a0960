//! The broker goes away and comes back, on a broker of each test's own. Processors and gateway live through it as
//! processes; nobody is told a lie meanwhile, and afterwards nothing is missing or doubled.
//!
//! `KONTOR_KILLS` says how often it is restarted, `KONTOR_DOWN_S` for how long it is away.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kontor_compose::testing::{Broker, TestStack};
use kontor_compose::{eventually, eventually_some};
use schemas::records::Uuid;

use crate::support::{
    Bank, Cluster, DEADLINE, Gateway, Holder, Load, PARTITIONS, SHARDS, Stopwatch, Taken, Times, Told, Usage,
    kills_wanted, seed, time_wanted,
};

/// Commands per second, whether there is a broker or not.
const RATE: u64 = 200;
/// By how much an instance may grow while it has no broker.
const GROWTH_MIB: u64 = 64;

/// Two instances and a gateway on a broker of their own, under load. Fields end in this order: the broker last.
struct Scene {
    gateway: Gateway,
    cluster: Cluster,
    load: Load,
    of_partition: BTreeMap<i32, Holder>,
    bank: Bank,
    broker: Broker,
}

impl Scene {
    async fn begin(name: &str, seed: u64) -> Scene {
        let broker = Broker::start(TestStack::shared().unwrap(), name, 0).await.unwrap();
        let bank = Bank::on(broker.stack(), name, SHARDS).await;
        let mut cluster = Cluster::start(&bank, &["p1"]).await;
        let holders = bank.holders(&cluster.instances["p1"], 2, 1_000_000).await;
        cluster.launch(&bank, "p2");
        cluster.settled().await;
        let gateway = Gateway::start(&bank, |builder| builder).await;
        let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
        load.another(RATE).await;
        let of_partition = (0..PARTITIONS).zip(holders).collect();
        Scene { gateway, cluster, load, of_partition, bank, broker }
    }

    fn pids(&self) -> Vec<i32> {
        self.cluster.instances.values().map(|instance| instance.pid()).chain([self.gateway.pid()]).collect()
    }

    /// Every partition answers fresh and decides again: the times from now, which is when the broker takes requests.
    async fn runs_again(&self, reads: &mut Times, commands: &mut Times) {
        let watch = Stopwatch::start();
        let answers = self.of_partition.values().map(|holder| self.cluster.answers(&self.bank, holder, &watch));
        for (read, command) in futures_util::future::join_all(answers).await {
            reads.add(read);
            commands.add(command);
        }
        for instance in self.cluster.instances.values() {
            let ready = || async { instance.status("/readyz").await == 200 };
            eventually(DEADLINE, "ready again", ready).await.unwrap_or_else(|error| {
                panic!("{error}\n{}", self.cluster.said());
            });
        }
        println!("all ready {} ms after the broker", watch.elapsed().as_millis());
        let told = self.gateway.surely_pay(self.bank.id(), &self.of_partition[&0], "a shop", 1).await;
        assert_eq!(told, Told::Moved);
        println!("a client is answered {} ms after the broker", watch.elapsed().as_millis());
    }

    /// Nothing is missing, nothing was doubled, neither on the way in nor on the way out. Gives the ids of the load.
    async fn end(self) -> (Broker, Bank) {
        let sent = self.load.stop().await;
        self.bank.assert_clean().await;
        self.bank.assert_answered_once(&sent).await;
        let mut taken = HashMap::new();
        for Taken { id, .. } in self.bank.transfers_taken().await {
            *taken.entry(id).or_insert(0) += 1;
        }
        let doubled: Vec<&Uuid> = sent.iter().filter(|id| taken.get(id) != Some(&1)).collect();
        assert!(doubled.is_empty(), "{} of {} commands do not lie there once", doubled.len(), sent.len());
        // Whoever takes them lets go of the bank first, whose topics are deleted then.
        (self.broker, self.bank)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f7_a_broker_that_restarts_costs_no_command_and_no_restart() {
    let seed = seed("broker-restarts");
    let mut scene = Scene::begin("broker-restarts", seed).await;
    let pids = scene.pids();
    let (mut reads, mut commands) = (Times::default(), Times::default());
    for restart in 0..kills_wanted(2) {
        // In both ways a broker without others has decided about transactions whose partitions are not told yet, and
        // have no leader for a moment.
        if restart % 2 == 0 {
            scene.broker.kill9();
        } else {
            scene.broker.stop().await.unwrap();
        }
        scene.broker.start_again().await.unwrap();
        scene.runs_again(&mut reads, &mut commands).await;
        scene.load.another(RATE).await;
    }
    assert_eq!(scene.pids(), pids, "nobody was started again");
    // Not every restart falls into that moment: a broker that drops what it has decided says so in others too.
    assert!(!scene.broker.has_said("likely deleted already and hence can be skipped"), "it drops markers");
    assert!(scene.broker.has_said("Kafka Server started"), "there are logs");
    scene.cluster.settled().await;
    println!("{}", reads.line("a fresh answer after the broker was up"));
    println!("{}", commands.line("the outcome of a command after the broker was up"));
    let (_broker, _bank) = scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f8_without_a_broker_reads_are_marked_stale_and_commands_are_refused() {
    let seed = seed("broker-down");
    let down = time_wanted("KONTOR_DOWN_S", Duration::from_secs(20));
    let mut scene = Scene::begin("broker-down", seed).await;
    let pids = scene.pids();
    let before: Vec<Usage> = pids.iter().map(|pid| Usage::of(*pid)).collect();
    let mut known = BTreeMap::new();
    for partition in 0..PARTITIONS {
        known.insert(partition, scene.cluster.sequence(partition).await);
    }

    scene.broker.kill9();
    let watch = Stopwatch::start();
    let mut refused = notices(&scene).await;
    println!("noticed after {} ms", watch.elapsed().as_millis());
    let mut refusals = Times::default();
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    while watch.elapsed() < down {
        pace.tick().await;
        serves_what_it_has(&scene, &known).await;
        let (id, asked) = (scene.bank.id(), Stopwatch::start());
        let told = scene.gateway.pay(id, &scene.of_partition[&1], "a shop", 1).await;
        refusals.add(asked.elapsed());
        assert_eq!(told, Told::Problem("UNAVAILABLE".to_owned()));
        refused.push(id);
    }
    println!("{}", refusals.line("a command is refused"));
    for (pid, before) in pids.iter().zip(&before) {
        let now = Usage::of(*pid);
        println!("before {before}, after {} s without a broker {now}", down.as_secs());
        assert!(now.rss_mib <= before.rss_mib + GROWTH_MIB, "it grew from {before} to {now}");
    }

    scene.broker.start_again().await.unwrap();
    let (mut reads, mut commands) = (Times::default(), Times::default());
    scene.runs_again(&mut reads, &mut commands).await;
    assert_eq!(scene.pids(), pids, "nobody was started again");
    scene.cluster.settled().await;
    println!("{}", reads.line("a fresh answer after the broker was up"));
    println!("{}", commands.line("the outcome of a command after the broker was up"));
    let (_broker, bank) = scene.end().await;
    let answered = bank.transfer_feedback().await;
    let late = refused.iter().find(|id| answered.iter().any(|feedback| feedback.id == **id));
    assert_eq!(late, None, "what was refused as unavailable happened all the same");
}

/// Waits until everybody knows that the broker is gone. Gives the ids of what the gateway refused; what it says first may
/// be "timed out", as long as it could not know.
async fn notices(scene: &Scene) -> Vec<Uuid> {
    for instance in scene.cluster.instances.values() {
        let unready = || async { instance.status("/readyz").await == 503 };
        eventually(DEADLINE, "not ready without a broker", unready).await.unwrap();
    }
    let refused = || async {
        let id = scene.bank.id();
        let told = scene.gateway.pay(id, &scene.of_partition[&1], "a shop", 1).await;
        (told == Told::Problem("UNAVAILABLE".to_owned())).then_some(id)
    };
    vec![eventually_some(DEADLINE, "a command is refused", refused).await.unwrap()]
}

/// Alive, not ready, nothing is called fresh, and who allows old rows gets all that was committed.
async fn serves_what_it_has(scene: &Scene, known: &BTreeMap<i32, u64>) {
    for instance in scene.cluster.instances.values() {
        assert_eq!(instance.status("/livez").await, 200);
        assert_eq!(instance.status("/readyz").await, 503);
    }
    for (partition, holder) in &scene.of_partition {
        let mut served = 0;
        for instance in scene.cluster.instances.values() {
            let (queries, key) = (instance.queries(), holder.iban.as_bytes());
            let fresh = queries.get_within(*partition, "account", key, 0).await;
            assert!(fresh.is_err(), "partition {partition} was called fresh: {fresh:?}");
            if let Ok(old) = queries.get_within(*partition, "account", key, u32::MAX).await {
                assert!(old.stale && old.entries.len() == 1, "{old:?}");
                served += usize::from(old.token.unwrap().commit_sequence >= known[partition]);
            }
        }
        assert!(served > 0, "nobody serves partition {partition} any more: {}", scene.cluster.said());
    }
    assert_eq!(scene.gateway.status("/livez").await, 200);
    assert_eq!(scene.gateway.status("/readyz").await, 503, "clients are led elsewhere");
}
