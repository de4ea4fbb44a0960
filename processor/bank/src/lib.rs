//! The rules of the bank as pure functions.
//!
//! The processor loads the rows that an input names ([`keys_of`]), calls [`decide`], and writes what comes back: rows
//! and records of one transaction. The rules never fetch, wait, log, look at a clock or draw a random number: time,
//! position and ownership come in with [`Context`], identifiers with the command. So a replay decides the same.
//!
//! Three kinds of "no" are kept apart. A [`Rejection`] is an answer of the bank: it is recorded, and sent. A dropped
//! input ([`Verdict::Dropped`]) has nothing to decide any more. A [`BrokenState`] is no answer at all: rows contradict
//! each other, and the processor has to stop that partition and say so.
//!
//! Where to read on: `transfer` holds the ladder of checks, `credit` and `settle` what follows when the money goes to
//! another partition, `account_creation` the opening of accounts, `state` how events change rows.
//!
//! What is deliberately absent: wire formats (the types here derive no serde), topics, tables and their codecs, and
//! the partitioner, which is asked through the context.

mod account;
mod account_creation;
mod context;
mod credit;
mod decision;
mod event;
mod fingerprint;
mod iban;
mod id;
mod input;
mod keys;
mod money;
mod outcome;
mod rejection;
mod seeds;
mod settle;
mod state;
#[cfg(test)]
mod testing;
mod token;
mod transfer;

pub use account::{Account, AccountType, OVERDRAFT_LIMIT, PasswordHash, User};
pub use context::{Config, Context, IBAN_DRAWS_MAX};
pub use decision::{BrokenState, Decision, Verdict, decide};
pub use event::{BalanceChanged, Event};
pub use fingerprint::Fingerprint;
pub use iban::{Iban, candidates};
pub use id::CommandId;
pub use input::{AccountCreation, CASH, CreditRequested, CreditSettled, Input, NAME_BYTES_MAX, Transfer};
pub use keys::{Keys, keys_of};
pub use money::Cents;
pub use outcome::{CreditPoint, Outcome, OutcomeKind, OutcomeState, Reservation};
pub use rejection::Rejection;
pub use seeds::{COMPANY_BALANCE, seeds};
pub use state::{Row, State, evolve};
pub use token::{CheckValue, SecretError, Token, TokenSecret, Tokens};
