//! When each event of an open loop is due. Pure: times are offsets from the start.

use std::time::Duration;

/// A steady rate, or everything at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Events per second, evenly spaced, for a time.
    Rate {
        /// Events per second, above 0.
        per_s: f64,
        /// How long.
        duration: Duration,
    },
    /// So many events, as fast as they can be sent.
    Backlog(u64),
}

impl Schedule {
    /// How many events there are.
    pub fn count(&self) -> u64 {
        match self {
            Schedule::Rate { per_s, duration } => (per_s * duration.as_secs_f64()).round() as u64,
            Schedule::Backlog(count) => *count,
        }
    }

    /// When event `n` is due.
    pub fn due(&self, n: u64) -> Duration {
        match self {
            Schedule::Rate { per_s, .. } => Duration::from_secs_f64(n as f64 / per_s),
            Schedule::Backlog(_) => Duration::ZERO,
        }
    }
}

/// Waits for `due` after `start`: sleeps while it is far, yields when it is near. Never early.
pub fn wait_until(start: std::time::Instant, due: Duration) {
    const NEAR: Duration = Duration::from_micros(200);
    loop {
        let Some(left) = due.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else { return };
        match left.checked_sub(NEAR) {
            Some(far) if !far.is_zero() => std::thread::sleep(far),
            _ => std::thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_spaces_events_evenly_and_does_not_drift() {
        let schedule = Schedule::Rate { per_s: 500.0, duration: Duration::from_secs(60) };
        assert_eq!(schedule.count(), 30_000);
        for (n, due_ms) in [(0, 0), (1, 2), (500, 1_000), (29_999, 59_998)] {
            assert_eq!(schedule.due(n), Duration::from_millis(due_ms), "{n}");
        }
    }

    #[test]
    fn a_backlog_is_due_at_once() {
        let schedule = Schedule::Backlog(1_000_000);
        assert_eq!((schedule.count(), schedule.due(999_999)), (1_000_000, Duration::ZERO));
    }

    #[test]
    fn nothing_is_sent_early() {
        let start = std::time::Instant::now();
        let due = Duration::from_millis(3);
        wait_until(start, due);
        assert!(start.elapsed() >= due);
    }
}
