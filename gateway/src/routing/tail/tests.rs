//! The tail against the client library's in-process broker and a registry of a few lines.

use super::*;
use crate::routing::samples::{assignment, member};
use crate::routing::{Changes, Routing};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use schemas::control::{ASSIGNMENT_KEY, ASSIGNMENT_PARTITION, MEMBER_PARTITION, member_key};
use schemas::records::{Assignment, Member};
use schemas::{AvroRecord, CacheConfig, Encoder};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use warp::Filter;
use warp::http::StatusCode;

const LONG: Duration = Duration::from_secs(20);
const TOPIC: &str = "control";
const MEMBER_SCHEMA: u32 = 1;
const ASSIGNMENT_SCHEMA: u32 = 2;
const BROKER: i32 = 1;

/// A broker, and a gateway's routing over it.
struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: ThreadedProducer<DefaultProducerContext>,
    control: Arc<Control>,
    stop: CancellationToken,
}

impl World {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("reconnect.backoff.max.ms", "500");
        let producer = config.create().unwrap();
        Self { cluster, producer, control: Arc::new(Control::new(2)), stop: CancellationToken::new() }
    }

    /// Follows the topic from its beginning, with all in it that was written so far.
    fn follow(&self, schemas: SchemaCache) {
        self.producer.flush(LONG).unwrap();
        let settings = TailSettings { bootstrap: self.cluster.bootstrap_servers(), topic: TOPIC.into() };
        start(settings, schemas, Arc::clone(&self.control), self.stop.clone()).unwrap();
    }

    /// On its way when this returns: a flush takes a tenth of a second, whatever there is to wait for.
    fn write(&self, partition: i32, key: &[u8], value: Option<&[u8]>) {
        let mut record = BaseRecord::to(TOPIC).partition(partition).key(key);
        record.payload = value;
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
    }

    fn beat(&self, name: &str) {
        let mut value = Vec::new();
        Encoder::new(MEMBER_SCHEMA).encode(&member(name), &mut value).unwrap();
        self.write(MEMBER_PARTITION, &member_key(name), Some(&value));
    }

    fn assign(&self, epoch: i64, owners: &[&str]) {
        let mut value = Vec::new();
        Encoder::new(ASSIGNMENT_SCHEMA).encode(&assignment(epoch, owners), &mut value).unwrap();
        self.write(ASSIGNMENT_PARTITION, ASSIGNMENT_KEY, Some(&value));
    }

    fn owners(&self) -> Vec<Option<String>> {
        (0..2).map(|p| self.control.owner(p).map(|owner| owner.processor.endpoint.to_string())).collect()
    }

    /// Waits until these own the two partitions.
    async fn until_owned_by(&self, changes: &mut Changes, wanted: [Option<&str>; 2]) {
        let owned = async {
            while self.owners() != wanted.map(|endpoint| endpoint.map(str::to_owned)) {
                changes.next().await;
            }
        };
        let waited = tokio::time::timeout(LONG, owned).await;
        assert!(waited.is_ok(), "{:?} instead of {wanted:?}", self.owners());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn known_schemas() -> SchemaCache {
    let known = [(MEMBER_SCHEMA, Member::schema_json()), (ASSIGNMENT_SCHEMA, Assignment::schema_json())];
    SchemaCache::fixed(&known).unwrap()
}

#[tokio::test]
async fn owners_are_those_of_the_last_assignment_and_then_of_each_later_one() {
    let world = World::new();
    let mut changes = world.control.changes();
    world.beat("a");
    world.beat("b");
    world.assign(1, &["b", "b"]);
    world.assign(2, &["a", "b"]);
    world.follow(known_schemas());
    let (a, b) = (Some("http://a"), Some("http://b"));
    world.until_owned_by(&mut changes, [a, b]).await;
    assert_eq!(world.control.epoch(), 2);

    world.assign(3, &["b", "a"]);
    world.until_owned_by(&mut changes, [b, a]).await;
    world.write(MEMBER_PARTITION, &member_key("a"), None);
    world.until_owned_by(&mut changes, [b, None]).await;
}

#[tokio::test]
async fn nobody_is_sent_to_an_owner_of_the_past() {
    let world = World::new();
    let mut changes = world.control.changes();
    for epoch in 1..=300 {
        world.beat(if epoch % 2 == 0 { "a" } else { "b" });
        world.assign(epoch, &[if epoch % 2 == 0 { "a" } else { "b" }]);
    }
    assert!(!world.control.is_read());
    world.follow(known_schemas());
    tokio::time::timeout(LONG, changes.next()).await.unwrap();
    assert!(world.control.is_read());
    assert_eq!(world.control.epoch(), 300, "the first that is known is the last that was written");
}

#[tokio::test]
async fn what_cannot_be_read_is_skipped() {
    let world = World::new();
    let mut changes = world.control.changes();
    world.write(MEMBER_PARTITION, b"member/a", Some(b"noise"));
    world.write(ASSIGNMENT_PARTITION, b"something", Some(b"else"));
    world.beat("a");
    world.assign(1, &["a"]);
    world.follow(known_schemas());
    world.until_owned_by(&mut changes, [Some("http://a"), Some("http://a")]).await;
}

#[tokio::test]
async fn owners_stay_while_the_broker_is_away_and_change_when_it_is_back() {
    let world = World::new();
    let mut changes = world.control.changes();
    world.beat("a");
    world.beat("b");
    world.assign(1, &["a"]);
    world.follow(known_schemas());
    let (a, b) = (Some("http://a"), Some("http://b"));
    world.until_owned_by(&mut changes, [a, a]).await;
    world.cluster.broker_down(BROKER).unwrap();
    assert!(world.producer.client().fetch_metadata(Some(TOPIC), Duration::from_millis(300)).is_err());
    assert_eq!(world.owners(), [a, a].map(|endpoint| endpoint.map(str::to_owned)));
    world.cluster.broker_up(BROKER).unwrap();
    world.assign(2, &["b"]);
    world.until_owned_by(&mut changes, [b, b]).await;
}

/// A registry that knows some ids, and has no answer for the others. Even ids are those of assignments.
async fn registry(answer: impl Fn(u32) -> bool + Clone + Send + Sync + 'static) -> SchemaCache {
    let answer = move |id: u32| {
        let schema =
            if id.is_multiple_of(ASSIGNMENT_SCHEMA) { Assignment::schema_json() } else { Member::schema_json() };
        let status = if answer(id) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        warp::reply::with_status(warp::reply::json(&serde_json::json!({ "schema": schema })), status)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry_url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(warp::serve(warp::path!("schemas" / "ids" / u32).map(answer)).incoming(listener).run());
    SchemaCache::start(CacheConfig { registry_url, file: None }).unwrap()
}

#[tokio::test]
async fn a_member_of_a_later_version_holds_up_no_assignment() {
    let world = World::new();
    let mut changes = world.control.changes();
    world.beat("a");
    world.beat("b");
    world.assign(1, &["a", "b"]);
    let later = Arc::new(AtomicBool::new(false));
    let knows = {
        let later = Arc::clone(&later);
        move |id| id <= ASSIGNMENT_SCHEMA || later.load(Ordering::SeqCst)
    };
    world.follow(registry(knows).await);
    let (a, b, z) = (Some("http://a"), Some("http://b"), Some("http://z"));
    world.until_owned_by(&mut changes, [a, b]).await;

    let (mut beat, moved) = (Vec::new(), Member { endpoint: "http://z".into(), ..member("b") });
    Encoder::new(ASSIGNMENT_SCHEMA + 1).encode(&moved, &mut beat).unwrap();
    world.write(MEMBER_PARTITION, &member_key("b"), Some(&beat));
    world.assign(2, &["b", "a"]);
    world.until_owned_by(&mut changes, [b, a]).await;
    later.store(true, Ordering::SeqCst);
    world.until_owned_by(&mut changes, [z, a]).await;
}

#[tokio::test]
async fn an_assignment_of_the_past_is_not_told_while_the_last_one_waits() {
    let world = World::new();
    let mut changes = world.control.changes();
    world.beat("a");
    world.beat("b");
    world.assign(1, &["a", "b"]);
    let mut last = Vec::new();
    Encoder::new(ASSIGNMENT_SCHEMA + 2).encode(&assignment(2, &["b", "a"]), &mut last).unwrap();
    world.write(ASSIGNMENT_PARTITION, ASSIGNMENT_KEY, Some(&last));
    let (later, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(watch::Sender::new(0)));
    let knows = {
        let (later, asked) = (Arc::clone(&later), Arc::clone(&asked));
        move |id| {
            asked.send_modify(|times| *times += u32::from(id > ASSIGNMENT_SCHEMA));
            id <= ASSIGNMENT_SCHEMA || later.load(Ordering::SeqCst)
        }
    };
    world.follow(registry(knows).await);
    let mut asked = asked.subscribe();
    tokio::time::timeout(LONG, asked.wait_for(|times| *times > 2)).await.unwrap().unwrap();
    assert!(!world.control.is_read());
    later.store(true, Ordering::SeqCst);
    world.until_owned_by(&mut changes, [Some("http://b"), Some("http://a")]).await;
}

#[tokio::test]
async fn a_record_waits_for_its_schema() {
    let (is_up, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(watch::Sender::new(0)));
    let knows = {
        let (is_up, asked) = (Arc::clone(&is_up), Arc::clone(&asked));
        move |_| {
            asked.send_modify(|times| *times += 1);
            is_up.load(Ordering::SeqCst)
        }
    };
    let world = World::new();
    let mut changes = world.control.changes();
    world.assign(1, &["a"]);
    world.beat("a");
    world.follow(registry(knows).await);
    let mut asked = asked.subscribe();
    tokio::time::timeout(LONG, asked.wait_for(|times| *times > 1)).await.unwrap().unwrap();
    assert_eq!(world.owners(), [None, None]);
    assert!(!world.control.is_read());
    is_up.store(true, Ordering::SeqCst);
    world.until_owned_by(&mut changes, [Some("http://a"), Some("http://a")]).await;
}

#[test]
fn only_a_lost_position_is_begun_anew() {
    use RDKafkaErrorCode as Code;
    for (code, lost) in [
        (Code::AutoOffsetReset, true),
        (Code::OffsetOutOfRange, true),
        (Code::AllBrokersDown, false),
        (Code::BrokerTransportFailure, false),
        (Code::UnknownTopicOrPartition, false),
    ] {
        assert_eq!(is_lost(&KafkaError::MessageConsumption(code)), lost, "{code}");
    }
    assert!(is_lost(&KafkaError::MessageConsumptionFatal(Code::Fatal)));
}
