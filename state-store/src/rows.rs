//! The codec of rows: one format byte, then bincode (standard configuration, through serde).
//!
//! Rows are local and rebuilt from the log at any time, so the codec may change; the format byte tells the old rows
//! from the new ones, and an unknown one is an error instead of a misread row. bincode is not self-describing: every
//! change to the fields of a stored type raises the format byte, and the stores are wiped and rebuilt from the log.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// bincode 2, standard configuration.
const FORMAT: u8 = 1;

/// No row is larger; a damaged length asks for no more memory than this.
const MAX_ROW_BYTES: usize = 16 << 20;

/// Why a row could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A row of no bytes.
    #[error("row is empty")]
    Empty,
    /// Written by another version of this crate.
    #[error("row has format {0}, this version reads format {FORMAT}")]
    UnknownFormat(u8),
    /// The row holds more than the type: it was written as another type.
    #[error("row has {0} bytes behind its end")]
    Trailing(usize),
    /// The bytes are no value of the type.
    #[error("row cannot be decoded: {0}")]
    Decode(String),
    /// The value cannot be written in this format.
    #[error("row cannot be encoded: {0}")]
    Encode(String),
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        match error {
            RowError::Encode(detail) => StoreError::Misuse { detail },
            other => StoreError::corrupt("row", other.to_string()),
        }
    }
}

/// Appends the row of `value` to `out`.
///
/// # Errors
/// Only for types that bincode cannot express, such as sequences of unknown length; `out` is then as before.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), RowError> {
    let start = out.len();
    out.push(FORMAT);
    bincode::serde::encode_into_std_write(value, out, configuration()).map_err(|error| {
        out.truncate(start);
        RowError::Encode(error.to_string())
    })?;
    Ok(())
}

/// The value of a row, which must end where the value ends.
///
/// # Errors
/// Unknown format byte, bytes that are no `T`, bytes left over. Never panics, whatever the bytes.
pub fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, RowError> {
    let (format, body) = row.split_first().ok_or(RowError::Empty)?;
    if *format != FORMAT {
        return Err(RowError::UnknownFormat(*format));
    }
    let (value, read) = bincode::serde::decode_from_slice(body, configuration())
        .map_err(|error| RowError::Decode(error.to_string()))?;
    match body.len() - read {
        0 => Ok(value),
        left => Err(RowError::Trailing(left)),
    }
}

fn configuration() -> Configuration<LittleEndian, Varint, Limit<MAX_ROW_BYTES>> {
    config::standard().with_limit::<MAX_ROW_BYTES>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Account {
        iban: String,
        balance: i64,
        limit: Option<i64>,
        ibans: Vec<String>,
        id: [u8; 16],
    }

    fn account() -> Account {
        Account { iban: "NL66OPEN0000000000".into(), balance: -5, limit: None, ibans: vec!["a".into()], id: [7; 16] }
    }

    fn row(account: &Account) -> Vec<u8> {
        let mut row = Vec::new();
        encode(account, &mut row).unwrap();
        row
    }

    /// Bytes of format 1 as released: they must stay readable for as long as the format byte is 1.
    #[test]
    fn the_released_format_stays() {
        let mut released = vec![1, 18];
        released.extend_from_slice(b"NL66OPEN0000000000");
        released.extend_from_slice(&[9, 0, 1, 1, b'a']);
        released.extend_from_slice(&[7; 16]);
        assert_eq!(row(&account()), released);
        assert_eq!(decode::<Account>(&released), Ok(account()));
    }

    #[test]
    fn wrong_rows_are_errors() {
        assert_eq!(decode::<Account>(&[]), Err(RowError::Empty));
        assert_eq!(decode::<Account>(&[2, 0]), Err(RowError::UnknownFormat(2)));
        let mut long = row(&account());
        long.extend_from_slice(b"xy");
        assert_eq!(decode::<Account>(&long), Err(RowError::Trailing(2)));
        let whole = row(&account());
        for len in 1..whole.len() {
            assert!(matches!(decode::<Account>(&whole[..len]), Err(RowError::Decode(_))), "cut to {len}");
        }
    }

    #[test]
    fn a_length_from_damaged_bytes_asks_for_no_memory() {
        // Format, then the largest length a varint can express.
        let row = [&[FORMAT, 253][..], &u64::MAX.to_le_bytes()].concat();
        assert!(matches!(decode::<String>(&row), Err(RowError::Decode(_))));
        assert!(matches!(decode::<Vec<u64>>(&row), Err(RowError::Decode(_))));
    }

    #[test]
    fn a_value_that_cannot_be_encoded_leaves_the_buffer() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::ser::SerializeSeq::end(serializer.serialize_seq(None)?)
            }
        }
        let mut out = b"kept".to_vec();
        assert!(matches!(encode(&Endless, &mut out), Err(RowError::Encode(_))));
        assert_eq!(out, b"kept");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode::<Account>(&[&[FORMAT][..], &bytes].concat());
        }

        #[test]
        fn round_trip(iban in ".{0,20}", balance: i64, limit: Option<i64>, ibans in proptest::collection::vec(".{0,5}", 0..4), id: [u8; 16]) {
            let account = Account { iban, balance, limit, ibans, id };
            prop_assert_eq!(decode::<Account>(&row(&account)), Ok(account));
        }
    }
}
