//! The network fails in one direction: what is sent that way does not arrive, and nobody is told. An instance that does
//! not reach the broker, or does not hear it, is replaced; a gateway that does not reach an instance says what it knows.
//! At no time do two instances answer for one partition.
//!
//! Each instance has a way of its own to the broker, and one of its own from the gateway. `KONTOR_KILLS` says how often
//! one of them is held.

use std::collections::BTreeMap;

use kontor_compose::eventually;
use kontor_compose::testing::{Broker, Proxy, TestStack, Way};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{
    Bank, Cluster, DEADLINE, Gateway, Holder, Load, PARTITIONS, Stopwatch, Times, Told, Witness, kills_wanted, seed,
};

/// Commands per second while the network fails.
const RATE: u64 = 200;
/// One for each partition.
const SHARDS: i32 = PARTITIONS;
const NAMES: [&str; 3] = ["p1", "p2", "p3"];

/// Three instances behind relays. Fields end in this order: the broker last.
struct Scene {
    gateway: Gateway,
    cluster: Cluster,
    /// From the gateway to each instance.
    calls: BTreeMap<String, Proxy>,
    load: Load,
    of_partition: BTreeMap<i32, Holder>,
    bank: Bank,
    broker: Broker,
}

impl Scene {
    async fn begin(name: &str, seed: u64) -> Scene {
        let broker = Broker::start(TestStack::shared().unwrap(), name, NAMES.len()).await.unwrap();
        let bank = Bank::on(broker.stack(), name, SHARDS).await;
        let (mut cluster, mut calls) = (Cluster { instances: BTreeMap::new() }, BTreeMap::new());
        launch(&bank, &broker, &mut cluster, &mut calls, NAMES[0]);
        cluster.settled().await;
        let holders = bank.holders(&cluster.instances[NAMES[0]], 2, 1_000_000).await;
        for name in &NAMES[1..] {
            launch(&bank, &broker, &mut cluster, &mut calls, name);
        }
        cluster.settled().await;
        // It gives up sooner than usual: the tests ask again.
        let gateway = |builder: kontor_compose::testing::ServiceBuilder| {
            builder.env("KONTOR_COMMAND_TIMEOUT_MS", "1000").env("KONTOR_QUERY_TIMEOUT_MS", "1000")
        };
        let gateway = Gateway::start(&bank, gateway).await;
        let load = Load::start(&bank, &holders, RATE, u64::MAX, seed);
        load.another(RATE).await;
        let of_partition = (0..PARTITIONS).zip(holders).collect();
        Scene { gateway, cluster, calls, load, of_partition, bank, broker }
    }

    /// Of the partitions that this instance owns.
    async fn holders_of(&self, name: &str) -> Vec<Holder> {
        let owned = self.cluster.owned(name).await;
        assert!(!owned.is_empty(), "{name} owns something");
        owned.iter().map(|partition| self.of_partition[partition].clone()).collect()
    }

    /// Pays out of each account through the gateway, all at once, until the bank has answered.
    async fn pays(&self, holders: &[Holder], watch: &Stopwatch, times: &mut Times) {
        let pay = |holder: Holder| async move {
            let told = self.gateway.surely_pay(self.bank.id(), &holder, "a shop", 1).await;
            assert_eq!(told, Told::Moved);
            watch.elapsed()
        };
        for took in futures_util::future::join_all(holders.iter().cloned().map(pay)).await {
            times.add(took);
        }
    }

    async fn end(self, witness: Witness) {
        witness.assert_one_history().await;
        let sent = self.load.stop().await;
        self.bank.assert_clean().await;
        self.bank.assert_answered_once(&sent).await;
    }
}

