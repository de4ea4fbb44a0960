//! Rows of the outcome table: local keys are the 16 bytes of the command id, changelog keys its text; final outcomes
//! are indexed by time, so that the oldest are found when they expire.

use processor::formats::AvroRows;
use processor::topology::{FormatError, RowFormat};
use schemas::records::{Outcome, OutcomeState, Uuid};
use schemas::{Encoder, SchemaCache};

pub struct OutcomeRows(AvroRows<Outcome>);

impl OutcomeRows {
    pub fn new(encoder: Encoder<Outcome>, schemas: SchemaCache) -> OutcomeRows {
        OutcomeRows(AvroRows::new(encoder, schemas))
    }
}

/// Key of the index row: time in order (the sign bit flipped), then the id.
pub fn index_key(time_ms: i64, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.extend_from_slice(&((time_ms as u64) ^ (1 << 63)).to_be_bytes());
    key.extend_from_slice(id);
    key
}

/// Key of the index row of an outcome, if it is final.
pub fn index_key_of(id: &[u8], row: &[u8]) -> Option<Vec<u8>> {
    let outcome: Outcome = state_store::rows::decode(row).ok()?;
    (outcome.state != OutcomeState::Pending).then(|| index_key(outcome.time, id))
}

/// The time in an index key.
pub fn index_time_ms(key: &[u8]) -> Option<i64> {
    let bytes: [u8; 8] = key.get(..8)?.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
}

impl RowFormat for OutcomeRows {
    fn changelog_key(&self, key: &[u8], out: &mut Vec<u8>) {
        match <[u8; 16]>::try_from(key) {
            Ok(id) => out.extend_from_slice(Uuid(id).to_string().as_bytes()),
            Err(_) => out.extend_from_slice(key),
        }
    }

    fn local_key(&self, text: &[u8]) -> Result<Vec<u8>, FormatError> {
        let bad = || FormatError::Bad(format!("{} is no command id", String::from_utf8_lossy(text)));
        let id: Uuid = std::str::from_utf8(text).map_err(|_| bad())?.parse().map_err(|_| bad())?;
        Ok(id.0.to_vec())
    }

    fn write_changelog(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        self.0.write_changelog(row, out)
    }

    fn read_changelog(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        self.0.read_changelog(value, out)
    }

    fn index_key(&self, key: &[u8], row: &[u8]) -> Option<Vec<u8>> {
        index_key_of(key, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_keys_are_in_the_order_of_time() {
        let keys: Vec<_> = [-5, -1, 0, 1, 1_700_000_000_000].map(|time| index_key(time, &[7; 16])).into();
        assert!(keys.is_sorted());
        assert_eq!(index_time_ms(&keys[0]), Some(-5));
        assert_eq!(index_time_ms(&keys[4]), Some(1_700_000_000_000));
        assert_eq!(index_time_ms(&[1, 2]), None);
    }
}
