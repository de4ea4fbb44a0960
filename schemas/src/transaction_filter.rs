//! Which balance changes somebody wants to see. All conditions must hold.
//!
//! One meaning for both sides: processors judge by it what they send, a gateway what it fans out to its subscribers.

use prost::Message;

use crate::bank_view::transaction_filter::Direction;
use crate::bank_view::{Transaction, TransactionFilter};

impl Direction {
    /// By the sign of the change.
    #[must_use]
    pub fn of(changed_by: i64) -> Direction {
        if changed_by < 0 { Direction::Debit } else { Direction::Credit }
    }
}

/// A [`TransactionFilter`] that is ready to judge. The default wants everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionPredicate(TransactionFilter);

impl From<TransactionFilter> for TransactionPredicate {
    fn from(mut filter: TransactionFilter) -> TransactionPredicate {
        // Once, not for every transaction.
        filter.description_includes = filter.description_includes.to_lowercase();
        TransactionPredicate(filter)
    }
}

impl TransactionPredicate {
    /// Reads a filter from its bytes. The error says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<TransactionPredicate, String> {
        let filter = TransactionFilter::decode(bytes).map_err(|error| format!("no TransactionFilter: {error}"))?;
        // prost reads what it does not know as the first one, which would want more than was asked for.
        Direction::try_from(filter.direction).map_err(|_| format!("there is no direction {}", filter.direction))?;
        Ok(filter.into())
    }

    /// For a processor; empty when everything is wanted.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// The account, when only one is wanted.
    #[must_use]
    pub fn iban(&self) -> Option<&str> {
        self.0.iban.as_deref()
    }

    /// Whether the transaction is wanted. Amounts compare the absolute cents, so debits pass as well (where signed cents
    /// were compared, they never did).
    #[must_use]
    pub fn accepts(&self, transaction: &Transaction) -> bool {
        let TransactionFilter { iban, amount_min, amount_max, description_includes, .. } = &self.0;
        let (direction, amount) = (self.0.direction(), transaction.changed_by.unsigned_abs());
        iban.as_ref().is_none_or(|iban| *iban == transaction.iban)
            && amount_min.is_none_or(|least| amount >= least)
            && amount_max.is_none_or(|most| amount <= most)
            && (direction == Direction::Either || direction == Direction::of(transaction.changed_by))
            && (description_includes.is_empty()
                || transaction.description.to_lowercase().contains(description_includes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(filter: TransactionFilter) -> bool {
        let rent = Transaction {
            iban: "A".into(),
            changed_by: -1050,
            description: "Huur MEI".into(),
            ..Transaction::default()
        };
        TransactionPredicate::from(filter).accepts(&rent)
    }

    #[test]
    fn each_condition_alone() {
        let any = TransactionFilter::default;
        let direction = |direction: Direction| TransactionFilter { direction: direction.into(), ..any() };
        let includes = |text: &str| TransactionFilter { description_includes: text.into(), ..any() };
        let cases = [
            (any(), true),
            (TransactionFilter { iban: Some("A".into()), ..any() }, true),
            (TransactionFilter { iban: Some("B".into()), ..any() }, false),
            (TransactionFilter { amount_min: Some(1050), ..any() }, true),
            (TransactionFilter { amount_min: Some(1051), ..any() }, false),
            (TransactionFilter { amount_max: Some(1050), ..any() }, true),
            (TransactionFilter { amount_max: Some(1049), ..any() }, false),
            (direction(Direction::Either), true),
            (direction(Direction::Debit), true),
            (direction(Direction::Credit), false),
            (includes("huur"), true),
            (includes("R MeI"), true),
            (includes("juni"), false),
        ];
        for (filter, wanted) in cases {
            assert_eq!(accepts(filter.clone()), wanted, "{filter:?}");
        }
    }

    #[test]
    fn conditions_are_and_ed() {
        let all = |iban: &str, direction: Direction| TransactionFilter {
            iban: Some(iban.into()),
            amount_min: Some(1000),
            amount_max: Some(2000),
            direction: direction.into(),
            description_includes: "mei".into(),
        };
        assert!(accepts(all("A", Direction::Debit)));
        assert!(!accepts(all("B", Direction::Debit)));
        assert!(!accepts(all("A", Direction::Credit)));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_reason() {
        assert_eq!(TransactionPredicate::decode(b""), Ok(TransactionPredicate::default()));
        assert!(TransactionPredicate::decode(&[0xff]).unwrap_err().starts_with("no TransactionFilter: "));
        let unknown = TransactionFilter { direction: 3, ..TransactionFilter::default() };
        assert_eq!(TransactionPredicate::decode(&unknown.encode_to_vec()), Err("there is no direction 3".to_owned()));
        let known = TransactionFilter { direction: Direction::Credit.into(), ..TransactionFilter::default() };
        assert_eq!(TransactionPredicate::decode(&known.encode_to_vec()), Ok(known.into()));
    }
}
