//! Rows that a caller does not want do not reach the network, and cost no place on a page.

use schemas::query::{Entry, ScanRequest, ScanResponse, WatchRequest, WatchResponse};
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use super::notes::ENTRIES;
use super::{HERE, Query, Role, World, key, parity};

/// Rows that one call looks at, as the protocol says.
const LOOKED_AT_MAX: u64 = 5000;

async fn page(world: &World, filter: &[u8], after: &[u8], limit: u32, reverse: bool) -> ScanResponse {
    let (table, after, filter) = ("entry".to_owned(), after.to_vec(), filter.to_vec());
    let request = ScanRequest { partition: HERE, table, after, filter, limit, reverse, ..ScanRequest::default() };
    world.service.scan(Request::new(request)).await.unwrap().into_inner()
}

fn keys(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.key.clone()).collect()
}

fn evens(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    numbers.into_iter().filter(|nth| parity(*nth) == b"even").map(key).collect()
}

#[tokio::test]
async fn a_page_holds_wanted_rows_up_to_its_limit_and_says_how_far_it_looked() {
    let world = World::owner();
    (1..=1201).for_each(|nth| world.commit(nth, false));
    let first = page(&world, b"even", b"", 5, false).await;
    assert_eq!((keys(&first.entries), first.looked_at, first.more), (evens(1..=10), 10, true));
    assert_eq!(first.last_unwanted, None, "the last row was a wanted one");
    let rest = page(&world, b"even", &key(10), 1000, false).await;
    assert_eq!((keys(&rest.entries), rest.looked_at, rest.more), (evens(11..=1201), 1191, false));
    assert_eq!(rest.last_unwanted.unwrap().key, key(1201));
    let down = page(&world, b"even", &key(7), 2, true).await;
    assert_eq!((keys(&down.entries), down.looked_at, down.more), (vec![key(6), key(4)], 3, true));
    let all = page(&world, b"", b"", 5, false).await;
    assert_eq!((all.entries.len(), all.looked_at, all.more, all.last_unwanted), (5, 5, true, None));
}

#[tokio::test]
async fn a_filter_that_wants_nothing_reads_a_bounded_number_of_rows() {
    let world = World::owner();
    (1..=LOOKED_AT_MAX + 1).for_each(|nth| world.commit(nth, false));
    let none = page(&world, b"neither", b"", 1, false).await;
    assert_eq!((none.entries.len(), u64::from(none.looked_at), none.more), (0, LOOKED_AT_MAX, true));
    let last = none.last_unwanted.unwrap().key;
    assert_eq!(last, key(LOOKED_AT_MAX));
    let rest = page(&world, b"neither", &last, 1, false).await;
    assert_eq!((rest.entries.len(), rest.looked_at, rest.more), (0, 1, false));
    let nothing = page(&world, b"neither", &key(LOOKED_AT_MAX + 1), 1, false).await;
    assert_eq!((nothing.looked_at, nothing.more, nothing.last_unwanted), (0, false, None));
}

#[tokio::test]
async fn a_filter_that_the_topology_does_not_know_is_refused_with_its_words() {
    let world = World::new(Role::Active);
    let (table, filter) = ("note".to_owned(), b"even".to_vec());
    let request = ScanRequest { partition: HERE, table, filter, limit: 1, ..ScanRequest::default() };
    let (table, filter) = (request.table.clone(), request.filter.clone());
    let scanned = world.service.scan(Request::new(request)).await.unwrap_err();
    let request = WatchRequest { partition: HERE, table, filter, ..WatchRequest::default() };
    let watched = world.service.watch(Request::new(request)).await.err().unwrap();
    for refused in [scanned, watched] {
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "filter: notes are all alike"));
    }
}

#[tokio::test]
async fn a_watch_sends_wanted_rows_that_exist_and_those_that_come() {
    let world = World::owner();
    (1..=1201).for_each(|nth| world.commit(nth, false));
    let (table, filter, after) = ("entry".to_owned(), b"even".to_vec(), Some(key(0)));
    let request = WatchRequest { partition: HERE, table, filter, after, ..WatchRequest::default() };
    let mut watch = world.service.watch(Request::new(request)).await.unwrap().into_inner();
    let mut existing = Vec::new();
    loop {
        let WatchResponse { entries, live, .. } = watch.next().await.unwrap().unwrap();
        existing.extend(keys(&entries));
        if live {
            break;
        }
    }
    assert_eq!(existing, evens(1..=1201));
    let publish = |nth: u64, row: Option<&[u8]>| {
        let rows = [(ENTRIES, key(nth), row)];
        let rows = rows.iter().map(|(table, key, row)| (*table, key.as_slice(), *row));
        world.view.publish(nth, world.view.gather(rows, |_| false));
    };
    publish(1202, Some(parity(1202)));
    publish(1203, Some(parity(1203)));
    // Nobody knows whether a row that is no more was a wanted one.
    publish(1204, None);
    for (nth, deleted) in [(1202, false), (1204, true)] {
        let entry = watch.next().await.unwrap().unwrap().entries.pop().unwrap();
        assert_eq!((entry.key, entry.deleted), (key(nth), deleted));
    }
}
