//! Damaged files: found and named, or the store stands at an earlier step of its history. Never anything else.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use common::history::{Found, examine, step_of, write};
use common::{ACCOUNTS, progress, reopen, try_reopen};
use state_store::{Batch, Opened, Store, StoreError, wipe};
use tempfile::TempDir;

/// Steps in the store under test: the last hundred are in the write-ahead log only. Three tables are too few to be
/// merged, so the manifest may lose its last record and still name only files that are there.
const STEPS: u64 = 400;
const FLUSHED: u64 = 300;

/// A closed store with several table files, several manifest records and a log.
fn pristine() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path());
    for step in 1..=STEPS {
        write(&store, step);
        if step <= FLUSHED && step.is_multiple_of(100) {
            store.flush().unwrap();
        }
    }
    drop(store);
    dir
}

fn copy_of(from: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// Names of the files of one kind: by prefix or by ending.
fn files(dir: &Path, kind: &str) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(kind) || name.ends_with(kind));
    names.sort();
    assert!(!names.is_empty(), "no {kind} in {}", dir.display());
    names
}

/// Damages each file of a kind at `places` positions spread over it and over its last bytes, one copy per damage.
fn damage_each(kind: &str, places: usize, damage: impl Fn(&mut Vec<u8>, usize)) -> Vec<Found> {
    let pristine = pristine();
    let mut all_found = Vec::new();
    for name in files(pristine.path(), kind) {
        let bytes = fs::read(pristine.path().join(&name)).unwrap();
        let spread = (0..places).map(|place| place * bytes.len() / places);
        let tail = bytes.len().saturating_sub(places)..bytes.len();
        for at in spread.chain(tail).collect::<BTreeSet<_>>() {
            let copy = copy_of(pristine.path());
            let mut damaged = bytes.clone();
            damage(&mut damaged, at);
            fs::write(copy.path().join(&name), damaged).unwrap();
            all_found.push(examine_in_time(&copy, &format!("{name} damaged at {at}")));
        }
    }
    all_found
}

/// A damaged store must be judged, and soon: an open that never returns is a failure as well.
fn examine_in_time(store: &TempDir, damage: &str) -> Found {
    let (send, receive) = mpsc::channel();
    let path = store.path().to_owned();
    std::thread::spawn(move || send.send(examine(try_reopen(&path))));
    match receive.recv_timeout(Duration::from_secs(60)) {
        Ok(found) => found,
        Err(RecvTimeoutError::Disconnected) => panic!("{damage}: panicked"),
        Err(RecvTimeoutError::Timeout) => panic!("{damage}: hangs"),
    }
}

#[allow(clippy::ptr_arg, reason = "interchangeable with cut")]
fn flip(bytes: &mut Vec<u8>, at: usize) {
    bytes[at] ^= 1 << (at % 8);
}

/// The bit that makes the type of a usual fragment that of a recycled one: RocksDB's reader stays there for ever.
#[allow(clippy::ptr_arg, reason = "interchangeable with cut")]
fn flip_third_bit(bytes: &mut Vec<u8>, at: usize) {
    bytes[at] ^= 4;
}

fn cut(bytes: &mut Vec<u8>, at: usize) {
    bytes.truncate(at);
}

fn prefixes(found: &[Found]) -> Vec<u64> {
    found.iter().filter_map(|found| if let Found::Prefix(step) = found { Some(*step) } else { None }).collect()
}

#[test]
fn the_undamaged_copy_is_whole() {
    let copy = copy_of(pristine().path());
    assert_eq!(examine(try_reopen(copy.path())), Found::Prefix(STEPS));
}

#[test]
fn flipped_bits_in_tables_never_change_a_row() {
    let found = damage_each(".sst", 20, flip);
    assert!(found.contains(&Found::Corrupt));
    // A bit that carries nothing (padding, a filter) may go unnoticed, a lost table may not.
    assert!(prefixes(&found).iter().all(|step| *step == STEPS));
}

#[test]
fn cut_tables_are_found() {
    assert!(damage_each(".sst", 10, cut).iter().all(|found| *found == Found::Corrupt));
}

#[test]
fn a_flipped_bit_in_the_log_loses_a_tail() {
    let found = prefixes(&damage_each(".log", 40, flip));
    assert!(found.iter().all(|step| (FLUSHED..=STEPS).contains(step)), "{found:?}");
    assert!(found.iter().any(|step| *step < STEPS));
}

#[test]
fn a_cut_log_is_a_lost_tail_and_no_error() {
    let found = damage_each(".log", 40, cut);
    let steps = prefixes(&found);
    assert_eq!(steps.len(), found.len());
    assert!(steps.contains(&FLUSHED) && steps.iter().all(|step| (FLUSHED..=STEPS).contains(step)));
}

