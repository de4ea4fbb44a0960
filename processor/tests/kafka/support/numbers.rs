//! Time and chance, for tests: how long something took, and a seed that is printed.

#![expect(clippy::disallowed_methods, reason = "tests measure the engine from outside")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use kontor_compose::testing::wanted;

/// Measures from its creation.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Measured durations, for the report of a test.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The longest, zero without any.
    pub fn max(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    /// The middle one, zero without any.
    pub fn p50(&self) -> Duration {
        self.at(50)
    }

    /// `name: 12 times, p50 .. ms, p90 .. ms, max .. ms`.
    pub fn line(&self, name: &str) -> String {
        let [p50, p90, max] = [self.p50(), self.at(90), self.max()].map(|time| time.as_millis());
        format!("{name}: {} times, p50 {p50} ms, p90 {p90} ms, max {max} ms", self.0.len())
    }

    fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
    }
}

/// The seed of a test: `KONTOR_SEED`, or a new one. Printed with the name of the test.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("KONTOR_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64 % 1_000_000)
    });
    println!("{test}: KONTOR_SEED={seed}");
    seed
}

/// Milliseconds since 1970, as records have them.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A time that a test takes: seconds in this environment variable, or `usual`.
pub fn time_wanted(variable: &str, usual: Duration) -> Duration {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).map_or(usual, Duration::from_secs)
}

/// Whether the number of kills was given: somebody measures, with the machine for this test alone.
pub fn kills_by_hand() -> bool {
    std::env::var_os("KONTOR_KILLS").is_some()
}

/// How often a test kills: `KONTOR_KILLS`, or `usual`.
pub fn kills_wanted(usual: usize) -> usize {
    wanted("KONTOR_KILLS", usual)
}
