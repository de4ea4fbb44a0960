//! Clusters that are right, wrong in one way each, and shared with others.

use super::*;

fn topology() -> Topology {
    Topology::parse(
        "{partitions: 4, shards: 2, layout: 1, replication: 3, protected: [ledger*],
          defaults: {min.insync.replicas: 2},
          topics: {
            beats: {cleanup: delete, records: [Heartbeat], config: {retention.ms: -1}},
            state: {cleanup: compact, config: {min.cleanable.dirty.ratio: '0.10'}}}}",
    )
    .unwrap()
}

/// A cluster on which `apply` has run.
fn settled(topology: &Topology, brokers: usize) -> ClusterState {
    let mut state = ClusterState { brokers, ..ClusterState::default() };
    for action in Plan::between(topology, &state, false).actions {
        match action {
            Action::CreateTopic { topic, partitions, replication, mut config } => {
                config.insert("segment.ms".to_owned(), "604800000".to_owned());
                state.topics.insert(topic, ActualTopic { partitions, replication, config });
            }
            Action::SetCompatibility { subject, to, .. } => {
                state.subjects.entry(subject).or_default().compatibility = Some(to);
            }
            Action::RegisterSchema { subject, .. } => state.subjects.entry(subject).or_default().registered = true,
            other => panic!("{other:?} on an empty cluster"),
        }
    }
    state
}

fn topic<'a>(state: &'a mut ClusterState, name: &str) -> &'a mut ActualTopic {
    state.topics.get_mut(name).unwrap()
}

#[test]
fn an_empty_cluster_gets_everything_and_then_nothing() {
    let topology = topology();
    let plan = Plan::between(&topology, &ClusterState { brokers: 3, ..ClusterState::default() }, false);
    let lines: Vec<String> = plan.actions.iter().map(super::super::report::describe).collect();
    assert_eq!(
        lines,
        [
            "create topic beats: partitions=4 replication=3 cleanup.policy=delete min.insync.replicas=2 retention.ms=-1",
            "create topic state: partitions=4 replication=3 cleanup.policy=compact min.cleanable.dirty.ratio=0.10 \
             min.insync.replicas=2",
            "set compatibility of beats-nl.openweb.data.Heartbeat to FULL_TRANSITIVE",
            "register the schema of beats-nl.openweb.data.Heartbeat",
        ]
    );
    assert!(plan.notes.is_empty());
    for brokers in [1, 2, 3, 5] {
        let plan = Plan::between(&topology, &settled(&topology, brokers), true);
        assert!(plan.is_empty() && plan.unknown.is_empty(), "{brokers} brokers: {plan:?}");
    }
}

#[test]
fn replication_is_capped_and_said_so() {
    let topology = topology();
    let mut state = settled(&topology, 1);
    assert_eq!(topic(&mut state, "beats").replication, 1);
    assert_eq!(topic(&mut state, "beats").config["min.insync.replicas"], "1");
    let plan = Plan::between(&topology, &state, false);
    assert_eq!(plan.notes, ["replication 3 is capped at 1: the cluster has 1 broker"]);

    // Two brokers more: the topics stay as they are, and that is reported, not changed.
    state.brokers = 3;
    let plan = Plan::between(&topology, &state, false);
    assert!(plan.actions.is_empty(), "{plan:?}");
    assert_eq!(plan.warnings.len(), 2);
    assert!(plan.warnings[0].contains("topic beats has 1 replicas, the cluster bears 3"), "{plan:?}");
    assert!(!plan.is_empty());

    // A cluster of three that lost two of them for now asks for nothing less.
    let mut state = settled(&topology, 3);
    state.brokers = 1;
    assert!(Plan::between(&topology, &state, false).is_empty());
}

