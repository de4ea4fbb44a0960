//! What a store promises, checked on both stores: each test body gets a function that opens the same store again.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::sync::Arc;

use common::{ACCOUNTS, HISTORY, USERS, batch, identity, progress, reopen};
use proptest::prelude::*;
use state_store::{Batch, MemoryStore, Page, Progress, ScanRange, Store, StoreError, TableId};

type Reopen<'a> = &'a mut dyn FnMut() -> Arc<dyn Store>;

/// Every body becomes a test on the store in memory and one on the store on disk.
macro_rules! on_both_stores {
    ($($body:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $body() {
                let store = super::MemoryStore::new();
                super::$body(&mut || super::Arc::new(store.clone()));
            })*
        }
        mod rocks {
            $(#[test] fn $body() {
                let dir = tempfile::tempdir().unwrap();
                super::$body(&mut || super::Arc::new(super::reopen(dir.path())));
            })*
        }
    };
}

on_both_stores!(
    a_new_store_is_empty,
    points,
    scans,
    pages,
    tables_do_not_run_into_each_other,
    snapshots_do_not_move,
    rows_and_progress_are_one_write,
    everything_is_there_after_reopen,
    rows_beside_commits,
    concurrent_loader,
    reserved_tables_are_refused,
    long_keys_and_rows,
    scans_are_those_of_a_sorted_map,
);

fn keys(page: &Page) -> Vec<&str> {
    page.rows.iter().map(|(key, _)| std::str::from_utf8(key).unwrap()).collect()
}

fn text(row: Option<Vec<u8>>) -> Option<String> {
    row.map(|row| String::from_utf8(row).unwrap())
}

fn a_new_store_is_empty(open: Reopen) {
    let store = open();
    assert_eq!(store.progress(), Ok(Progress::default()));
    assert_eq!(store.get(ACCOUNTS, b"a"), Ok(None));
    assert_eq!(store.snapshot().unwrap().commit_sequence(), Ok(0));
    assert_eq!(store.snapshot().unwrap().scan(ACCOUNTS, &ScanRange::all()), Ok(Page::default()));
    assert_eq!(store.flush(), Ok(()));
}

fn points(open: Reopen) {
    let store = open();
    store
        .commit(batch(&[(ACCOUNTS, "a", Some("1")), (ACCOUNTS, "", Some("")), (USERS, "a", Some("2"))]), &progress(1))
        .unwrap();
    assert_eq!(text(store.get(ACCOUNTS, b"a").unwrap()).as_deref(), Some("1"));
    assert_eq!(text(store.get(ACCOUNTS, b"").unwrap()).as_deref(), Some(""));
    assert_eq!(text(store.get(USERS, b"a").unwrap()).as_deref(), Some("2"));
    assert_eq!(store.get(USERS, b""), Ok(None));
    // The last write of a key within a batch wins, in both directions.
    store
        .commit(
            batch(&[
                (ACCOUNTS, "a", None),
                (USERS, "a", Some("3")),
                (USERS, "a", None),
                (USERS, "b", None),
                (USERS, "b", Some("4")),
            ]),
            &progress(2),
        )
        .unwrap();
    assert_eq!(store.get(ACCOUNTS, b"a"), Ok(None));
    assert_eq!(store.get(USERS, b"a"), Ok(None));
    assert_eq!(text(store.get(USERS, b"b").unwrap()).as_deref(), Some("4"));
}

fn scans(open: Reopen) {
    let store = open();
    let names = ["a", "aa", "ab", "ab\u{ff}", "ac", "b", "c"];
    let rows: Vec<_> = names.iter().map(|name| (ACCOUNTS, *name, Some(*name))).collect();
    store.commit(batch(&rows), &progress(1)).unwrap();
    let view = store.snapshot().unwrap();
    let check = |range: ScanRange, expected: &[&str]| {
        let page = view.scan(ACCOUNTS, &range).unwrap();
        assert_eq!(keys(&page), expected, "{range:?}");
        assert!(page.rows.iter().all(|(key, row)| key == row), "{range:?}");
        assert!(!page.more, "{range:?}");
    };
    check(ScanRange::all(), &names);
    check(ScanRange::prefix("a"), &["a", "aa", "ab", "ab\u{ff}", "ac"]);
    check(ScanRange::prefix("ab").reverse(), &["ab\u{ff}", "ab"]);
    check(ScanRange::prefix("x"), &[]);
    check(ScanRange::between("aa", "b"), &["aa", "ab", "ab\u{ff}", "ac"]);
    check(ScanRange::between("aa", "b").reverse(), &["ac", "ab\u{ff}", "ab", "aa"]);
    check(ScanRange::between("b", "aa"), &[]);
    check(ScanRange::all().after("ac"), &["b", "c"]);
    check(ScanRange::all().after("ac").reverse(), &["ab\u{ff}", "ab", "aa", "a"]);
    check(ScanRange::prefix("a").after("zz"), &[]);
}

