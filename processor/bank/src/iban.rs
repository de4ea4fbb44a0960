//! Account numbers of this bank: `NL`, two check digits, `OPEN`, `0`, nine digits.
//!
//! An [`Iban`] is always a valid one of our own; every other text stays a text. A new iban is drawn from the id of the
//! command that opens the account, so that a replay draws the same, and only numbers are taken that the task's own
//! partition owns: then commands keyed by username and reads keyed by iban meet in one partition.

use sha2::{Digest, Sha256};
use std::fmt;

use crate::{CommandId, Context};

/// A valid account number of this bank.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Iban([u8; Iban::LENGTH]);

impl Iban {
    /// The bank's own account.
    pub const COMPANY: Iban = Iban(*b"NL66OPEN0000000000");
    const LENGTH: usize = 18;
    /// For constants of the tests.
    #[cfg(test)]
    pub(crate) const fn literal(bytes: [u8; Iban::LENGTH]) -> Iban {
        Iban(bytes)
    }
    /// How many account numbers there are: nine digits.
    const COUNT: u64 = 1_000_000_000;

    /// The account number that `text` spells exactly, or `None`: not ours, or with wrong check digits.
    pub fn parse(text: &str) -> Option<Iban> {
        let number = text.get(9..).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let iban = Iban::of_number(number.parse().ok()?);
        (iban.as_str() == text).then_some(iban)
    }

    /// Whether `text` can only be meant as an account number of this bank, right or wrong: it names our country and
    /// our bank, in capitals or not. Money sent to such a text that is not valid would otherwise leave the bank.
    pub fn resembles(text: &str) -> bool {
        let same = |range, part: &str| text.get(range).is_some_and(|found: &str| found.eq_ignore_ascii_case(part));
        same(0..2, "NL") && same(4..8, "OPEN")
    }

    /// The account number as text, 18 characters.
    pub fn as_str(&self) -> &str {
        #[expect(clippy::expect_used, reason = "every constructor fills the bytes with ASCII")]
        std::str::from_utf8(&self.0).expect("an iban is ASCII")
    }

    /// The account number with `number` as its last nine digits; `number` is taken modulo 10^9.
    fn of_number(number: u64) -> Iban {
        let number = number % Iban::COUNT;
        let mut bytes = *b"NL00OPEN0000000000";
        write_digits(&mut bytes[9..], number);
        write_digits(&mut bytes[2..4], check_digits(number));
        Iban(bytes)
    }

