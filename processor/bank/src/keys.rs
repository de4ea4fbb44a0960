//! Which rows an input needs. The processor loads them before it calls the rules; the rules never fetch.

use crate::{AccountCreation, CommandId, Context, Iban, Input, Transfer, candidates};

/// Keys of the rows to load; rows that do not exist are left out of the state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys {
    /// Key in the table of outcomes.
    pub outcome: Option<CommandId>,
    /// Key in the table of users.
    pub user: Option<String>,
    /// Keys in the table of accounts.
    pub accounts: Vec<Iban>,
}

/// The rows that [`crate::decide`] needs for `input`, all in the task's own partition.
pub fn keys_of(input: &Input, ctx: &Context<'_>) -> Keys {
    match input {
        Input::AccountCreation(command) => of_account_creation(command, ctx),
        Input::Transfer(command) => of_transfer(command, ctx),
        Input::CreditRequested(request) => Keys { accounts: vec![request.to], ..Keys::default() },
        Input::CreditSettled(answer) => {
            Keys { outcome: Some(answer.id), accounts: vec![answer.from], ..Keys::default() }
        }
    }
}

fn of_account_creation(command: &AccountCreation, ctx: &Context<'_>) -> Keys {
    Keys {
        outcome: Some(command.id),
        user: Some(command.username.clone()),
        accounts: candidates(command.id, ctx).collect(),
    }
}

/// No user: an account names its owner, so the row of `from` is enough to tell whose it is.
fn of_transfer(command: &Transfer, ctx: &Context<'_>) -> Keys {
    let here = |text: &str| Iban::parse(text).filter(|_| ctx.owns(text));
    let accounts = [here(&command.from), here(&command.to)].into_iter().flatten().collect();
    Keys { outcome: Some(command.id), user: None, accounts }
}
