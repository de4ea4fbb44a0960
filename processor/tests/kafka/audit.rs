//! `processor audit` as an operator runs it: of a bank in which something is wrong it says what, and where.

use kontor_compose::testing::Record;
use schemas::partition_of;
use schemas::records::BalanceChanged;

use crate::support::{Bank, PARTITIONS};

/// Appends to `balance_changed` as nobody should. Gives the place as the audit names it.
fn append(bank: &Bank, like: &Record, value: &[u8]) -> String {
    let topic = bank.space.topic("balance_changed");
    let key = like.key.as_deref();
    let (partition, offset) = bank.sender.send_to(&topic, Some(like.partition), key, Some(value), &[]).unwrap();
    format!("balance_changed-{partition}@{offset}")
}

/// First a change that fits into its account's chain in every way: only the command says that it is one too many. Then
/// the same record once more, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn e18_a_second_change_of_a_known_transfer_is_named_with_its_place() {
    let bank = Bank::new("twice").await;
    let mut processor = bank.run().await;
    let (from, to) = (bank.holder(&processor, 0, 1_000).await, bank.holder(&processor, 1, 0).await);
    let paid = bank.pay(&from, &to.iban, 100);
    assert_eq!(processor.queries().reason(&paid).await, "");
    bank.assert_clean().await;
    assert_eq!(processor.terminate().await.code(), Some(0));

    let records = bank.space.read("balance_changed").await.unwrap();
    let is_debit = |record: &&Record| {
        let change: BalanceChanged = bank.decode(record.value.as_deref().unwrap());
        change.transfer_id == Some(paid.id) && change.changed_by == -100
    };
    let debit = records.iter().rfind(is_debit).unwrap();
    let first: BalanceChanged = bank.decode(debit.value.as_deref().unwrap());
    let second = BalanceChanged {
        new_balance: first.new_balance + first.changed_by,
        sequence: first.sequence + 1,
        transaction_id: first.transaction_id + i64::from(PARTITIONS),
        ..first
    };
    let mut value = Vec::new();
    bank.encoder("balance_changed").encode(&second, &mut value).unwrap();
    let place = append(&bank, debit, &value);
    let (code, said) = bank.audit_now().await;
    assert_eq!(code, 1, "{said}");
    let transfer = uuid::Uuid::from_bytes(paid.id.0);
    let breach = format!("I4 {place}: transfer {transfer} ");
    let line = said.lines().find(|line| line.contains(&breach)).unwrap_or_else(|| panic!("{breach}\n{said}"));
    assert!(line.contains("debit events: 2, due: 1"), "{said}");
    assert!(said.contains(&format!("audit: BREACH, first: {breach}")), "{said}");

    let place = append(&bank, debit, debit.value.as_deref().unwrap());
    let (code, said) = bank.audit_now().await;
    assert_eq!(code, 1, "{said}");
    let breach = format!("I2 {place}: account {}: change {} comes where ", from.iban, first.sequence);
    assert!(said.contains(&format!("audit: BREACH, first: {breach}")), "{breach}\n{said}");
    assert!(said.contains("debit events: 3, due: 1"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn e18_a_row_that_only_the_store_has_is_named_with_its_table_and_key() {
    let bank = Bank::new("falsified").await;
    let mut processor = bank.run().await;
    let holders = bank.holders(&processor, 1, 1_000).await;
    let sent = bank.pay(&holders[1], &holders[2].iban, 10);
    assert_eq!(processor.queries().reason(&sent).await, "");
    processor.history_complete().await;
    bank.assert_clean().await;
    assert_eq!(processor.terminate().await.code(), Some(0));
    let state_dir = processor.state_dir();
    bank.assert_clean_with_stores(&state_dir).await;

    let iban = &holders[2].iban;
    bank.falsify_balance(&state_dir, iban, 1).await;
    let (code, said) = bank.space.audit_with_stores(0, &state_dir).await.unwrap();
    assert_eq!(code, 1, "{said}");
    let partition = partition_of(iban.as_bytes(), PARTITIONS);
    // 1 is the table of accounts.
    let breach = format!("audit: BREACH, first: I5: partition {partition}: table 1 differs at key {iban:?}: ");
    assert!(said.contains(&breach), "{breach}\n{said}");
    // The topics know nothing of it.
    bank.assert_clean().await;
    bank.falsify_balance(&state_dir, iban, -1).await;
    bank.assert_clean_with_stores(&state_dir).await;
}
