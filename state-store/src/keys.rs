//! Keys of several parts whose bytes sort as the parts do.
//!
//! | part | bytes | sorts |
//! |---|---|---|
//! | text, bytes | each `00` becomes `00 FF`, then `00 01` as the end | as the text does; a shorter one before its extensions |
//! | `u64`, `u32` | big-endian | as numbers |
//! | `i64`, `i32` | big-endian with the sign bit flipped | as numbers, negative first |
//! | tail | as it is, to the end of the key | only as the last part |
//!
//! In front of every stored key is the byte of its table. They are given out by the engine and its applications, once
//! for ever; the store keeps two for itself:
//!
//! | table | holds |
//! |---|---|
//! | 0 | the store's own rows: `identity`, `progress`, `event/<source>` |
//! | 1 to 254 | tables of the caller |
//! | 255 | nothing: the upper end of the key space |
//!
//! A key that does not read back is an error of the row's owner: [`KeyError`], never a panic.

/// End of a text part. Below `00 FF`, so that a text sorts before its own extensions.
const END: [u8; 2] = [0, 1];
const ESCAPED_ZERO: [u8; 2] = [0, 0xFF];

/// Why a key could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key ends within a part.
    #[error("key ends too early")]
    Short,
    /// A text part has an unknown escape or is no UTF-8.
    #[error("key holds a part that is not text")]
    NotText,
    /// The key goes on behind its last part.
    #[error("key goes on behind its end")]
    Trailing,
}

impl From<KeyError> for crate::StoreError {
    fn from(error: KeyError) -> Self {
        crate::StoreError::corrupt("key", error.to_string())
    }
}

/// Appends a text part.
pub fn push_str(key: &mut Vec<u8>, part: &str) {
    push_bytes(key, part.as_bytes());
}

/// Appends a part of any bytes.
pub fn push_bytes(key: &mut Vec<u8>, part: &[u8]) {
    for byte in part {
        match byte {
            0 => key.extend_from_slice(&ESCAPED_ZERO),
            other => key.push(*other),
        }
    }
    key.extend_from_slice(&END);
}

/// Appends the last part: readable, without an end mark. No part may follow.
pub fn push_tail(key: &mut Vec<u8>, part: &[u8]) {
    key.extend_from_slice(part);
}

/// Appends a number.
pub fn push_u64(key: &mut Vec<u8>, part: u64) {
    key.extend_from_slice(&part.to_be_bytes());
}

/// Appends a signed number.
pub fn push_i64(key: &mut Vec<u8>, part: i64) {
    push_u64(key, part.cast_unsigned() ^ (1 << 63));
}

/// Appends a number.
pub fn push_u32(key: &mut Vec<u8>, part: u32) {
    key.extend_from_slice(&part.to_be_bytes());
}

/// Appends a signed number.
pub fn push_i32(key: &mut Vec<u8>, part: i32) {
    push_u32(key, part.cast_unsigned() ^ (1 << 31));
}

/// Reads the parts of a key in the order in which they were pushed.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Starts at the first part of a key (without the table byte).
    pub fn of(key: &'a [u8]) -> Self {
        Parts { rest: key }
    }

    /// The next part, text.
    pub fn str(&mut self) -> Result<String, KeyError> {
        String::from_utf8(self.bytes()?).map_err(|_| KeyError::NotText)
    }

    /// The next part, any bytes.
    pub fn bytes(&mut self) -> Result<Vec<u8>, KeyError> {
        let mut part = Vec::new();
        loop {
            let zero = self.rest.iter().position(|byte| *byte == 0).ok_or(KeyError::Short)?;
            part.extend_from_slice(&self.rest[..zero]);
            let escape = *self.rest.get(zero + 1).ok_or(KeyError::Short)?;
            self.rest = &self.rest[zero + 2..];
            match [0, escape] {
                END => return Ok(part),
                ESCAPED_ZERO => part.push(0),
                _ => return Err(KeyError::NotText),
            }
        }
    }

    /// The next part, a number.
    pub fn u64(&mut self) -> Result<u64, KeyError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    /// The next part, a signed number.
    pub fn i64(&mut self) -> Result<i64, KeyError> {
        Ok((self.u64()? ^ (1 << 63)).cast_signed())
    }

    /// The next part, a number.
    pub fn u32(&mut self) -> Result<u32, KeyError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    /// The next part, a signed number.
    pub fn i32(&mut self) -> Result<i32, KeyError> {
        Ok((self.u32()? ^ (1 << 31)).cast_signed())
    }

    /// All that is left: the last part when it was pushed as a tail.
    pub fn tail(self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), KeyError> {
        if self.rest.is_empty() { Ok(()) } else { Err(KeyError::Trailing) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let (part, rest) = self.rest.split_first_chunk::<N>().ok_or(KeyError::Short)?;
        self.rest = rest;
        Ok(*part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Tuple = (String, i64, Vec<u8>, u64, i32, u32);

    fn key(tuple: &Tuple) -> Vec<u8> {
        let mut key = Vec::new();
        push_str(&mut key, &tuple.0);
        push_i64(&mut key, tuple.1);
        push_bytes(&mut key, &tuple.2);
        push_u64(&mut key, tuple.3);
        push_i32(&mut key, tuple.4);
        push_u32(&mut key, tuple.5);
        key
    }

    fn read(key: &[u8]) -> Result<Tuple, KeyError> {
        let mut parts = Parts::of(key);
        let tuple = (parts.str()?, parts.i64()?, parts.bytes()?, parts.u64()?, parts.i32()?, parts.u32()?);
        parts.end()?;
        Ok(tuple)
    }

    /// Few letters, so that equal prefixes, zeros and extensions are common.
    fn tuples() -> impl Strategy<Value = Tuple> {
        let bytes = proptest::collection::vec(prop::sample::select(vec![0u8, 1, 2, 0x61, 0xFE, 0xFF]), 0..5);
        let number = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(1), Just(i64::MAX), any::<i64>()];
        ("[\0\u{1}a\u{ff}]{0,4}", number, bytes, any::<u64>(), any::<i32>(), any::<u32>())
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_parts(a in tuples(), b in tuples()) {
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn parts_come_back(tuple in tuples()) {
            prop_assert_eq!(read(&key(&tuple)), Ok(tuple));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn a_text_sorts_before_its_extensions_whatever_follows() {
        let mut short = Vec::new();
        push_str(&mut short, "a");
        push_i64(&mut short, i64::MAX);
        let mut long = Vec::new();
        push_str(&mut long, "a\0");
        push_i64(&mut long, i64::MIN);
        assert!(short < long);
    }

    #[test]
    fn wrong_keys_are_errors() {
        assert_eq!(Parts::of(b"abc").str(), Err(KeyError::Short));
        assert_eq!(Parts::of(b"abc\0").str(), Err(KeyError::Short));
        assert_eq!(Parts::of(b"abc\0\x02").str(), Err(KeyError::NotText));
        assert_eq!(Parts::of(b"\xc3\0\x01").str(), Err(KeyError::NotText));
        assert_eq!(Parts::of(&[0; 7]).u64(), Err(KeyError::Short));
        assert_eq!(Parts::of(b"x").end(), Err(KeyError::Trailing));
        assert_eq!(Parts::of(b"rest").tail(), b"rest");
    }
}
