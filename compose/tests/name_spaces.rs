//! Name spaces on the suite's broker: apart from each other, and gone with their test.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use kontor_compose::TestStack;
use kontor_compose::testing::{NamespaceOptions, list_topics};

fn topics_of(prefix: &str) -> Vec<(String, usize)> {
    let all = list_topics(&TestStack::shared().unwrap().bootstrap).unwrap();
    all.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_space_has_its_own_topics_and_leaves_none() {
    let stack = TestStack::shared().unwrap();
    let options = NamespaceOptions::default().partitions(4).shards(2);
    let space = stack.namespace_with("apart", options).await.unwrap();
    let other = stack.namespace_with("other", NamespaceOptions::default().partitions(2).shards(1)).await.unwrap();
    let prefix = space.prefix.clone();
    let topics = tokio::task::spawn_blocking({
        let prefix = prefix.clone();
        move || topics_of(&prefix)
    });
    let topics = topics.await.unwrap();
    let commands = space.topic("commands");
    assert!(topics.contains(&(commands.clone(), 4)), "{topics:?}");

    let sender = space.sender().unwrap();
    let (at, headers) = (Some(3), [("why", b"a test".as_slice())]);
    let placed = sender.send_to(&commands, at, Some(b"jan"), Some(b"bytes"), &headers);
    assert_eq!(placed.unwrap(), (3, 0));
    let records = space.read("commands").await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key.as_deref(), Some(b"jan".as_slice()));
    assert_eq!(records[0].headers, [("why".to_string(), b"a test".to_vec())]);
    assert_eq!(other.read("commands").await.unwrap(), []);

    let dir = space.dir.clone();
    assert!(dir.exists());
    drop(space);
    assert!(!dir.exists());
    kontor_compose::eventually(std::time::Duration::from_secs(20), "its topics are gone", || async {
        topics_of(&prefix).is_empty()
    })
    .await
    .unwrap();
    assert!(!topics_of(&other.prefix).is_empty(), "the other one's stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_senders_partitioner_is_that_of_java() {
    let stack = TestStack::shared().unwrap();
    let space = stack.namespace("murmur").await.unwrap();
    let sender = space.sender().unwrap();
    for key in ["21", "foobar", "jan.jansen", "NL66OPEN0000000000"] {
        let (partition, _) = sender.send(&space.topic("commands"), Some(key.as_bytes()), None).unwrap();
        assert_eq!(partition, schemas::partition_of(key.as_bytes(), 12), "{key}");
    }
}