    /// The account number that the id of a command draws at an attempt.
    fn drawn(id: CommandId, attempt: u32) -> Iban {
        let digest = Sha256::new().chain_update(b"kontor iban").chain_update(id.0).chain_update(attempt.to_be_bytes());
        let digest = digest.finalize();
        Iban::of_number(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// The account numbers that an account creation may take, in the order of preference: drawn from the command's id,
/// owned by the task's partition, as many as the configuration allows.
pub fn candidates<'a>(id: CommandId, ctx: &'a Context<'_>) -> impl Iterator<Item = Iban> + 'a {
    // One draw in N is ours. The bound only ends the search where the ownership function never names this partition.
    let attempts_max = ctx.config.iban_draws_max.saturating_mul(ctx.partitions.unsigned_abs()).saturating_mul(64);
    (0..attempts_max)
        .map(move |attempt| Iban::drawn(id, attempt))
        .filter(|iban| ctx.owns(iban.as_str()))
        .take(ctx.config.iban_draws_max as usize)
}

/// 98 less the remainder by 97 of the number in which letters became two digits (`OPEN`, account, `NL`) and the check
/// digits are zero.
fn check_digits(number: u64) -> u64 {
    const OPEN: u128 = 24_25_14_23;
    const NL00: u128 = 23_21_00;
    98 - ((OPEN * 10_u128.pow(10) + u128::from(number)) * 1_000_000 + NL00).rem_euclid(97) as u64
}

/// Writes `number` in decimal into the whole of `digits`, with leading zeros.
fn write_digits(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl fmt::Display for Iban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Iban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Stage;
    use proptest::prelude::*;

    #[test]
    fn b09_only_the_right_check_digits_are_valid() {
        let cases = [
            ("NL66OPEN0000000000", true),
            ("NL83OPEN0104642752", false),
            ("NL70OPEN0104642752", true),
            ("NL39OPEN0000000001", true),
            ("NL06OPEN0000000013", true),
            ("NL80OPEN0123456789", true),
            ("NL48OPEN0999999999", true),
            ("nl66open0000000000", false),
            ("NL66OPEN000000000", false),
            ("NL66OPEN00000000000", false),
            ("NL66OPEN1000000000", false),
            ("NL66OPEN+000000000", false),
            ("NL66OPEN0 00000000", false),
            (" NL66OPEN0000000000", false),
            ("NL66ÖPEN000000000", false),
            ("NL91ABNA0417164300", false),
            ("cash", false),
            ("bla", false),
            ("", false),
        ];
        for (text, valid) in cases {
            assert_eq!(Iban::parse(text).map(|iban| iban.to_string()).as_deref(), valid.then_some(text), "{text}");
        }
        assert_eq!(Iban::parse("NL66OPEN0000000000"), Some(Iban::COMPANY));
    }

    #[test]
    fn a_mistyped_own_iban_is_recognised() {
        for text in ["NL83OPEN0104642752", "nl66open0000000000", "NL66OPEN000", "NLXXOPEN", "NL66OPEN1234567890123"] {
            assert!(Iban::resembles(text), "{text}");
        }
        for text in ["NL91ABNA0417164300", "BE66OPEN0000000000", "cash", "OPEN", "", "ñL66OPEN", "NL6öOPEN"] {
            assert!(!Iban::resembles(text), "{text}");
        }
    }

    #[test]
    fn draws_are_those_of_the_format_for_ever() {
        let id = CommandId(std::array::from_fn(|at| at as u8));
        let drawn = [0, 1, 2].map(|attempt| Iban::drawn(id, attempt).to_string());
        assert_eq!(drawn, ["NL83OPEN0358190527", "NL32OPEN0476446764", "NL76OPEN0927538458"]);
    }

    #[test]
    fn candidates_lie_in_the_own_partition_and_are_limited() {
        let id = CommandId([7; 16]);
        for partition in 0..3 {
            let stage = Stage::of(partition, 3);
            let found: Vec<_> = candidates(id, &stage.context()).collect();
            assert_eq!(found.len(), 8);
            assert!(found.iter().all(|iban| stage.context().owns(iban.as_str())));
            assert_eq!(found, candidates(id, &stage.context()).collect::<Vec<_>>(), "a replay draws the same");
        }
    }

    #[test]
    fn the_search_ends_where_no_iban_is_owned() {
        let stage = Stage::of(7, 3);
        assert_eq!(candidates(CommandId([7; 16]), &stage.context()).count(), 0);
    }

    proptest! {
        #[test]
        fn b09_every_generated_iban_passes_mod_97(bytes: [u8; 16], attempt: u32) {
            let iban = Iban::drawn(CommandId(bytes), attempt);
            prop_assert_eq!(Iban::parse(iban.as_str()), Some(iban));
            // The standard's own test: country and check digits to the end, letters to numbers, remainder 1.
            let text = iban.to_string();
            let numeric: String = text[4..].chars().chain(text[..4].chars())
                .map(|char| char.to_digit(36).unwrap().to_string()).collect();
            prop_assert_eq!(numeric.parse::<u128>().unwrap() % 97, 1);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC{0,24}", own in "NL[0-9]{2}OPEN[0-9]{0,12}") {
            for text in [text, own] {
                let parsed = Iban::parse(&text);
                prop_assert!(parsed.is_none() || Iban::resembles(&text));
            }
        }
    }
}
