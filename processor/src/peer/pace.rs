//! A bounded rate, shared by all copies: who has bytes to send takes a turn and waits until it comes.
//!
//! It sleeps for nobody, and saves up nothing: after a pause the rate is what it was, without a burst.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::SharedClock;

pub(super) struct Pace {
    bytes_per_second: u64,
    clock: SharedClock,
    /// Monotonic time at which all turns taken so far are over.
    taken_to: Mutex<Duration>,
}

impl Pace {
    /// `bytes_per_second`: at least 1.
    pub fn new(bytes_per_second: u64, clock: SharedClock) -> Pace {
        Pace { bytes_per_second: bytes_per_second.max(1), clock, taken_to: Mutex::new(Duration::ZERO) }
    }

    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Takes a turn for so many bytes; how long to wait for it.
    pub fn turn(&self, bytes: usize) -> Duration {
        let now = self.clock.monotonic();
        let mut taken_to = self.taken_to.lock();
        let begins = now.max(*taken_to);
        *taken_to = begins + time_of(bytes as u64, self.bytes_per_second);
        begins - now
    }
}

/// Time that so many bytes take at this rate.
pub(super) fn time_of(bytes: u64, per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::ManualClock;

    #[test]
    fn turns_add_up_to_the_rate_and_a_pause_saves_nothing_up() {
        let clock = ManualClock::shared(0);
        let pace = Pace::new(1_000, Arc::clone(&clock) as SharedClock);
        assert_eq!(pace.turn(500), Duration::ZERO);
        assert_eq!(pace.turn(500), Duration::from_millis(500), "whoever sends");
        assert_eq!(pace.turn(1), Duration::from_secs(1));
        clock.advance(Duration::from_secs(60));
        assert_eq!(pace.turn(1_000), Duration::ZERO);
        assert_eq!(pace.turn(1_000), Duration::from_secs(1));
    }

    #[test]
    fn times_do_not_overflow() {
        assert_eq!(time_of(64 << 20, 64 << 20), Duration::from_secs(1));
        assert_eq!(time_of(u64::MAX, 0), Duration::from_nanos(u64::MAX));
    }
}
