//! The mutations, and what they share with the subscriptions of the same names.

use super::types::{AccountResult, MoneyTransferResult};
use super::{Bank, bank};
use crate::command::login::{Door, Login};
use crate::command::transfer::{Order, transfer};
use crate::problem::{Problem, coded};
use crate::query::read_token;
use async_graphql::{Context, Object, Result};

/// What can be commanded. Each answers once: the result, `TIMED_OUT` with the id to ask again, or `UNAVAILABLE` when
/// nothing was sent.
pub struct Mutation;

/// What can be commanded. Each answers once: the result, `TIMED_OUT` with the id to ask again, or `UNAVAILABLE` when
/// nothing was sent.
#[Object(name = "Mutation", rename_fields = "snake_case", rename_args = "snake_case")]
impl Mutation {
    /// Log in; a free username becomes a new account with this password.
    async fn get_account(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "At least 8 characters.")] username: String,
        #[graphql(desc = "At least 8 characters, at most 128 bytes.", secret)] password: String,
    ) -> Result<AccountResult> {
        get_account(bank(context)?, &username, &password).await.map_err(coded)
    }

    /// Move money. Repeating it with the same uuid gives the same answer and has no second effect. After
    /// `TIMED_OUT` either repeat it as it was, or ask `transfer` with its uuid, the iban that pays (of a deposit the one
    /// that is credited) and the username, if it had one.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the GraphQL field")]
    async fn money_transfer(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Identifier of the transfer, drawn by the client.")] uuid: String,
        #[graphql(desc = "Token of the account that pays; `cash` for a deposit.", secret)] token: String,
        #[graphql(desc = "Amount in cents.")] amount: i64,
        #[graphql(desc = "The account that pays, or `cash`.")] from: String,
        #[graphql(desc = "Who is paid: an account here, a foreign iban, a shop, or `cash`.")] to: String,
        #[graphql(desc = "Description, at most 140 characters.")] descr: String,
        #[graphql(desc = "Whose account pays; keeps all commands of a user in order.")] username: Option<String>,
    ) -> Result<MoneyTransferResult> {
        let order = Order { uuid, token, amount, from, to, description: descr, username };
        money_transfer(bank(context)?, order).await.map_err(coded)
    }
}

/// Log-in as a result of the schema.
pub(super) async fn get_account(bank: &Bank, username: &str, password: &str) -> Result<AccountResult, Problem> {
    let door = Door { commands: &*bank.commands, processors: &bank.processors, passwords: &bank.passwords };
    Ok(match door.get_account(username, password, bank.command_deadline()).await? {
        Login::Account { iban, token } => {
            AccountResult { iban: Some(iban), token: Some(token), ..AccountResult::default() }
        }
        Login::Refused(reason) => AccountResult { reason: Some(reason), ..AccountResult::default() },
    })
}

/// A transfer as a result of the schema.
pub(super) async fn money_transfer(bank: &Bank, order: Order) -> Result<MoneyTransferResult, Problem> {
    let settled = transfer(&*bank.commands, &bank.processors, &order, bank.command_deadline()).await?;
    let read_token = read_token::encode(&settled.tokens);
    Ok(MoneyTransferResult { uuid: order.uuid, success: settled.success, reason: settled.reason, read_token })
}
