//! Invariants, and what was found to break them. Pure data.

use super::facts::At;

/// How many breaches of one invariant are kept with their text. All are counted.
const KEPT: usize = 20;

/// The standing invariants that an audit can judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Invariant {
    /// Money is neither made nor lost.
    I1,
    /// No balance below its limit; chains of changes are unbroken and in order.
    I2,
    /// Every command has exactly one outcome, every outcome exactly one command.
    I3,
    /// A debit exists iff its credit does; rows are what events add up to.
    I4,
    /// A store is the fold of its changelog.
    I5,
}

/// A sentence that must hold and does not.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Breach {
    /// The record that shows it, when one does.
    pub at: Option<At>,
    /// What is wrong, with ids and amounts.
    pub what: String,
}

/// Breaches of one invariant.
#[derive(Clone, Default, Debug)]
pub struct Breaches {
    /// The first ones by place, at most 20 once sorted.
    pub first: Vec<Breach>,
    /// How many were found.
    pub count: u64,
}

impl Breaches {
    /// Notes one more. Those that lie first in the log are kept, in whatever order they are found.
    pub fn add(&mut self, at: Option<At>, what: String) {
        self.count += 1;
        self.first.push(Breach { at, what });
        if self.first.len() >= 4 * KEPT {
            self.settle();
        }
    }

    /// Sorts by place and keeps the first ones.
    pub fn settle(&mut self) {
        self.first.sort();
        self.first.truncate(KEPT);
    }
}

/// Breaches of every invariant.
#[derive(Clone, Default, Debug)]
pub struct Findings([Breaches; 5]);

impl Findings {
    /// Notes one more.
    pub fn add(&mut self, invariant: Invariant, at: Option<At>, what: String) {
        self.0[invariant as usize].add(at, what);
    }

    /// What was found about `invariant`, in the order of the log.
    pub fn take(&mut self, invariant: Invariant) -> Breaches {
        let mut breaches = std::mem::take(&mut self.0[invariant as usize]);
        breaches.settle();
        breaches
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Topic;
    use super::*;

    #[test]
    fn the_first_by_place_is_kept_whatever_the_order_of_finding() {
        let mut breaches = Breaches::default();
        for offset in (0..1000).rev() {
            breaches.add(Some(At { topic: Topic::Commands, partition: 0, offset }), String::new());
        }
        breaches.settle();
        let offsets: Vec<_> = breaches.first.iter().filter_map(|breach| Some(breach.at?.offset)).collect();
        assert_eq!((breaches.count, offsets), (1000, (0..20).collect()));
    }
}
