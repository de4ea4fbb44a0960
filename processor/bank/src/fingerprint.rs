//! What tells two commands with one id apart.
//!
//! The first 16 bytes of SHA-256 over a tag and the fields of the body, each preceded by its length (u64, big-endian)
//! so that no text can pass for two fields; an amount counts as 8 big-endian bytes. Stored with every outcome: the
//! layout never changes, new kinds of command get new tags. A gateway that waits for the answer to a command computes
//! the same from the record that it sends, so the layout is a contract with the wire formats too.
//!
//! | tag | fields |
//! |---|---|
//! | `account_creation` | id, username, `AUTO` or `MANUAL` |
//! | `transfer` | id, token, amount, from, to, description |

use sha2::{Digest, Sha256};
use std::fmt;

use crate::{AccountCreation, AccountType, Transfer};

/// Identifies the body of a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Of an account creation. The password hash is left out: it is salted, so the same log-in sent twice differs.
    pub fn of_account_creation(command: &AccountCreation) -> Fingerprint {
        let account_type: &[u8] = match command.account_type {
            AccountType::Auto => b"AUTO",
            AccountType::Manual => b"MANUAL",
        };
        Fingerprint::of("account_creation", &[&command.id.0, command.username.as_bytes(), account_type])
    }

    /// Of a transfer, its token included: nobody learns the outcome of an id without knowing the whole command.
    pub fn of_transfer(command: &Transfer) -> Fingerprint {
        let Transfer { key: _, id, token, amount, from, to, description } = command;
        let (token, amount) = (token.as_str().as_bytes(), amount.0.to_be_bytes());
        let (from, to, description) = (from.as_bytes(), to.as_bytes(), description.as_bytes());
        Fingerprint::of("transfer", &[&id.0, token, &amount, from, to, description])
    }

    fn of(tag: &str, fields: &[&[u8]]) -> Fingerprint {
        let mut hash = Sha256::new();
        for field in [tag.as_bytes()].iter().chain(fields) {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        let digest = hash.finalize();
        Fingerprint(std::array::from_fn(|at| digest[at]))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cents, CommandId, PasswordHash, Token};

    fn transfer(from: &str, to: &str, amount: i64) -> Transfer {
        Transfer {
            key: "somebody".into(),
            id: CommandId([7; 16]),
            token: Token::new("01234567890123456789"),
            amount: Cents(amount),
            from: from.into(),
            to: to.into(),
            description: "rent".into(),
        }
    }

    fn creation(account_type: AccountType, hash: Option<&str>) -> AccountCreation {
        AccountCreation {
            key: "somebody".into(),
            id: CommandId([7; 16]),
            username: "somebody".into(),
            account_type,
            password_hash: hash.map(PasswordHash::new),
        }
    }

    #[test]
    fn the_layout_is_the_stored_one() {
        // Computed by another implementation; gateways come to the same bytes.
        let account = Fingerprint::of_account_creation(&creation(AccountType::Manual, None));
        assert_eq!(format!("{account:?}"), "869b8aa744072fa138e64fdddde3d788");
        let payment = Fingerprint::of_transfer(&transfer("NL66OPEN0000000000", "cash", 1050));
        assert_eq!(format!("{payment:?}"), "d4f796a627f3c993ee70e1c11f229dbf");
    }

    #[test]
    fn every_field_of_a_transfer_counts_and_none_runs_into_the_next() {
        let one = transfer("from", "to", 100);
        let others = [
            transfer("fromt", "o", 100),
            transfer("fro", "mto", 100),
            transfer("from", "to", 101),
            Transfer { id: CommandId([2; 16]), ..one.clone() },
            Transfer { token: Token::new("other"), ..one.clone() },
            Transfer { description: "other".into(), ..one.clone() },
        ];
        for other in others {
            assert_ne!(Fingerprint::of_transfer(&other), Fingerprint::of_transfer(&one), "{other:?}");
        }
    }

    #[test]
    fn the_key_of_the_record_does_not_count() {
        let other = Transfer { key: "from".into(), ..transfer("from", "to", 100) };
        assert_eq!(Fingerprint::of_transfer(&other), Fingerprint::of_transfer(&transfer("from", "to", 100)));
    }

    #[test]
    fn the_salted_hash_does_not_count_but_the_account_type_does() {
        let of = |kind, hash| Fingerprint::of_account_creation(&creation(kind, hash));
        assert_eq!(of(AccountType::Manual, Some("one")), of(AccountType::Manual, Some("two")));
        assert_ne!(of(AccountType::Manual, None), of(AccountType::Auto, None));
    }
}
