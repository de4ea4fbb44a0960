//! Whose store a directory holds, and who may open or wipe it.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::fs;
use std::io::ErrorKind;

use common::{ACCOUNTS, batch, budget, identity, progress, reopen, try_reopen};
use state_store::{Identity, Opened, Store, StoreError, open, wipe};

#[test]
fn another_identity_is_refused_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    reopen(dir.path()).commit(batch(&[(ACCOUNTS, "a", Some("1"))]), &progress(1)).unwrap();
    let ours = identity();
    let others = [
        ("application", Identity { application: "shop".into(), ..ours.clone() }),
        ("cluster id", Identity { cluster_id: "other".into(), ..ours.clone() }),
        ("partition", Identity { partition: 4, ..ours.clone() }),
        ("topic prefix", Identity { prefix: String::new(), ..ours.clone() }),
        ("check value", Identity { check: vec![8; 16], ..ours.clone() }),
    ];
    for (field, other) in others {
        match open(dir.path(), &other, &budget()) {
            Err(StoreError::WrongStore { what, .. }) => assert_eq!(what, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert_eq!(reopen(dir.path()).progress(), Ok(progress(1)));
}

#[test]
fn a_store_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path());
    let locked = StoreError::Locked { path: dir.path().to_owned() };
    assert_eq!(try_reopen(dir.path()).unwrap_err(), locked);
    assert_eq!(wipe(dir.path()).unwrap_err().kind(), ErrorKind::ResourceBusy);
    store.commit(batch(&[(ACCOUNTS, "a", Some("1"))]), &progress(1)).unwrap();
    drop(store);
    assert_eq!(reopen(dir.path()).progress(), Ok(progress(1)));
}

/// Tools that open the database directly take only RocksDB's own lock.
#[test]
fn a_database_opened_by_a_tool_is_locked_too() {
    let dir = tempfile::tempdir().unwrap();
    drop(reopen(dir.path()));
    let tool = rocksdb::DB::open_default(dir.path()).unwrap();
    assert!(matches!(try_reopen(dir.path()), Err(StoreError::Locked { .. })));
    drop(tool);
    assert!(matches!(try_reopen(dir.path()), Ok(Opened::Existing(_))));
}

#[test]
fn wiping_ends_in_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("3");
    wipe(&path).unwrap();
    reopen(&path).commit(batch(&[(ACCOUNTS, "a", Some("1"))]), &progress(1)).unwrap();
    wipe(&path).unwrap();
    assert!(!path.exists());
    let Opened::New(store) = try_reopen(&path).unwrap() else { panic!("rows survived") };
    assert_eq!(store.get(ACCOUNTS, b"a"), Ok(None));
}

/// What a kill during the creation of a store leaves behind is no damage: there was nothing in it.
#[test]
fn an_unfinished_creation_is_begun_again() {
    for remains in [&["MANIFEST-000001"][..], &["LOG", "IDENTITY"], &["000001.dbtmp", "MANIFEST-000001"]] {
        let dir = tempfile::tempdir().unwrap();
        for name in remains {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        assert!(matches!(try_reopen(dir.path()), Ok(Opened::New(_))), "{remains:?}");
    }
    // Created, but killed before the identity was written.
    let dir = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    drop(rocksdb::DB::open(&options, dir.path()).unwrap());
    assert!(matches!(try_reopen(dir.path()), Ok(Opened::New(_))));
}

#[test]
fn a_database_of_somebody_else_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    rocksdb::DB::open_default(dir.path()).unwrap().put(b"theirs", b"row").unwrap();
    assert!(matches!(try_reopen(dir.path()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_directory_that_cannot_be_made_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(try_reopen(&file.join("store")), Err(StoreError::Io { .. })));
}
