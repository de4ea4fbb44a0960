//! `Debug` of the records that carry a token or a password hash: logs, panics and failed assertions must not show one.

use std::fmt::{self, Debug, Formatter};

use super::{AccountCreationConfirmed, ConfirmAccountCreation, ConfirmMoneyTransfer, User};

/// Stands in for a secret.
struct Redacted;

impl Debug for Redacted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Debug for ConfirmAccountCreation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct(super::kind::name_of::<Self>())
            .field("id", &self.id)
            .field("username", &self.username)
            .field("a_type", &self.a_type)
            .field("password_hash", &self.password_hash.as_ref().map(|_| Redacted))
            .finish()
    }
}

impl Debug for AccountCreationConfirmed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct(super::kind::name_of::<Self>())
            .field("id", &self.id)
            .field("iban", &self.iban)
            .field("token", &Redacted)
            .field("a_type", &self.a_type)
            .finish()
    }
}

impl Debug for ConfirmMoneyTransfer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct(super::kind::name_of::<Self>())
            .field("id", &self.id)
            .field("token", &Redacted)
            .field("amount", &self.amount)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("description", &self.description)
            .finish()
    }
}

impl Debug for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct(super::kind::name_of::<Self>())
            .field("username", &self.username)
            .field("password_hash", &self.password_hash.as_ref().map(|_| Redacted))
            .field("account_creation_id", &self.account_creation_id)
            .field("ibans", &self.ibans)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn debug_shows_no_secret() {
        let shown = [
            format!("{:?}", samples::confirm_account_creation()),
            format!("{:?}", samples::account_creation_confirmed()),
            format!("{:?}", samples::confirm_money_transfer()),
            format!("{:#?}", samples::user()),
        ];
        for text in shown {
            assert!(text.contains("<redacted>"), "{text}");
            assert!(!text.contains(samples::TOKEN) && !text.contains(samples::HASH), "{text}");
        }
    }
}
