//! A gateway beside the processors, for what their clients see of a fault.

use kontor_compose::testing::{Service, ServiceBuilder};
use schemas::records::Uuid;
use serde_json::{Value, json};

use super::{Bank, Holder, READY};

const TRANSFER: &str = "mutation ($uuid: String!, $token: String!, $amount: Int!, $from: String!, $to: String!, $username: String) { money_transfer(uuid: $uuid, token: $token, amount: $amount, from: $from, to: $to, descr: \"\", username: $username) { success reason } }";
const BALANCE: &str = "query ($iban: String!) { account(iban: $iban) { balance_cents } }";

/// See the module. It finds the processors by the control topic.
pub struct Gateway {
    service: Service,
}

/// What a client is told of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The money has moved.
    Moved,
    /// The bank says no.
    Refused(String),
    /// No answer of the bank: the code of the error.
    Problem(String),
}

impl Gateway {
    /// A gateway that is ready.
    pub async fn start(bank: &Bank, settings: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Gateway {
        let builder = bank.space.gateway("g1", &[]).env("NO_COLOR", "1");
        let mut service = settings(builder).start().unwrap();
        service.wait_ready(READY).await.unwrap();
        Gateway { service }
    }

    /// A payment out of the account of `from`; the same id again is the same payment.
    pub async fn pay(&self, id: Uuid, from: &Holder, to: &str, amount: i64) -> Told {
        let uuid = uuid::Uuid::from(id).to_string();
        let (token, iban, username) = (&from.token, &from.iban, &from.username);
        let variables =
            json!({ "uuid": uuid, "token": token, "amount": amount, "from": iban, "to": to, "username": username });
        let (_, answer) = self.service.graphql().post(TRANSFER, variables).await.unwrap();
        let result = &answer["data"]["money_transfer"];
        match (code(&answer), &result["success"]) {
            (Some(code), _) => Told::Problem(code),
            (None, Value::Bool(true)) => Told::Moved,
            (None, Value::Bool(false)) => Told::Refused(result["reason"].as_str().unwrap_or_default().to_owned()),
            _ => panic!("{answer}"),
        }
    }

    /// Asks with the same id until the bank has answered.
    pub async fn surely_pay(&self, id: Uuid, from: &Holder, to: &str, amount: i64) -> Told {
        let answered = || async {
            let told = self.pay(id, from, to, amount).await;
            (!matches!(told, Told::Problem(_))).then_some(told)
        };
        kontor_compose::eventually_some(super::DEADLINE, "the bank answers through the gateway", answered)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.service.log_text()))
    }

    /// Balance in cents of an account that exists, or the code of the error.
    pub async fn balance(&self, iban: &str) -> Result<i64, String> {
        let (_, answer) = self.service.graphql().post(BALANCE, json!({ "iban": iban })).await.unwrap();
        match code(&answer) {
            Some(code) => Err(code),
            None => Ok(answer["data"]["account"]["balance_cents"].as_str().unwrap().parse().unwrap()),
        }
    }

    /// Status of a GET on its HTTP address.
    pub async fn status(&self, path: &str) -> u16 {
        self.service.get(path).await.map_or(0, |(status, _)| status)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.service.pid().unwrap()
    }
}

fn code(answer: &Value) -> Option<String> {
    let first = answer["errors"].as_array()?.first()?;
    Some(first["extensions"]["code"].as_str().unwrap_or("no code").to_owned())
}
