//! Commands through Kafka: answers, repeats, two gateways, a processor that dies.

use crate::support::{Bank, PATIENCE, TRANSFER, balance, deposit, holder, log_in, payment, transfer};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn a_newcomer_logs_in_deposits_and_transfers_within_and_across_partitions() {
    let bank = Bank::open("newcomer").await;
    let api = bank.api();
    let payer = holder(&api, "somebody").await;
    assert_eq!(holder(&api, "somebody").await, payer, "the same account after another log-in");
    assert_eq!(
        log_in(&api, "somebody", "wrong horse").await,
        json!({ "iban": null, "token": null, "reason": "incorrect password" })
    );
    assert_eq!(log_in(&api, "NL66OPEN0000000000", "00000000").await["reason"], "incorrect password");

    let mut paid = Vec::new();
    for name in 0..6 {
        paid.push(holder(&api, &format!("receiver-{name}")).await);
    }
    let partitions: std::collections::HashSet<i32> =
        paid.iter().map(|holder| schemas::partition_of(holder.iban.as_bytes(), 12)).collect();
    assert!(partitions.len() > 1, "some transfers cross partitions");

    assert_eq!(transfer(&api, deposit(Uuid::now_v7(), &payer.iban, 100_000)).await["success"], true);
    for receiver in &paid {
        let uuid = Uuid::now_v7();
        let result = transfer(&api, payment(uuid, &payer, &receiver.iban, 1000)).await;
        assert_eq!(result, json!({ "uuid": uuid, "success": true, "reason": null }));
        assert_eq!(balance(&api, &receiver.iban).await, 1000, "whoever has the answer reads what it did");
    }
    assert_eq!(balance(&api, &payer.iban).await, 94_000);
    let refused = transfer(&api, payment(Uuid::now_v7(), &payer, &paid[0].iban, 144_001)).await;
    assert_eq!((&refused["success"], &refused["reason"]), (&json!(false), &json!("insufficient funds")));
}

#[tokio::test]
async fn a_repeated_uuid_has_one_effect_and_one_answer_through_either_gateway() {
    let bank = Bank::open("repeat").await;
    let second = bank.second_gateway().await;
    let (one, two) = (bank.api(), second.graphql());
    let payer = holder(&one, "somebody").await;
    assert_eq!(holder(&two, "somebody").await, payer);
    transfer(&one, deposit(Uuid::now_v7(), &payer.iban, 10_000)).await;

    let uuid = Uuid::now_v7();
    let body = payment(uuid, &payer, "shop", 100);
    let (a, b) = tokio::join!(transfer(&one, body.clone()), transfer(&two, body.clone()));
    assert_eq!((&a["success"], &a), (&json!(true), &b));
    assert_eq!(transfer(&two, body).await, a);
    assert_eq!(balance(&two, &payer.iban).await, 9900);

    let other = transfer(&two, payment(uuid, &payer, "shop", 200)).await;
    assert_eq!(other["reason"], "id was used for another transfer");
    let document = "query ($u: String!, $n: String) { transfer(uuid: $u, username: $n) { state } }";
    let outcome = two.data(document, json!({ "u": uuid, "n": "somebody" })).await.unwrap();
    assert_eq!(outcome["transfer"]["state"], "CONFIRMED");
}

#[tokio::test]
async fn two_first_log_ins_at_once_through_two_gateways_both_succeed() {
    let bank = Bank::open("firsts").await;
    let second = bank.second_gateway().await;
    let (one, two) = (bank.api(), second.graphql());
    for name in 0..5 {
        let username = format!("newcomer-{name}");
        let (a, b) = tokio::join!(holder(&one, &username), holder(&two, &username));
        assert_eq!(a, b);
    }
    assert_eq!(
        log_in(&two, "newcomer-0", "another password").await["reason"],
        "incorrect password",
        "the loser's password did not win"
    );
}

#[tokio::test]
async fn a_killed_processor_delays_answers_but_loses_none() {
    let mut bank = Bank::open("killed").await;
    let api = bank.api();
    let payer = holder(&api, "somebody").await;
    transfer(&api, deposit(Uuid::now_v7(), &payer.iban, 100_000)).await;
    let uuids: Vec<Uuid> = (0..20).map(|_| Uuid::now_v7()).collect();
    let asked =
        futures_util::future::join_all(uuids.iter().map(|uuid| api.post(TRANSFER, payment(*uuid, &payer, "shop", 10))));
    let restarted = async {
        bank.processor.kill9();
        bank.processor.start().unwrap();
        bank.processor.wait_ready(PATIENCE).await.unwrap();
    };
    let (answers, ()) = tokio::join!(asked, restarted);
    for (uuid, answer) in uuids.iter().zip(answers) {
        let (_, answer) = answer.unwrap();
        let code = &answer["errors"][0]["extensions"]["code"];
        assert!(answer["errors"] == Value::Null || code == "TIMED_OUT", "{answer}");
        // Whatever was said, the id gives the one answer.
        assert_eq!(transfer(&api, payment(*uuid, &payer, "shop", 10)).await["success"], true);
    }
    assert_eq!(balance(&api, &payer.iban).await, 100_000 - 200);
}

#[tokio::test]
async fn g19_a_command_whose_processor_stands_still_or_died_times_out_with_the_id_to_ask_again() {
    let mut bank = Bank::open("timed-out").await;
    let patient = bank.api();
    let payer = holder(&patient, "somebody").await;
    transfer(&patient, deposit(Uuid::now_v7(), &payer.iban, 10_000)).await;
    let mut gateway = bank.space.gateway("g2", &[]).env("KONTOR_COMMAND_TIMEOUT_MS", "1000").start().unwrap();
    gateway.wait_ready(PATIENCE).await.unwrap();
    let api = gateway.graphql();
    for (round, dies) in [(1, false), (2, true)] {
        let uuid = Uuid::now_v7();
        let order = payment(uuid, &payer, "shop", 100);
        if dies {
            bank.processor.kill9()
        } else {
            bank.processor.sigstop()
        }
        let (_, answer) = api.post(TRANSFER, order.clone()).await.unwrap();
        let error = &answer["errors"][0];
        assert_eq!((&answer["data"], &error["message"]), (&Value::Null, &json!("timed out")), "{answer}");
        assert_eq!(error["extensions"], json!({ "code": "TIMED_OUT", "id": uuid }), "{answer}");
        if dies {
            bank.processor.start().unwrap();
            bank.processor.wait_ready(PATIENCE).await.unwrap();
        } else {
            bank.processor.sigcont();
        }
        let result = transfer(&patient, order).await;
        assert_eq!(result, json!({ "uuid": uuid, "success": true, "reason": null }));
        assert_eq!(balance(&patient, &payer.iban).await, 10_000 - 100 * round, "paid once");
    }
}
