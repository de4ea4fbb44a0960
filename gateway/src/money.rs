//! Money as people and as programs read it: Dutch euro text, and cents in 64 bits carried as text.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};

/// Euro cents, 64 bits with a sign, as a string: numbers in JavaScript are exact to 53 bits only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cents(pub i64);

/// Euro cents, 64 bits with a sign, as a string, because a number in JavaScript is exact to 53 bits only.
#[Scalar(name = "Cents")]
impl ScalarType for Cents {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => Ok(Self(text.parse()?)),
            Value::Number(number) => {
                number.as_i64().map(Self).ok_or_else(|| InputValueError::custom("cents are whole numbers"))
            }
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// Cents as Dutch euro text: `€ 1.234,56`, `€ -0,05`.
#[must_use]
pub fn euro(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let absolute = cents.unsigned_abs();
    format!("€ {sign}{},{:02}", grouped(absolute / 100), absolute % 100)
}

/// The absolute value of an amount as Dutch euro text; the sign is said by the direction.
#[must_use]
pub fn euro_absolute(cents: i64) -> String {
    euro(cents).replacen('-', "", 1)
}

fn grouped(whole: u64) -> String {
    let digits = whole.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('.');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_become_dutch_euro_text() {
        let cases = [
            (0, "€ 0,00"),
            (5, "€ 0,05"),
            (99, "€ 0,99"),
            (100, "€ 1,00"),
            (123_456, "€ 1.234,56"),
            (-123_456, "€ -1.234,56"),
            (-5, "€ -0,05"),
            (100_000, "€ 1.000,00"),
            (99_999_999, "€ 999.999,99"),
            (100_000_000_000_000_000, "€ 1.000.000.000.000.000,00"),
            (i64::MIN, "€ -92.233.720.368.547.758,08"),
        ];
        for (cents, text) in cases {
            assert_eq!(euro(cents), text);
        }
    }

    #[test]
    fn the_absolute_text_has_no_sign() {
        assert_eq!(euro_absolute(-123_456), "€ 1.234,56");
        assert_eq!(euro_absolute(123_456), "€ 1.234,56");
        assert_eq!(euro_absolute(i64::MIN), "€ 92.233.720.368.547.758,08");
    }

    #[test]
    fn cents_travel_as_text_and_are_read_from_text_or_number() {
        assert_eq!(Cents(i64::MAX).to_value(), Value::from("9223372036854775807"));
        assert_eq!(Cents::parse(Value::from("-12")).ok(), Some(Cents(-12)));
        assert_eq!(Cents::parse(Value::from(12)).ok(), Some(Cents(12)));
        assert!(Cents::parse(Value::from("12,5")).is_err());
        assert!(Cents::parse(Value::from(true)).is_err());
    }
}
