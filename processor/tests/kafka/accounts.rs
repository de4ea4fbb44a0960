//! Opening accounts: what is opened, once, and what is refused.

use bank::Iban;
use schemas::partition_of;

use crate::support::{Answer, Bank, COMPANY, PARTITIONS};

#[tokio::test(flavor = "multi_thread")]
async fn c04_the_company_account_exists_before_the_first_client() {
    let bank = Bank::new("company").await;
    let processor = bank.run().await;
    let queries = processor.queries();
    let company = queries.account(COMPANY).await.unwrap();
    assert_eq!((company.balance, company.limit), (100_000_000_000_000_000, -50_000));
    assert_eq!(company.username, COMPANY);
    assert_eq!(queries.user(COMPANY).await.unwrap().ibans[0].token, "0".repeat(20));
    bank.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c01_c02_an_account_is_opened_once() {
    let bank = Bank::new("accounts").await;
    let processor = bank.run().await;
    let queries = processor.queries();
    for partition in 0..PARTITIONS {
        let command = bank.creation(&bank.name_in(partition));
        let opened = queries.outcome(&bank.send_creation(&command)).await;
        assert!(Iban::parse(&opened.iban).is_some(), "b09: {}", opened.iban);
        assert_eq!(partition_of(opened.iban.as_bytes(), PARTITIONS), partition, "an account lives with its owner");
        assert!(opened.token.len() == 20 && opened.token.bytes().all(|byte| byte.is_ascii_digit()), "b10");
        let account = queries.account(&opened.iban).await.unwrap();
        assert_eq!((account.balance, account.limit, account.reserved, account.sequence), (0, -50_000, 0, 0));
        let user = queries.user(&command.username).await.unwrap();
        assert_eq!(user.password_hash.as_deref(), Some("hash"));
        assert_eq!((user.ibans.len(), &user.ibans[0].iban, &user.ibans[0].token), (1, &opened.iban, &opened.token));

        let again = queries.outcome(&bank.send_creation(&command)).await;
        assert_eq!((again.iban, again.token), (opened.iban.clone(), opened.token.clone()));
        bank.assert_clean().await;
        // c15, b05: keyed like the command, and so in its partition.
        let feedback = bank.account_feedback().await.into_iter().filter(|feedback| feedback.id == command.id);
        let expected = Answer::Opened { iban: opened.iban, token: opened.token };
        let feedback: Vec<_> = feedback.collect();
        assert_eq!(feedback.len(), 2, "one answer for each time it was sent");
        for one in feedback {
            assert_eq!((&one.key, one.partition, &one.answer), (&command.username, partition, &expected));
        }
    }
    let accounts: Vec<_> = queries.rows().await.into_keys().filter(|(table, ..)| *table == "account").collect();
    assert_eq!(accounts.len(), PARTITIONS as usize + 1, "one for each, and the company's");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_refused_with_their_reason() {
    let bank = Bank::new("refused").await;
    let processor = bank.run().await;
    let queries = processor.queries();
    let holder = bank.holder(&processor, 1, 0).await;
    for (username, reason) in [
        (holder.username.as_str(), "username already exists"),
        ("cash", "username is not allowed"),
        (COMPANY, "username is not allowed"),
        ("NL83OPEN0104642752", "username is not allowed"),
    ] {
        let sent = bank.send_creation(&bank.creation(username));
        assert_eq!(queries.reason(&sent).await, reason, "{username}");
    }
    // Only the partition of the name can say that it is free.
    let mut stranger = bank.creation(&bank.name_in(2));
    let sent = bank.send_creation(&stranger);
    assert_eq!(queries.reason(&sent).await, "");
    stranger.username = bank.name_in(3);
    let (partition, _) = bank.send(&bank.name_in(2), &bank.encoded(&stranger));
    let fingerprint = schemas::fingerprint::account_creation(&stranger);
    let misplaced = crate::support::Sent { partition, fingerprint, ..sent.clone() };
    // The same id with another body: the answer is told apart from the first one's, in the words of the feedback.
    assert_eq!(queries.reason(&misplaced).await, "id was used for another command");
    bank.assert_clean().await;
    let answers = bank.account_feedback().await.into_iter().filter(|feedback| feedback.id == stranger.id);
    let answers: Vec<_> = answers.map(|feedback| feedback.answer).collect();
    assert!(matches!(answers[0], Answer::Opened { .. }));
    assert_eq!(answers[1], Answer::Refused("id was used for another command".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn c03_without_a_free_iban_nothing_is_opened_and_the_name_stays_free() {
    let bank = Bank::new("collision").await;
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_IBAN_DRAWS_MAX", "0"));
    processor.ready().await;
    let failed = bank.creation(&bank.name_in(0));
    let reason = processor.queries().reason(&bank.send_creation(&failed)).await;
    assert_eq!(reason, "generated iban already exists, try again");
    assert_eq!(processor.queries().user(&failed.username).await, None);
    processor.kill();

    let processor = bank.run().await;
    let queries = processor.queries();
    assert_eq!(queries.reason(&bank.send_creation(&failed)).await, reason, "the same id has the same answer");
    let opened = queries.outcome(&bank.send_creation(&bank.creation(&failed.username))).await;
    assert_eq!(opened.reason, "");
    assert_eq!(queries.user(&failed.username).await.unwrap().ibans[0].iban, opened.iban);
    bank.assert_clean().await;
}
