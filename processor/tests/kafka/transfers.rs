//! Transfers: what moves, what is refused and with which words, and in which order.

use schemas::partition_of;
use schemas::records::ConfirmMoneyTransfer;

use crate::support::{Answer, Bank, COMPANY, Holder, PARTITIONS, Processor};

/// A valid own iban that is no account here, in the partition of choice.
fn unused_iban(partition: i32) -> String {
    let check = |number: u64| 98 - (24_251_423 * 10_u128.pow(16) + u128::from(number) * 1_000_000 + 232_100) % 97;
    let mut ibans = (1..).map(|number: u64| format!("NL{:02}OPEN{number:010}", check(number)));
    ibans.find(|iban| partition_of(iban.as_bytes(), PARTITIONS) == partition).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn c05_c16_money_moves_within_a_partition_within_a_shard_and_across_shards() {
    let bank = Bank::new("moves").await;
    let processor = bank.run().await;
    let queries = processor.queries();
    let from = bank.holder(&processor, 0, 1_000).await;
    for (partition, amount, left) in [(0, 100, 900), (2, 200, 700), (1, 300, 400)] {
        let to = bank.holder(&processor, partition, 0).await;
        // Keyed by the name, then by the account.
        let command = bank.payment(&from, &to.iban, amount - 1);
        assert_eq!(queries.reason(&bank.send_transfer(&from.username, &command)).await, "");
        let second = bank.payment(&from, &to.iban, 1);
        assert_eq!(queries.reason(&bank.send_transfer(&from.iban, &second)).await, "");
        assert_eq!((queries.balance(&from.iban).await, queries.balance(&to.iban).await), (left, amount));
        assert_eq!(queries.account(&from.iban).await.unwrap().reserved, 0, "nothing stays reserved");
        bank.assert_clean().await;
        let mut changes = bank.changes_of(command.id).await;
        changes.sort_by_key(|change| change.changed_by);
        let told: Vec<_> =
            changes.iter().map(|one| (&one.iban, &one.from_to, one.changed_by, one.new_balance)).collect();
        let debit = (&from.iban, &to.iban, 1 - amount, left + 1);
        assert_eq!(told, [debit, (&to.iban, &from.iban, amount - 1, amount - 1)]);
        assert!(changes.iter().all(|change| change.description == "a payment"));
    }
    for (partition, change) in bank.balance_changes().await {
        assert_eq!(partition, partition_of(change.iban.as_bytes(), PARTITIONS), "c16: in the partition of its account");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c06_to_c13_c17_the_first_rung_that_fails_is_the_reason() {
    let bank = Bank::new("ladder").await;
    let processor = bank.run().await;
    let (near, far) = (bank.holder(&processor, 0, 1_000).await, bank.holder(&processor, 1, 1_000).await);
    let pay = |to: &str, amount| bank.payment(&near, to, amount);
    let from = |from: &str| ConfirmMoneyTransfer { from: from.to_owned(), ..pay(&far.iban, 1) };
    let long = ConfirmMoneyTransfer { description: "é".repeat(141), ..pay(&far.iban, 1) };
    let just = ConfirmMoneyTransfer { description: "é".repeat(140), ..pay(&far.iban, 1) };
    let forged = ConfirmMoneyTransfer { token: far.token.clone(), ..pay(&far.iban, 1) };
    let (nobody_near, nobody_far) = (unused_iban(0), unused_iban(1));
    let near_name = near.username.as_str();
    let cases = [
        (near_name, pay(&far.iban, 0), "amount must be positive"),
        (near_name, pay(&far.iban, -1), "amount must be positive"),
        (near_name, pay(&far.iban, i64::MIN), "amount must be positive"),
        (near_name, long, "description is too long"),
        (near_name, just, ""),
        (near_name, from("bla"), "from is invalid"),
        (near_name, from("NL83OPEN0104642752"), "from is invalid"),
        (near_name, pay(&near.iban, 1), "from and to can't be same for transfer"),
        (near_name, forged, "invalid token"),
        (far.username.as_str(), pay(&far.iban, 1), "from does not belong to user"),
        (near_name, pay("NL83OPEN0104642752", 1), "to is invalid"),
        (near_name, pay(&far.iban, 1_000_000), "insufficient funds"),
        (near_name, pay(&far.iban, i64::MAX), "insufficient funds"),
        (near_name, pay(&nobody_near, 1), "to is not known at this bank"),
        (near_name, pay(&nobody_far, 1), "to is not known at this bank"),
        ("bla", bank.deposit("bla", 1), "both to and from not known at this bank"),
        (nobody_near.as_str(), bank.deposit(&nobody_near, 1), "both to and from not known at this bank"),
        (near_name, bank.deposit(&near.iban, 1), "from does not belong to user"),
    ];
    let queries = processor.queries();
    let mut refused = Vec::new();
    for (key, command, reason) in cases {
        let sent = bank.send_transfer(key, &command);
        assert_eq!(queries.reason(&sent).await, reason, "{key}: {:?} to {}", command.amount, command.to);
        refused.extend((!reason.is_empty()).then_some((command.id, key.to_owned(), reason)));
    }
    assert_eq!((queries.balance(&near.iban).await, queries.balance(&far.iban).await), (999, 1_001), "one went through");
    assert_eq!(queries.account(&near.iban).await.unwrap().reserved, 0);
    bank.assert_clean().await;
    let (feedback, changes) = (bank.transfer_feedback().await, bank.balance_changes().await);
    for (id, key, reason) in refused {
        let answers: Vec<_> = feedback.iter().filter(|one| one.id == id).map(|one| (&one.key, &one.answer)).collect();
        assert_eq!(answers, [(&key, &Answer::Refused(reason.to_owned()))], "c15");
        assert!(!changes.iter().any(|(_, change)| change.transfer_id == Some(id)), "{reason}: a balance changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_exactly_the_limit_is_allowed() {
    let bank = Bank::new("limit").await;
    let processor = bank.run().await;
    let queries = processor.queries();
    for partition in [0, 1] {
        let (from, to) = (bank.holder(&processor, 0, 100).await, bank.holder(&processor, partition, 0).await);
        assert_eq!(queries.reason(&bank.pay(&from, &to.iban, 50_101)).await, "insufficient funds");
        assert_eq!(queries.reason(&bank.pay(&from, &to.iban, 50_100)).await, "");
        assert_eq!((queries.balance(&from.iban).await, queries.balance(&to.iban).await), (-50_000, 50_100));
        assert_eq!(queries.reason(&bank.pay(&from, &to.iban, 1)).await, "insufficient funds");
    }
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_two_payments_that_together_exceed_the_funds_do_not_both_pass() {
    let bank = Bank::new("conflict").await;
    let processor = bank.run().await;
    let queries = processor.queries();
    let from = bank.holder(&processor, 0, 10_000).await;
    let (one, other) = (bank.holder(&processor, 1, 0).await, bank.holder(&processor, 3, 0).await);
    for _ in 0..10 {
        let before = queries.balance(&from.iban).await;
        // Sent back to back: the second is decided while the first is only reserved.
        let sent = [&one, &other].map(|to| bank.pay(&from, &to.iban, 50_000 + before));
        let mut reasons = Vec::new();
        for sent in &sent {
            reasons.push(queries.reason(sent).await);
        }
        reasons.sort();
        assert_eq!(reasons, ["", "insufficient funds"]);
        assert_eq!(queries.balance(&from.iban).await, -50_000);
        assert_eq!(queries.reason(&bank.pay_in(&from.iban, 60_000)).await, "");
    }
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_c11_cash_comes_in_and_money_leaves() {
    let bank = Bank::new("cash").await;
    let processor = bank.run().await;
    let queries = processor.queries();
    let holder = bank.holder(&processor, 3, 0).await;
    let deposit = bank.deposit(&holder.iban, 1_000);
    assert_eq!(queries.reason(&bank.send_transfer(&holder.iban, &deposit)).await, "");
    let mut expected = vec![(deposit.id, "cash".to_owned(), 1_000, 1_000)];
    for (to, left) in [("cash", 900), ("BE68539007547034", 800), ("a shop", 700)] {
        let payment = bank.payment(&holder, to, 100);
        assert_eq!(queries.reason(&bank.send_transfer(&holder.username, &payment)).await, "");
        assert_eq!(queries.balance(&holder.iban).await, left);
        expected.push((payment.id, to.to_owned(), -100, left));
    }
    bank.assert_clean().await;
    for (id, from_to, changed_by, new_balance) in expected {
        let changes = bank.changes_of(id).await;
        assert_eq!(changes.len(), 1, "{from_to}");
        let change = &changes[0];
        let told = (&change.iban, &change.from_to, change.changed_by, change.new_balance);
        assert_eq!(told, (&holder.iban, &from_to, changed_by, new_balance));
    }
}

/// The company pays like everybody else, with its own token.
#[tokio::test(flavor = "multi_thread")]
async fn the_company_can_pay() {
    let bank = Bank::new("company-pays").await;
    let processor = bank.run().await;
    let holder = bank.holder(&processor, 2, 0).await;
    let company = Holder { username: COMPANY.to_owned(), iban: COMPANY.to_owned(), token: "0".repeat(20) };
    assert_eq!(processor.queries().reason(&bank.pay(&company, &holder.iban, 5_000)).await, "");
    assert_eq!(processor.queries().balance(COMPANY).await, 99_999_999_999_995_000);
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b06_the_commands_of_one_user_are_answered_in_their_order() {
    let bank = Bank::new("order").await;
    let processor = bank.run().await;
    let holder = bank.holder(&processor, 1, 0).await;
    let sent: Vec<_> = (1..=100).map(|amount| send_mixed(&bank, &holder, amount)).collect();
    assert!(sent.iter().all(|sent| sent.partition == 1), "one user, one partition");
    wait_for_all(&processor, &sent).await;
    bank.assert_clean().await;
    let answered: Vec<_> = bank.transfer_feedback().await.into_iter().map(|feedback| feedback.id).collect();
    let first = answered.len() - 100;
    let wanted: Vec<_> = sent.iter().map(|sent| sent.id).collect();
    assert_eq!(answered[first..], wanted);
}

/// Payments that leave the bank, every third refused: each is answered in its own transaction.
fn send_mixed(bank: &Bank, holder: &Holder, amount: i64) -> crate::support::Sent {
    let amount = if amount % 3 == 0 { -amount } else { amount };
    bank.pay(holder, "a shop", amount)
}

async fn wait_for_all(processor: &Processor, sent: &[crate::support::Sent]) {
    for sent in sent {
        processor.queries().outcome(sent).await;
    }
}
