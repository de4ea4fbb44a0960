//! What a read asks for, and what became of it.
//!
//! One [`Reading`] may take several calls, to several partitions: it bounds them all, and remembers whether any of them
//! was answered with rows that may be old.

use schemas::query::Token;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Kept back of the time of a call for the answer "not yet", which must arrive before the call is given up.
const ANSWER_MS_MAX: u32 = 200;

/// See the module.
#[derive(Debug)]
pub struct Reading {
    /// Until when.
    pub deadline: Instant,
    /// How old rows may be where nobody answers fresh in time, milliseconds; `None`: only fresh ones.
    pub staleness_max_ms: Option<NonZeroU32>,
    /// Commits that the answer must hold, of whatever partitions.
    pub at_least: Vec<Token>,
    was_stale: AtomicBool,
}

impl Reading {
    /// Only from the owners.
    #[must_use]
    pub fn fresh(deadline: Instant) -> Self {
        Self { deadline, staleness_max_ms: None, at_least: Vec::new(), was_stale: AtomicBool::new(false) }
    }

    /// Of these commits or later ones.
    #[must_use]
    pub fn at_least(self, tokens: Vec<Token>) -> Self {
        Self { at_least: tokens, ..self }
    }

    /// Also from those that follow the owners; 0 is the same as fresh.
    #[must_use]
    pub fn within(self, staleness_max_ms: u32) -> Self {
        Self { staleness_max_ms: NonZeroU32::new(staleness_max_ms), ..self }
    }

    /// Whether any answer so far may be old.
    pub fn is_stale(&self) -> bool {
        self.was_stale.load(Ordering::Relaxed)
    }

    /// Takes up what an answer says of itself.
    pub(super) fn note(&self, stale: bool) {
        self.was_stale.fetch_or(stale, Ordering::Relaxed);
    }
}

/// Bounds of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// When the call is given up.
    pub timeout_ms: u32,
    /// As in the query protocol; 0: fresh only.
    pub stale_ms_max: u32,
}

impl Bounds {
    /// How long the processor may wait for tokens.
    pub fn wait_ms(self) -> u32 {
        self.timeout_ms - (self.timeout_ms / 4).min(ANSWER_MS_MAX)
    }
}

/// Milliseconds until then.
pub(super) fn left_ms(deadline: Instant) -> u32 {
    let left: Duration = deadline.saturating_duration_since(Instant::now());
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_old_answer_makes_the_whole_old() {
        let reading = Reading::fresh(Instant::now()).within(7);
        assert_eq!(reading.staleness_max_ms.map(NonZeroU32::get), Some(7));
        for (stale, is_stale) in [(false, false), (true, true), (false, true)] {
            reading.note(stale);
            assert_eq!(reading.is_stale(), is_stale);
        }
        assert_eq!(Reading::fresh(Instant::now()).within(0).staleness_max_ms, None);
    }

    #[test]
    fn the_processor_says_not_yet_before_the_call_is_given_up() {
        for (timeout_ms, wait_ms) in [(5000, 4800), (400, 300), (1, 1), (0, 0)] {
            assert_eq!(Bounds { timeout_ms, stale_ms_max: 0 }.wait_ms(), wait_ms);
        }
    }
}
