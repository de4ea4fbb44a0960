//! `topics plan|apply|verify` and the schema cache on a real broker and a real registry. Outages, and what the registry
//! holds, are in files of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod outage;
mod registry;
mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use schemas::records::{AvroRecord, ConfirmMoneyTransfer, Uuid};
use schemas::topics::{
    self, Action, Mismatch, Target, TopicsError, Topology, VerifyError, apply, cluster_id, plan, verify, verify_topics,
};
use schemas::{CacheConfig, Encoder, Lookup, ResolveError, SchemaCache, Writer, unframe};
use support::{Broker, in_own_prefix, target};

async fn applied(target: &Target, topology: &Topology) -> Vec<Action> {
    apply(target, topology, false, |line| eprintln!("{line}")).await.unwrap().actions
}

fn name(topology: &Topology, base: &str) -> String {
    topology.topic(base).unwrap().name.clone()
}

fn mismatches(result: Result<(), VerifyError>) -> Vec<Mismatch> {
    match result {
        Err(VerifyError::Mismatch(found)) => found,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_makes_the_cluster_as_declared_and_then_does_nothing() {
    in_own_prefix("apply", async |target, topology| {
        let planned = plan(&target, &topology, false).await.unwrap();
        assert!(!planned.is_empty());
        assert_eq!(mismatches(verify(&target, &topology).await).len(), 8 + 16);
        assert_eq!(mismatches(verify_topics(&target, &topology).await).len(), 8);

        assert_eq!(applied(&target, &topology).await, planned.actions);
        assert!(plan(&target, &topology, false).await.unwrap().is_empty());
        assert_eq!(applied(&target, &topology).await, []);
        verify(&target, &topology).await.unwrap();
        verify_topics(&target, &topology).await.unwrap();

        let broker = Broker::of(&target);
        assert_eq!(broker.setting(&name(&topology, "commands"), "message.timestamp.type").await, "LogAppendTime");
        assert_eq!(broker.setting(&name(&topology, "changelog"), "cleanup.policy").await, "compact");
        assert_eq!(broker.setting(&name(&topology, "balance_changed"), "retention.ms").await, "-1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_planned_verified_and_mended_and_other_settings_stay() {
    in_own_prefix("drift", async |target, topology| {
        applied(&target, &topology).await;
        let broker = Broker::of(&target);
        let changelog = name(&topology, "changelog");
        broker.set(&changelog, &[("cleanup.policy", "delete"), ("flush.messages", "77")]).await;

        let planned = plan(&target, &topology, false).await.unwrap();
        let [Action::AlterConfig { topic, changes }] = &planned.actions[..] else { panic!("{planned:?}") };
        assert_eq!(topic, &changelog);
        assert!(changes.iter().any(|change| change.key == "cleanup.policy" && change.to == "compact"), "{changes:?}");
        let found = mismatches(verify(&target, &topology).await);
        assert!(matches!(&found[0], Mismatch::Setting { setting, .. } if setting == "cleanup.policy"), "{found:?}");

        applied(&target, &topology).await;
        assert_eq!(broker.setting(&changelog, "cleanup.policy").await, "compact");
        assert_eq!(broker.setting(&changelog, "segment.bytes").await, "67108864");
        assert_eq!(broker.setting(&changelog, "flush.messages").await, "77", "not declared, not touched");
        verify(&target, &topology).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_stops_apply_before_it_starts() {
    in_own_prefix("partitions", async |target, topology| {
        let broker = Broker::of(&target);
        let commands = name(&topology, "commands");
        broker.create(&commands, 3).await;
        let error = apply(&target, &topology, true, |_| {}).await.unwrap_err();
        assert!(matches!(error, TopicsError::Refused(_)), "{error}");
        assert!(error.to_string().contains(&format!("topic {commands} has 3 partitions, declared are 12")), "{error}");
        let mine: Vec<String> =
            broker.topics().into_iter().filter(|topic| topic.starts_with(&topology.prefix)).collect();
        assert_eq!(mine, [commands.as_str()], "nothing was created");

        let found = mismatches(verify_topics(&target, &topology).await);
        assert!(found.contains(&Mismatch::Partitions { topic: commands, actual: 3, declared: 12 }), "{found:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_go_only_when_told_and_never_protected_ones() {
    in_own_prefix("strangers", async |target, topology| {
        applied(&target, &topology).await;
        let broker = Broker::of(&target);
        let stray = format!("{}stray", topology.prefix);
        let protected = format!("{}connect-offsets", topology.prefix);
        let neighbour = topology.prefix.replace(".", "x.stray");
        for topic in [&stray, &protected, &neighbour] {
            broker.create(topic, 1).await;
        }
        let kept = plan(&target, &topology, false).await.unwrap();
        assert!(kept.is_empty() && kept.unknown == [protected.clone(), stray.clone()], "{kept:?}");
        assert_eq!(applied(&target, &topology).await, []);
        assert!(broker.topics().contains(&stray));

        let done = apply(&target, &topology, true, |_| {}).await.unwrap();
        assert_eq!(done.actions, [Action::DeleteTopic { topic: stray.clone() }]);
        let left = broker.topics();
        assert!(!left.contains(&stray) && left.contains(&protected) && left.contains(&neighbour), "{left:?}");
        assert!(left.contains(&name(&topology, "commands")));
        broker.delete(&[neighbour]).await;
    })
    .await;
}

fn start(registry: &str, file: &Path) -> SchemaCache {
    SchemaCache::start(CacheConfig { registry_url: registry.to_owned(), file: Some(file.to_owned()) }).unwrap()
}

fn settled(cache: &SchemaCache, id: u32) -> Result<&'static Writer, String> {
    let started = Instant::now();
    loop {
        match cache.writer(id) {
            Lookup::Known(writer) => return Ok(writer),
            Lookup::Absent(why) => return Err(why),
            Lookup::Pending => assert!(started.elapsed() < Duration::from_secs(10), "schema {id} stays pending"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_resolves_reads_and_survives_the_registry() {
    in_own_prefix("cache", async |target, topology| {
        let dir = tempfile::tempdir().unwrap();
        let (file, other_file) = (dir.path().join("a.json"), dir.path().join("b.json"));
        let cache = start(&target.registry, &file);
        let ResolveError::Missing(missing) = cache.resolve(&topology).unwrap_err() else { panic!("must be missing") };
        assert_eq!(missing.len(), 16, "{missing:?}");

        applied(&target, &topology).await;
        cache.resolve(&topology).unwrap();
        let id = cache.id_of(&name(&topology, "commands"), ConfirmMoneyTransfer::full_name()).unwrap();
        let transfer = ConfirmMoneyTransfer {
            id: Uuid([9; 16]),
            token: "0".repeat(20),
            amount: 1,
            from: "cash".to_owned(),
            to: "NL66OPEN0000000000".to_owned(),
            description: "x".to_owned(),
        };
        let mut value = Vec::new();
        Encoder::new(id).encode(&transfer, &mut value).unwrap();

        // Another process, which learns the schema from the registry by its id.
        let reader = start(&target.registry, &other_file);
        let (framed, datum) = unframe(&value).unwrap();
        let writer = settled(&reader, framed).unwrap();
        assert_eq!(writer.decode::<ConfirmMoneyTransfer>(datum).unwrap(), transfer);
        let why = settled(&reader, 2_000_000_000).unwrap_err();
        assert!(why.contains("no schema 2000000000"), "{why}");

        // The registry is gone: the same file, an address where nobody listens.
        let offline = start("http://127.0.0.1:1/apis/ccompat/v7", &file);
        offline.resolve(&topology).unwrap();
        assert_eq!(offline.id_of(&name(&topology, "commands"), ConfirmMoneyTransfer::full_name()), Some(id));
        assert_eq!(settled(&offline, id).unwrap().decode::<ConfirmMoneyTransfer>(datum).unwrap(), transfer);
        assert!(matches!(offline.writer(2_000_000_000), Lookup::Pending), "an outage is no answer");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_from_a_mismatch() {
    let target = target();
    let topology = support::topology("");
    let nobody = Target { bootstrap: "127.0.0.1:1".to_owned(), timeout_ms: 300, ..target.clone() };
    let error = plan(&nobody, &topology, false).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(matches!(verify_topics(&nobody, &topology).await, Err(VerifyError::Topics(error)) if error.is_transient()));

    let no_registry = Target { registry: "http://127.0.0.1:1".to_owned(), timeout_ms: 300, ..target.clone() };
    let error = plan(&no_registry, &topology, false).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("http://127.0.0.1:1"), "{error}");
    // A server that is no registry is no clear "no" either.
    let no_api = Target { registry: target.registry.replace("ccompat", "nothing"), timeout_ms: 300, ..target.clone() };
    assert!(plan(&no_api, &topology, false).await.unwrap_err().is_transient());

    assert_eq!(cluster_id(&target).await.unwrap(), cluster_id(&target).await.unwrap());
    assert!(cluster_id(&nobody).await.is_err());
}

fn run(target: &Target, arguments: &[&str]) -> (i32, Output) {
    let topics = "../topics.yaml";
    let output = Command::new(env!("CARGO_BIN_EXE_topics"))
        .args(arguments)
        .env("KONTOR_TOPICS", topics)
        .env("KONTOR_BOOTSTRAP", &target.bootstrap)
        .env("KONTOR_REGISTRY", &target.registry)
        .output()
        .unwrap();
    (output.status.code().unwrap(), output)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_keeps_its_exit_codes_and_streams() {
    in_own_prefix("cli", async |target, topology| {
        let prefix = topology.prefix.clone();
        let json = |output: &Output| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        let (code, output) = run(&target, &["plan", "--prefix", &prefix, "--json"]);
        assert_eq!((code, json(&output)["actions"].as_array().unwrap().len()), (2, 40));
        let (code, output) = run(&target, &["verify", "--prefix", &prefix, "--json"]);
        assert_eq!((code, json(&output).as_array().unwrap().len()), (2, 24));
        assert!(String::from_utf8_lossy(&output.stderr).contains("run `topics apply`"));

        let (code, output) = run(&target, &["apply", "--prefix", &prefix, "--json"]);
        assert_eq!((code, json(&output)["actions"].as_array().unwrap().len()), (0, 40));
        let progress = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(progress.contains(&format!("create topic {prefix}commands: partitions=12")), "{progress}");
        let (code, output) = run(&target, &["plan", "--prefix", &prefix]);
        assert_eq!((code, String::from_utf8_lossy(&output.stdout).contains("as declared")), (0, true));
        assert_eq!(run(&target, &["verify", "--prefix", &prefix]).0, 0);

        assert_eq!(run(&target, &["plan", "--prefix", "no-separator"]).0, 64);
        assert_eq!(run(&target, &["plan", "--topics", "/nowhere.yaml"]).0, 64);
        assert_eq!(run(&target, &["plan", "--colour"]).0, 64);
        assert_eq!(run(&target, &["--help"]).0, 0);
        let (code, output) = run(&target, &["plan", "--bootstrap", "127.0.0.1:1", "--timeout-s", "1"]);
        assert_eq!((code, String::from_utf8_lossy(&output.stderr).lines().count() >= 1), (1, true));
    })
    .await;
}

#[test]
fn plans_are_one_json_document() {
    assert_eq!(topics::to_json(&Vec::<Mismatch>::new()), "[]");
}
