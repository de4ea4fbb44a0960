//! Whether a letter may still be sent again: only while whatever an earlier replay of it did is remembered.
//!
//! An earlier replay happened after the letter was written, so the outcome that it left is younger than the letter.
//! While the letter is younger than outcomes are kept for, that outcome is there, and the command is answered by it
//! instead of being carried out once more.

/// The letter bears the time of the processor that wrote it, outcomes expire by the time of the broker, and this is the
/// clock of a third machine: they may differ. Not by an hour, or nothing else would work either; and of a short
/// retention something has to be left.
const MARGIN_MS_MAX: i64 = 3_600_000;
/// The part of a short retention that is margin.
const MARGIN_PART: i64 = 10;

/// For how long the ids of commands are remembered.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct RetentionArgs {
    /// Hours of record time for which the processors remember the ids of commands; give what they run with.
    #[arg(long, env = "KONTOR_OUTCOME_RETENTION_HOURS", default_value_t = 168.0)]
    pub outcome_retention_hours: f64,
}

impl RetentionArgs {
    /// In milliseconds.
    pub fn ms(&self) -> anyhow::Result<i64> {
        let hours = self.outcome_retention_hours;
        anyhow::ensure!(hours.is_finite() && hours > 0.0, "outcome retention is {hours} hours; give a positive number");
        Ok((hours * 3_600_000.0) as i64)
    }
}

/// Whether an earlier replay of a letter from this time would still be remembered. A letter without a time counts as
/// too old, and so does one from a time to come: that clock says nothing.
pub fn is_remembered(written_at_ms: Option<i64>, now_ms: i64, retention_ms: i64) -> bool {
    let margin_ms = MARGIN_MS_MAX.min(retention_ms / MARGIN_PART);
    let age_ms = written_at_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
    age_ms.is_some_and(|age_ms| (-margin_ms..retention_ms - margin_ms).contains(&age_ms))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::*;
    use crate::config::RunArgs;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    const NOW_MS: i64 = 1_800_000_000_000;

    #[test]
    fn a_letter_is_too_old_before_its_first_replay_could_be_forgotten() {
        let retention_ms = 7 * DAY_MS;
        for (age_ms, remembered) in [
            (0, true),
            (DAY_MS, true),
            (retention_ms - HOUR_MS - 1, true),
            (retention_ms - HOUR_MS, false),
            (retention_ms, false),
            (9 * DAY_MS, false),
            (14 * DAY_MS, false),
            // A clock that is a little ahead, and one that is wrong.
            (-HOUR_MS, true),
            (-DAY_MS, false),
        ] {
            assert_eq!(is_remembered(Some(NOW_MS - age_ms), NOW_MS, retention_ms), remembered, "{age_ms} ms");
        }
        assert!(!is_remembered(None, NOW_MS, retention_ms));
    }

    #[test]
    fn of_a_short_retention_a_tenth_is_margin() {
        assert!(is_remembered(Some(NOW_MS - 899), NOW_MS, 1_000));
        assert!(!is_remembered(Some(NOW_MS - 900), NOW_MS, 1_000));
    }

    /// As clap has it: flag, variable and default.
    fn setting<A: Args>() -> (Option<String>, Option<String>, Vec<String>) {
        let command = A::augment_args(Command::new("any"));
        let arg = command.get_arguments().find(|arg| arg.get_id() == "outcome_retention_hours").unwrap();
        let texts = arg.get_default_values().iter().map(|text| text.to_string_lossy().into_owned());
        let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
        (arg.get_long().map(str::to_owned), variable, texts.collect())
    }

    #[test]
    fn the_retention_is_named_as_it_is_for_the_processor() {
        assert_eq!(setting::<RetentionArgs>(), setting::<RunArgs>());
    }

    #[test]
    fn a_retention_that_is_none_is_refused() {
        assert_eq!(RetentionArgs { outcome_retention_hours: 0.5 }.ms().unwrap(), HOUR_MS / 2);
        for outcome_retention_hours in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(RetentionArgs { outcome_retention_hours }.ms().is_err(), "{outcome_retention_hours}");
        }
    }
}
