//! Queries and mutations against a bank of fakes: what the client sees of each operation.

use crate::fake::{Delivery, PARTITIONS, World, text, transfer_document};
use gateway::command::Command;
use gateway::live::cursor::Cursor;
use gateway::query::accounts::MOST_LAST;
use gateway::rows::partition_of_transaction;
use gateway::serve::Behaviour;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

fn impatient() -> Behaviour {
    Behaviour { command_timeout: Duration::from_millis(400), ..Behaviour::default() }
}

#[tokio::test]
async fn transaction_by_id_gives_the_row_or_null() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let id = world.bank.change_balance(&iban, 123_456, "cash", "first");
    let query = format!(
        "{{ transaction_by_id(id: {id}) {{ id iban new_balance changed_by from_to descr direction amount_cents balance_cents time transfer_id }} }}"
    );
    assert_eq!(
        world.data(&query).await["transaction_by_id"],
        json!({
            "id": id, "iban": iban, "new_balance": "€ 1.234,56", "changed_by": "€ 1.234,56", "from_to": "cash",
            "descr": "first", "direction": "CREDIT", "amount_cents": "123456", "balance_cents": "123456",
            "time": "2026-01-01T00:00:00.000Z", "transfer_id": null,
        })
    );
    for unknown in [0, 999_999, -1, i64::MAX] {
        let data = world.data(&format!("{{ transaction_by_id(id: {unknown}) {{ id }} }}")).await;
        assert_eq!(data["transaction_by_id"], Value::Null, "{unknown}");
    }
}

#[tokio::test]
async fn debits_show_the_absolute_amount_and_their_direction() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let id = world.bank.change_balance(&iban, -1050, "shop", "bread");
    let data = world
        .data(&format!("{{ transaction_by_id(id: {id}) {{ new_balance changed_by direction amount_cents }} }}"))
        .await;
    assert_eq!(
        data["transaction_by_id"],
        json!({ "new_balance": "€ -10,50", "changed_by": "€ 10,50", "direction": "DEBIT", "amount_cents": "-1050" })
    );
}

#[tokio::test]
async fn transactions_by_iban_are_newest_first_and_at_most_max_items() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    for cents in 1..=7 {
        world.bank.change_balance(&iban, cents, "cash", "");
    }
    for (max_items, wanted) in [(3, vec!["7", "6", "5"]), (7, vec!["7", "6", "5", "4", "3", "2", "1"]), (0, vec![])] {
        let query = format!("{{ transactions_by_iban(iban: \"{iban}\", max_items: {max_items}) {{ amount_cents }} }}");
        let data = world.data(&query).await;
        let found: Vec<String> =
            data["transactions_by_iban"].as_array().unwrap().iter().map(|row| text(&row["amount_cents"])).collect();
        assert_eq!(found, wanted);
    }
    let data = world.data("{ transactions_by_iban(iban: \"nobody\", max_items: 1000000) { id } }").await;
    assert_eq!(data["transactions_by_iban"], json!([]));
}

