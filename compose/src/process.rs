//! A process, known by its pid and its start time together, so that a pid that the kernel gave to somebody else is
//! never signalled. Also finds the children that a killed supervisor left behind, by a mark in their environment.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// Set in the environment of every child: the directory of the stack it belongs to.
pub const MARK_DIR: &str = "KONTOR_STACK_DIR";
/// Set in the environment of every child: its name within the stack.
pub const MARK_NAME: &str = "KONTOR_STACK_CHILD";
/// How often a condition that the kernel does not announce is looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A process that ran at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number now; later perhaps another's.
    pub pid: i32,
    /// Clock ticks since the machine started, as `/proc/<pid>/stat` says.
    pub started_ticks: u64,
}

impl Process {
    /// The process that has this pid now.
    pub fn of_pid(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started_ticks) = parse_stat(&stat)?;
        (state != 'Z').then_some(Self { pid, started_ticks })
    }

    /// This very process.
    pub fn current() -> Option<Self> {
        Self::of_pid(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs (a zombie does not) and is still the same.
    pub fn is_alive(self) -> bool {
        Self::of_pid(self.pid) == Some(self)
    }

    /// Sends a signal to it, and to nobody who came after it. False when it is gone.
    pub fn signal(self, signal: Signal) -> bool {
        self.is_alive() && Pid::from_raw(self.pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Waits until it is gone. False at the deadline.
    pub fn wait_gone(self, deadline: Instant) -> bool {
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        true
    }

    /// SIGTERM, then SIGKILL after `patience`. True when it went by itself.
    pub fn end(self, patience: Duration) -> bool {
        self.signal(Signal::TERM);
        if self.wait_gone(Instant::now() + patience) {
            return true;
        }
        self.signal(Signal::KILL);
        self.wait_gone(Instant::now() + Duration::from_secs(5));
        false
    }
}

/// State and start time out of `/proc/<pid>/stat`. The name in parentheses may itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut columns = rest.split_whitespace();
    let state = columns.next()?.chars().next()?;
    // Column 22 of the file; the third one is the state.
    let started_ticks = columns.nth(18)?.parse().ok()?;
    Some((state, started_ticks))
}

/// Every living child of the stack in `dir`, with its name, whoever started it and whatever became of its parent.
pub fn children_of(dir: &Path) -> Vec<(String, Process)> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let wanted = format!("{MARK_DIR}={}", dir.display());
    let mut found = Vec::new();
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        // Start time first: if the pid changed hands in between, the later check of the start time notices it.
        let Some(process) = Process::of_pid(pid) else {
            continue;
        };
        let Ok(environment) = fs::read(entry.path().join("environ")) else {
            continue;
        };
        if let Some(name) = marked_name(&environment, &wanted) {
            found.push((name, process));
        }
    }
    found
}

/// The child's name, if the environment block carries the wanted mark.
fn marked_name(environment: &[u8], wanted: &str) -> Option<String> {
    let variables = || environment.split(|b| *b == 0);
    if !variables().any(|v| v == wanted.as_bytes()) {
        return None;
    }
    let name = variables().find_map(|v| v.strip_prefix(MARK_NAME.as_bytes())).and_then(|v| v.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_start_time_is_read_behind_any_name() {
        let stat = |name: &str| format!("42 ({name}) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 10");
        for name in ["java", "my prog", "odd) S 1 (name", ""] {
            assert_eq!(parse_stat(&stat(name)), Some(('S', 98765)), "{name}");
        }
        assert_eq!(parse_stat("42 (cut) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let me = Process::current().unwrap();
        let other = Process { started_ticks: me.started_ticks + 1, ..me };
        assert!(me.is_alive());
        assert!(!other.is_alive());
        assert!(!other.signal(Signal::KILL), "would have ended this test");
    }

    #[test]
    fn children_are_found_by_their_mark_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut child =
            Command::new("sleep").arg("600").env(MARK_DIR, dir.path()).env(MARK_NAME, "kafka").spawn().unwrap();
        let found = children_of(dir.path());
        assert_eq!(found.len(), 1);
        let (name, process) = &found[0];
        assert_eq!(name, "kafka");
        assert_eq!(process.pid, i32::try_from(child.id()).unwrap());
        assert!(process.end(Duration::from_secs(10)), "sleep heeds SIGTERM");
        child.wait().unwrap();
        assert!(children_of(dir.path()).is_empty());
    }

    #[test]
    fn the_mark_must_match_whole() {
        let environment = b"A=1\0KONTOR_STACK_DIR=/a/b\0KONTOR_STACK_CHILD=kafka\0";
        assert_eq!(marked_name(environment, "KONTOR_STACK_DIR=/a/b").as_deref(), Some("kafka"));
        assert_eq!(marked_name(environment, "KONTOR_STACK_DIR=/a"), None);
        assert_eq!(marked_name(b"KONTOR_STACK_DIR=/a\0", "KONTOR_STACK_DIR=/a"), None);
    }
}
