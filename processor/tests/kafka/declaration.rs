//! Topics or schemas that are not as declared: refused at the start, in one line that names them and the way out.

use std::fs;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::support::Bank;

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
    let deleted = admin(&bank).delete_topics(&[&letters], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
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
    kontor_compose::eventually(crate::support::DEADLINE, "every shard stops", stopped).await.unwrap();
    let lines = processor.lines("stopped; needs an operator");
    assert!(lines.iter().all(|line| line.contains(reason)), "{lines:?}");
    processor.kill();
}
