//! CPU time and memory of processes, from /proc.
//!
//! A sampler looks once a second; CPU time is the difference over the run, so what a process did before is left out.
//! A process that was replaced during the run shows as gone, and the report says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Clock ticks per second in /proc, the same on every Linux architecture that we run on.
const TICKS_PER_S: f64 = 100.0;
/// How often memory is noted in the series of a report.
const SERIES: Duration = Duration::from_secs(10);

/// What is looked at under one name: a process, or several together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// As in [`Usage`].
    pub name: String,
    /// Its processes.
    pub pids: Vec<i32>,
    /// The entry that its processes count in too.
    pub within: Option<String>,
}

impl Watched {
    /// One process.
    pub fn one(name: &str, pid: i32) -> Watched {
        Watched { name: name.to_owned(), pids: vec![pid], within: None }
    }

    /// None once one of them is gone: a sum over others would say less than was used.
    fn sample(&self) -> Option<Sample> {
        let zero = Sample { cpu_s: 0.0, rss_bytes: 0 };
        self.pids.iter().try_fold(zero, |sum, pid| {
            let one = sample(*pid)?;
            Some(Sample { cpu_s: sum.cpu_s + one.cpu_s, rss_bytes: sum.rss_bytes + one.rss_bytes })
        })
    }
}

/// What was used under one name during a run.
#[derive(Clone, Debug, Serialize, Default)]
pub struct Usage {
    /// `processor` (all of them), `processor-1`, `gateway-1`, `broker`, `driver` ...
    pub name: String,
    /// Counted in the entry of this name already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// CPU seconds, user and system.
    pub cpu_s: f64,
    /// CPU milliseconds per thousand answered commands.
    pub cpu_ms_per_1000: f64,
    /// Resident bytes at the end.
    pub rss_bytes: u64,
    /// The most that was seen.
    pub rss_max_bytes: u64,
    /// Resident bytes every 10 seconds.
    pub rss_series_bytes: Vec<u64>,
    /// The process ended during the run.
    pub gone: bool,
}

impl Usage {
    /// Resident bytes at the end over those of minute 5; `None` for runs that end before minute 10.
    pub fn growth_since_minute_5(&self) -> Option<f64> {
        let series = &self.rss_series_bytes;
        let at_minute_5 = series.get(30).filter(|bytes| **bytes > 0 && series.len() >= 60)?;
        Some(self.rss_bytes as f64 / *at_minute_5 as f64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    cpu_s: f64,
    rss_bytes: u64,
}

/// Looks at processes until it is stopped.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Usage>>,
}

impl Sampler {
    /// Starts to look at these.
    pub fn start(watched: Vec<Watched>) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || watch(&watched, &stopped));
        Sampler { stop, thread }
    }

    /// Stops, and says what was used in between; per thousand of `answered` commands.
    pub fn stop(self, answered: u64) -> Vec<Usage> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let mut all = self.thread.join().unwrap_or_default();
        for usage in &mut all {
            usage.cpu_ms_per_1000 = per_1000(usage.cpu_s, answered);
        }
        all
    }
}

/// CPU milliseconds per thousand.
pub fn per_1000(cpu_s: f64, answered: u64) -> f64 {
    if answered == 0 { 0.0 } else { cpu_s * 1_000_000.0 / answered as f64 }
}

fn watch(watched: &[Watched], stop: &AtomicBool) -> Vec<Usage> {
    let first: Vec<Option<Sample>> = watched.iter().map(Watched::sample).collect();
    let named = |watched: &Watched| {
        let Watched { name, within, .. } = watched.clone();
        Usage { name, within, ..Usage::default() }
    };
    let mut all: Vec<Usage> = watched.iter().map(named).collect();
    let (mut next_series, start) = (Duration::ZERO, Instant::now());
    loop {
        let last = stop.load(Ordering::Relaxed);
        let in_series = start.elapsed() >= next_series;
        if in_series {
            next_series += SERIES;
        }
        for ((usage, one), first) in all.iter_mut().zip(watched).zip(&first) {
            note(usage, *first, one.sample(), in_series);
        }
        if last {
            return all;
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

fn note(usage: &mut Usage, first: Option<Sample>, now: Option<Sample>, in_series: bool) {
    let (Some(first), Some(now)) = (first, now) else {
        usage.gone = true;
        return;
    };
    // A pid that was given to another process has used less than the first sample said.
    usage.gone |= now.cpu_s < first.cpu_s;
    usage.cpu_s = (now.cpu_s - first.cpu_s).max(0.0);
    usage.rss_bytes = now.rss_bytes;
    usage.rss_max_bytes = usage.rss_max_bytes.max(now.rss_bytes);
    if in_series {
        usage.rss_series_bytes.push(now.rss_bytes);
    }
}

fn sample(pid: i32) -> Option<Sample> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Sample { cpu_s: cpu_seconds(&stat)?, rss_bytes: resident_bytes(&status)? })
}

/// utime and stime. The name in parentheses may hold spaces and parentheses itself.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_S)
}

pub(crate) fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a (very) odd name) S 1 42 42 0 -1 4194304 9 0 0 0 250 50 0 0 20 0 3 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("no stat"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_gone() {
        let this = i32::try_from(std::process::id()).unwrap();
        let all = Sampler::start(vec![Watched::one("gone", i32::MAX), Watched::one("driver", this)]).stop(1000);
        assert!(all[0].gone && !all[1].gone);
        assert!(all[1].rss_max_bytes > 0);
    }

    #[test]
    fn several_processes_under_one_name_are_added_up() {
        let this = i32::try_from(std::process::id()).unwrap();
        let one = Watched::one("one", this);
        let both = Watched { pids: vec![this, this], ..one.clone() };
        // They are read one after the other, and memory moves a little in between.
        let (one, sum) = (one.sample().unwrap(), both.sample().unwrap());
        assert!(sum.rss_bytes > one.rss_bytes + one.rss_bytes / 2 && sum.cpu_s >= 2.0 * one.cpu_s, "{one:?} {sum:?}");
        assert_eq!(Watched { pids: vec![this, i32::MAX], ..both }.sample(), None, "one of them is gone");
    }

    #[test]
    fn growth_is_told_of_long_runs_only() {
        let of = |samples: usize| Usage { rss_bytes: 110, rss_series_bytes: vec![100; samples], ..Usage::default() };
        assert_eq!(of(59).growth_since_minute_5(), None);
        assert_eq!(of(180).growth_since_minute_5(), Some(1.1));
    }

    #[test]
    fn cpu_per_thousand() {
        assert_eq!(per_1000(2.0, 100_000), 20.0);
        assert_eq!(per_1000(2.0, 0), 0.0);
    }
}