#[test]
fn drift_of_settings_is_changed_and_others_stay() {
    let topology = topology();
    let mut state = settled(&topology, 3);
    topic(&mut state, "state").config.insert("cleanup.policy".to_owned(), "delete".to_owned());
    topic(&mut state, "state").config.insert("min.cleanable.dirty.ratio".to_owned(), "0.1".to_owned());
    topic(&mut state, "state").config.insert("segment.ms".to_owned(), "1".to_owned());
    topic(&mut state, "beats").config.remove("retention.ms");
    let change = |key: &str, from: Option<&str>, to: &str| ConfigChange {
        key: key.to_owned(),
        from: from.map(str::to_owned),
        to: to.to_owned(),
    };
    assert_eq!(
        Plan::between(&topology, &state, false).actions,
        [
            Action::AlterConfig { topic: "beats".to_owned(), changes: vec![change("retention.ms", None, "-1")] },
            Action::AlterConfig {
                topic: "state".to_owned(),
                changes: vec![change("cleanup.policy", Some("delete"), "compact")]
            },
        ]
    );
}

#[test]
fn another_number_of_partitions_is_refused() {
    let topology = topology();
    let mut state = settled(&topology, 3);
    for from in [1, 8] {
        topic(&mut state, "beats").partitions = from;
        let plan = Plan::between(&topology, &state, false);
        assert_eq!(plan.refusals, [Refusal::Partitions { topic: "beats".to_owned(), from, to: 4 }]);
        assert!(plan.actions.is_empty() && !plan.is_empty());
        let text = plan.refusals[0].to_string();
        assert!(text.contains("beats") && text.contains("another prefix"), "{text}");
    }
}

#[test]
fn schemas_and_levels_are_compared_one_by_one() {
    let topology = topology();
    let subject = "beats-nl.openweb.data.Heartbeat";
    let cases = [
        (Some("FULL_TRANSITIVE"), true, 0),
        (Some("BACKWARD"), true, 1),
        (None, true, 1),
        (Some("FULL_TRANSITIVE"), false, 1),
        (None, false, 2),
    ];
    for (level, registered, expected) in cases {
        let mut state = settled(&topology, 3);
        let compatibility = level.map(str::to_owned);
        state.subjects.insert(subject.to_owned(), SubjectState { compatibility, registered });
        let plan = Plan::between(&topology, &state, false);
        assert_eq!(plan.actions.len(), expected, "{level:?} {registered}: {plan:?}");
        // The level comes first, so that it already judges the version that follows.
        assert!(!matches!(plan.actions[..], [Action::RegisterSchema { .. }, _]), "{plan:?}");
    }
}

/// (prefix, delete, topic that is there, listed, deleted)
const STRANGERS: &[(&str, bool, &str, bool, bool)] = &[
    ("", false, "stray", true, false),
    ("", true, "stray", true, true),
    ("", true, "__consumer_offsets", false, false),
    ("", true, "_schemas", false, false),
    ("", true, "ledger-2024", true, false),
    ("t1.", true, "t1.stray", true, true),
    ("t1.", true, "t1.ledger-2024", true, false),
    ("t1.", true, "t1._internal", true, false),
    ("t1.", true, "t2.stray", false, false),
    ("t1.", true, "stray", false, false),
    ("t1.", true, "t10.beats", false, false),
    ("t1.", true, "beats", false, false),
];

#[test]
fn strangers_are_deleted_only_on_demand_and_only_our_own() {
    for (prefix, delete, name, listed, deleted) in STRANGERS {
        let topology = topology().with_prefix(prefix);
        let mut state = settled(&topology, 3);
        state.topics.insert((*name).to_owned(), ActualTopic::default());
        let plan = Plan::between(&topology, &state, *delete);
        assert_eq!(plan.unknown.contains(&(*name).to_owned()), *listed, "{prefix} {name}");
        let deletes = plan.actions.contains(&Action::DeleteTopic { topic: (*name).to_owned() });
        assert_eq!((deletes, plan.actions.len()), (*deleted, usize::from(*deleted)), "{prefix} {name}");
    }
}

#[test]
fn values_are_compared_as_kafka_means_them() {
    for (a, b, same) in [
        ("0.10", "0.1", true),
        ("1", "1.0", true),
        ("compact,delete", "delete, compact", true),
        ("compact", "compact,delete", false),
        ("-1", "1", false),
        ("LogAppendTime", "CreateTime", false),
        ("", "0", false),
    ] {
        assert_eq!(same_value(a, b), same, "{a} {b}");
    }
}
