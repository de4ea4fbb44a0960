//! One wrong thing at a time on an otherwise right cluster.

use super::super::cluster::ActualTopic;
use super::super::compare::{Action, Plan};
use super::*;

fn topology() -> Topology {
    Topology::parse(include_str!("../../../../topics.yaml")).unwrap()
}

fn settled(topology: &Topology, brokers: usize) -> ClusterState {
    let mut state = ClusterState { brokers, ..ClusterState::default() };
    for action in Plan::between(topology, &state, false).actions {
        if let Action::CreateTopic { topic, partitions, replication, config } = action {
            state.topics.insert(topic, ActualTopic { partitions, replication, config });
        }
    }
    for (_, _, subject) in topology.subjects() {
        state.subjects.entry(subject).or_default().registered = true;
    }
    state
}

fn mismatches(topology: &Topology, state: &ClusterState) -> Vec<Mismatch> {
    let mut found = topic_mismatches(topology, state);
    found.extend(schema_mismatches(topology, state));
    found
}

type Damage = fn(&mut ClusterState);

fn set(state: &mut ClusterState, topic: &str, setting: &str, value: &str) {
    state.topics.get_mut(topic).unwrap().config.insert(setting.to_owned(), value.to_owned());
}

const WRONG: &[(Damage, &str)] = &[
    (|state| drop(state.topics.remove("transfers")), "topic transfers is missing; run `topics apply`"),
    (
        |state| state.topics.get_mut("commands").unwrap().partitions = 1,
        "topic commands has 1 partitions instead of 12; the number of partitions cannot be changed",
    ),
    (
        |state| set(state, "changelog", "cleanup.policy", "delete"),
        "topic changelog has cleanup.policy=delete instead of compact; run `topics apply`",
    ),
    (
        |state| set(state, "changelog", "cleanup.policy", "compact,delete"),
        "topic changelog has cleanup.policy=compact,delete instead of compact",
    ),
    (
        |state| set(state, "commands", "min.insync.replicas", "1"),
        "topic commands has min.insync.replicas=1 instead of 2",
    ),
    (
        |state| set(state, "transfers", "message.timestamp.type", "CreateTime"),
        "topic transfers has message.timestamp.type=CreateTime instead of LogAppendTime",
    ),
    (|state| set(state, "balance_changed", "retention.ms", "604800000"), "retention.ms=604800000 instead of -1"),
    (
        |state| state.subjects.get_mut("commands-nl.openweb.data.ConfirmMoneyTransfer").unwrap().registered = false,
        "the schema of commands-nl.openweb.data.ConfirmMoneyTransfer is not registered; run `topics apply`",
    ),
    (|state| state.subjects.clear(), "the schema of changelog-nl.openweb.data.Position is not registered"),
];

#[test]
fn every_mismatch_is_named_with_its_fix() {
    let topology = topology();
    for (damage, expected) in WRONG {
        let mut state = settled(&topology, 3);
        assert_eq!(mismatches(&topology, &state), []);
        damage(&mut state);
        let text = VerifyError::Mismatch(mismatches(&topology, &state)).to_string();
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn several_are_named_at_once() {
    let topology = topology();
    let mut state = settled(&topology, 3);
    state.topics.remove("control");
    set(&mut state, "changelog", "cleanup.policy", "delete");
    let found = mismatches(&topology, &state);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn tuning_and_a_broker_that_is_down_are_no_mismatch() {
    let topology = topology();
    let mut state = settled(&topology, 3);
    set(&mut state, "changelog", "segment.ms", "1000");
    set(&mut state, "changelog", "max.message.bytes", "5");
    state.brokers = 1;
    assert_eq!(mismatches(&topology, &state), []);
    assert_eq!(mismatches(&topology, &settled(&topology, 1)), [], "one broker: one replica, one in sync");
}