#[tokio::test]
async fn all_last_transactions_has_one_row_per_account_with_history_ordered_by_iban() {
    let world = World::new().await;
    let mut ibans = Vec::new();
    for name in 0..12 {
        let (iban, _) = world.open(&format!("somebody-{name}")).await;
        for cents in 1..=name % 3 {
            world.bank.change_balance(&iban, cents, "cash", "");
        }
        if name % 3 > 0 {
            ibans.push((iban, (name % 3).to_string()));
        }
    }
    ibans.sort();
    let data = world.data("{ all_last_transactions { iban amount_cents } }").await;
    let found: Vec<(String, String)> = data["all_last_transactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (text(&row["iban"]), text(&row["amount_cents"])))
        .collect();
    assert_eq!(found, ibans);
}

#[tokio::test]
async fn all_last_transactions_of_more_accounts_than_one_answer_holds_is_an_error_and_not_a_part() {
    let world = World::new().await;
    let with_history = |number: usize| {
        let iban = format!("NL00OPEN0{number:09}");
        world.bank.put_account(&iban, 0);
        world.bank.change_balance(&iban, 1, "cash", "");
    };
    (0..MOST_LAST).for_each(with_history);
    let data = world.data("{ all_last_transactions { iban } }").await;
    assert_eq!(data["all_last_transactions"].as_array().unwrap().len(), MOST_LAST, "all that one answer may hold");
    with_history(MOST_LAST);
    let response = world.execute("{ all_last_transactions { iban } }").await;
    let error = &response["errors"][0];
    assert_eq!((&response["data"], &error["extensions"]), (&Value::Null, &json!({ "code": "TOO_MANY_ROWS" })));
    for named in ["10000", "`accounts`", "`transactions`", "`stream_transactions`"] {
        assert!(text(&error["message"]).contains(named), "{named}: {error}");
    }
}

#[tokio::test]
async fn get_account_creates_then_logs_in_with_the_same_iban_and_token() {
    let world = World::new().await;
    let created = world.open("somebody").await;
    assert_eq!(world.open("somebody").await, created);
    assert_eq!(world.commands.sent.lock().len(), 1, "the second log-in sends nothing");
    let (iban, token) = created;
    let query =
        r#"mutation { get_account(username: "somebody", password: "correct horse") { iban token reason session } }"#;
    let result = world.data(query).await["get_account"].clone();
    assert_eq!(result, json!({ "iban": iban, "token": token, "reason": null, "session": null }));
}

#[tokio::test]
async fn a_wrong_password_gives_the_reason_and_nothing_else() {
    let world = World::new().await;
    world.open("somebody").await;
    let query = r#"mutation { get_account(username: "somebody", password: "wrong horse") { iban token reason } }"#;
    let result = world.data(query).await["get_account"].clone();
    assert_eq!(result, json!({ "iban": null, "token": null, "reason": "incorrect password" }));
}

#[tokio::test]
async fn a_user_without_a_password_cannot_log_in() {
    let world = World::new().await;
    world.bank.put_account("NL66OPEN0000000000", 100);
    let query =
        r#"mutation { get_account(username: "NL66OPEN0000000000", password: "00000000") { iban token reason } }"#;
    let result = world.data(query).await["get_account"].clone();
    assert_eq!(result, json!({ "iban": null, "token": null, "reason": "incorrect password" }));
}

#[tokio::test]
async fn passwords_are_sent_and_stored_as_salted_slow_hashes_only() {
    let world = World::new().await;
    world.open("somebody").await;
    world.open("another1").await;
    let hashes: Vec<String> =
        ["somebody", "another1"].iter().map(|name| world.bank.user(name).unwrap().password_hash.unwrap()).collect();
    assert_ne!(hashes[0], hashes[1], "the same password, another salt");
    for hash in hashes {
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && !hash.contains("correct horse"), "{hash}");
    }
    for (_, _, command) in world.commands.sent.lock().iter() {
        assert!(!format!("{command:?}").contains("correct horse"));
    }
}

#[tokio::test]
async fn after_a_failed_creation_the_name_is_free() {
    let world = World::new().await;
    world.bank.refuse_next_creation("generated iban already exists, try again");
    let query = r#"mutation { get_account(username: "somebody", password: "correct horse") { iban token reason } }"#;
    let result = world.data(query).await["get_account"].clone();
    assert_eq!(result["reason"], "generated iban already exists, try again");
    world.open("somebody").await;
}

#[tokio::test]
async fn two_first_log_ins_at_once_both_succeed() {
    let world = World::new().await;
    let other = World::beside(world.bank.clone(), Behaviour::default()).await;
    for round in 0..5 {
        let name = format!("somebody-{round}");
        let (one, two) = tokio::join!(world.open(&name), other.open(&name));
        assert_eq!(one, two);
    }
}

