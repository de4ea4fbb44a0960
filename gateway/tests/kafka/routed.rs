//! Wherever a partition is, any gateway finds it.

use crate::campaign::{BEGINNING, Fleet, PARTITIONS};
use crate::support::{balance, payment, transfer};
use schemas::partition_of;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn g24_p10_any_gateway_answers_for_any_key_whoever_owns_it() {
    let fleet = Fleet::open("routed", 2).await;
    let holders = fleet.holders(1).await;
    assert_eq!(fleet.owners.owning(), 2, "each instance owns something");
    let apis = fleet.apis();
    for (writes, reads) in [(&apis[0], &apis[1]), (&apis[1], &apis[0])] {
        // Each partition pays the next one: most answers need two instances.
        for (number, payer) in holders.iter().enumerate() {
            let payee = &holders[(number + 1) % holders.len()];
            let result = transfer(writes, payment(Uuid::now_v7(), payer, &payee.iban, 7)).await;
            assert_eq!(result["success"], true, "{result}");
            // The others were paid by the one before; the first will be by the last.
            let expected = if number == 0 { BEGINNING - 7 } else { BEGINNING };
            assert_eq!(balance(reads, &payer.iban).await, expected, "{payer:?}");
        }
        assert_eq!(balance(reads, &holders[0].iban).await, BEGINNING);
    }
    fleet.assert_clean().await;
}

/// Ids in the order of their records, with the partition of each.
async fn ids(fleet: &Fleet, topic: &str, wanted: &BTreeSet<Uuid>) -> Vec<(i32, Uuid)> {
    let records = fleet.space.read(topic).await.unwrap();
    let of = |record: kontor_compose::testing::Record| {
        let value = record.value.unwrap();
        // The id is the first field of every command and of every answer: 16 bytes behind the frame.
        let id = value.get(schemas::FRAME_BYTES..schemas::FRAME_BYTES + 16)?;
        Some((record.partition, Uuid::from_slice(id).ok()?))
    };
    records.into_iter().filter_map(of).filter(|(_, id)| wanted.contains(id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn b06_the_commands_of_a_user_stay_in_one_partition_and_are_answered_in_order() {
    let fleet = Fleet::open("in-order", 2).await;
    let holders = fleet.holders(1).await;
    let apis = fleet.apis();
    let somebody = &holders[5];
    let uuids: Vec<Uuid> = (0..100).map(|_| Uuid::now_v7()).collect();
    // All at once, through both gateways; others pay meanwhile.
    let asked = uuids.iter().enumerate().map(|(number, uuid)| {
        let api = &apis[number % 2];
        let other = &holders[number % 5];
        async move {
            let own = transfer(api, payment(*uuid, somebody, "a shop", 1)).await;
            assert_eq!(own["success"], true, "{own}");
            transfer(api, payment(Uuid::now_v7(), other, "a shop", 1)).await
        }
    });
    futures_util::future::join_all(asked).await;
    let wanted: BTreeSet<Uuid> = uuids.iter().copied().collect();
    let commands = ids(&fleet, "commands", &wanted).await;
    let answers = ids(&fleet, "money_transfer_feedback", &wanted).await;
    let partition = partition_of(somebody.username.as_bytes(), PARTITIONS);
    assert!(commands.iter().all(|(at, _)| *at == partition), "{:?}", spread(&commands));
    assert_eq!((commands.len(), &answers), (100, &commands), "one answer to each, in the order of the commands");
    assert_eq!(balance(&apis[0], &somebody.iban).await, BEGINNING - 100);
    fleet.assert_clean().await;
}

fn spread(records: &[(i32, Uuid)]) -> BTreeMap<i32, usize> {
    let mut counts = BTreeMap::new();
    records.iter().for_each(|(partition, _)| *counts.entry(*partition).or_default() += 1);
    counts
}
