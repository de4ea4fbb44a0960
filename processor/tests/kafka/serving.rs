//! What others see of a running processor: when it is ready, how fast a lone command is answered, and topics that any
//! tool can read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use kontor_compose::eventually;
use processor::policy::HOLD_MS_MAX;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::query::Token;
use schemas::records::{ConfirmMoneyTransfer, Heartbeat, Position};
use schemas::topics::Topology;
use schemas::{AvroRecord, ResolveError};

use crate::support::{
    Bank, DEADLINE, Holder, Load, OpenTransaction, PARTITIONS, Processor, SHARDS, Stopwatch, Times,
    refusal_of_a_record, seed,
};

#[tokio::test(flavor = "multi_thread")]
async fn r01_ready_only_when_caught_up_to_the_high_watermark() {
    let bank = Bank::new("caught-up").await;
    let mut processor = bank.run().await;
    let holder = bank.holder(&processor, 1, 1_000).await;
    assert_eq!(processor.terminate().await.code(), Some(0));
    let open = OpenTransaction::begin(&bank, 1, &format!("account/{}", holder.iban)).await;
    processor.launch_again();
    // One shard runs; the other waits for what is below its high watermark, and serves nothing meanwhile.
    let waits = || async {
        let states = processor.states().await;
        let waits = states.get(1).is_some_and(|state| state == "restoring" || state == "stalled");
        states.len() == 4 && states[0] == "running" && states[2] == "running" && waits
    };
    eventually(DEADLINE, "the shard of the open transaction waits", waits).await.unwrap();
    let (ready, state) = processor.readiness().await.unwrap();
    assert!(!ready);
    assert!(state["partitions"][1]["changelog_remaining"].as_i64().unwrap() > 0, "{state}");
    let refused = processor.queries().get(1, "account", holder.iban.as_bytes()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    let sent = bank.pay(&holder, "a shop", 1);
    assert!(!processor.readiness().await.unwrap().0, "still not");
    // After a while it says what it waits for.
    let stalled = || async { processor.states().await.get(1).is_some_and(|state| state == "stalled") };
    eventually(DEADLINE, "the shard of the open transaction is called stalled", stalled).await.unwrap();
    let (_, state) = processor.readiness().await.unwrap();
    let reason = state["partitions"][1]["reason"].as_str().unwrap();
    assert!(reason.contains("neither committed nor aborted"), "{state}");

    open.abort().await;
    processor.ready().await;
    assert_eq!(processor.queries().reason(&sent).await, "");
    assert_eq!(processor.queries().balance(&holder.iban).await, 999, "nothing of the aborted transaction was taken");
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e03_a_lone_command_does_not_wait_for_a_commit_interval() {
    let bank = Bank::new("alone").await;
    let processor = bank.run().await;
    let (near, far) = (bank.holder(&processor, 0, 100_000).await, bank.holder(&processor, 1, 0).await);
    let queries = processor.queries();
    let (mut within, mut across) = (Times::default(), Times::default());
    for _ in 0..40 {
        for (times, to) in [(&mut within, "a shop"), (&mut across, far.iban.as_str())] {
            let command = bank.payment(&near, to, 1);
            let watch = Stopwatch::start();
            let sent = bank.send_transfer(&near.username, &command);
            assert_eq!(queries.reason(&sent).await, "");
            times.add(watch.elapsed());
        }
    }
    println!("{}; {}", within.line("a lone command in one step"), across.line("in three steps"));
    // A commit interval of 100 ms, or one of the client library's fixed waits, would show as the usual time.
    assert!(within.p50() < Duration::from_millis(60), "{}", within.line("one step"));
    assert!(across.p50() < Duration::from_millis(120), "{}", across.line("three steps"));
    bank.assert_clean().await;
}

/// Commits and records of a processor so far.
struct Counted {
    transactions: f64,
    records: f64,
}

impl Counted {
    async fn of(processor: &Processor) -> Counted {
        Counted {
            transactions: processor.metric("kontor_transactions_total{outcome=\"committed\"}").await,
            records: processor.metric("kontor_records_consumed_total").await,
        }
    }
}

/// Most transactions per second of one shard by the policy, where a commit usually takes so long: above twice its free
/// rate, which is 80, each waits before it begins for as long as commits took of late, up to the longest hold. Whatever
/// makes a machine slow makes fewer of them; a fifth is for averages that are not the usual time.
fn transactions_per_second_max(commit_s: f64) -> f64 {
    let hold_s = commit_s.min(HOLD_MS_MAX as f64 / 1000.0);
    (1.2 / (commit_s + hold_s)).max(80.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn e03_under_load_transactions_per_second_stay_bounded() {
    let seed = seed("busy");
    let bank = Bank::new("busy").await;
    let processor = bank.run().await;
    let holders = bank.holders(&processor, 3, 1_000_000).await;
    let load = Load::start(&bank, &holders, 1_000, u64::MAX, seed);
    // Long enough for the policy's averages.
    load.another(500).await;
    let watch = Stopwatch::start();
    let before = Counted::of(&processor).await;
    load.another(3_000).await;
    let after = Counted::of(&processor).await;
    let seconds = watch.elapsed().as_secs_f64();
    let (transactions, records) = (after.transactions - before.transactions, after.records - before.records);
    let commit_s = processor.metric("kontor_commit_duration_seconds{quantile=\"0.5\"}").await;
    let (rate, most) = (transactions / seconds, f64::from(SHARDS) * transactions_per_second_max(commit_s));
    let line = format!(
        "{:.0} records in {transactions:.0} transactions, {rate:.0} per second with commits of {:.1} ms, at most {most:.0}",
        records,
        commit_s * 1000.0
    );
    println!("{line}");
    assert!(rate < most, "{line}");
    assert!(transactions * 2.0 < records, "{line}");
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

/// The whole of what a stranger knows: the addresses of the broker and of the registry.
struct Stranger {
    registry: String,
    schemas: HashMap<u32, Schema>,
}

impl Stranger {
    async fn read(&mut self, value: &[u8]) -> (String, Value) {
        assert_eq!(value[0], 0, "Confluent framing");
        let id = u32::from_be_bytes(value[1..5].try_into().unwrap());
        if !self.schemas.contains_key(&id) {
            let url = format!("{}/schemas/ids/{id}", self.registry);
            let (status, body) = kontor_compose::health::get(&url).await.unwrap();
            assert_eq!(status, 200, "{url}: {body}");
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            self.schemas.insert(id, Schema::parse_str(body["schema"].as_str().unwrap()).unwrap());
        }
        let schema = &self.schemas[&id];
        let mut datum = &value[5..];
        let decoded = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut datum).unwrap();
        assert!(datum.is_empty(), "{} bytes are left", datum.len());
        let Schema::Record(record) = schema else { panic!("not a record: {schema:?}") };
        (record.name.name().to_string(), decoded)
    }

    /// Both records of a transfer between partitions. Once a minute the processor deletes those that are below its
    /// position, so a transfer of just now is looked for; if such a minute ended meanwhile, another one.
    async fn read_transfers(&mut self, bank: &Bank, processor: &Processor, [from, to]: [&Holder; 2]) {
        let mut names = BTreeSet::new();
        for _ in 0..3 {
            assert_eq!(processor.queries().reason(&bank.pay(from, &to.iban, 1)).await, "");
            names.clear();
            for record in bank.space.read("transfers").await.unwrap() {
                names.insert(self.read(&record.value.unwrap()).await.0);
            }
            if names.iter().eq(["CreditRequested", "CreditSettled"]) {
                return;
            }
        }
        panic!("in transfers there is only {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e19_b03_every_topic_is_readable_with_the_registry_alone() {
    let bank = Bank::new("readable").await;
    let processor = bank.run().await;
    let holders = bank.holders(&processor, 1, 1_000).await;
    for (from, to) in [(0, 1), (1, 2), (2, 2), (3, 0)] {
        let sent = bank.pay(&holders[from], &holders[to].iban, if from == to { 1 } else { 10 });
        processor.queries().outcome(&sent).await;
    }
    processor.queries().outcome(&bank.send_creation(&bank.creation(&holders[0].username))).await;
    bank.assert_clean().await;
    let mut stranger = Stranger { registry: bank.space.registry().to_owned(), schemas: HashMap::new() };
    stranger.read_transfers(&bank, &processor, [&holders[0], &holders[1]]).await;
    for (topic, expected) in [
        ("commands", vec!["ConfirmAccountCreation", "ConfirmMoneyTransfer"]),
        ("account_creation_feedback", vec!["AccountCreationConfirmed", "AccountCreationFailed"]),
        ("money_transfer_feedback", vec!["MoneyTransferConfirmed", "MoneyTransferFailed"]),
        ("balance_changed", vec!["BalanceChanged"]),
        ("changelog", vec!["Account", "Outcome", "Owner", "Position", "User"]),
        ("control", vec!["Assignment", "Member"]),
    ] {
        let mut names = BTreeMap::new();
        for record in bank.space.read(topic).await.unwrap() {
            let key = String::from_utf8(record.key.unwrap()).unwrap();
            let (name, value) = stranger.read(&record.value.unwrap()).await;
            assert!(matches!(value, Value::Record(_)), "{topic} {key}: {value:?}");
            if topic == "changelog" {
                let table = key.split('/').next().unwrap().to_owned();
                assert_eq!(table, name.to_lowercase(), "the key names its table");
            }
            *names.entry(name).or_insert(0) += 1;
        }
        assert_eq!(names.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{topic}: {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e19_positions_show_as_offsets_of_the_consumer_group() {
    let bank = Bank::new("group").await;
    let processor = bank.run().await;
    bank.holders(&processor, 1, 1_000).await;
    bank.assert_clean().await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bank.space.bootstrap()).set("group.id", format!("{}kontor", bank.space.prefix));
    let group: Arc<BaseConsumer> = Arc::new(config.create().unwrap());
    let mut positions = TopicPartitionList::new();
    for record in bank.space.read("changelog").await.unwrap() {
        if record.key.as_deref() != Some(b"position") {
            continue;
        }
        let position: Position = bank.decode(&record.value.unwrap());
        for (topic, offset) in position.next_offset {
            let mut element = positions.add_partition(&topic, record.partition);
            element.set_offset(Offset::Offset(offset)).unwrap();
        }
    }
    // The last position of each partition counts.
    let wanted: BTreeMap<_, _> =
        positions.elements().iter().map(|one| ((one.topic().to_owned(), one.partition()), one.offset())).collect();
    assert_eq!(wanted.len(), 2 * PARTITIONS as usize);
    let mirrored = || {
        let (group, wanted) = (Arc::clone(&group), wanted.clone());
        let look = move || {
            let mut asked = TopicPartitionList::new();
            for (topic, partition) in wanted.keys() {
                asked.add_partition(topic, *partition);
            }
            let offsets = group.committed_offsets(asked, DEADLINE).unwrap();
            offsets.elements().iter().all(|one| wanted[&(one.topic().to_owned(), one.partition())] == one.offset())
        };
        async { tokio::task::spawn_blocking(look).await.unwrap() }
    };
    eventually(DEADLINE, "the group's offsets are the positions", mirrored).await.unwrap();
}

/// An operator sees how far a processor is behind with nothing but Kafka's own command.
#[tokio::test(flavor = "multi_thread")]
async fn e19_lag_shows_in_kafkas_own_command_for_groups() {
    let bank = Bank::new("lag").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 1, 1_000).await;
    assert_eq!(processor.queries().reason(&bank.pay(&holders[0], &holders[1].iban, 1)).await, "");
    let (group, commands) = (format!("{}kontor", bank.space.prefix), bank.space.topic("commands"));
    // The position in `transfers` is behind the last record; the marker of its transaction, which nobody reads, counts as
    // one more.
    let most = |topic: &String| i64::from(*topic != commands);
    let caught_up = || async {
        let lag = bank.lag(&group).await;
        lag.len() == 2 * PARTITIONS as usize && lag.iter().all(|((topic, _), lag)| *lag <= most(topic))
    };
    eventually(DEADLINE, "no lag in the group", caught_up).await.unwrap();
    assert_eq!(processor.terminate().await.code(), Some(0));
    for _ in 0..3 {
        bank.pay(&holders[2], "a shop", 1);
    }
    let lag = bank.lag(&group).await;
    let inputs = [commands.clone(), bank.space.topic("transfers")];
    let all = inputs.iter().flat_map(|topic| (0..PARTITIONS).map(move |partition| (topic.clone(), partition)));
    assert_eq!(lag.keys().cloned().collect::<BTreeSet<_>>(), all.collect());
    for partition in 0..PARTITIONS {
        let expected = if partition == 2 { 3 } else { 0 };
        assert_eq!(lag[&(commands.clone(), partition)], expected, "{lag:?}");
    }
    processor.restart().await;
    eventually(DEADLINE, "no lag in the group", caught_up).await.unwrap();
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b08_neither_topics_nor_schemas_appear_by_themselves() {
    let bank = Bank::new("unknown").await;
    let topic = bank.space.topic("no-such-topic");
    assert_eq!(refusal_of_a_record(&bank, &topic).await, Some(RDKafkaErrorCode::UnknownTopicOrPartition));

    // A build that would write a record which nobody has registered: neither the look-up of its id nor a start makes it.
    let newer = bank.space.dir.join("newer.yaml");
    let declared = std::fs::read_to_string(&bank.space.topics_file).unwrap();
    let more = "  no-such-topic: {key: none, cleanup: delete, subjects: topic, records: [Heartbeat]}";
    std::fs::write(&newer, format!("{declared}\n{more}\n")).unwrap();
    let topology = Topology::load(&newer).unwrap().with_prefix(&bank.space.prefix);
    let cache = bank.schemas.clone();
    let resolved = tokio::task::spawn_blocking(move || cache.resolve(&topology)).await.unwrap();
    let Err(ResolveError::Missing(missing)) = resolved else { panic!("{resolved:?}") };
    assert_eq!(missing, [format!("the registry has no subject {topic}-value")]);
    assert_eq!(bank.schemas.id_of(&topic, Heartbeat::full_name()), None);
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_TOPICS", &newer));
    assert_eq!(processor.end().await.code(), Some(1), "{}", processor.said());

    assert!(!kontor_compose::testing::list_topics(bank.space.bootstrap()).unwrap().contains_key(&topic));
    let registered = bank.topology.topic("commands").unwrap().subject(ConfirmMoneyTransfer::full_name());
    for (subject, expected) in [(format!("{topic}-value"), 404), (registered, 200)] {
        let url = format!("{}/subjects/{subject}/versions", bank.space.registry());
        let (status, body) = kontor_compose::health::get(&url).await.unwrap();
        assert_eq!(status, expected, "{subject}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn e06_who_got_an_answer_reads_its_effects_on_both_sides() {
    let bank = Bank::new("tokens").await;
    let processor = bank.run().await;
    let (from, to) = (bank.holder(&processor, 0, 100_000).await, bank.holder(&processor, 1, 0).await);
    let queries = processor.queries();
    for round in 1..=50 {
        let answer = queries.await_answer(&bank.pay(&from, &to.iban, 1)).await.unwrap();
        let mut partitions: Vec<_> = answer.tokens.iter().map(|token| token.partition).collect();
        partitions.sort_unstable();
        assert_eq!(partitions, [0, 1], "the commits of the debit and of the credit");
        assert_eq!(queries.balance_at(&to.iban, answer.tokens.clone(), 5_000).await.unwrap(), round);
        assert_eq!(queries.balance_at(&from.iban, answer.tokens, 5_000).await.unwrap(), 100_000 - round);
    }
    // A commit that does not come is said to be missing; nothing older is served for it.
    let never = vec![Token { partition: 1, commit_sequence: 1_000_000 }];
    let stale = queries.balance_at(&to.iban, never, 50).await.unwrap_err();
    assert_eq!(stale.code(), tonic::Code::DeadlineExceeded);
    assert!(stale.message().starts_with("STALE"), "{stale}");
    let status = queries.status().await.unwrap();
    assert_eq!((status.partition_count, status.partitions.len()), (PARTITIONS, PARTITIONS as usize));
    assert!(status.instance.starts_with("processor-"), "{}", status.instance);
    bank.assert_clean().await;
}