#[tokio::test]
async fn names_and_passwords_that_are_too_short_or_long_are_refused_with_a_reason() {
    let world = World::new().await;
    let long = "p".repeat(129);
    for (username, password) in [("short", "correct horse"), ("somebody", "short"), ("somebody", long.as_str())] {
        let query =
            format!(r#"mutation {{ get_account(username: "{username}", password: "{password}") {{ iban reason }} }}"#);
        let result = world.data(&query).await["get_account"].clone();
        assert!(text(&result["reason"]).contains("must have"), "{result}");
    }
    assert!(world.commands.sent.lock().is_empty());
}

#[tokio::test]
async fn a_transfer_gives_exactly_one_result_and_moves_the_money() {
    let world = World::new().await;
    let (one, token) = world.open("somebody").await;
    let (two, _) = world.open("another1").await;
    world.deposit(&one, 10_000, "salary").await;
    let uuid = Uuid::now_v7().to_string();
    let result = world.data(&transfer_document(&uuid, &token, &one, &two, 2500, "rent")).await;
    assert_eq!(result["money_transfer"], json!({ "uuid": uuid, "success": true, "reason": null }));
    assert_eq!(world.bank.account(&one).unwrap().balance, 7500);
    assert_eq!(world.bank.account(&two).unwrap().balance, 2500);

    let refused = world.transfer(&token, &one, &two, 100_000, "too much").await;
    assert_eq!((&refused["success"], &refused["reason"]), (&json!(false), &json!("insufficient funds")));
}

#[tokio::test]
async fn repeating_a_uuid_gives_the_earlier_result_and_another_body_is_refused() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let uuid = Uuid::now_v7().to_string();
    let document = transfer_document(&uuid, "cash", "cash", &iban, 1000, "once");
    let first = world.data(&document).await;
    assert_eq!(world.data(&document).await, first);
    assert_eq!(world.bank.transactions(), 1);

    let other = world.data(&transfer_document(&uuid, "cash", "cash", &iban, 2000, "once")).await;
    assert_eq!(other["money_transfer"]["reason"], "id was used for another transfer");
    assert_eq!(world.bank.account(&iban).unwrap().balance, 1000);
}

#[tokio::test]
async fn a_malformed_uuid_is_answered_at_once() {
    let world = World::new().await;
    let started = Instant::now();
    let response = world.execute(&transfer_document("not-a-uuid", "cash", "cash", "x", 1, "")).await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "BAD_INPUT", "{response}");
    assert!(text(&response["errors"][0]["message"]).contains("not-a-uuid"));
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(world.commands.sent.lock().is_empty());
}

#[tokio::test]
async fn the_key_of_a_transfer_is_the_username_or_the_payer_and_of_a_deposit_the_receiver() {
    let world = World::new().await;
    let (iban, token) = world.open("somebody").await;
    world.deposit(&iban, 100, "").await;
    world.transfer(&token, &iban, "shop", 1, "").await;
    let uuid = Uuid::now_v7();
    world
        .data(&format!(
            r#"mutation {{ money_transfer(uuid: "{uuid}", token: "{token}", from: "{iban}", to: "shop", descr: "", amount: 1, username: "somebody") {{ success }} }}"#
        ))
        .await;
    let sent = world.commands.sent.lock();
    let keys: Vec<&str> =
        sent.iter().filter(|(_, _, c)| matches!(c, Command::Transfer(_))).map(|(key, ..)| key.as_str()).collect();
    assert_eq!(keys, [iban.as_str(), iban.as_str(), "somebody"]);
    for (key, partition, _) in sent.iter() {
        assert_eq!(*partition, world.bank.partition_of(key));
    }
}