fn pages(open: Reopen) {
    let store = open();
    let names: Vec<String> = (0..25).map(|number| format!("{number:03}")).collect();
    let rows: Vec<_> = names.iter().map(|name| (HISTORY, name.as_str(), Some("row"))).collect();
    store.commit(batch(&rows), &progress(1)).unwrap();
    let view = store.snapshot().unwrap();
    for reverse in [false, true] {
        for limit in [1, 4, 5, 25, 26] {
            let mut range = ScanRange { reverse, limit, ..ScanRange::all() };
            let mut seen = Vec::new();
            loop {
                let page = view.scan(HISTORY, &range).unwrap();
                assert!(page.rows.len() <= limit);
                seen.extend(keys(&page).into_iter().map(str::to_owned));
                assert_eq!(page.more, seen.len() < names.len(), "limit {limit}");
                let Some((last, _)) = page.rows.last().filter(|_| page.more) else {
                    break;
                };
                range = range.after(last.clone());
            }
            if reverse {
                seen.reverse();
            }
            assert_eq!(seen, names, "limit {limit}, reverse {reverse}");
        }
    }
    let nothing = view.scan(HISTORY, &ScanRange::all().limit(0)).unwrap();
    assert_eq!(nothing, Page { rows: vec![], more: true });
}

fn tables_do_not_run_into_each_other(open: Reopen) {
    let store = open();
    let rows = [(TableId(1), "z", Some("1")), (TableId(2), "a", Some("2")), (TableId(254), "m", Some("3"))];
    store.commit(batch(&rows), &progress(1)).unwrap();
    store.commit_rows(Batch::new(), "events", 4).unwrap();
    let view = store.snapshot().unwrap();
    for (table, key, _) in rows {
        for range in [
            ScanRange::all(),
            ScanRange::all().reverse(),
            ScanRange::prefix(key),
            ScanRange::all().after("").reverse().reverse(),
        ] {
            let page = view.scan(table, &range).unwrap();
            assert!(page.rows.len() <= 1 && !page.more, "{table:?} {range:?}: {page:?}");
        }
        assert_eq!(keys(&view.scan(table, &ScanRange::all()).unwrap()), [key]);
    }
}

fn snapshots_do_not_move(open: Reopen) {
    let store = open();
    store.commit(batch(&[(ACCOUNTS, "a", Some("1")), (ACCOUNTS, "b", Some("1"))]), &progress(1)).unwrap();
    store.commit_rows(Batch::new(), "events", 5).unwrap();
    let view = store.snapshot().unwrap();
    store
        .commit(batch(&[(ACCOUNTS, "a", Some("2")), (ACCOUNTS, "b", None), (ACCOUNTS, "c", Some("2"))]), &progress(2))
        .unwrap();
    store.commit_rows(Batch::new(), "events", 6).unwrap();
    store.flush().unwrap();
    assert_eq!(text(view.get(ACCOUNTS, b"a").unwrap()).as_deref(), Some("1"));
    assert_eq!(keys(&view.scan(ACCOUNTS, &ScanRange::all()).unwrap()), ["a", "b"]);
    let seen = view.progress().unwrap();
    assert_eq!((seen.commit_sequence, seen.event_offset["events"]), (1, 5));
    assert_eq!(view.commit_sequence(), Ok(1));
    drop(view);
    let seen = store.progress().unwrap();
    assert_eq!((seen.commit_sequence, seen.event_offset["events"]), (2, 6));
    assert_eq!(keys(&store.snapshot().unwrap().scan(ACCOUNTS, &ScanRange::all()).unwrap()), ["a", "c"]);
}

