//! Whether the restore of one partition gets on.

use std::time::Duration;

/// Without a step for so long it may be stalled. Several times what a broker needs to end a transaction.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing to say.
    Same,
    /// No step for too long, which was not said yet.
    Stalled,
    /// It was said to be stalled, and is not any more.
    Resumed,
}

/// See the module.
pub(super) struct Stall {
    remaining: i64,
    since: Duration,
    is_said: bool,
}

impl Stall {
    /// A restore that begins now, with so many offsets to pass.
    pub fn new(remaining: i64, now: Duration) -> Stall {
        Stall { remaining, since: now, is_said: false }
    }

    /// `remaining`: offsets to pass.
    pub fn look(&mut self, remaining: i64, now: Duration) -> Pace {
        if remaining != self.remaining {
            (self.remaining, self.since) = (remaining, now);
            return if std::mem::take(&mut self.is_said) { Pace::Resumed } else { Pace::Same };
        }
        let stalls = !self.is_said && now.saturating_sub(self.since) >= PATIENCE;
        if stalls { Pace::Stalled } else { Pace::Same }
    }

    /// It was said.
    pub fn said(&mut self) {
        self.is_said = true;
    }

    /// What was waited for so far does not count: the broker was away.
    pub fn begin_again(&mut self, now: Duration) {
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_once_more_when_it_goes_on() {
        let at = Duration::from_secs;
        let mut stall = Stall::new(10, at(0));
        assert_eq!(stall.look(10, at(4)), Pace::Same);
        assert_eq!(stall.look(9, at(8)), Pace::Same, "a step");
        assert_eq!(stall.look(9, at(12)), Pace::Same);
        assert_eq!(stall.look(9, at(13)), Pace::Stalled);
        stall.said();
        assert_eq!(stall.look(9, at(60)), Pace::Same, "said already");
        assert_eq!(stall.look(8, at(61)), Pace::Resumed);
        assert_eq!(stall.look(8, at(66)), Pace::Stalled);
        stall.begin_again(at(66));
        assert_eq!(stall.look(8, at(70)), Pace::Same);
        assert_eq!(stall.look(8, at(71)), Pace::Stalled);
        stall.said();
        stall.begin_again(at(72));
        assert_eq!(stall.look(7, at(73)), Pace::Resumed, "said before the broker was away");
    }
}