#[tokio::test]
async fn a_command_without_an_answer_times_out_with_the_id_to_ask_again() {
    let world = World::with(impatient()).await;
    let uuid = Uuid::now_v7().to_string();
    world.bank.put_account("NL66OPEN0000000000", 0);
    let document = transfer_document(&uuid, "cash", "cash", "NL66OPEN0000000000", 5, "");
    world.deliver(Delivery::Lost);
    let response = world.execute(&document).await;
    assert_eq!(response["errors"][0]["message"], "timed out");
    assert_eq!(response["errors"][0]["extensions"], json!({ "code": "TIMED_OUT", "id": uuid }));
    assert_eq!(response["data"], Value::Null);

    world.deliver(Delivery::Works);
    assert_eq!(world.data(&document).await["money_transfer"]["success"], true, "asking again with the id");
    let state = world
        .data(&format!(r#"{{ transfer(uuid: "{uuid}", iban: "NL66OPEN0000000000") {{ uuid state reason }} }}"#))
        .await;
    assert_eq!(state["transfer"], json!({ "uuid": uuid, "state": "CONFIRMED", "reason": null }));
}

#[tokio::test]
async fn what_was_never_sent_is_unavailable_and_said_within_two_seconds() {
    let world = World::new().await;
    world.deliver(Delivery::NotSent);
    let started = Instant::now();
    let uuid = Uuid::now_v7().to_string();
    let response = world.execute(&transfer_document(&uuid, "cash", "cash", "x", 5, "")).await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    assert!(started.elapsed() < Duration::from_secs(2));
    let login = r#"mutation { get_account(username: "somebody", password: "correct horse") { iban } }"#;
    assert_eq!(world.execute(login).await["errors"][0]["extensions"]["code"], "UNAVAILABLE");
}

#[tokio::test]
async fn what_still_waits_to_be_sent_at_the_deadline_is_unavailable_and_not_timed_out() {
    let world = World::with(impatient()).await;
    world.bank.put_account("NL66OPEN0000000000", 0);
    let late =
        World::beside(world.bank.clone(), Behaviour { command_timeout: Duration::ZERO, ..Behaviour::default() }).await;
    world.deliver(Delivery::Waits);
    for gateway in [&world, &late] {
        let uuid = Uuid::now_v7().to_string();
        let response = gateway.execute(&transfer_document(&uuid, "cash", "cash", "NL66OPEN0000000000", 5, "")).await;
        assert_eq!(response["errors"][0]["extensions"], json!({ "code": "UNAVAILABLE" }), "{response}");
        assert!(gateway.commands.sent.lock().is_empty());
    }
}

#[tokio::test]
async fn a_log_in_that_came_second_and_cannot_look_the_user_up_is_unavailable() {
    let world = World::new().await;
    world.deliver(Delivery::Lost);
    world.bank.refuse_next_creation("username already exists");
    let query = r#"mutation { get_account(username: "somebody", password: "correct horse") { iban } }"#;
    let decide = async {
        world.until_sent(1).await;
        world.bank.refuse_reads(|| tonic::Status::deadline_exceeded("late"));
        let (_, partition, command) = world.commands.sent.lock()[0].clone();
        world.bank.process(partition, &command);
    };
    let (response, ()) = tokio::join!(world.execute(query), decide);
    assert_eq!(response["errors"][0]["extensions"], json!({ "code": "UNAVAILABLE" }), "{response}");
}

#[tokio::test]
async fn an_unclear_delivery_is_never_called_unavailable() {
    let world = World::with(impatient()).await;
    world.bank.put_account("NL66OPEN0000000000", 0);
    world.deliver(Delivery::UnknownButWorks);
    let result = world.transfer("cash", "cash", "NL66OPEN0000000000", 5, "").await;
    assert_eq!(result["success"], true, "the answer came although the delivery was unclear");
}

#[tokio::test]
async fn an_answer_survives_a_processor_that_restarts() {
    let world = World::new().await;
    world.bank.put_account("NL66OPEN0000000000", 0);
    world.bank.kill();
    let bank = world.bank.clone();
    let (result, ()) = tokio::join!(world.transfer("cash", "cash", "NL66OPEN0000000000", 5, ""), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bank.restart().await;
    });
    assert_eq!(result["success"], true);
}

#[tokio::test]
async fn queries_of_a_partition_that_is_not_served_say_so_in_time() {
    let behaviour = Behaviour { query_timeout: Duration::from_millis(300), ..Behaviour::default() };
    let world = World::with(behaviour).await;
    world.bank.say_state("restoring");
    let response = world.execute("{ account(iban: \"x\") { iban } }").await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    assert!(text(&response["errors"][0]["message"]).contains("restoring"));
}

#[tokio::test]
async fn an_account_shows_balance_limit_and_what_is_available() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    world.deposit(&iban, 10_000, "").await;
    let query = format!(
        "{{ account(iban: \"{iban}\") {{ iban balance available limit balance_cents available_cents limit_cents reserved_cents }} }}"
    );
    assert_eq!(
        world.data(&query).await["account"],
        json!({
            "iban": iban, "balance": "€ 100,00", "available": "€ 600,00", "limit": "€ -500,00",
            "balance_cents": "10000", "available_cents": "60000", "limit_cents": "-50000", "reserved_cents": "0",
        })
    );
    assert_eq!(world.data("{ account(iban: \"nobody\") { iban } }").await["account"], Value::Null);
}