/// A reader beside the writer never sees rows of one commit with the progress of another.
fn rows_and_progress_are_one_write(open: Reopen) {
    let store = open();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for sequence in 1..=300 {
                let row = sequence.to_string();
                let rows: Vec<_> = ["a", "b", "c"].iter().map(|key| (ACCOUNTS, *key, Some(row.as_str()))).collect();
                store.commit(batch(&rows), &progress(sequence)).unwrap();
            }
        });
        while !writer.is_finished() {
            let view = store.snapshot().unwrap();
            let seen = view.progress().unwrap();
            if seen.commit_sequence == 0 {
                assert_eq!(seen, Progress::default());
                continue;
            }
            assert_eq!(seen, progress(seen.commit_sequence));
            let page = view.scan(ACCOUNTS, &ScanRange::all()).unwrap();
            assert_eq!(keys(&page), ["a", "b", "c"]);
            assert!(page.rows.iter().all(|(_, row)| *row == seen.commit_sequence.to_string().as_bytes()));
        }
    });
}

fn everything_is_there_after_reopen(open: Reopen) {
    let store = open();
    store.load(batch(&[(ACCOUNTS, "a", Some("1")), (ACCOUNTS, "b", Some("1"))]), &progress(1)).unwrap();
    store.flush().unwrap();
    store.commit(batch(&[(ACCOUNTS, "a", None), (USERS, "u", Some("2"))]), &progress(2)).unwrap();
    store.commit_rows(batch(&[(HISTORY, "h", Some("3"))]), "balance_changed", 77).unwrap();
    assert!(store.approximate_bytes() > 0);
    drop(store);
    let store = open();
    assert_eq!(store.get(ACCOUNTS, b"a"), Ok(None));
    assert_eq!(text(store.get(ACCOUNTS, b"b").unwrap()).as_deref(), Some("1"));
    assert_eq!(text(store.get(USERS, b"u").unwrap()).as_deref(), Some("2"));
    assert_eq!(text(store.get(HISTORY, b"h").unwrap()).as_deref(), Some("3"));
    let expected = Progress { event_offset: [("balance_changed".to_owned(), 77)].into(), ..progress(2) };
    assert_eq!(store.progress(), Ok(expected));
}

/// A commit writes the event offsets that it names and no other: a source that a loader works on is left out.
fn rows_beside_commits(open: Reopen) {
    let store = open();
    let history = |key| batch(&[(HISTORY, key, Some("x"))]);
    store.commit_rows(history("1"), "balance_changed", 10).unwrap();
    store.commit(history("2"), &progress(1)).unwrap();
    assert_eq!(store.progress().unwrap().event_offset["balance_changed"], 10);
    store.commit_rows(history("3"), "a/b", 20).unwrap();
    let caught_up = [("balance_changed".to_owned(), 11), ("new".to_owned(), 1)];
    let named = Progress { event_offset: caught_up.into(), ..progress(2) };
    store.commit(history("4"), &named).unwrap();
    let mut expected = named;
    expected.event_offset.insert("a/b".into(), 20);
    assert_eq!(store.progress(), Ok(expected));
    let page = store.snapshot().unwrap().scan(HISTORY, &ScanRange::all()).unwrap();
    assert_eq!(keys(&page), ["1", "2", "3", "4"]);
}

fn concurrent_loader(open: Reopen) {
    let store = open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for offset in 1..=200 {
                let key = format!("{offset:04}");
                store.commit_rows(batch(&[(HISTORY, &key, Some("event"))]), "balance_changed", offset).unwrap();
            }
        });
        for sequence in 1..=200 {
            store.commit(batch(&[(ACCOUNTS, "a", Some(&sequence.to_string()))]), &progress(sequence)).unwrap();
        }
    });
    drop(store);
    let store = open();
    let expected = Progress { event_offset: [("balance_changed".to_owned(), 200)].into(), ..progress(200) };
    assert_eq!(store.progress(), Ok(expected));
    assert_eq!(store.snapshot().unwrap().scan(HISTORY, &ScanRange::all()).unwrap().rows.len(), 200);
}

