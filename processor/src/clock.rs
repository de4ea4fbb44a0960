//! The one door to time. Everything else in the engine and in the bank takes times as arguments.

use std::sync::Arc;
use std::time::Duration;

/// A source of time. The simulator has its own.
pub trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970; may jump. Never decides about data, only about housekeeping and what people read.
    fn wall_ms(&self) -> i64;
    /// Returns after `duration`.
    fn pause(&self, duration: Duration);
}

/// Shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of this machine.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "the one clock module")]
    pub fn shared() -> SharedClock {
        Arc::new(SystemClock { origin: std::time::Instant::now() })
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one clock module")]
    fn wall_ms(&self) -> i64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_millis() as i64)
    }

    #[expect(clippy::disallowed_methods, reason = "the one clock module")]
    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
