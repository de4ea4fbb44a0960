//! The fingerprint of a command's body: what makes two commands with the same id the same command.
//!
//! Of records, for the gateway, which waits for the answer to `(id, fingerprint)`. The rules of the bank compute it of
//! their own types and know no records; a test of the processor holds the two equal. It is independent of Avro: a new
//! field with a default must not change the fingerprint of a command that was sent before. The salted hash of a password
//! is left out, because two hashes of one password differ.
//!
//! Form: SHA-256 over a tag for the record and then each field, preceded by its length as eight bytes big-endian;
//! the first sixteen bytes of the digest. The outcomes in the changelog hold it, so it never changes.

use crate::records::{Atype, ConfirmAccountCreation, ConfirmMoneyTransfer};
use sha2::{Digest, Sha256};

/// Sixteen bytes that stand for the body of a command.
pub type Fingerprint = [u8; 16];

/// The fingerprint of a transfer: id, token, amount, from, to, description.
#[must_use]
pub fn transfer(command: &ConfirmMoneyTransfer) -> Fingerprint {
    Body::new("transfer")
        .field(&command.id.0)
        .field(command.token.as_bytes())
        .field(&command.amount.to_be_bytes())
        .field(command.from.as_bytes())
        .field(command.to.as_bytes())
        .field(command.description.as_bytes())
        .finish()
}

/// The fingerprint of an account creation: id, username, kind of account; not the password's hash.
#[must_use]
pub fn account_creation(command: &ConfirmAccountCreation) -> Fingerprint {
    let a_type: &[u8] = match command.a_type {
        Atype::Auto => b"AUTO",
        Atype::Manual => b"MANUAL",
    };
    Body::new("account_creation").field(&command.id.0).field(command.username.as_bytes()).field(a_type).finish()
}

struct Body(Sha256);

impl Body {
    fn new(tag: &str) -> Self {
        Self(Sha256::new()).field(tag.as_bytes())
    }

    /// The length first: no two lists of fields give the same bytes.
    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn finish(self) -> Fingerprint {
        let digest = self.0.finalize();
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&digest[..16]);
        fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Uuid;

    fn a_transfer() -> ConfirmMoneyTransfer {
        ConfirmMoneyTransfer {
            id: Uuid([7; 16]),
            token: "01234567890123456789".into(),
            amount: 1050,
            from: "NL66OPEN0000000000".into(),
            to: "cash".into(),
            description: "rent".into(),
        }
    }

    fn a_creation() -> ConfirmAccountCreation {
        ConfirmAccountCreation {
            id: Uuid([7; 16]),
            username: "somebody".into(),
            a_type: Atype::Manual,
            password_hash: Some("$argon2id$one".into()),
        }
    }

    /// Written into outcomes that outlive a release: these bytes may never change.
    #[test]
    fn stays_what_it_was() {
        assert_eq!(hex(transfer(&a_transfer())), "d4f796a627f3c993ee70e1c11f229dbf");
        assert_eq!(hex(account_creation(&a_creation())), "869b8aa744072fa138e64fdddde3d788");
    }

    #[test]
    fn every_field_of_a_transfer_counts() {
        let changes: [fn(&mut ConfirmMoneyTransfer); 6] = [
            |c| c.id = Uuid([8; 16]),
            |c| c.token.push('x'),
            |c| c.amount += 1,
            |c| c.from.push('x'),
            |c| c.to.push('x'),
            |c| c.description.push('x'),
        ];
        for change in changes {
            let mut changed = a_transfer();
            change(&mut changed);
            assert_ne!(transfer(&changed), transfer(&a_transfer()), "{changed:?}");
        }
    }

    #[test]
    fn neighbouring_fields_do_not_run_into_each_other() {
        let mut moved = a_transfer();
        moved.from = "NL66OPEN0000000000c".into();
        moved.to = "ash".into();
        assert_ne!(transfer(&moved), transfer(&a_transfer()));
    }

    #[test]
    fn the_salted_hash_does_not_count_but_name_and_kind_do() {
        let mut other_salt = a_creation();
        other_salt.password_hash = Some("$argon2id$two".into());
        assert_eq!(account_creation(&other_salt), account_creation(&a_creation()));
        let mut other_kind = a_creation();
        other_kind.a_type = Atype::Auto;
        assert_ne!(account_creation(&other_kind), account_creation(&a_creation()));
        let mut other_name = a_creation();
        other_name.username.push('x');
        assert_ne!(account_creation(&other_name), account_creation(&a_creation()));
    }

    fn hex(bytes: Fingerprint) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