fn reserved_tables_are_refused(open: Reopen) {
    let store = open();
    for table in [TableId(0), TableId(255)] {
        let rows = [(ACCOUNTS, "a", Some("1")), (table, "progress", Some("mine"))];
        assert!(matches!(store.commit(batch(&rows), &progress(1)), Err(StoreError::Misuse { .. })));
        assert!(matches!(store.load(batch(&rows), &progress(1)), Err(StoreError::Misuse { .. })));
        assert!(matches!(store.commit_rows(batch(&rows), "events", 1), Err(StoreError::Misuse { .. })));
    }
    assert_eq!(store.progress(), Ok(Progress::default()));
    assert_eq!(store.get(ACCOUNTS, b"a"), Ok(None));
}

fn long_keys_and_rows(open: Reopen) {
    let store = open();
    let lens = [0, 1, 94, 95, 96, 97, 5_000];
    for len in lens {
        let mut one = Batch::new();
        one.put(ACCOUNTS, &vec![0xFF; len], &vec![len as u8; len * 100]);
        store.commit(one, &progress(1)).unwrap();
    }
    store.flush().unwrap();
    let view = store.snapshot().unwrap();
    for len in lens {
        let expected = Ok(Some(vec![len as u8; len * 100]));
        assert_eq!(store.get(ACCOUNTS, &vec![0xFF; len]), expected);
        assert_eq!(view.get(ACCOUNTS, &vec![0xFF; len]), expected);
    }
    assert_eq!(view.scan(ACCOUNTS, &ScanRange::prefix([0xFF; 95])).unwrap().rows.len(), 4);
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop::sample::select(vec![0u8, 1, 0x61, 0x62, 0xFE, 0xFF]), 0..4)
}

fn ranges() -> impl Strategy<Value = ScanRange> {
    let bound = || proptest::option::of(bytes());
    (bytes(), bytes(), bound(), bound(), any::<bool>(), 0usize..12).prop_map(
        |(prefix, start, end, after, reverse, limit)| ScanRange {
            // Half of the ranges without a prefix: most prefixes match little.
            prefix: if limit % 2 == 0 { Vec::new() } else { prefix },
            start,
            end,
            after,
            reverse,
            limit,
        },
    )
}

/// The plainest reading of a range, on a sorted list.
fn expected(rows: &[Vec<u8>], range: &ScanRange) -> (Vec<Vec<u8>>, bool) {
    let mut found: Vec<_> = rows
        .iter()
        .filter(|key| key.starts_with(&range.prefix) && **key >= range.start)
        .filter(|key| range.end.as_ref().is_none_or(|end| *key < end))
        .filter(|key| range.after.as_ref().is_none_or(|after| if range.reverse { *key < after } else { *key > after }))
        .cloned()
        .collect();
    if range.reverse {
        found.reverse();
    }
    let more = found.len() > range.limit;
    found.truncate(range.limit);
    (found, more)
}

fn scans_are_those_of_a_sorted_map(open: Reopen) {
    let store = open();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let cases = (proptest::collection::btree_set(bytes(), 0..40), proptest::collection::vec(ranges(), 1..20));
    let result = runner.run(&cases, |(keys, ranges)| {
        let mut writes = Batch::new();
        for (key, _) in store.snapshot().unwrap().scan(USERS, &ScanRange::all()).unwrap().rows {
            writes.delete(USERS, &key);
        }
        keys.iter().for_each(|key| writes.put(USERS, key, b"row"));
        store.commit(writes, &progress(1)).unwrap();
        let rows: Vec<_> = keys.into_iter().collect();
        let view = store.snapshot().unwrap();
        for range in ranges {
            let page = view.scan(USERS, &range).unwrap();
            let found: Vec<_> = page.rows.into_iter().map(|(key, _)| key).collect();
            prop_assert_eq!((found, page.more), expected(&rows, &range), "{:?}", range);
        }
        Ok(())
    });
    result.unwrap();
}

/// The identity is a matter of directories only; here so that the suite names all that `open` needs.
#[test]
fn the_store_on_disk_says_whether_it_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er");
    let open = || state_store::open(&path, &identity(), &common::budget()).unwrap();
    assert!(matches!(open(), state_store::Opened::New(_)));
    assert!(matches!(open(), state_store::Opened::Existing(_)));
}
