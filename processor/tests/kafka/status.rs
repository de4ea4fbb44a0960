//! `processor status`: what an operator sees of instances and shards.

use std::fs;

use kontor_compose::eventually;

use crate::support::{Bank, Cluster, DEADLINE, PARTITIONS};

/// One for each partition.
const SHARDS: i32 = PARTITIONS;

/// Exit code and what was printed.
async fn status(bank: &Bank, args: &[&str]) -> (i32, String) {
    let (code, printed, told) = bank.tool(&[&["status", "--registry", bank.space.registry()], args].concat()).await;
    assert!(!printed.is_empty(), "{told}");
    (code, printed)
}

async fn report(bank: &Bank) -> (i32, serde_json::Value) {
    let (code, json) = status(bank, &["--json"]).await;
    (code, serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}")))
}

/// By shard: its owner, its state, and who follows it.
fn shards(report: &serde_json::Value) -> Vec<(String, String, Vec<String>)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let followers = |shard: &serde_json::Value| shard["standbys"].as_array().unwrap().clone();
    let names = |shard| followers(shard).iter().map(|one| text(&one["name"])).collect();
    let all = report["shards"].as_array().unwrap().iter();
    all.map(|shard| (text(&shard["active"]), text(&shard["state"]), names(shard))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_who_owns_and_follows_what_and_who_is_silent() {
    let bank = Bank::with_shards("status", SHARDS).await;
    let mut cluster = Cluster::start(&bank, &["p1", "p2"]).await;
    let (code, before) = report(&bank).await;
    assert_eq!((code, &before["serves"]), (0, &true.into()), "{before}");
    assert_eq!(before["moves"], 0, "{before}");
    let owned = [cluster.owned("p1").await, cluster.owned("p2").await];
    for (shard, (active, state, standbys)) in (0..).zip(shards(&before)) {
        let (owner, other) =
            if owned[0].contains(&shard) { ("processor-p1", "processor-p2") } else { ("processor-p2", "processor-p1") };
        assert_eq!((active.as_str(), state.as_str(), standbys), (owner, "running", vec![other.to_owned()]), "{shard}");
    }
    let (code, table) = status(&bank, &[]).await;
    assert_eq!(code, 0, "{table}");
    for wanted in ["leader processor-p", "0 moves under way", "standbys (lag)", "processor-p1", "processor-p2"] {
        assert!(table.contains(wanted), "{wanted:?} is missing:\n{table}");
    }

    drop(cluster.kill("p1"));
    let taken_over = || async {
        let (code, after) = report(&bank).await;
        code == 0
            && shards(&after)
                .iter()
                .all(|(active, state, _)| (active.as_str(), state.as_str()) == ("processor-p2", "running"))
    };
    eventually(DEADLINE, "the status says that p2 owns all", taken_over).await.unwrap();
    let silent = report(&bank).await.1["instances"]
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["name"] == "processor-p1" && one["answers"] == false);
    assert!(silent, "p1 does not answer, and is still named");
    drop(cluster.kill("p2"));
    let (code, after) = report(&bank).await;
    assert_eq!((code, &after["serves"]), (1, &false.into()), "{after}");
    assert!(shards(&after).iter().all(|(_, state, _)| state == "silent"), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_instances_follow_a_shard_as_the_topology_declares() {
    let bank = Bank::with_shards("standbys", SHARDS).await;
    let declared = fs::read_to_string(&bank.space.topics_file).unwrap();
    let two = declared.replacen("standbys: 1\n", "standbys: 2\n", 1);
    assert_ne!(two, declared);
    fs::write(&bank.space.topics_file, two).unwrap();
    let mut cluster = Cluster::start(&bank, &["p1"]).await;
    cluster.launch(&bank, "p2");
    cluster.launch(&bank, "p3");
    let all = ["processor-p1", "processor-p2", "processor-p3"];
    let followed = || async {
        shards(&report(&bank).await.1).into_iter().all(|(active, _, standbys)| {
            let mut names: Vec<&str> = standbys.iter().map(String::as_str).chain([active.as_str()]).collect();
            names.sort_unstable();
            names == all
        })
    };
    let waited = eventually(DEADLINE, "each shard is owned by one and followed by the two others", followed).await;
    assert!(waited.is_ok(), "{}", cluster.said());
}
