//! The registry is away: what is known goes on, what is not known waits for it, and nothing becomes a dead letter.

use kontor_compose::eventually;
use kontor_compose::testing::Proxy;
use schemas::Encoder;
use schemas::records::ConfirmMoneyTransfer;

use crate::support::{Bank, DEADLINE, Processor};

/// The address of the registry by way of a relay that the test may cut.
fn relayed(bank: &Bank) -> (Proxy, String) {
    let (scheme, rest) = bank.space.registry().split_once("://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(address).unwrap();
    let url = format!("{scheme}://{}/{path}", proxy.address);
    (proxy, url)
}

fn launch(bank: &Bank, registry: &str) -> Processor {
    bank.launch("p1", |builder| builder.env("KONTOR_REGISTRY", registry))
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_start_without_the_registry_needs_an_earlier_start() {
    let bank = Bank::new("no-registry").await;
    let (proxy, registry) = relayed(&bank);
    proxy.cut();
    // Never started before: it cannot know what it would write.
    let mut processor = launch(&bank, &registry);
    assert_eq!(processor.end().await.code(), Some(1));
    let lines = processor.lines("error: ");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("the schema registry at") && lines[0].contains(&registry), "{}", lines[0]);

    proxy.mend();
    let mut processor = launch(&bank, &registry);
    processor.ready().await;
    let (near, far) = (bank.holder(&processor, 0, 1_000).await, bank.holder(&processor, 1, 0).await);
    assert_eq!(processor.queries().reason(&bank.pay(&near, &far.iban, 100)).await, "");
    processor.kill();

    proxy.cut();
    let mut processor = launch(&bank, &registry);
    processor.ready().await;
    assert_eq!(processor.queries().reason(&bank.pay(&near, &far.iban, 100)).await, "", "known ids go on");
    assert_eq!(processor.queries().balance(&far.iban).await, 200);
    proxy.mend();
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_an_unknown_id_waits_for_the_registry_and_only_its_partition_does() {
    let bank = Bank::new("waits").await;
    let (proxy, registry) = relayed(&bank);
    let mut processor = launch(&bank, &registry);
    processor.ready().await;
    let waiting = bank.holder(&processor, 0, 1_000).await;
    // In the other shard, and in the same one.
    let others = [bank.holder(&processor, 1, 1_000).await, bank.holder(&processor, 2, 1_000).await];
    proxy.cut();
    let next_version = bank.register_transfer_with("note").await;
    let command = bank.payment(&waiting, "a shop", 100);
    let mut value = Vec::new();
    Encoder::<ConfirmMoneyTransfer>::new(next_version).encode(&command, &mut value).unwrap();
    // The new field: a text of four bytes.
    value.extend_from_slice(b"\x08note");
    let (partition, _) = bank.send(&waiting.username, &value);
    let fingerprint = schemas::fingerprint::transfer(&command);
    let unknown = crate::support::Sent { id: command.id, fingerprint, partition };
    let behind = bank.pay(&waiting, "a shop", 10);
    let waits = || async { processor.metric("kontor_schema_waits_total").await > 0.0 };
    eventually(DEADLINE, "the partition waits", waits).await.unwrap();

    for other in &others {
        for _ in 0..10 {
            assert_eq!(processor.queries().reason(&bank.pay(other, "a shop", 1)).await, "");
        }
        assert_eq!(processor.queries().balance(&other.iban).await, 990);
    }
    // Transfers of others reach an account in the waiting partition: only its commands wait.
    assert_eq!(processor.queries().reason(&bank.pay(&others[0], &waiting.iban, 5)).await, "");
    assert_eq!(processor.queries().balance(&waiting.iban).await, 1_005, "neither of the two was processed");
    assert!(bank.space.read("dead_letters").await.unwrap().is_empty());
    let lines = processor.lines("waits for a schema");
    assert!(lines.iter().all(|line| line.contains(&format!("schema={next_version}"))), "{lines:?}");

    proxy.mend();
    assert_eq!(processor.queries().reason(&unknown).await, "");
    assert_eq!(processor.queries().reason(&behind).await, "");
    assert_eq!(processor.queries().balance(&waiting.iban).await, 895);
    bank.assert_clean().await;
    let order: Vec<_> = bank.transfer_feedback().await.into_iter().map(|one| one.id).collect();
    let place = |id| order.iter().position(|one| *one == id).unwrap();
    assert!(place(unknown.id) < place(behind.id), "in their order");
    assert!(bank.space.read("dead_letters").await.unwrap().is_empty(), "nothing became a dead letter");
}
