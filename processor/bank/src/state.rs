//! The rows that an input names, and how events change them.
//!
//! `evolve` is the only place where a row changes. Events carry results, not differences, so nothing is computed here
//! and nothing can be refused here; an event about an account that was not loaded is a defect and is said.

use crate::{Account, BrokenState, Cents, Event, Iban, Outcome, User};

/// The rows of one decision: those of [`crate::keys_of`] that exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Outcome of the command's id.
    pub outcome: Option<Outcome>,
    /// User of the command's name.
    pub user: Option<User>,
    /// The accounts, in any order.
    pub accounts: Vec<Account>,
}

/// One row to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// Table of accounts, by iban.
    Account(Account),
    /// Table of users, by username.
    User(User),
    /// Table of outcomes, by command id.
    Outcome(Outcome),
}

impl State {
    /// The account, if it is among the rows.
    pub fn account(&self, iban: &Iban) -> Option<&Account> {
        self.accounts.iter().find(|account| account.iban == *iban)
    }

    /// The rows that are not as they were: what has to be written.
    pub fn changed_since(&self, before: &State) -> Vec<Row> {
        let accounts = self.accounts.iter().filter(|now| before.account(&now.iban) != Some(now)).cloned();
        let user = self.user.iter().filter(|_| self.user != before.user).cloned();
        let outcome = self.outcome.iter().filter(|_| self.outcome != before.outcome).cloned();
        accounts.map(Row::Account).chain(user.map(Row::User)).chain(outcome.map(Row::Outcome)).collect()
    }

    fn with_account(mut self, iban: &Iban, change: impl FnOnce(&mut Account)) -> Result<State, BrokenState> {
        let account = self.accounts.iter_mut().find(|account| account.iban == *iban);
        change(account.ok_or(BrokenState::AccountMissing { iban: *iban })?);
        Ok(self)
    }

    fn with_reserved(self, iban: &Iban, reserved: Cents) -> Result<State, BrokenState> {
        self.with_account(iban, |account| account.reserved = reserved)
    }
}

/// The rows after an event.
pub fn evolve(mut state: State, event: &Event) -> Result<State, BrokenState> {
    match event {
        Event::AccountOpened(account) => state.accounts.push(account.clone()),
        Event::UserRegistered(user) => state.user = Some(user.clone()),
        Event::OutcomeRecorded(outcome) => state.outcome = Some(outcome.clone()),
        Event::Reserved { iban, reserved } | Event::Released { iban, reserved } => {
            return state.with_reserved(iban, *reserved);
        }
        Event::BalanceChanged(change) => {
            return state.with_account(&change.iban, |account| {
                account.balance = change.new_balance;
                account.sequence = change.sequence;
            });
        }
        // Records only: other partitions and clients act on them.
        Event::CreditRequested(_)
        | Event::CreditSettled(_)
        | Event::AccountCreationConfirmed { .. }
        | Event::AccountCreationFailed { .. }
        | Event::MoneyTransferConfirmed { .. }
        | Event::MoneyTransferFailed { .. } => {}
    }
    Ok(state)
}
