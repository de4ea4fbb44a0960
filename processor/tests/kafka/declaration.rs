//! Topics or schemas that are not as declared: refused at the start, in one line that names them and the way out.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use kontor_compose::eventually;
use kontor_compose::testing::list_topics;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;

use crate::support::{Bank, DEADLINE};

fn admin(bank: &Bank) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bank.space.bootstrap()).create().unwrap()
}

/// Starts a processor with this declaration; it must refuse. Its one line.
async fn refusal(bank: &Bank, declaration: &PathBuf) -> String {
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_TOPICS", declaration));
    assert_eq!(processor.end().await.code(), Some(1), "{}", processor.said());
    let lines = processor.lines("error: ");
    assert_eq!(lines.len(), 1, "one line: {lines:?}");
    assert!(processor.lines("running").is_empty(), "nothing ran");
    lines.into_iter().next().unwrap()
}

/// Makes the topics as another declaration says, by the usual tool.
async fn drift(bank: &Bank, from: &str, to: &str) {
    let text = fs::read_to_string(&bank.space.topics_file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(&bank.space.topics_file, text.replace(from, to)).unwrap();
    bank.space.apply_topics().await.unwrap();
    fs::write(&bank.space.topics_file, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f25_topics_and_schemas_that_are_not_as_declared_are_refused() {
    let bank = Bank::new("drift").await;
    let declaration = bank.space.topics_file.clone();

    drift(&bank, "cleanup: compact", "cleanup: delete").await;
    let line = refusal(&bank, &declaration).await;
    let changelog = bank.space.topic("changelog");
    assert!(line.contains(&format!("topic {changelog} has cleanup.policy=delete instead of compact")), "{line}");
    assert!(line.contains("topics apply"), "{line}");
    bank.space.apply_topics().await.unwrap();

    drift(&bank, "message.timestamp.type: LogAppendTime", "message.timestamp.type: CreateTime").await;
    let line = refusal(&bank, &declaration).await;
    let commands = bank.space.topic("commands");
    let named = format!("topic {commands} has message.timestamp.type=CreateTime instead of LogAppendTime");
    assert!(line.contains(&named) && line.contains("topics apply"), "{line}");
    bank.space.apply_topics().await.unwrap();

    // A build that writes a record which nobody has registered.
    let newer = bank.space.dir.join("newer.yaml");
    let text = fs::read_to_string(&declaration).unwrap();
    let (records, more) = ("- ConfirmMoneyTransfer", "- ConfirmMoneyTransfer\n    - Heartbeat");
    assert!(text.contains(records), "{text}");
    fs::write(&newer, text.replace(records, more)).unwrap();
    let line = refusal(&bank, &newer).await;
    assert!(line.contains(&format!("{commands}-nl.openweb.data.Heartbeat")) && line.contains("topics apply"), "{line}");

    let letters = bank.space.topic("dead_letters");
    delete(&bank, &letters).await;
    let line = refusal(&bank, &declaration).await;
    assert!(line.contains(&format!("topic {letters} is missing")) && line.contains("topics apply"), "{line}");
    bank.space.apply_topics().await.unwrap();

    // After each repair by the tool that the lines name, it runs.
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 0, 100).await;
    bank.assert_clean().await;
    assert_eq!(processor.terminate().await.code(), Some(0));

    let changes = bank.space.topic("balance_changed");
    let grown = admin(&bank).create_partitions(&[NewPartitions::new(&changes, 5)], &AdminOptions::new()).await.unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    let line = refusal(&bank, &declaration).await;
    assert!(line.contains(&format!("topic {changes} has 5 partitions instead of 4")), "{line}");
    assert!(line.contains("the number of partitions cannot be changed"), "{line}");
    assert!(!holder.iban.is_empty());
}

/// Changes one setting of a topic behind everybody's back; its others stay.
async fn alter(bank: &Bank, topic: &str, key: &str, value: &str) {
    let (admin, options) = (admin(bank), AdminOptions::new());
    let described =
        admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.unwrap().remove(0).unwrap();
    let own = described.entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
    let mut settings: BTreeMap<String, String> = own.filter_map(|entry| Some((entry.name, entry.value?))).collect();
    settings.insert(key.to_owned(), value.to_owned());
    let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in &settings {
        alter = alter.set(key, value);
    }
    admin.alter_configs([&alter], &options).await.unwrap().remove(0).unwrap();
}

/// Deletes a topic, and waits until nobody is told of it any more.
async fn delete(bank: &Bank, topic: &str) {
    admin(bank).delete_topics(&[topic], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    eventually(DEADLINE, "the topic is gone", || async { partitions(bank, topic).await.is_none() }).await.unwrap();
}

async fn partitions(bank: &Bank, topic: &str) -> Option<usize> {
    let bootstrap = bank.space.bootstrap().to_owned();
    let all = tokio::task::spawn_blocking(move || list_topics(&bootstrap).unwrap()).await.unwrap();
    all.get(topic).copied()
}

/// After the repair it runs, and is right.
async fn runs(bank: &Bank) {
    let processor = bank.run().await;
    bank.holder(&processor, 0, 100).await;
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f25_another_min_insync_replicas_is_refused() {
    let bank = Bank::new("insync").await;
    let changelog = bank.space.topic("changelog");
    // Declared are two; one broker bears one replica, so one is what `apply` has set.
    alter(&bank, &changelog, "min.insync.replicas", "2").await;
    let line = refusal(&bank, &bank.space.topics_file).await;
    let named = format!("topic {changelog} has min.insync.replicas=2 instead of 1; run `topics apply`");
    assert!(line.contains(&named), "{line}");

    bank.space.apply_topics().await.unwrap();
    runs(&bank).await;
}

/// As a broker that makes topics by itself would have made it, for a client that was faster than `topics apply`.
#[tokio::test(flavor = "multi_thread")]
async fn f25_a_topic_of_the_brokers_defaults_is_refused() {
    const DEFAULT: i32 = -1;
    let bank = Bank::new("automatic").await;
    let commands = bank.space.topic("commands");
    delete(&bank, &commands).await;
    let automatic = NewTopic::new(&commands, DEFAULT, TopicReplication::Fixed(DEFAULT));
    admin(&bank).create_topics([&automatic], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let appears = || async { partitions(&bank, &commands).await == Some(1) };
    eventually(DEADLINE, "the topic is there", appears).await.unwrap();

    let line = refusal(&bank, &bank.space.topics_file).await;
    for named in [
        format!("topic {commands} has 1 partitions instead of 4"),
        format!("topic {commands} has message.timestamp.type=CreateTime instead of LogAppendTime"),
        format!("topic {commands} has retention.ms="),
        "the number of partitions cannot be changed: declare the one in use, take another prefix, or delete the topic; \
         `topics apply` mends the rest"
            .to_owned(),
    ] {
        assert!(line.contains(&named), "{named}: {line}");
    }
    let told = line.matches(&bank.space.prefix).count();
    assert_eq!(told, line.matches(&commands).count(), "no other topic: {line}");

    delete(&bank, &commands).await;
    bank.space.apply_topics().await.unwrap();
    runs(&bank).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f25_state_of_another_layout_or_secret_is_refused() {
    let bank = Bank::new("layout").await;
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 0, 100).await;
    assert_eq!(processor.terminate().await.code(), Some(0));

    let text = fs::read_to_string(&bank.space.topics_file).unwrap();
    let other = bank.space.dir.join("other.yaml");
    fs::write(&other, text.replace("shards: 2", "shards: 1")).unwrap();
    let line = refusal(&bank, &other).await;
    assert!(line.contains("the state is of layout 1 with 2 shards, configured is layout 1 with 1"), "{line}");
    // One that is no member of anything finds out by the state alone.
    let mut misled = bank.launch_alone("p1", |builder| builder.env("KONTOR_TOPICS", &other));
    stops_with(&mut misled, "restore `shards`").await;

    let secret = bank.space.dir.join("another-secret");
    fs::write(&secret, "another secret of this bank, long enough").unwrap();
    let mut misled = bank.launch("p1", |builder| builder.env("KONTOR_TOKEN_SECRET_FILE", &secret));
    stops_with(&mut misled, "check value").await;

    // A secret is replaced by putting the new one before it: stores and tokens of before stay good.
    let before = fs::read_to_string(bank.space.dir.join("token-secret")).unwrap();
    fs::write(&secret, format!("another secret of this bank, long enough\n{before}")).unwrap();
    let mut rotated = bank.launch("p1", |builder| builder.env("KONTOR_TOKEN_SECRET_FILE", &secret));
    rotated.ready().await;
    let sent = bank.pay(&holder, "a shop", 1);
    assert_eq!(rotated.queries().reason(&sent).await, "");
    assert_eq!(rotated.terminate().await.code(), Some(0));

    let processor = bank.run().await;
    assert_eq!(processor.queries().balance(&holder.iban).await, 99);
    assert_eq!(processor.metric("kontor_store_wipes_total").await, 0.0, "nothing was wiped for it");
    bank.assert_clean().await;
}

/// Every shard stops and says why; nothing runs.
async fn stops_with(processor: &mut crate::support::Processor, reason: &str) {
    let stopped = || async {
        let states = processor.states().await;
        // A shard says why when it has stopped, not before.
        let said = !processor.lines("stopped; needs an operator").is_empty();
        said && !states.is_empty() && states.iter().all(|state| state == "stopped")
    };
    eventually(DEADLINE, "every shard stops", stopped).await.unwrap();
    let lines = processor.lines("stopped; needs an operator");
    assert!(lines.iter().all(|line| line.contains(reason)), "{lines:?}");
    processor.kill();
}
