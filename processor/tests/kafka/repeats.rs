//! Commands that come twice, late, in another order, or with another body under a known id.

use schemas::records::ConfirmMoneyTransfer;

use crate::support::{Answer, Bank};

#[tokio::test(flavor = "multi_thread")]
async fn f21_c14_a_repeated_command_has_the_same_answer_and_no_second_effect() {
    let bank = Bank::new("repeats").await;
    let mut processor = bank.run().await;
    let (near, far) = (bank.holder(&processor, 0, 1_000).await, bank.holder(&processor, 1, 0).await);
    let inside = bank.holder(&processor, 0, 0).await;
    let commands = [
        (bank.payment(&near, &inside.iban, 100), ""),
        (bank.payment(&near, &far.iban, 200), ""),
        (bank.payment(&near, &far.iban, 1_000_000), "insufficient funds"),
        (bank.payment(&near, "a shop", 300), ""),
        (ConfirmMoneyTransfer { token: "1".to_owned(), ..bank.payment(&near, "a shop", 1) }, "invalid token"),
    ];
    let mut times_sent = 0;
    for round in 0..4 {
        // In their order, in the opposite one, after a restart, and after the loss of the stores.
        let order: Vec<_> = if round == 1 { commands.iter().rev().collect() } else { commands.iter().collect() };
        if round >= 2 {
            processor.kill();
            if round == 3 {
                std::fs::remove_dir_all(processor.state_dir()).unwrap();
            }
            processor.restart().await;
        }
        let queries = processor.queries();
        for (command, reason) in order {
            let sent = bank.send_transfer(&near.username, command);
            assert_eq!(queries.reason(&sent).await, *reason, "round {round}");
        }
        times_sent += 1;
        bank.assert_clean().await;
        let balances = [&near, &inside, &far].map(|holder| holder.iban.clone());
        let mut cents = Vec::new();
        for iban in balances {
            cents.push(queries.balance(&iban).await);
        }
        assert_eq!(cents, [400, 100, 200], "round {round}");
    }
    let feedback = bank.transfer_feedback().await;
    for (command, reason) in &commands {
        let answers: Vec<_> = feedback.iter().filter(|one| one.id == command.id).map(|one| &one.answer).collect();
        assert_eq!(answers.len(), times_sent, "an answer each time");
        let expected = if reason.is_empty() { Answer::Moved } else { Answer::Refused((*reason).to_owned()) };
        assert!(answers.iter().all(|answer| **answer == expected), "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_a_flood_of_repeats_of_a_pending_transfer_moves_the_money_once() {
    let bank = Bank::new("flood").await;
    let processor = bank.run().await;
    let (from, to) = (bank.holder(&processor, 0, 1_000).await, bank.holder(&processor, 1, 0).await);
    let command = bank.payment(&from, &to.iban, 100);
    let all: Vec<_> = (0..50).map(|_| bank.send_transfer(&from.username, &command)).collect();
    assert_eq!(processor.queries().reason(all.last().unwrap()).await, "");
    bank.assert_clean().await;
    assert_eq!(processor.queries().balance(&from.iban).await, 900);
    assert_eq!(processor.queries().balance(&to.iban).await, 100);
    assert_eq!(bank.changes_of(command.id).await.len(), 2, "one debit, one credit");
    let answers = bank.transfer_feedback().await.into_iter().filter(|one| one.id == command.id);
    let answers: Vec<_> = answers.map(|one| one.answer).collect();
    assert!((1..=50).contains(&answers.len()), "{} answers", answers.len());
    assert!(answers.iter().all(|answer| *answer == Answer::Moved), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f21_another_body_under_a_known_id_is_a_conflict_and_changes_nothing() {
    let bank = Bank::new("conflicts").await;
    let mut processor = bank.run().await;
    let (from, to) = (bank.holder(&processor, 2, 1_000).await, bank.holder(&processor, 3, 0).await);
    let first = bank.payment(&from, &to.iban, 100);
    assert_eq!(processor.queries().reason(&bank.send_transfer(&from.username, &first)).await, "");
    let others = [
        ConfirmMoneyTransfer { amount: 101, ..first.clone() },
        ConfirmMoneyTransfer { to: "a shop".to_owned(), ..first.clone() },
        ConfirmMoneyTransfer { description: "another".to_owned(), ..first.clone() },
        ConfirmMoneyTransfer { token: "1".to_owned(), ..first.clone() },
    ];
    for restarted in [false, true] {
        if restarted {
            processor.kill();
            processor.restart().await;
        }
        for other in &others {
            let sent = bank.send_transfer(&from.username, other);
            assert_eq!(processor.queries().reason(&sent).await, "id was used for another transfer");
        }
        assert_eq!(processor.queries().reason(&bank.send_transfer(&from.username, &first)).await, "", "still its own");
    }
    bank.assert_clean().await;
    assert_eq!(processor.queries().balance(&from.iban).await, 900);
    assert_eq!(bank.changes_of(first.id).await.len(), 2);
    let answers = bank.transfer_feedback().await.into_iter().filter(|one| one.id == first.id);
    let conflicts = answers.filter(|one| one.answer == Answer::Refused("id was used for another transfer".to_owned()));
    assert_eq!(conflicts.count(), 2 * others.len(), "each of them is told, in the feedback too");
}
