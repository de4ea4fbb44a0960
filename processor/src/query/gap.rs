//! Whether a watch that resumes misses rows that are not kept any more.
//!
//! A table that is folded from an event topic lacks what was deleted from the topic before the table had read it: at its
//! beginning when the store was made anew, in its middle when the store was away meanwhile. Where the keys are the
//! identifiers that the task gives out, every such hole shows in the numbers, whatever made it. So nothing has to be
//! kept about holes, and no store can be wrong about its own.

use schemas::query::BrokenWatch;
use schemas::query::broken_watch::Reason;

/// How far a watch has come in a table whose rows are numbered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    step: i64,
    /// Identifiers that were given out up to the last row.
    last: i64,
}

impl Numbered {
    /// Behind this key; identifiers rise by `step`. `None`: the key is no identifier.
    pub fn after(step: i64, key: &[u8]) -> Option<Numbered> {
        Some(Numbered { step, last: identifier(key)?.checked_div(step)? })
    }

    /// Takes the next row. False: rows before it are missing.
    pub fn follow(&mut self, key: &[u8]) -> bool {
        let Some(next) = identifier(key).and_then(|id| id.checked_div(self.step)) else { return false };
        let follows = next.checked_sub(1) == Some(self.last);
        self.last = next;
        follows
    }

    /// Compares the place behind the last row with the last identifier that was given out.
    pub fn end(&self, last_identifier: i64) -> Option<Reason> {
        let end = last_identifier.checked_div(self.step)?;
        match self.last.cmp(&end) {
            std::cmp::Ordering::Less => Some(Reason::TooOld),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Reason::BeyondEnd),
        }
    }
}

/// The end of a watch for this reason, with the place where a new one may begin.
pub(super) fn broken(reason: Reason, last_identifier: i64) -> tonic::Status {
    let said = match reason {
        Reason::FellBehind => "fell behind; resume after the last key",
        Reason::TooOld => "rows that follow the cursor are not kept any more; start without a cursor",
        Reason::BeyondEnd => {
            "the cursor is beyond the last row: of another cluster, or from before a reset; start without a cursor"
        }
    };
    BrokenWatch { reason: reason.into(), end: last_identifier.to_be_bytes().to_vec() }.into_status(said)
}

/// The end of a watch that missed changes which are all in the table.
pub(super) fn fell_behind(said: impl Into<String>) -> tonic::Status {
    BrokenWatch { reason: Reason::FellBehind.into(), end: Vec::new() }.into_status(said)
}

fn identifier(key: &[u8]) -> Option<i64> {
    let bytes: [u8; 8] = key.try_into().ok()?;
    Some(i64::from_be_bytes(bytes)).filter(|id| *id >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of partition 1 of 12.
    fn key(nth: i64) -> Vec<u8> {
        (nth * 12 + 1).to_be_bytes().to_vec()
    }

    fn after(key: &[u8]) -> Numbered {
        Numbered::after(12, key).unwrap()
    }

    #[test]
    fn rows_follow_each_other_or_there_is_a_hole() {
        let mut from_the_beginning = after(&0_i64.to_be_bytes());
        assert!((1..=5).all(|nth| from_the_beginning.follow(&key(nth))));
        let mut resumed = after(&key(3));
        assert!(resumed.follow(&key(4)));
        assert!(!resumed.follow(&key(6)), "5 is missing");
        assert!(!after(&key(3)).follow(&key(3)), "and no row comes twice");
        assert!(!after(&key(3)).follow(b"no identifier"));
    }

    #[test]
    fn the_end_is_the_last_identifier_that_was_given_out() {
        let last = 5 * 12 + 1;
        assert_eq!(after(&key(5)).end(last), None);
        assert_eq!(after(&key(4)).end(last), Some(Reason::TooOld), "5 was given out and is not there");
        assert_eq!(after(&key(6)).end(last), Some(Reason::BeyondEnd));
        assert_eq!(after(&0_i64.to_be_bytes()).end(0), None, "before the first");
        assert_eq!(after(&key(1)).end(0), Some(Reason::BeyondEnd));
    }

    #[test]
    fn only_identifiers_are_numbers() {
        for key in [b"".as_slice(), b"NL1", &(-1_i64).to_be_bytes()] {
            assert!(Numbered::after(12, key).is_none(), "{key:?}");
        }
        assert!(Numbered::after(0, &key(1)).is_none());
    }

    #[test]
    fn the_status_says_where_to_begin() {
        let status = broken(Reason::TooOld, 61);
        let said = BrokenWatch::of(&status).unwrap();
        assert_eq!((said.reason(), said.end), (Reason::TooOld, 61_i64.to_be_bytes().to_vec()));
        assert_eq!(BrokenWatch::of(&fell_behind("so")).unwrap().reason(), Reason::FellBehind);
    }
}