#[test]
fn flipped_bits_in_the_manifest_are_found_or_harmless() {
    let found = damage_each("MANIFEST-", 100, flip);
    assert!(found.contains(&Found::Corrupt));
}

/// The last records byte by byte, so the types of their fragments are among them.
#[test]
fn no_flipped_bit_makes_the_open_hang() {
    for kind in ["MANIFEST-", ".log"] {
        assert!(damage_each(kind, 200, flip_third_bit).contains(&Found::Corrupt), "{kind}");
    }
}

/// The dangerous one: RocksDB opens a store whose manifest ends early, without the table that was flushed last but
/// with the log that was begun after it. Every length of the last records is tried.
#[test]
fn a_cut_manifest_leaves_no_hole() {
    let found = damage_each("MANIFEST-", 150, cut);
    assert!(found.contains(&Found::Corrupt));
    assert!(prefixes(&found).iter().all(|step| *step == STEPS), "{:?}", prefixes(&found));
}

#[test]
fn damaged_current_is_found() {
    for damage in [flip, cut] {
        let found = damage_each("CURRENT", 16, damage);
        // Only the line end may be lost without losing the name.
        assert!(found.iter().filter(|found| **found == Found::Corrupt).count() >= found.len() - 2, "{found:?}");
    }
}

#[test]
fn missing_files_are_found() {
    let pristine = pristine();
    let mut missing: Vec<PathBuf> = Vec::new();
    for kind in ["CURRENT", "MANIFEST-", ".sst"] {
        missing.extend(files(pristine.path(), kind).into_iter().map(PathBuf::from));
    }
    for name in missing {
        let copy = copy_of(pristine.path());
        fs::remove_file(copy.path().join(&name)).unwrap();
        assert_eq!(examine(try_reopen(copy.path())), Found::Corrupt, "without {}", name.display());
    }
    let copy = copy_of(pristine.path());
    for name in files(copy.path(), ".log") {
        fs::remove_file(copy.path().join(name)).unwrap();
    }
    assert_eq!(examine(try_reopen(copy.path())), Found::Prefix(FLUSHED), "without the log");
}

#[test]
fn a_wiped_store_starts_again() {
    let copy = copy_of(pristine().path());
    let manifest = files(copy.path(), "MANIFEST-").remove(0);
    fs::write(copy.path().join(manifest), b"not a manifest").unwrap();
    assert_eq!(examine(try_reopen(copy.path())), Found::Corrupt);
    wipe(copy.path()).unwrap();
    let store = reopen(copy.path());
    (1..=20).for_each(|step| write(&store, step));
    assert_eq!(step_of(&store), Ok(20));
}

/// Damage that RocksDB cannot see: valid blocks, wrong bytes in one of the store's own rows.
#[test]
fn the_stores_own_rows_are_sealed() {
    let pristine = pristine();
    for key in ["identity", "progress", "event/balance_changed"] {
        let key = [&[0], key.as_bytes()].concat();
        let row = rocksdb::DB::open_default(copy_of(pristine.path()).path()).unwrap().get(&key).unwrap().unwrap();
        for at in (0..row.len()).step_by(7) {
            for damage in [flip, cut] {
                let copy = copy_of(pristine.path());
                let db = rocksdb::DB::open_default(copy.path()).unwrap();
                let mut damaged = row.clone();
                damage(&mut damaged, at);
                db.put(&key, damaged).unwrap();
                drop(db);
                assert_eq!(examine(try_reopen(copy.path())), Found::Corrupt, "{key:?} at {at}");
            }
        }
    }
}

/// The directory goes away under a running store: commits fail as soon as they need a new file, instead of waiting for
/// a flush that cannot succeed, and reads never give wrong rows.
#[test]
fn a_directory_deleted_under_the_store_is_an_error() {
    let copy = copy_of(pristine().path());
    let store = reopen(copy.path());
    remove_under_its_user(copy.path());
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let read = step_of(&store);
        let written = (STEPS + 1..).find_map(|step| store.commit(wide_batch(), &progress(step)).err());
        drop(store);
        send.send((read, written)).unwrap();
    });
    let (read, written) = receive.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(matches!(read, Ok(STEPS) | Err(StoreError::Corrupt { .. })), "{read:?}");
    assert!(matches!(written, Some(StoreError::Corrupt { .. } | StoreError::Io { .. })), "{written:?}");
    assert!(matches!(try_reopen(copy.path()), Ok(Opened::New(_))));
}

/// Removes a directory in which another thread may be making files: what comes up meanwhile goes with the next try.
fn remove_under_its_user(path: &Path) {
    while let Err(error) = fs::remove_dir_all(path) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
}

/// Fills a write buffer in a few commits.
fn wide_batch() -> Batch {
    let mut batch = Batch::new();
    (0..100_u8).for_each(|key| batch.put(ACCOUNTS, &[key], &[key; 1_000]));
    batch
}
