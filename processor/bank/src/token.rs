//! The token of an account: what proves that a transfer comes from somebody who may pay from it.
//!
//! A token is 20 decimal digits, the HMAC-SHA256 of the iban under the bank's secret, reduced. It is stored in no
//! table: whoever holds the secret can say it again. Secrets rotate: the first of the list signs, all verify. Nothing
//! here shows a secret or a token when it is printed for debugging.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

use crate::Iban;

/// Digits of a token.
const DIGITS: usize = 20;
/// 10^20: a token is a number below.
const MODULUS: u128 = 100_000_000_000_000_000_000;
/// What is signed to recognise a secret. It can never be an iban.
const CHECK_LABEL: &[u8] = b"kontor token secret check value";

/// A token, or what a client gave for one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

impl Token {
    /// Wraps whatever a client sent; nothing is checked.
    pub fn new(text: impl Into<String>) -> Token {
        Token(text.into())
    }

    /// The text, for the command's fingerprint and for the feedback that hands the token to its owner.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why secrets or tokens of a configuration are refused at start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No secret at all: nothing could be signed.
    #[error("no token secret is configured, give at least one")]
    None,
    /// A secret that could be guessed.
    #[error("token secret has {bytes} bytes, give at least {min_bytes}", min_bytes = TokenSecret::BYTES_MIN)]
    TooShort {
        /// Length of the refused secret.
        bytes: usize,
    },
    /// The company's token is no token.
    #[error("the token of the company account is not 20 decimal digits")]
    CompanyToken,
}

/// One secret of the bank.
#[derive(Clone)]
pub struct TokenSecret(Vec<u8>);

impl TokenSecret {
    /// Shorter secrets are refused.
    pub const BYTES_MIN: usize = 16;

    /// Takes the bytes of a secret; refuses short ones.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<TokenSecret, SecretError> {
        let bytes = bytes.into();
        match bytes.len() {
            length if length < TokenSecret::BYTES_MIN => Err(SecretError::TooShort { bytes: length }),
            _ => Ok(TokenSecret(bytes)),
        }
    }

    fn sign(&self, message: &[u8]) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        mac.chain_update(message).finalize().into_bytes().into()
    }

    fn token(&self, iban: &Iban) -> Token {
        let mac = self.sign(iban.as_str().as_bytes());
        let number = mac.iter().fold(0_u128, |rest, byte| (rest * 256 + u128::from(*byte)) % MODULUS);
        Token(format!("{number:0width$}", width = DIGITS))
    }

    fn check_value(&self) -> CheckValue {
        let mac = self.sign(CHECK_LABEL);
        CheckValue(std::array::from_fn(|at| mac[at]))
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(redacted)")
    }
}

/// Recognises a secret without telling it: stored with the state, compared at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckValue(pub [u8; 16]);

/// Signs and verifies the tokens of all accounts.
#[derive(Clone, Debug)]
pub struct Tokens {
    signer: TokenSecret,
    earlier: Vec<TokenSecret>,
    company: Token,
}

impl Tokens {
    /// The company's token unless the configuration names another.
    pub const COMPANY_DEFAULT: &'static str = "00000000000000000000";

    /// Takes the secrets, the first of which signs, and the token of the company account.
    pub fn new(secrets: Vec<TokenSecret>, company: &str) -> Result<Tokens, SecretError> {
        if company.len() != DIGITS || !company.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SecretError::CompanyToken);
        }
        let mut secrets = secrets.into_iter();
        let signer = secrets.next().ok_or(SecretError::None)?;
        Ok(Tokens { signer, earlier: secrets.collect(), company: Token::new(company) })
    }

    /// The token of an account, as its owner gets it.
    pub fn token(&self, iban: &Iban) -> Token {
        if *iban == Iban::COMPANY { self.company.clone() } else { self.signer.token(iban) }
    }

    /// Whether `given` is the token of the account under any of the secrets.
    pub fn verify(&self, iban: &Iban, given: &Token) -> bool {
        if *iban == Iban::COMPANY {
            return same(&self.company, given);
        }
        self.secrets().any(|secret| same(&secret.token(iban), given))
    }

    /// The check value of the secret that signs: to be stored with the state.
    pub fn check_value(&self) -> CheckValue {
        self.signer.check_value()
    }

    /// The check values of the other secrets. State that was made under a secret that is not in the list is refused:
    /// tokens in the hands of clients would stop working.
    pub fn earlier_check_values(&self) -> impl Iterator<Item = CheckValue> {
        self.earlier.iter().map(TokenSecret::check_value)
    }

    fn secrets(&self) -> impl Iterator<Item = &TokenSecret> {
        std::iter::once(&self.signer).chain(&self.earlier)
    }
}