#[tokio::test]
async fn accounts_come_in_pages_ordered_by_iban() {
    let world = World::new().await;
    let mut ibans: Vec<String> = (0..25).map(|n| format!("NL00OPEN0{n:09}")).collect();
    ibans.iter().rev().for_each(|iban| world.bank.put_account(iban, 1));
    ibans.sort();
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let query =
            format!("{{ accounts(first: 10{after}) {{ nodes {{ iban }} page_info {{ has_next_page end_cursor }} }} }}");
        let page = world.data(&query).await["accounts"].clone();
        found.extend(page["nodes"].as_array().unwrap().iter().map(|node| text(&node["iban"])));
        if page["page_info"]["has_next_page"] == false {
            break;
        }
        after = format!(", after: \"{}\"", text(&page["page_info"]["end_cursor"]));
    }
    assert_eq!(found, ibans);
    let response = world.execute("{ accounts(first: 101) { nodes { iban } } }").await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "BAD_INPUT");
}

#[tokio::test]
async fn transactions_come_in_pages_and_filters_and_together() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    for n in 1..=30 {
        let sign = if n % 2 == 0 { -1 } else { 1 };
        world.bank.change_balance(&iban, sign * n, "cash", if n % 3 == 0 { "Huur" } else { "brood" });
    }
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let query = format!(
            "{{ transactions(iban: \"{iban}\", first: 2, direction: DEBIT, min_amount: 6, max_amount: 24, descr_includes: \"HUUR\"{after}) {{ nodes {{ amount_cents }} page_info {{ has_next_page end_cursor }} }} }}"
        );
        let page = world.data(&query).await["transactions"].clone();
        found.extend(page["nodes"].as_array().unwrap().iter().map(|node| text(&node["amount_cents"])));
        if page["page_info"]["has_next_page"] == false {
            break;
        }
        after = format!(", after: \"{}\"", text(&page["page_info"]["end_cursor"]));
    }
    assert_eq!(found, ["-24", "-18", "-12", "-6"]);
    let here = Some(world.bank.partition_of(&iban));
    let elsewhere = (0..4).rfind(|id| partition_of_transaction(*id, PARTITIONS) != here).unwrap();
    let of_another = Cursor::Account { transaction_id: elsewhere, sequence: 9 }.encode();
    for after in ["junk", of_another.as_str()] {
        let query = format!("{{ transactions(iban: \"{iban}\", after: \"{after}\") {{ nodes {{ id }} }} }}");
        assert_eq!(world.execute(&query).await["errors"][0]["extensions"]["code"], "BAD_INPUT", "{after}");
    }
}

#[tokio::test]
async fn a_filter_that_accepts_little_costs_few_calls_and_skips_nothing() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    // More than one call gives; the wanted ones are the oldest and lie in one call.
    for n in 1..=700 {
        world.bank.change_balance(&iban, n, "cash", if n <= 3 { "rare" } else { "" });
    }
    let mut found = Vec::new();
    let mut after = String::new();
    let before = world.bank.calls();
    for _ in 0..3 {
        let query = format!(
            "{{ transactions(iban: \"{iban}\", first: 1, descr_includes: \"rare\"{after}) {{ nodes {{ amount_cents }} page_info {{ has_next_page end_cursor }} }} }}"
        );
        let page = world.data(&query).await["transactions"].clone();
        found.push(text(&page["nodes"][0]["amount_cents"]));
        assert_eq!(page["page_info"]["has_next_page"], found.len() < 3, "{page}");
        after = format!(", after: \"{}\"", text(&page["page_info"]["end_cursor"]));
    }
    assert_eq!(found, ["3", "2", "1"]);
    assert!(world.bank.calls() - before <= 4, "{} calls", world.bank.calls() - before);
}

