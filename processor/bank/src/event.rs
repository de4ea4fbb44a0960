//! What a decision says happened. Each event changes at most one row (`state`) and is at most one record of a topic.
//!
//! | event | row | record of |
//! |---|---|---|
//! | AccountOpened, Reserved, Released | account | |
//! | UserRegistered | user | |
//! | OutcomeRecorded | outcome | |
//! | BalanceChanged | account | balance_changed, keyed by iban |
//! | CreditRequested | | transfers, keyed by `to` |
//! | CreditSettled | | transfers, keyed by `from` |
//! | AccountCreationConfirmed, AccountCreationFailed | | account_creation_feedback, keyed like the command |
//! | MoneyTransferConfirmed, MoneyTransferFailed | | money_transfer_feedback, keyed like the command |

use crate::{Account, AccountType, Cents, CommandId, CreditRequested, CreditSettled, Iban, Outcome, Token, User};

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An account exists from now on.
    AccountOpened(Account),
    /// A user exists from now on.
    UserRegistered(User),
    /// Money of an account is set aside for a transfer to another partition.
    Reserved {
        /// The account that pays.
        iban: Iban,
        /// All that is set aside in this account now.
        reserved: Cents,
    },
    /// Money that was set aside is no longer.
    Released {
        /// The account that pays.
        iban: Iban,
        /// All that is still set aside in this account.
        reserved: Cents,
    },
    /// A command has come to an outcome, or further towards it.
    OutcomeRecorded(Outcome),
    /// Money came or went.
    BalanceChanged(BalanceChanged),
    /// Another partition is asked to credit.
    CreditRequested(CreditRequested),
    /// The asking partition is answered.
    CreditSettled(CreditSettled),
    /// Feedback to an account creation.
    AccountCreationConfirmed {
        /// Key of the command.
        key: String,
        /// Id of the command.
        id: CommandId,
        /// The new account.
        iban: Iban,
        /// Its token.
        token: Token,
        /// Who uses it.
        account_type: AccountType,
    },
    /// Feedback to an account creation.
    AccountCreationFailed {
        /// Key of the command.
        key: String,
        /// Id of the command.
        id: CommandId,
        /// Why.
        reason: String,
    },
    /// Feedback to a transfer.
    MoneyTransferConfirmed {
        /// Key of the command.
        key: String,
        /// Id of the command.
        id: CommandId,
    },
    /// Feedback to a transfer.
    MoneyTransferFailed {
        /// Key of the command.
        key: String,
        /// Id of the command.
        id: CommandId,
        /// Why.
        reason: String,
    },
}

/// The balance of an account changed. These events of an account form a chain without gaps: `sequence` rises by one,
/// and each `new_balance` is the one before plus `changed_by`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BalanceChanged {
    /// The account.
    pub iban: Iban,
    /// Its balance afterwards; reservations do not show in it.
    pub new_balance: Cents,
    /// Negative: a debit.
    pub changed_by: Cents,
    /// The other side of the transfer.
    pub from_to: String,
    /// Copied from the transfer.
    pub description: String,
    /// Id of the transfer.
    pub transfer_id: CommandId,
    /// Counts the changes of this account, from 1.
    pub sequence: i64,
    /// Unique in the bank, rising within a partition.
    pub transaction_id: i64,
    /// Time of the record that led to the change, in milliseconds since 1970.
    pub time_ms: i64,
}