/// Starts an instance that knows the broker by its own link only, and that others know by its own relay only.
fn launch(bank: &Bank, broker: &Broker, cluster: &mut Cluster, calls: &mut BTreeMap<String, Proxy>, name: &str) {
    // Where it leads is known once the instance has its port.
    let relay = Proxy::start("127.0.0.1:1").unwrap();
    let link = &broker.links[NAMES.iter().position(|one| *one == name).unwrap()];
    cluster.launch_with(bank, name, |builder| {
        let builder = builder.env("KONTOR_BOOTSTRAP", &link.address);
        builder.env("KONTOR_ADVERTISE", format!("http://{}", relay.address))
    });
    relay.lead_to(&cluster.instances[name].query_address());
    calls.insert(name.to_owned(), relay);
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_an_instance_that_is_cut_off_from_the_broker_in_one_direction_is_replaced() {
    let seed = seed("cut-off");
    let mut random = StdRng::seed_from_u64(seed);
    let scene = Scene::begin("cut-off", seed).await;
    let witness = Witness::start(&scene.cluster, &scene.of_partition);
    let mut by_way = [Times::default(), Times::default()];
    for round in 0..kills_wanted(4) {
        let way = if round % 2 == 0 { Way::ToTarget } else { Way::FromTarget };
        let index = random.random_range(0..NAMES.len());
        let (name, link) = (NAMES[index], &scene.broker.links[index]);
        // Every second time in each direction the gateway's calls hang as well: nobody tells it that it asks in vain.
        let silent = round % 4 >= 2;
        let holders = scene.holders_of(name).await;
        let watch = Stopwatch::start();
        link.hold(way);
        if silent {
            scene.calls[name].hold(Way::FromTarget);
        }
        scene.pays(&holders, &watch, &mut by_way[round % 2]).await;
        println!("{name}, {way:?}, calls held: {silent}: taken over after {} ms", watch.elapsed().as_millis());
        assert!(!scene.cluster.instances[name].readiness().await.unwrap().0, "{name} does not know");
        link.mend();
        scene.calls[name].mend();
        // It rejoins by itself.
        scene.cluster.settled().await;
        scene.load.another(RATE / 2).await;
    }
    println!("{}", by_way[0].line("a client is answered after its owner does not reach the broker"));
    println!("{}", by_way[1].line("a client is answered after its owner does not hear the broker"));
    scene.end(witness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_gateway_that_does_not_reach_an_owner_says_so_and_follows_it_when_it_moves() {
    let seed = seed("unreached");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::begin("unreached", seed).await;
    let witness = Witness::start(&scene.cluster, &scene.of_partition);
    for way in [Way::ToTarget, Way::FromTarget] {
        let name = NAMES[random.random_range(0..NAMES.len())];
        let holders = scene.holders_of(name).await;
        let other = NAMES.into_iter().find(|other| *other != name).unwrap();
        let others = scene.holders_of(other).await;
        let (cut, elsewhere) = (&holders[0], &others[0]);
        scene.calls[name].hold(way);
        // What it may have sent it does not call unsent, and what it cannot read it does not make up.
        let id = scene.bank.id();
        assert_eq!(scene.gateway.pay(id, cut, "a shop", 1).await, Told::Problem("TIMED_OUT".to_owned()));
        assert!(scene.gateway.balance(&cut.iban).await.is_err());
        assert_eq!(scene.gateway.surely_pay(scene.bank.id(), elsewhere, "a shop", 1).await, Told::Moved);
        scene.gateway.balance(&elsewhere.iban).await.unwrap();
        let watch = Stopwatch::start();
        if way == Way::ToTarget {
            // The way is open again: it goes on there.
            scene.calls[name].mend();
        } else {
            // The owner leaves, and the way stays shut: it goes on elsewhere.
            scene.cluster.dismiss(name).await;
        }
        assert_eq!(scene.gateway.surely_pay(id, cut, "a shop", 1).await, Told::Moved, "the same payment");
        println!("{way:?}: answered {} ms after the way was open", watch.elapsed().as_millis());
        let readable = || async { scene.gateway.balance(&cut.iban).await.is_ok() };
        eventually(DEADLINE, "a balance", readable).await.unwrap();
        assert_eq!(scene.bank.changes_of(id).await.len(), 1, "the money moved once");
        if way == Way::FromTarget {
            launch(&scene.bank, &scene.broker, &mut scene.cluster, &mut scene.calls, name);
        }
        scene.cluster.settled().await;
    }
    scene.end(witness).await;
}
