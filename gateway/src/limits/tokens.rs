//! Tokens and nesting of a GraphQL text, without parsing it: linear, and without recursion.

/// Refuses a text with more tokens or deeper brackets. Text that is no GraphQL is left to the parser.
pub(super) fn check(text: &str, most_tokens: usize, most_nesting: usize) -> Result<(), String> {
    let mut tokens = 0;
    let mut nesting = 0_usize;
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match first {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                rest = after;
                continue;
            }
            b'#' => {
                rest = skip_line(after);
                continue;
            }
            b'{' | b'(' | b'[' => nesting += 1,
            b'}' | b')' | b']' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
        rest = match first {
            b'"' => skip_string(after)?,
            b'.' if after.starts_with(b"..") => &after[2..],
            // For the parser a number ends there.
            b'0' => after,
            byte if is_word(byte) => skip_word(after),
            _ => after,
        };
        tokens += 1;
        if tokens > most_tokens {
            return Err(format!("the document has more than {most_tokens} tokens"));
        }
        if nesting > most_nesting {
            return Err(format!("the document nests deeper than {most_nesting} brackets"));
        }
    }
    Ok(())
}

/// Numbers with a sign or a point count as several: some of them are, for the parser. Other than ASCII there is nothing
/// outside of strings and comments but the byte order mark, which parts words: each byte counts.
fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

fn skip_word(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| !is_word(byte)).unwrap_or(bytes.len());
    &bytes[end..]
}

fn skip_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
    &bytes[end..]
}

/// After the opening quote. A block string ends at three quotes, a plain one at a quote or the end of the line. A block
/// string without an end is refused here: the parser takes its beginning for an empty string and goes on behind it.
fn skip_string(bytes: &[u8]) -> Result<&[u8], String> {
    if let Some(mut block) = bytes.strip_prefix(b"\"\"") {
        loop {
            match block {
                [b'\\', b'"', b'"', b'"', after @ ..] => block = after,
                [b'"', b'"', b'"', after @ ..] => return Ok(after),
                [_, after @ ..] => block = after,
                [] => return Err("a block string has no end".to_owned()),
            }
        }
    }
    let mut plain = bytes;
    loop {
        match plain {
            [b'\\', _, after @ ..] => plain = after,
            [b'"' | b'\n', after @ ..] => return Ok(after),
            [_, after @ ..] => plain = after,
            [] => return Ok(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    fn count(text: &str) -> usize {
        (0..).find(|most| check(text, *most, 1000).is_ok()).unwrap()
    }

    #[test]
    fn tokens_are_counted_as_graphql_does_or_higher() {
        let cases = [
            ("", 0),
            (" ,\n# comment { { {\n", 0),
            ("{ a }", 3),
            ("{a:b(c:\"x { y \\\" z\" d:1.5)}", 15),
            ("{ ...f ... on Q { a } }", 10),
            ("[0000]", 6),
            ("[1-1-1]", 7),
            ("{a(b:\"\"\"block \" \\\"\"\" end\"\"\")}", 8),
            ("query Q($x: Int!) { a(x: $x) @skip(if: false) }", 25),
        ];
        for (text, tokens) in cases {
            assert_eq!(count(text), tokens, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_also_in_unfinished_text() {
        assert!(check(&"{a".repeat(40), 1000, 40).is_ok());
        assert!(check(&"{a".repeat(41), 1000, 40).is_err());
        assert!(check(&"[".repeat(41), 1000, 40).is_err());
        assert!(check("\"unfinished { { {", 1000, 1).is_ok());
        assert!(check("\"\"\"unfinished { { {", 1000, 1).is_err());
        assert!(check("{a(b:\"\"\"x { { {\"\"\")}", 1000, 2).is_ok());
        assert!(check(&"a\u{feff}".repeat(600), 1000, 40).is_err(), "it parts words");
    }
}
