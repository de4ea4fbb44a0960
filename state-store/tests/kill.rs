//! `kill -9` in the midst of commits, flushes and compactions: every commit that was acknowledged is there, and the
//! store stands at a step of its history.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use common::history::{resume, step_of, write};
use common::{reopen, try_reopen};
use state_store::StoreError;

const DIRECTORY: &str = "STATE_STORE_TEST_DIRECTORY";

/// Runs this test binary again as a process that only commits.
fn committing_process(directory: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "commits_until_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test of its own: the body of the process that is killed. Without the directory there is nothing to do.
#[test]
fn commits_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = reopen(directory.as_ref());
    let first = resume(&store).unwrap() + 1;
    for step in first.. {
        write(&store, step);
        // Ends with an error when the parent is gone.
        writeln!(std::io::stdout(), "committed {step}").unwrap();
    }
}

#[test]
fn killed_while_committing() {
    let dir = tempfile::tempdir().unwrap();
    let mut stands_at = 0;
    for round in 0..8_u64 {
        let mut child = committing_process(dir.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = stands_at;
        // Other places each round; late enough that tables are flushed and merged.
        let kill_at = stands_at + 150 + 397 * round;
        let mut killed = false;
        while let Some(Ok(line)) = lines.next() {
            if let Some(step) = line.strip_prefix("committed ") {
                acknowledged = step.parse().unwrap();
            }
            if acknowledged >= kill_at && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the process ended by itself after step {acknowledged}");
        let store = reopen(dir.path());
        stands_at = step_of(&store).unwrap();
        assert!(stands_at >= acknowledged, "round {round}: {stands_at} after {acknowledged}");
    }
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = committing_process(dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("committed ")));
    let refused = try_reopen(dir.path()).unwrap_err();
    assert_eq!(refused, StoreError::Locked { path: dir.path().to_owned() });
    assert!(state_store::wipe(dir.path()).is_err());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(step_of(&reopen(dir.path())).unwrap() > 0);
}
