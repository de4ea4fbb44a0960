//! The declaration of this repository, and everything that can be wrong with one.

use super::*;

const OURS: &str = include_str!("../../../../topics.yaml");

fn ours() -> Topology {
    Topology::parse(OURS).unwrap()
}

#[test]
fn our_own_declaration_says_what_the_system_needs() {
    let topology = ours();
    assert_eq!(
        (topology.partitions, topology.shards, topology.layout, topology.standbys, topology.replication),
        (12, 6, 1, 1, 3)
    );
    let names: Vec<&str> = topology.topics.iter().map(|topic| topic.base.as_str()).collect();
    assert_eq!(
        names,
        [
            "commands",
            "transfers",
            "account_creation_feedback",
            "money_transfer_feedback",
            "balance_changed",
            "changelog",
            "control",
            "dead_letters"
        ]
    );
    for topic in &topology.topics {
        let setting = |key: &str| topic.config.get(key).map(String::as_str);
        assert_eq!(topic.name, topic.base);
        assert_eq!(topic.partitions, if topic.base == "control" { 2 } else { 12 }, "{}", topic.base);
        assert_eq!(topic.co_partitioned, topic.base != "control", "{}", topic.base);
        assert_eq!(setting("min.insync.replicas"), Some("2"), "{}", topic.base);
        assert_eq!(setting("cleanup.policy"), Some(topic.cleanup.as_str()));
        let log_time = matches!(topic.base.as_str(), "commands" | "transfers");
        assert_eq!(setting("message.timestamp.type"), log_time.then_some("LogAppendTime"), "{}", topic.base);
        assert_eq!(topic.cleanup.keeps_latest(), matches!(topic.base.as_str(), "changelog" | "control"));
        let endless = !topic.cleanup.keeps_latest() && topic.base != "dead_letters";
        assert_eq!(setting("retention.ms") == Some("-1"), endless, "{}", topic.base);
    }
    let changelog = topology.topic("changelog").unwrap();
    assert_eq!(changelog.tables, ["account", "user", "outcome"]);
    assert_eq!(topology.topic("balance_changed").unwrap().tables, ["history", "transaction"]);
    assert!(changelog.internal && changelog.keep && !topology.topic("control").unwrap().keep);
    assert_eq!(topology.topic("nothing"), None);
    let subjects: Vec<String> = topology.subjects().map(|(_, _, subject)| subject).collect();
    assert_eq!(subjects.len(), 16);
    assert_eq!(subjects[0], "commands-nl.openweb.data.ConfirmAccountCreation");
}

#[test]
fn a_prefix_is_part_of_names_and_subjects() {
    let topology = ours().with_prefix("t1.");
    let commands = topology.topic("commands").unwrap();
    assert_eq!((commands.name.as_str(), commands.base.as_str()), ("t1.commands", "commands"));
    assert_eq!(topology.subjects().next().unwrap().2, "t1.commands-nl.openweb.data.ConfirmAccountCreation");
    assert!(topology.is_untouchable("commands"), "another prefix");
    assert!(topology.is_untouchable("t1.changelog"), "protected");
    assert!(topology.is_untouchable("t1._schemas") && topology.is_untouchable("__consumer_offsets"));
    assert!(!topology.is_untouchable("t1.stray"));
    assert_eq!(topology.with_prefix("").topic("commands").unwrap().name, "commands");
}

#[test]
fn one_subject_for_a_topic_of_one_record() {
    let text = "{partitions: 1, shards: 1, layout: 1, topics: {beats: {cleanup: delete, subjects: topic, records: [Heartbeat]}}}";
    let topology = Topology::parse(text).unwrap();
    assert_eq!(topology.topics[0].subject("nl.openweb.data.Heartbeat"), "beats-value");
}

#[test]
fn standbys_may_be_none_and_are_one_where_nothing_is_said() {
    for (line, standbys) in [("", 1), ("standbys: 0\n", 0), ("standbys: 2\n", 2)] {
        let text = OURS.replacen("standbys: 1\n", line, 1);
        assert_eq!(Topology::parse(&text).unwrap().standbys, standbys, "{line:?}");
    }
}

/// (what is replaced in our own declaration, by what, the error)
const WRONG: &[(&str, &str, &str)] = &[
    ("partitions: 12\n", "partitons: 12\n", "partitions: is missing"),
    ("shards: 6\n", "shards: 13\n", "shards: must be at most partitions (12), found 13"),
    ("shards: 6\n", "shards: 0\n", "shards: must be a whole number from 1 to 10000, found 0"),
    ("standbys: 1\n", "standbys: -1\n", "standbys: must be a whole number from 0 to 10, found -1"),
    ("layout: 1\n", "layout: one\n", "layout: must be a whole number from 1 to 2147483647, found \"one\""),
    ("replication: 3\n", "replication: 2.5\n", "replication: must be a whole number from 1 to 100, found 2.5"),
    ("replication: 3\n", "replicaton: 3\n", "replicaton: unknown key, did you mean replication?"),
    ("    internal: true\n", "    intern: true\n", "topics.transfers.intern: unknown key"),
    (
        "    internal: true\n",
        "    internal: maybe\n",
        "topics.transfers.internal: must be true or false, found \"maybe\"",
    ),
    ("    cleanup: compact\n", "    cleanup: compacted\n", "topics.changelog.cleanup: must be delete, compact or"),
    ("    cleanup: compact\n", "    cleanpu: compact\n", "topics.changelog.cleanup: is missing"),
    (
        "      retention.ms: -1\n",
        "      retention.msec: -1\n",
        "topics.commands.config.retention.msec: unknown setting, did you mean retention.ms?",
    ),
    ("      retention.ms: -1\n", "      retention.ms: long\n", "topics.commands.config.retention.ms: must be a number"),
    ("      retention.ms: -1\n", "      cleanup.policy: delete\n", "is set by the key cleanup of the topic"),
    ("[BalanceChanged]", "[BalanceChange]", "there is no record BalanceChange, did you mean BalanceChanged?"),
    ("[BalanceChanged]", "[Heartbeat, Heartbeat]", "topics.balance_changed.records: Heartbeat stands there twice"),
    ("[BalanceChanged]", "BalanceChanged", "must be a list of texts, found \"BalanceChanged\""),
    (
        "    co_partitioned: false\n",
        "    co_partitioned: true\n",
        "topics.control.partitions: a co-partitioned topic has 12",
    ),
    ("[history, transaction]", "[history, account]", "topics.changelog.tables: table account is backed twice"),
    ("  balance_changed:\n", "  balance changed:\n", "topics.balance changed: a topic name has"),
    ("topics:\n", "topics: 3\nelse:\n", "topics: must hold keys with values, found 3"),
    (
        "    records: [Account, User, Outcome, Owner, Position]\n",
        "    records: [Account, User]\n    subjects: topic\n",
        "needs exactly one record, found 2",
    ),
    ("layout: 1\n", "layout: 1\nlayout: 2\n", "not a YAML file: duplicate"),
    ("layout: 1\n", "layout: [\n", "not a YAML file:"),
];

#[test]
fn errors_name_the_place_and_the_way_out() {
    for (from, to, expected) in WRONG {
        let text = OURS.replacen(from, to, 1);
        assert_ne!(&text, OURS, "{from:?} is not in topics.yaml");
        let error = Topology::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{from:?} -> {to:?}: {error}");
    }
    let absent = Topology::load("/nowhere/topics.yaml").unwrap_err().to_string();
    assert!(absent.contains("/nowhere/topics.yaml") && absent.contains("--topics"), "{absent}");
}
