//! Confluent framing: a zero byte, the schema id as big-endian u32, then the datum. Any Kafka UI with the registry's
//! address can read what is framed so.

/// Bytes before the datum.
pub const FRAME_BYTES: usize = 5;
const MAGIC: u8 = 0;

/// A value that carries no schema id: not written by an Avro producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than the framing itself.
    #[error("value of {0} bytes is too short for a schema id, which takes {FRAME_BYTES}")]
    TooShort(usize),
    /// Another first byte than 0.
    #[error("value starts with byte {0:#04x} instead of 0: not in Confluent framing")]
    Magic(u8),
}

/// Appends the framing for `schema_id` to `out`.
pub fn frame(schema_id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

/// Splits a value into schema id and datum.
pub fn unframe(value: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    match value {
        [MAGIC, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [MAGIC, ..] | [] => Err(FrameError::TooShort(value.len())),
        [other, ..] => Err(FrameError::Magic(*other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_it_joins() {
        let mut out = vec![9];
        frame(0x0102_0304, &mut out);
        out.extend_from_slice(b"datum");
        assert_eq!(out[1..6], [0, 1, 2, 3, 4]);
        assert_eq!(unframe(&out[1..]), Ok((0x0102_0304, &b"datum"[..])));
        assert_eq!(unframe(&out[1..6]), Ok((0x0102_0304, &b""[..])));
    }

    #[test]
    fn refuses_what_is_not_framed() {
        assert_eq!(unframe(b""), Err(FrameError::TooShort(0)));
        assert_eq!(unframe(&[0, 0, 0, 1]), Err(FrameError::TooShort(4)));
        assert_eq!(unframe(b"{\"json\":1}"), Err(FrameError::Magic(b'{')));
    }
}
