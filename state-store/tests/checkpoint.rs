//! A checkpoint is the same store at another place: rows, progress, identity; whatever is written meanwhile.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::fs;
use std::path::Path;

use common::{ACCOUNTS, HISTORY, batch, budget, identity, progress, reopen};
use state_store::{Identity, MemoryStore, Opened, Page, RocksStore, ScanRange, Store, StoreError, TableId, open};

fn all(store: &dyn Store, table: TableId) -> Page {
    store.snapshot().unwrap().scan(table, &ScanRange::all()).unwrap()
}

/// Writes commits until told to stop, each with its number in one row of every table.
fn write(store: &RocksStore, from: u64, until: impl Fn(u64) -> bool) -> u64 {
    let mut sequence = from;
    while !until(sequence) {
        sequence += 1;
        let (key, filler) = (format!("key-{:05}", sequence % 3000), "x".repeat(200));
        let row = format!("{sequence} {filler}");
        let rows = [(ACCOUNTS, "last", Some(row.as_str())), (HISTORY, key.as_str(), Some(row.as_str()))];
        store.commit(batch(&rows), &progress(sequence)).unwrap();
    }
    sequence
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn its_files_elsewhere_are_the_same_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(&dir.path().join("store"));
    write(&store, 0, |sequence| sequence == 10_000);
    store.commit_rows(batch(&[(HISTORY, "loaded", Some("row"))]), "events", 77).unwrap();
    let (expected, stands) = ((all(&store, ACCOUNTS), all(&store, HISTORY)), store.progress().unwrap());
    store.checkpoint(&dir.path().join("checkpoint")).unwrap();
    // What comes later is not in it, and its end is not that of the copy.
    write(&store, 10_000, |sequence| sequence == 10_500);
    drop(store);
    common::try_reopen(&dir.path().join("store")).unwrap();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    copied(&dir.path().join("checkpoint"), &dir.path().join("copy"));
    let opened = open(dir.path().join("copy"), &identity(), &budget()).unwrap();
    assert!(matches!(opened, Opened::Existing(_)));
    let copy = opened.into_store();
    assert_eq!(copy.progress().unwrap(), stands);
    assert!((all(&copy, ACCOUNTS), all(&copy, HISTORY)) == expected);
    // It goes on as a store of its own, and does so after a crash-like end too.
    write(&copy, 10_000, |sequence| sequence == 10_100);
    drop(copy);
    assert_eq!(reopen(&dir.path().join("copy")).progress().unwrap().commit_sequence, 10_100);
}

#[test]
fn of_a_store_in_use_it_is_a_whole_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(&dir.path().join("store"));
    write(&store, 0, |sequence| sequence == 2_000);
    std::thread::scope(|scope| {
        let checks = scope.spawn(|| {
            for number in 0..20 {
                let path = dir.path().join(format!("checkpoint-{number}"));
                let before = store.progress().unwrap().commit_sequence;
                store.checkpoint(&path).unwrap();
                let after = store.progress().unwrap().commit_sequence;
                let copy = reopen(&path);
                let sequence = copy.progress().unwrap().commit_sequence;
                // RocksDB logs a commit before readers see it: the one under way may be in the copy and not in `after`.
                assert!((before..=after + 1).contains(&sequence), "{before} <= {sequence} <= {after} + 1");
                assert_eq!(copy.progress().unwrap().changelog_offset, progress(sequence).changelog_offset);
                let row = copy.get(ACCOUNTS, b"last").unwrap().unwrap();
                assert!(row.starts_with(format!("{sequence} ").as_bytes()), "rows are of commit {sequence}");
            }
        });
        assert!(write(&store, 2_000, |_| checks.is_finished()) > 2_000);
    });
}

#[test]
fn it_belongs_to_whom_the_store_belongs() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(&dir.path().join("store"));
    write(&store, 0, |sequence| sequence == 10);
    store.checkpoint(&dir.path().join("checkpoint")).unwrap();
    let other = Identity { partition: 4, ..identity() };
    let refused = open(dir.path().join("checkpoint"), &other, &budget());
    assert!(matches!(refused, Err(StoreError::WrongStore { what: "partition", .. })), "{refused:?}");
}

#[test]
fn it_refuses_a_place_that_is_taken_and_a_store_without_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(&dir.path().join("store"));
    write(&store, 0, |sequence| sequence == 10);
    let taken = store.checkpoint(dir.path()).unwrap_err();
    assert!(matches!(taken, StoreError::Misuse { .. }), "{taken}");
    let nowhere = store.checkpoint(&dir.path().join("no/such/parent")).unwrap_err();
    assert!(matches!(nowhere, StoreError::Misuse { .. }), "{nowhere}");
    // The store is none the worse for it.
    write(&store, 10, |sequence| sequence == 20);
    let without_files = MemoryStore::new().checkpoint(&dir.path().join("memory")).unwrap_err();
    assert!(matches!(without_files, StoreError::Misuse { .. }), "{without_files}");
}
