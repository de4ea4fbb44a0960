//! Which transactions a subscriber or a page wants, as GraphQL asks for it. The conditions themselves are those of the
//! query protocol: whatever is read from a table is filtered by the processor, before the network, and what comes live,
//! once for all subscribers, is filtered here.

use schemas::TransactionPredicate;
use schemas::bank_view::{Transaction, TransactionFilter, transaction_filter};

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
        match transaction_filter::Direction::of(changed_by) {
            transaction_filter::Direction::Debit => Self::Debit,
            _ => Self::Credit,
        }
    }
}

/// The conditions; absent ones hold for everything.
#[derive(Debug, Clone, Default)]
pub struct Filter(TransactionPredicate);

impl Filter {
    /// A negative bound counts as 0.
    #[must_use]
    pub fn new(
        iban: Option<String>,
        min_amount: Option<i64>,
        max_amount: Option<i64>,
        direction: Option<Direction>,
        descr_includes: Option<String>,
    ) -> Self {
        let bound = |amount: i64| u64::try_from(amount).unwrap_or(0);
        let direction = match direction {
            None => transaction_filter::Direction::Either,
            Some(Direction::Debit) => transaction_filter::Direction::Debit,
            Some(Direction::Credit) => transaction_filter::Direction::Credit,
        };
        let filter = TransactionFilter {
            iban,
            amount_min: min_amount.map(bound),
            amount_max: max_amount.map(bound),
            direction: direction.into(),
            description_includes: descr_includes.unwrap_or_default(),
        };
        Self(filter.into())
    }

    /// For a processor; empty when everything is wanted.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode()
    }

    /// The account, when only one is wanted.
    #[must_use]
    pub fn iban(&self) -> Option<&str> {
        self.0.iban()
    }

    /// Whether the transaction is wanted.
    #[must_use]
    pub fn accepts(&self, transaction: &Transaction) -> bool {
        self.0.accepts(transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(filter: &Filter) -> bool {
        filter.accepts(&Transaction { changed_by: -1050, description: "Huur MEI".into(), ..Transaction::default() })
    }

    #[test]
    fn arguments_become_conditions() {
        let text = |text: &str| Some(text.to_owned());
        let cases = [
            (Filter::default(), true),
            (Filter::new(text("B"), None, None, None, None), false),
            (Filter::new(None, Some(1051), None, None, None), false),
            (Filter::new(None, Some(-5), None, None, None), true),
            (Filter::new(None, None, Some(1049), None, None), false),
            (Filter::new(None, None, Some(-5), None, None), false),
            (Filter::new(None, None, None, Some(Direction::Debit), None), true),
            (Filter::new(None, None, None, Some(Direction::Credit), None), false),
            (Filter::new(None, None, None, None, text("R MeI")), true),
            (Filter::new(None, None, None, None, text("juni")), false),
        ];
        for (filter, wanted) in cases {
            assert_eq!(accepts(&filter), wanted, "{filter:?}");
        }
    }

    #[test]
    fn a_filter_that_wants_everything_is_no_filter_for_a_processor() {
        assert!(Filter::new(None, None, None, None, None).encode().is_empty());
        assert!(Filter::new(None, None, None, None, Some(String::new())).encode().is_empty());
        assert!(!Filter::new(None, Some(0), None, None, None).encode().is_empty());
    }
}
