//! Which transactions a subscriber or a page wants. All conditions must hold.

use crate::rows::Transaction;

/// Whether money left the account or came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, async_graphql::Enum)]
#[graphql(name = "dtype")]
pub enum Direction {
    /// Money left the account.
    Debit,
    /// Money came to the account.
    Credit,
}

impl Direction {
    /// By the sign of the change.
    #[must_use]
    pub fn of(changed_by: i64) -> Self {
        if changed_by < 0 { Self::Debit } else { Self::Credit }
    }
}

/// The conditions; absent ones hold for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    iban: Option<String>,
    min_amount: Option<u64>,
    max_amount: Option<u64>,
    direction: Option<Direction>,
    descr_includes: Option<String>,
}

impl Filter {
    /// Amounts compare the absolute cents, so debits pass as well (where signed cents were compared, they never did);
    /// a negative bound counts as 0. Case does not matter to `descr_includes`.
    #[must_use]
    pub fn new(
        iban: Option<String>,
        min_amount: Option<i64>,
        max_amount: Option<i64>,
        direction: Option<Direction>,
        descr_includes: Option<String>,
    ) -> Self {
        let bound = |amount: i64| u64::try_from(amount).unwrap_or(0);
        Self {
            iban,
            min_amount: min_amount.map(bound),
            max_amount: max_amount.map(bound),
            direction,
            descr_includes: descr_includes.map(|text| text.to_lowercase()),
        }
    }

    /// Whether everything is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The account, when only one is wanted.
    #[must_use]
    pub fn iban(&self) -> Option<&str> {
        self.iban.as_deref()
    }

    /// Whether the transaction is wanted.
    #[must_use]
    pub fn accepts(&self, transaction: &Transaction) -> bool {
        let amount = transaction.changed_by.unsigned_abs();
        self.iban.as_ref().is_none_or(|iban| *iban == transaction.iban)
            && self.min_amount.is_none_or(|least| amount >= least)
            && self.max_amount.is_none_or(|most| amount <= most)
            && self.direction.is_none_or(|direction| direction == Direction::of(transaction.changed_by))
            && self
                .descr_includes
                .as_ref()
                .is_none_or(|text| transaction.description.to_lowercase().contains(text.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rent() -> Transaction {
        Transaction { iban: "A".into(), changed_by: -1050, description: "Huur MEI".into(), ..Transaction::default() }
    }

    fn accepts(filter: &Filter) -> bool {
        filter.accepts(&rent())
    }

    #[test]
    fn each_condition_alone() {
        let text = |text: &str| Some(text.to_owned());
        let cases = [
            (Filter::default(), true),
            (Filter::new(text("A"), None, None, None, None), true),
            (Filter::new(text("B"), None, None, None, None), false),
            (Filter::new(None, Some(1050), None, None, None), true),
            (Filter::new(None, Some(1051), None, None, None), false),
            (Filter::new(None, Some(-5), None, None, None), true),
            (Filter::new(None, None, Some(1050), None, None), true),
            (Filter::new(None, None, Some(1049), None, None), false),
            (Filter::new(None, None, None, Some(Direction::Debit), None), true),
            (Filter::new(None, None, None, Some(Direction::Credit), None), false),
            (Filter::new(None, None, None, None, text("huur")), true),
            (Filter::new(None, None, None, None, text("R MeI")), true),
            (Filter::new(None, None, None, None, text("juni")), false),
        ];
        for (filter, wanted) in cases {
            assert_eq!(accepts(&filter), wanted, "{filter:?}");
        }
    }

    #[test]
    fn conditions_are_and_ed() {
        let all = |iban: &str, direction| {
            Filter::new(Some(iban.into()), Some(1000), Some(2000), Some(direction), Some("mei".into()))
        };
        assert!(accepts(&all("A", Direction::Debit)));
        assert!(!accepts(&all("B", Direction::Debit)));
        assert!(!accepts(&all("A", Direction::Credit)));
    }
}
