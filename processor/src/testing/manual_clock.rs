//! A clock that moves only when it is told to.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;

/// Time of a simulation. Whoever pauses moves it for everyone.
#[derive(Debug)]
pub struct ManualClock {
    passed: Mutex<Duration>,
    origin_ms: i64,
}

impl ManualClock {
    /// A clock that stands at `origin_ms` (milliseconds since 1970).
    pub fn shared(origin_ms: i64) -> Arc<ManualClock> {
        Arc::new(ManualClock { passed: Mutex::new(Duration::ZERO), origin_ms })
    }

    /// Moves time forward.
    pub fn advance(&self, duration: Duration) {
        *self.passed.lock() += duration;
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        *self.passed.lock()
    }

    fn wall_ms(&self) -> i64 {
        self.origin_ms + self.passed.lock().as_millis() as i64
    }

    fn pause(&self, duration: Duration) {
        self.advance(duration);
    }
}
