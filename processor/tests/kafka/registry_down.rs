//! The registry is away, or takes questions and does not answer: what is known goes on, what is not known waits for it,
//! and nothing becomes a dead letter.

use std::time::Duration;

use kontor_compose::eventually;
use kontor_compose::testing::{Proxy, Way};
use schemas::Encoder;
use schemas::records::ConfirmMoneyTransfer;

use crate::support::{Bank, DEADLINE, Holder, Processor, Sent, Stopwatch, Times, time_wanted};

/// From the registry's return to the outcome of a command that waited for it.
const RECOVERY: Duration = Duration::from_secs(5);

fn launch(bank: &Bank, registry: &str) -> Processor {
    bank.launch("p1", |builder| builder.env("KONTOR_REGISTRY", registry))
}

/// Sends a payment of 100 in a version of the record that was registered just now, behind the processor's back. The id
/// of its schema, and the command.
async fn send_unknown(bank: &Bank, payer: &Holder) -> (u32, Sent) {
    let schema = bank.register_transfer_with("note").await;
    let command = bank.payment(payer, "a shop", 100);
    let mut value = Vec::new();
    Encoder::<ConfirmMoneyTransfer>::new(schema).encode(&command, &mut value).unwrap();
    // The new field: a text of four bytes.
    value.extend_from_slice(b"\x08note");
    let (partition, _) = bank.send(&payer.username, &value);
    (schema, Sent { id: command.id, fingerprint: schemas::fingerprint::transfer(&command), partition })
}

/// Waits until a partition waits for a schema.
async fn some_partition_waits(processor: &Processor) {
    let waits = || async { processor.metric("kontor_schema_waits_total").await > 0.0 };
    eventually(DEADLINE, "the partition waits", waits).await.unwrap();
}

/// Mends the relay, and waits for the command that waited for the registry, which must not take long.
async fn recovers(processor: &Processor, proxy: &Proxy, unknown: &Sent) {
    proxy.mend();
    let back = Stopwatch::start();
    assert_eq!(processor.queries().reason(unknown).await, "");
    let took = back.elapsed();
    println!("processed {} ms after the registry's return", took.as_millis());
    assert!(took <= RECOVERY, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_start_without_the_registry_needs_an_earlier_start() {
    let bank = Bank::new("no-registry").await;
    let (proxy, registry) = Proxy::to_url(bank.space.registry()).unwrap();
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
    let (proxy, registry) = Proxy::to_url(bank.space.registry()).unwrap();
    let mut processor = launch(&bank, &registry);
    processor.ready().await;
    let waiting = bank.holder(&processor, 0, 1_000).await;
    // In the other shard, and in the same one.
    let others = [bank.holder(&processor, 1, 1_000).await, bank.holder(&processor, 2, 1_000).await];
    proxy.cut();
    let (next_version, unknown) = send_unknown(&bank, &waiting).await;
    let behind = bank.pay(&waiting, "a shop", 10);
    some_partition_waits(&processor).await;

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

    recovers(&processor, &proxy, &unknown).await;
    assert_eq!(processor.queries().reason(&behind).await, "");
    assert_eq!(processor.queries().balance(&waiting.iban).await, 895);
    bank.assert_clean().await;
    let order: Vec<_> = bank.transfer_feedback().await.into_iter().map(|one| one.id).collect();
    let place = |id| order.iter().position(|one| *one == id).unwrap();
    assert!(place(unknown.id) < place(behind.id), "in their order");
    assert!(bank.space.read("dead_letters").await.unwrap().is_empty(), "nothing became a dead letter");
}

/// It takes questions and answers none, for longer than one question waits: it is asked anew meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn f18_a_slow_registry_holds_up_only_what_it_alone_knows() {
    let slow = time_wanted("KONTOR_SLOW_S", Duration::from_secs(4));
    let bank = Bank::new("slow").await;
    let (proxy, registry) = Proxy::to_url(bank.space.registry()).unwrap();
    let mut processor = launch(&bank, &registry);
    processor.ready().await;
    let waiting = bank.holder(&processor, 0, 1_000).await;
    // In the other shard, and in the same one.
    let others = [bank.holder(&processor, 1, 1_000_000).await, bank.holder(&processor, 2, 1_000_000).await];
    proxy.hold(Way::FromTarget);
    let (_, unknown) = send_unknown(&bank, &waiting).await;
    some_partition_waits(&processor).await;

    let (watch, mut known) = (Stopwatch::start(), Times::default());
    let mut paid = 0;
    while watch.elapsed() < slow {
        for other in &others {
            let one = Stopwatch::start();
            assert_eq!(processor.queries().reason(&bank.pay(other, "a shop", 1)).await, "");
            known.add(one.elapsed());
        }
        paid += 1;
    }
    println!("{}", known.line(&format!("a command of a known schema, the registry silent for {} s", slow.as_secs())));
    for other in &others {
        assert_eq!(processor.queries().balance(&other.iban).await, 1_000_000 - paid);
    }
    assert_eq!(processor.queries().balance(&waiting.iban).await, 1_000, "it waits");
    assert!(bank.space.read("dead_letters").await.unwrap().is_empty(), "and is no dead letter");

    recovers(&processor, &proxy, &unknown).await;
    assert_eq!(processor.queries().balance(&waiting.iban).await, 900);
    bank.assert_clean().await;
    assert!(bank.space.read("dead_letters").await.unwrap().is_empty(), "nothing became a dead letter");
}
