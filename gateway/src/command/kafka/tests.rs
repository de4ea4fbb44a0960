//! The producer against the client library's in-process broker, which can be taken down at will.

use super::*;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::time::Instant;

const LONG: Duration = Duration::from_secs(20);
const BROKER: i32 = 1;

fn settings(bootstrap: String) -> KafkaSettings {
    KafkaSettings {
        bootstrap,
        topic: "commands".into(),
        account_creation_schema: 1,
        transfer_schema: 2,
        delivery_timeout_ms: 3000,
    }
}

fn with_broker() -> (MockCluster<'static, DefaultProducerContext>, KafkaCommands) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("commands", 4, 1).unwrap();
    let commands = KafkaCommands::start(settings(cluster.bootstrap_servers())).unwrap();
    (cluster, commands)
}

fn a_transfer() -> Command {
    Command::Transfer(ConfirmMoneyTransfer {
        id: uuid::Uuid::now_v7().into(),
        token: "0".repeat(20),
        amount: 1,
        from: "a".into(),
        to: "b".into(),
        description: String::new(),
    })
}

async fn send(commands: &KafkaCommands) -> Result<(), SendError> {
    let begun = Begun::default();
    let sent = commands.send("a".into(), 3, a_transfer(), begun.clone()).await;
    assert!(begun.is_set() || matches!(sent, Err(SendError::NotSent(_))), "{sent:?}");
    sent
}

async fn until_down(commands: &KafkaCommands) {
    let deadline = Instant::now() + LONG;
    while commands.is_up() {
        assert!(Instant::now() < deadline, "the link stays up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn only_what_is_certain_is_called_not_sent() {
    use RDKafkaErrorCode as Code;
    let cases = [
        (Code::UnknownTopic, true),
        (Code::UnknownPartition, true),
        (Code::TopicAuthorizationFailed, true),
        (Code::MessageTimedOut, false),
        (Code::BrokerTransportFailure, false),
        (Code::PurgeQueue, false),
        (Code::PurgeInflight, false),
        (Code::RequestTimedOut, false),
        (Code::NotEnoughReplicasAfterAppend, false),
    ];
    for (code, not_sent) in cases {
        let said = classify(&KafkaError::MessageProduction(code));
        assert_eq!(matches!(said, SendError::NotSent(_)), not_sent, "{code}");
    }
}

#[tokio::test]
async fn without_a_broker_nothing_is_sent_and_that_is_said_within_two_seconds() {
    // Nobody listens on port 1.
    let commands = KafkaCommands::start(settings("127.0.0.1:1".into())).unwrap();
    let started = Instant::now();
    let sent = send(&commands).await;
    assert!(matches!(sent, Err(SendError::NotSent(_))), "{sent:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(!commands.is_up());
}

#[tokio::test]
async fn a_command_that_waits_for_the_link_has_not_begun() {
    let commands = KafkaCommands::start(settings("127.0.0.1:1".into())).unwrap();
    let begun = Begun::default();
    let waiting = commands.send("a".into(), 3, a_transfer(), begun.clone());
    assert!(tokio::time::timeout(WAIT_FOR_LINK / 4, waiting).await.is_err(), "it waits");
    assert!(!begun.is_set());
}

#[tokio::test]
async fn a_broker_that_goes_is_noticed_without_sending_and_one_that_comes_back_too() {
    let (cluster, commands) = with_broker();
    assert!(commands.link.wait_until_up(LONG).await);
    assert_eq!(send(&commands).await, Ok(()));

    cluster.broker_down(BROKER).unwrap();
    until_down(&commands).await;
    for _ in 0..2 {
        let started = Instant::now();
        let sent = send(&commands).await;
        assert!(matches!(sent, Err(SendError::NotSent(_))), "{sent:?}");
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    cluster.broker_up(BROKER).unwrap();
    assert!(commands.link.wait_until_up(LONG).await);
    assert_eq!(send(&commands).await, Ok(()));
}

#[tokio::test]
async fn a_command_under_way_when_the_broker_goes_is_unknown_never_not_sent() {
    let (cluster, commands) = with_broker();
    assert_eq!(send(&commands).await, Ok(()));
    // The broker takes the command and its answer takes longer than anybody waits.
    cluster.broker_round_trip_time(BROKER, Duration::from_secs(10)).unwrap();
    let (sent, ()) = tokio::join!(send(&commands), until_down(&commands));
    assert!(matches!(sent, Err(SendError::Unknown(_))), "{sent:?}");
}
