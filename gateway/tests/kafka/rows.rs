//! Rows as queries show them, and commands as the predecessors' clients give them: as subscriptions that answer once.

use crate::socket::Client;
use crate::support::{Bank, Holder, PASSWORD, TRANSFER, address, balance, deposit, holder, holder_in, pay, payment};
use kontor_compose::testing::GraphQl;
use serde_json::{Value, json};
use std::net::SocketAddr;
use uuid::Uuid;

pub const TRANSPORT: &str = "graphql-transport-ws";
pub const LEGACY: &str = "graphql-ws";
/// What queries show of a transaction.
const ROW: &str = "id iban new_balance changed_by from_to descr direction amount_cents transfer_id";

async fn history(api: &GraphQl, holder: &Holder, max_items: i64) -> Vec<Value> {
    let document =
        format!("query ($i: String!, $n: Int!) {{ transactions_by_iban(iban: $i, max_items: $n) {{ {ROW} }} }}");
    let data = api.data(&document, json!({ "i": holder.iban, "n": max_items })).await.unwrap();
    data["transactions_by_iban"].as_array().unwrap().clone()
}

async fn by_id(api: &GraphQl, id: &Value) -> Value {
    let document = format!("query ($id: Int!) {{ transaction_by_id(id: $id) {{ {ROW} }} }}");
    api.data(&document, json!({ "id": id })).await.unwrap()["transaction_by_id"].clone()
}

#[tokio::test]
async fn g01_g02_g03_g20_queries_give_rows_by_id_by_account_and_the_last_of_each_in_dutch_euros() {
    let bank = Bank::open("rows").await;
    let api = bank.api();
    let [payer, payee, saver] = [holder_in(&api, 9).await, holder_in(&api, 1).await, holder_in(&api, 5).await];
    holder_in(&api, 3).await;
    // The last change of each is by a command of its own, so that whoever has the answers reads them all.
    pay(&api, deposit(Uuid::now_v7(), &payer.iban, 123_456), "salaris").await;
    let rent = Uuid::now_v7();
    pay(&api, payment(rent, &payer, &payee.iban, 130_001), "huur").await;
    pay(&api, deposit(Uuid::now_v7(), &saver.iban, 99), "spaarpot").await;
    pay(&api, payment(Uuid::now_v7(), &payee, &saver.iban, 1), "cent").await;
    pay(&api, deposit(Uuid::now_v7(), &saver.iban, 100_000_000), "erfenis").await;

    let mut last = Vec::new();
    for (holder, wanted) in [
        (&payer, vec![["huur", "€ 1.300,01", "DEBIT", "€ -65,45"], ["salaris", "€ 1.234,56", "CREDIT", "€ 1.234,56"]]),
        (&payee, vec![["cent", "€ 0,01", "DEBIT", "€ 1.300,00"], ["huur", "€ 1.300,01", "CREDIT", "€ 1.300,01"]]),
        (
            &saver,
            vec![
                ["erfenis", "€ 1.000.000,00", "CREDIT", "€ 1.000.001,00"],
                ["cent", "€ 0,01", "CREDIT", "€ 1,00"],
                ["spaarpot", "€ 0,99", "CREDIT", "€ 0,99"],
            ],
        ),
    ] {
        let rows = history(&api, holder, 250).await;
        let shown = |row: &Value| ["descr", "changed_by", "direction", "new_balance"].map(|name| row[name].clone());
        assert_eq!(rows.iter().map(shown).collect::<Vec<_>>(), wanted, "newest first");
        for most in 0..=wanted.len() {
            assert_eq!(history(&api, holder, most as i64).await, rows[..most], "at most {most}");
        }
        for row in &rows {
            assert_eq!(row["iban"], holder.iban);
            assert_eq!(by_id(&api, &row["id"]).await, *row);
        }
        last.push(rows[0].clone());
    }
    let debit = &last[0];
    assert_eq!((&debit["from_to"], &debit["amount_cents"]), (&json!(payee.iban), &json!("-130001")));
    assert_eq!(debit["transfer_id"], rent.to_string());
    // The next one of a partition, one of a partition without any, and what no transaction can have.
    let next = debit["id"].as_i64().unwrap() + 12;
    for unknown in [next, 12, 0, -1, i64::MAX] {
        assert_eq!(by_id(&api, &json!(unknown)).await, Value::Null, "{unknown}");
    }

    let data = api.data(&format!("{{ all_last_transactions {{ {ROW} }} }}"), json!({})).await.unwrap();
    last.sort_by_key(|row| row["iban"].as_str().unwrap().to_owned());
    assert_eq!(data["all_last_transactions"], json!(last), "one of each account that has any, ordered by iban");
}

/// One connection that asks one thing after the other.
struct Caller {
    client: Client,
    protocol: &'static str,
    asked: u32,
}