/// Compares without an early exit, so that the time taken does not tell how many digits were right.
fn same(expected: &Token, given: &Token) -> bool {
    let (expected, given) = (expected.0.as_bytes(), given.0.as_bytes());
    let differing = expected.iter().zip(given).fold(0, |bits, (left, right)| bits | (left ^ right));
    expected.len() == given.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Stage;
    use crate::{CommandId, candidates};
    use proptest::prelude::*;

    const FIRST: &[u8] = b"0123456789abcdef0123456789abcdef";
    const SECOND: &[u8] = b"another secret, for rotation....";

    fn tokens(secrets: &[&[u8]]) -> Tokens {
        let secrets = secrets.iter().map(|bytes| TokenSecret::new(*bytes).unwrap()).collect();
        Tokens::new(secrets, Tokens::COMPANY_DEFAULT).unwrap()
    }

    fn iban(text: &str) -> Iban {
        Iban::parse(text).unwrap()
    }

    #[test]
    fn b10_tokens_are_the_known_ones() {
        // Computed by another implementation of HMAC and of big integers.
        let cases = [
            (FIRST, "NL66OPEN0000000000", "49685922180133596931"),
            (FIRST, "NL67OPEN0000000176", "00597424087980229427"),
            (SECOND, "NL66OPEN0000000000", "79877942582215711657"),
        ];
        for (secret, account, token) in cases {
            let secret = TokenSecret::new(secret).unwrap();
            assert_eq!(secret.token(&iban(account)).as_str(), token, "{account}");
        }
    }

    #[test]
    fn the_first_secret_signs_and_all_verify() {
        let account = iban("NL39OPEN0000000001");
        let (old, both, new) = (tokens(&[FIRST]), tokens(&[SECOND, FIRST]), tokens(&[SECOND]));
        assert_eq!(both.token(&account), new.token(&account));
        assert!(both.verify(&account, &old.token(&account)));
        assert!(both.verify(&account, &new.token(&account)));
        assert!(!new.verify(&account, &old.token(&account)));
    }

    #[test]
    fn the_company_has_the_configured_token_and_no_other() {
        let company = |token: &str| Tokens::new(vec![TokenSecret::new(FIRST).unwrap()], token);
        let tokens = company("12345678901234567890").unwrap();
        assert_eq!(tokens.token(&Iban::COMPANY).as_str(), "12345678901234567890");
        assert!(tokens.verify(&Iban::COMPANY, &Token::new("12345678901234567890")));
        assert!(!tokens.verify(&Iban::COMPANY, &Token::new("49685922180133596931")));
        assert!(!tokens.verify(&iban("NL39OPEN0000000001"), &Token::new("12345678901234567890")));
        for wrong in ["", "1234567890123456789", "123456789012345678901", "1234567890123456789x"] {
            assert_eq!(company(wrong).unwrap_err(), SecretError::CompanyToken);
        }
    }

    #[test]
    fn only_the_whole_token_is_right() {
        let (tokens, account) = (tokens(&[FIRST]), iban("NL67OPEN0000000176"));
        assert!(tokens.verify(&account, &Token::new("00597424087980229427")));
        for wrong in ["597424087980229427", "00597424087980229426", "005974240879802294270", "", "cash"] {
            assert!(!tokens.verify(&account, &Token::new(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_secret_of_before_is_recognised_and_a_wrong_one_is_not() {
        let stored = tokens(&[FIRST]).check_value();
        assert_eq!(stored.0[..4], [0x0a, 0x00, 0x02, 0xb3]);
        assert_eq!(tokens(&[SECOND, FIRST]).earlier_check_values().collect::<Vec<_>>(), [stored]);
        assert_ne!(tokens(&[SECOND]).check_value(), stored);
    }

    #[test]
    fn poor_secrets_are_refused() {
        assert_eq!(TokenSecret::new("short").unwrap_err(), SecretError::TooShort { bytes: 5 });
        assert_eq!(Tokens::new(vec![], Tokens::COMPANY_DEFAULT).unwrap_err(), SecretError::None);
    }

    #[test]
    fn debugging_shows_nothing() {
        let shown = format!("{:?}", tokens(&[FIRST]));
        assert!(!shown.contains("0123456789") && !shown.contains("0000") && !shown.contains("48, 49"), "{shown}");
    }

    proptest! {
        #[test]
        fn b10_every_token_has_20_digits_and_verifies(id: [u8; 16], secret: [u8; 32]) {
            let tokens = tokens(&[&secret]);
            let account = candidates(CommandId(id), &Stage::of(0, 1).context()).next().unwrap();
            let token = tokens.token(&account);
            prop_assert_eq!(token.as_str().len(), 20);
            prop_assert!(token.as_str().bytes().all(|byte| byte.is_ascii_digit()));
            prop_assert!(tokens.verify(&account, &token));
        }
    }
}
