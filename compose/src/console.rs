//! What the stack says: one line at a time to the terminal and, with the time in UTC, to `logs/stack.log`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

/// Where lines go.
pub struct Console {
    terminal: bool,
    log: Option<Mutex<File>>,
}

impl Console {
    /// The terminal only.
    pub fn terminal() -> Self {
        Self { terminal: true, log: None }
    }

    /// A log, and the terminal too unless the process runs in the background.
    pub fn with_log(path: &Path, terminal: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).open(path);
        let log = log.map_err(Error::io("open", path))?;
        Ok(Self { terminal, log: Some(Mutex::new(log)) })
    }

    /// Shows something to a person only, if one looks on.
    pub fn show(&self, text: &str) {
        if self.terminal {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// Says one line. A terminal that is gone is no reason to stop a stack.
    pub fn say(&self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if self.terminal {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        if let Some(log) = &self.log {
            let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let _ = writeln!(log, "{} {line}", utc(SystemTime::now()));
        }
    }
}

/// `2031-01-02T03:04:05Z`.
pub fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970-01-01 as year, month, day (Howard Hinnant's `civil_from_days`, for days after the epoch).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn lines_are_appended_with_their_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stack.log");
        Console::with_log(&path, false).unwrap().say("one");
        Console::with_log(&path, false).unwrap().say("two");
        let text = std::fs::read_to_string(path).unwrap();
        let words: Vec<&str> = text.lines().filter_map(|l| l.split_once("Z ")).map(|l| l.1).collect();
        assert_eq!(words, ["one", "two"]);
    }
}
