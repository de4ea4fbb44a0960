//! What the campaigns share: several instances and gateways, partitions that are made to move, traffic and subscribers
//! through the gateways, and what really happened to compare them with.
//!
//! Each campaign is small by default; variables make it as large as is wanted (`KONTOR_MOVES`, `KONTOR_SUBSCRIBERS`,
//! `KONTOR_READS`). Times are printed, never judged.

mod fleet;
mod owners;
mod subscriber;
mod traffic;
mod truth;

pub use fleet::{BEGINNING, Fleet, PARTITIONS};
pub use kontor_compose::testing::wanted;
pub use subscriber::{Plan, Subscribers};
pub use traffic::{Paid, Refusals, Traffic, ask, pay};
pub use truth::Truth;

use std::time::Duration;

/// `12 times, p50 .. ms, max .. ms`.
pub fn times(mut all: Vec<Duration>) -> String {
    all.sort();
    let middle = all.get(all.len() / 2).copied().unwrap_or_default();
    let last = all.last().copied().unwrap_or_default();
    format!("{} times, p50 {} ms, max {} ms", all.len(), middle.as_millis(), last.as_millis())
}