impl Caller {
    async fn connect(gateway: SocketAddr, protocol: &'static str) -> Self {
        Self { client: Client::introduced(gateway, protocol).await, protocol, asked: 0 }
    }

    /// The answer to an operation: exactly one, then its end. One too many would be heard by the next operation, which
    /// has another id.
    async fn ask(&mut self, document: &str) -> Value {
        self.asked += 1;
        let id = self.asked.to_string();
        let kind = if self.protocol == LEGACY {
            self.client.start(&id, document).await;
            "data"
        } else {
            self.client.subscribe(&id, document).await;
            "next"
        };
        let answer = self.client.expect(kind).await;
        assert_eq!((&answer["id"], &self.client.expect("complete").await["id"]), (&json!(id), &json!(id)));
        answer["payload"].clone()
    }

    async fn get_account(&mut self, username: &str, password: &str) -> Value {
        let document = format!(
            "subscription {{ get_account(username: \"{username}\", password: \"{password}\") {{ iban token reason session }} }}"
        );
        self.ask(&document).await["data"]["get_account"].clone()
    }

    /// The whole answer: it may be an error.
    async fn money_transfer(&mut self, uuid: &str, from: &Holder, amount: i64) -> Value {
        let Holder { username, iban, token } = from;
        let document = format!(
            "subscription {{ money_transfer(uuid: \"{uuid}\", token: \"{token}\", from: \"{iban}\", to: \"shop\", descr: \"brood\", amount: {amount}, username: \"{username}\") {{ uuid success reason }} }}"
        );
        self.ask(&document).await
    }
}

/// Created, logged in, refused.
async fn assert_log_ins(api: &GraphQl, caller: &mut Caller) {
    let username = format!("client-of-{}", caller.protocol);
    let created = caller.get_account(&username, PASSWORD).await;
    let (iban, token) = (created["iban"].as_str().unwrap(), created["token"].as_str().unwrap());
    assert_eq!(created, json!({ "iban": iban, "token": token, "reason": null, "session": null }));
    assert_eq!(balance(api, iban).await, 0, "the account is there");
    assert_eq!(caller.get_account(&username, PASSWORD).await, created);
    let refused = json!({ "iban": null, "token": null, "reason": "incorrect password", "session": null });
    assert_eq!(caller.get_account(&username, "wrong horse").await, refused);
}

/// Moved once, refused, malformed.
async fn assert_transfers(api: &GraphQl, caller: &mut Caller, payer: &Holder) {
    let before = balance(api, &payer.iban).await;
    let uuid = Uuid::now_v7().to_string();
    let result = json!({ "data": { "money_transfer": { "uuid": uuid, "success": true, "reason": null } } });
    assert_eq!(caller.money_transfer(&uuid, payer, 1000).await, result);
    assert_eq!(caller.money_transfer(&uuid, payer, 1000).await, result, "the same again, for the same uuid");

    let uuid = Uuid::now_v7().to_string();
    let refused = json!({ "uuid": uuid, "success": false, "reason": "insufficient funds" });
    let answer = caller.money_transfer(&uuid, payer, 1_000_000).await;
    assert_eq!(answer, json!({ "data": { "money_transfer": refused } }));

    assert_malformed(&caller.money_transfer("no-uuid", payer, 1000).await, "no-uuid");
    assert_eq!(balance(api, &payer.iban).await, before - 1000);
}

#[tokio::test]
async fn g11_g12_g13_g16_g18_log_ins_and_transfers_are_subscriptions_of_one_result_over_both_protocols() {
    let bank = Bank::open("subscribed").await;
    let api = bank.api();
    let payer = holder(&api, "somebody").await;
    pay(&api, deposit(Uuid::now_v7(), &payer.iban, 10_000), "storting").await;
    for protocol in [LEGACY, TRANSPORT] {
        let mut caller = Caller::connect(address(&bank.gateway), protocol).await;
        assert_log_ins(&api, &mut caller).await;
        assert_transfers(&api, &mut caller, &payer).await;
        assert_eq!(caller.ask("{ __typename }").await["data"]["__typename"], "Query", "nothing came after the end");
    }
    let malformed = json!({ "uuid": "no-uuid", "token": "cash", "amount": 1, "from": "cash", "to": payer.iban });
    let (status, answer) = api.post(TRANSFER, malformed).await.unwrap();
    assert_eq!(status, 200);
    assert_malformed(&answer, "no-uuid");
}

fn assert_malformed(answer: &Value, uuid: &str) {
    let error = &answer["errors"][0];
    assert_eq!((&answer["data"], &error["extensions"]["code"]), (&Value::Null, &json!("BAD_INPUT")), "{answer}");
    assert!(error["message"].as_str().unwrap().contains(uuid), "{answer}");
}
