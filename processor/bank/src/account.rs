//! Accounts and users: the rows that money and names live in.

use std::fmt;

use crate::{BalanceChanged, Cents, CommandId, Context, Iban, Rejection};

/// Lowest balance of an account: an overdraft of 500.00 euro.
pub const OVERDRAFT_LIMIT: Cents = Cents(-50_000);

/// Who uses an account: a generator of load, or a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccountType {
    /// Opened by a load generator.
    Auto,
    /// Opened by a person.
    #[default]
    Manual,
}

/// One account. `limit <= balance - reserved` and `reserved >= 0` hold always.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// The account number.
    pub iban: Iban,
    /// The user that owns it.
    pub username: String,
    /// Money in the account, reservations included.
    pub balance: Cents,
    /// Debits under way to other partitions.
    pub reserved: Cents,
    /// Lowest balance allowed, zero or negative.
    pub limit: Cents,
    /// Number of balance changes so far.
    pub sequence: i64,
    /// Who uses it.
    pub account_type: AccountType,
    /// Time of the command that opened it, in milliseconds since 1970.
    pub opened_ms: i64,
}

impl Account {
    /// A new account: empty, with the common overdraft.
    pub fn opened(iban: Iban, username: &str, account_type: AccountType, opened_ms: i64) -> Account {
        Account {
            iban,
            username: username.to_owned(),
            balance: Cents::ZERO,
            reserved: Cents::ZERO,
            limit: OVERDRAFT_LIMIT,
            sequence: 0,
            account_type,
            opened_ms,
        }
    }

    /// What can be spent: balance - reserved - limit, at most what 64 bits hold.
    pub fn available(&self) -> Cents {
        Cents(i64::try_from(self.available_exactly()).unwrap_or(if self.available_exactly() < 0 {
            i64::MIN
        } else {
            i64::MAX
        }))
    }

    /// Whether `amount` may leave the account: down to exactly the limit it may.
    pub(crate) fn can_spend(&self, amount: Cents) -> bool {
        self.available_exactly() >= i128::from(amount.0)
    }

    /// Wide enough that nothing overflows.
    fn available_exactly(&self) -> i128 {
        i128::from(self.balance.0) - i128::from(self.reserved.0) - i128::from(self.limit.0)
    }

    /// The event of a change of balance, `change.by` signed; refused when a number would not fit any more.
    pub(crate) fn balance_changed(&self, change: Change<'_>, ctx: &Context<'_>) -> Result<BalanceChanged, Rejection> {
        Ok(BalanceChanged {
            iban: self.iban,
            new_balance: self.balance.checked_add(change.by).ok_or(Rejection::AmountTooLarge)?,
            changed_by: change.by,
            from_to: change.from_to.to_owned(),
            description: change.description.to_owned(),
            transfer_id: change.transfer_id,
            sequence: self.sequence.checked_add(1).ok_or(Rejection::AmountTooLarge)?,
            transaction_id: ctx.transaction_id(change.nth).ok_or(Rejection::AmountTooLarge)?,
            time_ms: ctx.time_ms,
        })
    }
}

/// What changes a balance.
pub(crate) struct Change<'a> {
    /// Which of the decision's transactions this is, from 0.
    pub nth: i64,
    pub by: Cents,
    /// The other side of the transfer.
    pub from_to: &'a str,
    pub description: &'a str,
    pub transfer_id: CommandId,
}

/// One user, the owner of accounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The name, unique in the bank because its partition decides.
    pub username: String,
    /// Nobody logs in where there is none.
    pub password_hash: Option<PasswordHash>,
    /// The command that made this user.
    pub account_creation_id: CommandId,
    /// The user's accounts, all in the user's partition.
    pub ibans: Vec<Iban>,
}

/// Hash of a password with its salt and parameters, made by a gateway. Never shown when debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps the text of a hash; nothing is checked.
    pub fn new(text: impl Into<String>) -> PasswordHash {
        PasswordHash(text.into())
    }

    /// The text, for the user's row.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_counts_reservations_and_the_overdraft() {
        let mut account = Account::opened(Iban::COMPANY, "somebody", AccountType::Auto, 0);
        assert_eq!(account.available(), Cents(50_000));
        (account.balance, account.reserved) = (Cents(1_000), Cents(300));
        assert_eq!(account.available(), Cents(50_700));
        assert!(account.can_spend(Cents(50_700)) && !account.can_spend(Cents(50_701)));
    }

    #[test]
    fn available_never_overflows() {
        let mut account = Account::opened(Iban::COMPANY, "somebody", AccountType::Auto, 0);
        account.balance = Cents(i64::MAX);
        assert_eq!(account.available(), Cents(i64::MAX));
        account.balance = Cents(-50_000);
        assert!(!account.can_spend(Cents(i64::MAX)));
        (account.balance, account.reserved) = (Cents(i64::MIN), Cents(i64::MAX));
        assert_eq!(account.available(), Cents(i64::MIN));
    }
}