#[tokio::test]
async fn without_a_broker_a_log_in_is_refused_in_time() {
    let world = World::new().await;
    world.deliver(Delivery::NotSent);
    world.bank.refuse(|| tonic::Status::unavailable("the lease has run out"));
    let began = Instant::now();
    let query = r#"mutation { get_account(username: "somebody", password: "correct horse") { iban } }"#;
    let response = world.execute(query).await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{response}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_log_in_whose_user_nobody_looks_up_in_time_is_unavailable_and_not_timed_out_without_an_id() {
    let world = World::with(impatient()).await;
    world.bank.put_account("somebody", 0);
    world.bank.freeze();
    for username in ["somebody", "newcomer"] {
        let query =
            format!(r#"mutation {{ get_account(username: "{username}", password: "correct horse") {{ iban }} }}"#);
        let response = world.execute(&query).await;
        assert_eq!(response["errors"][0]["extensions"], json!({ "code": "UNAVAILABLE" }), "{response}");
    }
    assert!(world.commands.sent.lock().is_empty());
}

#[tokio::test]
async fn a_transfer_is_looked_up_by_uuid_and_key() {
    let world = World::new().await;
    let uuid = Uuid::now_v7();
    let unknown = world.data(&format!(r#"{{ transfer(uuid: "{uuid}", username: "somebody") {{ state }} }}"#)).await;
    assert_eq!(unknown["transfer"], Value::Null);
    let response = world.execute(&format!(r#"{{ transfer(uuid: "{uuid}") {{ state }} }}"#)).await;
    assert_eq!(response["errors"][0]["extensions"]["code"], "BAD_INPUT");
    let (iban, token) = world.open("somebody").await;
    world.data(&transfer_document(&uuid.to_string(), &token, &iban, "shop", 900_000, "")).await;
    let refused = world.data(&format!(r#"{{ transfer(uuid: "{uuid}", iban: "{iban}") {{ state reason }} }}"#)).await;
    assert_eq!(refused["transfer"], json!({ "state": "FAILED", "reason": "insufficient funds" }));
}

/// A name whose partition is not that of the account.
fn name_away_from(world: &World, iban: &str) -> String {
    let away = |name: &String| world.bank.partition_of(name) != world.bank.partition_of(iban);
    (0..).map(|n| format!("elsewhere-{n}")).find(away).unwrap()
}

#[tokio::test]
async fn who_gives_username_and_iban_finds_a_deposit_and_a_payment_alike() {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let username = name_away_from(&world, &iban);
    for (from, to) in [("cash", iban.as_str()), (iban.as_str(), "shop")] {
        let uuid = Uuid::now_v7();
        let document = format!(
            r#"mutation {{ money_transfer(uuid: "{uuid}", token: "cash", from: "{from}", to: "{to}", descr: "", amount: 5, username: "{username}") {{ success }} }}"#
        );
        world.data(&document).await;
        let state = async |arguments: String| {
            let found = world.data(&format!(r#"{{ transfer(uuid: "{uuid}", {arguments}) {{ state }} }}"#)).await;
            found["transfer"]["state"].clone()
        };
        assert_eq!(state(format!(r#"iban: "{iban}", username: "{username}""#)).await, "CONFIRMED", "from {from}");
        let (by_iban, by_username) =
            (state(format!(r#"iban: "{iban}""#)).await, state(format!(r#"username: "{username}""#)).await);
        let wanted = if from == "cash" { (json!("CONFIRMED"), Value::Null) } else { (Value::Null, json!("CONFIRMED")) };
        assert_eq!((by_iban, by_username), wanted, "from {from}");
    }
}

#[tokio::test]
async fn feedback_reaches_the_client_whichever_gateway_it_uses() {
    let one = World::new().await;
    let two = World::beside(one.bank.clone(), Behaviour::default()).await;
    let (iban, token) = one.open("somebody").await;
    assert_eq!(two.open("somebody").await, (iban.clone(), token.clone()));
    let (a, b) = tokio::join!(
        one.transfer(&token, &iban, "shop", 10, "through one"),
        two.transfer(&token, &iban, "shop", 20, "through two")
    );
    assert_eq!((&a["success"], &b["success"]), (&json!(true), &json!(true)));
    assert_eq!(one.bank.account(&iban).unwrap().balance, -30);
}
