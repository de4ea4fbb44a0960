//! Whether a restore gets on.

use std::time::Duration;

/// Without a step for so long it stands still. Several times what a broker needs to end a transaction that it has decided.
const STANDSTILL: Duration = Duration::from_secs(5);

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing to say.
    Same,
    /// It stands still, which was not said yet.
    Stalled,
    /// It was said to stand still, and does not any more.
    Resumed,
}

/// See the module.
pub(super) struct Standstill {
    remaining: i64,
    since: Duration,
    is_said: bool,
}

impl Standstill {
    /// A restore that begins now.
    pub fn new(now: Duration) -> Standstill {
        Standstill { remaining: i64::MAX, since: now, is_said: false }
    }

    /// `remaining`: offsets to pass, of all partitions together.
    pub fn look(&mut self, remaining: i64, now: Duration) -> Pace {
        if remaining != self.remaining {
            (self.remaining, self.since) = (remaining, now);
            return if std::mem::take(&mut self.is_said) { Pace::Resumed } else { Pace::Same };
        }
        let stalls = !self.is_said && now.saturating_sub(self.since) >= STANDSTILL;
        self.is_said |= stalls;
        if stalls { Pace::Stalled } else { Pace::Same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_once_more_when_it_goes_on() {
        let at = Duration::from_secs;
        let mut standstill = Standstill::new(at(0));
        assert_eq!(standstill.look(10, at(4)), Pace::Same);
        assert_eq!(standstill.look(9, at(8)), Pace::Same, "a step");
        assert_eq!(standstill.look(9, at(12)), Pace::Same);
        assert_eq!(standstill.look(9, at(13)), Pace::Stalled);
        assert_eq!(standstill.look(9, at(60)), Pace::Same, "said already");
        assert_eq!(standstill.look(8, at(61)), Pace::Resumed);
        assert_eq!(standstill.look(8, at(66)), Pace::Stalled);
    }
}
