//! A write that the operating system refuses: the store says so, and refuses everything until it is opened anew, also when
//! the cause is gone. Callers rely on both.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use common::history::{resume, step_of, write};
use common::{batch, progress, reopen};
use state_store::{Store, StoreError};

const DIRECTORY: &str = "STATE_STORE_TEST_DIRECTORY";

fn told(answer: &Result<(), StoreError>) -> String {
    match answer {
        Ok(()) => "ok".to_owned(),
        Err(StoreError::Io { detail, .. }) => format!("io {}", detail.replace('\n', " ")),
        Err(other) => format!("another error: {other}"),
    }
}

/// Not a test of its own: the process that may open no more files. Each line that it reads lets it take the next step.
#[test]
fn writes_when_told() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let mut lines = std::io::stdin().lines();
    let mut say = |what: &str| {
        writeln!(std::io::stdout(), "said {what}").unwrap();
        lines.next();
    };
    let store = reopen(directory.as_ref());
    write(&store, 1);
    say("ready");
    say(&told(&store.flush()));
    say(&told(&store.commit(batch(&[]), &progress(1))));
    drop(store);
    let store = reopen(directory.as_ref());
    resume(&store).unwrap();
    write(&store, 2);
    say(&told(&store.flush()));
}

struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(directory: &std::path::Path) -> Writer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_when_told", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Writer { child, lines }
    }

    fn said(&mut self) -> String {
        self.lines.find_map(|line| line.unwrap().split_once("said ").map(|(_, what)| what.to_owned())).unwrap()
    }

    fn next(&mut self) -> String {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
        self.said()
    }

    fn may_open(&self, files: &str) {
        let pid = self.child.id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={files}:")]).status();
        assert!(limited.unwrap().success());
    }
}

#[test]
fn f26_a_store_that_could_open_no_file_is_whole_once_it_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(dir.path());
    assert_eq!(writer.said(), "ready");
    writer.may_open("3");
    let refused = writer.next();
    assert!(refused.starts_with("io ") && refused.contains("Too many open files"), "{refused}");
    writer.may_open("1024");
    let refused = writer.next();
    assert!(refused.starts_with("io "), "a store goes on by itself: {refused}");
    assert_eq!(writer.next(), "ok");
    writeln!(writer.child.stdin.as_mut().unwrap()).unwrap();
    assert!(writer.child.wait().unwrap().success());
    assert_eq!(step_of(&reopen(dir.path())).unwrap(), 2);
}
