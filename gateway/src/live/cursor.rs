//! Cursors: where a reader stands, as text that only we read.
//!
//! They name transaction ids, never an owner, so they hold after a partition has moved and in every gateway. Two
//! forms: of one account (one transaction), and of all partitions (the last id of each). Versioned bytes in base64.

use crate::problem::Problem;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;
const ONE: u8 = b'a';
const ALL: u8 = b'p';
/// A cursor of a thousand partitions is shorter.
const LONGEST_TEXT: usize = 16 * 1024;

/// A position in the transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// In the transactions of one account: after this one.
    Account {
        /// Its id, which names the partition too.
        transaction_id: i64,
        /// Its number in the history of the account.
        sequence: i64,
    },
    /// In all transactions: after these, by partition.
    All(Vec<i64>),
}

impl Cursor {
    /// As text for the client.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = vec![VERSION];
        match self {
            Self::Account { transaction_id, sequence } => {
                bytes.push(ONE);
                bytes.extend_from_slice(&transaction_id.to_be_bytes());
                bytes.extend_from_slice(&sequence.to_be_bytes());
            }
            Self::All(last) => {
                bytes.push(ALL);
                last.iter().for_each(|id| bytes.extend_from_slice(&id.to_be_bytes()));
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From the client's text.
    pub fn decode(text: &str) -> Result<Self, Problem> {
        let bad = || Problem::BadInput("the cursor is none of ours: begin without one".into());
        if text.len() > LONGEST_TEXT {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let [VERSION, kind, rest @ ..] = bytes.as_slice() else { return Err(bad()) };
        let (ids, []) = rest.as_chunks::<8>() else { return Err(bad()) };
        let ids: Vec<i64> = ids.iter().map(|id| i64::from_be_bytes(*id)).collect();
        if ids.iter().any(|id| *id < 0) {
            return Err(bad());
        }
        match (*kind, ids.as_slice()) {
            (ONE, [transaction_id, sequence]) => {
                Ok(Self::Account { transaction_id: *transaction_id, sequence: *sequence })
            }
            (ALL, [_, ..]) => Ok(Self::All(ids)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        for cursor in [
            Cursor::Account { transaction_id: 25, sequence: 3 },
            Cursor::Account { transaction_id: i64::MAX, sequence: 0 },
            Cursor::All(vec![0]),
            Cursor::All((0..12).collect()),
        ] {
            assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let negative = Cursor::All(vec![-1]).encode();
        let empty = Cursor::All(vec![]).encode();
        let long = "A".repeat(LONGEST_TEXT + 1);
        for text in ["", "?", "AAAA", "AWE", "AnAAAAAAAAAAAA", &negative, &empty, &long] {
            assert!(matches!(Cursor::decode(text), Err(Problem::BadInput(_))), "{text}");
        }
    }

    /// Clients keep cursors: this text must stay readable.
    #[test]
    fn the_first_version_stays_readable() {
        assert_eq!(Cursor::decode("AWEAAAAAAAAAGQAAAAAAAAAD"), Ok(Cursor::Account { transaction_id: 25, sequence: 3 }));
    }
}
