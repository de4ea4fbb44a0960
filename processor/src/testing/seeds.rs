//! Runs a simulation for many seeds and says which one failed.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Number of seeds, or one seed alone.
const SEEDS: &str = "KONTOR_SEEDS";
const SEED: &str = "KONTOR_SEED";

/// Runs `test` for the seeds 0, 1, 2, …: as many as the environment variable KONTOR_SEEDS says, `count` by default.
/// KONTOR_SEED runs that one seed alone. A seed that fails is printed with the way to run it again.
pub fn for_each_seed(count: u64, test: impl Fn(u64)) {
    let number = |name| env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seeds = match number(SEED) {
        Some(seed) => seed..seed + 1,
        None => 0..number(SEEDS).unwrap_or(count),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
            eprintln!("seed {seed} failed; run it again with {SEED}={seed}");
            resume_unwind(panic);
        }
    }
}
