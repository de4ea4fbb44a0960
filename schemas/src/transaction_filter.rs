//! Which balance changes somebody wants to see. All conditions must hold.
//!
//! One meaning for both sides: processors judge by it what they send, a gateway what it fans out to its subscribers.

use crate::bank_view::transaction_filter::Direction;
use crate::bank_view::{Transaction, TransactionFilter};

impl Direction {
    /// By the sign of the change.
    #[must_use]
    pub fn of(changed_by: i64) -> Direction {
        if changed_by < 0 { Direction::Debit } else { Direction::Credit }
    }
}

impl TransactionFilter {
    /// The same conditions in the form that [`TransactionFilter::accepts`] takes: lower case is made once.
    #[must_use]
    pub fn lowered(mut self) -> TransactionFilter {
        self.description_includes = self.description_includes.to_lowercase();
        self
    }

    /// Whether everything is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == TransactionFilter::default()
    }

    /// Whether the transaction is wanted, by conditions that are [`TransactionFilter::lowered`]. Amounts compare the
    /// absolute cents, so debits pass as well (where signed cents were compared, they never did).
    #[must_use]
    pub fn accepts(&self, transaction: &Transaction) -> bool {
        let amount = transaction.changed_by.unsigned_abs();
        self.iban.as_ref().is_none_or(|iban| *iban == transaction.iban)
            && self.amount_min.is_none_or(|least| amount >= least)
            && self.amount_max.is_none_or(|most| amount <= most)
            && (self.direction() == Direction::Either || self.direction() == Direction::of(transaction.changed_by))
            && (self.description_includes.is_empty()
                || transaction.description.to_lowercase().contains(&self.description_includes))
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
        filter.lowered().accepts(&rent)
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
}
