//! Identifiers of commands: sixteen bytes that the client chose. This crate never makes one.

use std::fmt;

/// Id of a command, the 16 bytes of a UUID in network order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub [u8; 16]);

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::CommandId;

    #[test]
    fn is_shown_hyphenated() {
        let id = CommandId(std::array::from_fn(|at| at as u8 * 16 + 1));
        assert_eq!(id.to_string(), "01112131-4151-6171-8191-a1b1c1d1e1f1");
    }
}
