//! Read tokens: what a client has caused, as text that only we read.
//!
//! A result of a command names the commits that made it; a read that carries them sees what the command did, whichever
//! gateway and whichever replica answers it. Commits are numbered by partition and name no owner, so tokens hold after a
//! move. Versioned bytes in base64, as cursors are (`live/cursor.rs`).

use crate::problem::Problem;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemas::query::Token;

const VERSION: u8 = 1;
const KIND: u8 = b'r';
/// Bytes of one commit: partition, number.
const COMMIT_BYTES: usize = 12;
/// A transfer has two; room for a client that joins some.
const LONGEST_TEXT: usize = 1024;

/// As text for the client.
#[must_use]
pub fn encode(tokens: &[Token]) -> String {
    let mut bytes = vec![VERSION, KIND];
    for token in tokens {
        bytes.extend_from_slice(&token.partition.to_be_bytes());
        bytes.extend_from_slice(&token.commit_sequence.to_be_bytes());
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// From the client's text, for a bank of so many partitions.
pub fn decode(text: &str, partitions: i32) -> Result<Vec<Token>, Problem> {
    let bad = || Problem::BadInput("at_least is no read token of ours: give the `read_token` of a result".into());
    if text.len() > LONGEST_TEXT {
        return Err(bad());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
    let [VERSION, KIND, rest @ ..] = bytes.as_slice() else { return Err(bad()) };
    let (commits, []) = rest.as_chunks::<COMMIT_BYTES>() else { return Err(bad()) };
    let token = |[a, b, c, d, sequence @ ..]: &[u8; COMMIT_BYTES]| Token {
        partition: i32::from_be_bytes([*a, *b, *c, *d]),
        commit_sequence: u64::from_be_bytes(*sequence),
    };
    let tokens: Vec<Token> = commits.iter().map(token).collect();
    let is_ours = tokens.iter().all(|token| (0..partitions).contains(&token.partition));
    if is_ours { Ok(tokens) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(partition: i32, commit_sequence: u64) -> Token {
        Token { partition, commit_sequence }
    }

    #[test]
    fn a_token_comes_back_as_it_went() {
        for tokens in [vec![], vec![token(0, 0)], vec![token(11, u64::MAX), token(3, 7)]] {
            assert_eq!(decode(&encode(&tokens), 12), Ok(tokens));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let (other_layout, negative) = (encode(&[token(12, 1)]), encode(&[token(-1, 1)]));
        let long = encode(&vec![token(0, 1); 100]);
        for text in ["", "?", "AWE", "AXIA", &other_layout, &negative, &long] {
            assert!(matches!(decode(text, 12), Err(Problem::BadInput(_))), "{text}");
        }
    }

    /// Clients keep tokens: this text must stay readable.
    #[test]
    fn the_first_version_stays_readable() {
        assert_eq!(decode("AXIAAAADAAAAAAAAAAc", 12), Ok(vec![token(3, 7)]));
    }
}
