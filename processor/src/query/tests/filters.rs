//! Rows that a caller does not want do not reach the network, and cost no place on a page.

use schemas::query::{Entry, ScanRequest, ScanResponse, WatchRequest, WatchResponse};
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use super::notes::ENTRIES;
use super::{HERE, Query, Role, World, key, parity};

/// Rows that one call scans, as the protocol says.
const SCANNED_MAX: u64 = 1000;

async fn page(world: &World, filter: &[u8], after: &[u8], limit: u32, reverse: bool) -> ScanResponse {
    let (table, after, filter) = ("entry".to_owned(), after.to_vec(), filter.to_vec());
    let request = ScanRequest { partition: HERE, table, after, filter, limit, reverse, ..ScanRequest::default() };
    world.service.scan(Request::new(request)).await.unwrap().into_inner()
}

fn keys(entries: &[Entry]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.key.clone()).collect()
}

/// Rows are read in chunks of even numbers, so what is wanted is never at their ends.
fn odds(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    numbers.into_iter().filter(|nth| parity(*nth) == b"odd").map(key).collect()
}

#[tokio::test]
async fn a_page_holds_wanted_rows_up_to_its_limit_and_says_how_far_it_looked() {
    let world = World::owner();
    (1..=1201).for_each(|nth| world.commit(nth, false));
    let first = page(&world, b"odd", b"", 5, false).await;
    assert_eq!((keys(&first.entries), first.scanned, first.more), (odds(1..=10), 9, true));
    assert_eq!(first.last_scanned, None, "it is the last of the entries");
    let second = page(&world, b"odd", &key(200), 1000, false).await;
    assert_eq!((keys(&second.entries), second.scanned, second.more), (odds(201..=1200), 1000, true));
    assert_eq!(second.last_scanned.unwrap().key, key(1200), "not a wanted one");
    let rest = page(&world, b"odd", &key(1190), 1000, false).await;
    assert_eq!((keys(&rest.entries), rest.scanned, rest.more), (odds(1191..=1201), 11, false));
    let down = page(&world, b"odd", &key(8), 2, true).await;
    assert_eq!((keys(&down.entries), down.scanned, down.more), (vec![key(7), key(5)], 3, true));
    let all = page(&world, b"", b"", 5, false).await;
    assert_eq!((all.entries.len(), all.scanned, all.more, all.last_scanned), (5, 5, true, None));
}

#[tokio::test]
async fn a_filter_that_wants_nothing_reads_a_bounded_number_of_rows() {
    let world = World::owner();
    (1..=SCANNED_MAX + 1).for_each(|nth| world.commit(nth, false));
    let none = page(&world, b"neither", b"", 1, false).await;
    assert_eq!((none.entries.len(), u64::from(none.scanned), none.more), (0, SCANNED_MAX, true));
    let last = none.last_scanned.unwrap().key;
    assert_eq!(last, key(SCANNED_MAX));
    let rest = page(&world, b"neither", &last, 1, false).await;
    assert_eq!((rest.entries.len(), rest.scanned, rest.more), (0, 1, false));
    let nothing = page(&world, b"neither", &key(SCANNED_MAX + 1), 1, false).await;
    assert_eq!((nothing.scanned, nothing.more, nothing.last_scanned), (0, false, None));
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
    (1..=1202).for_each(|nth| world.commit(nth, false));
    let (table, filter, after) = ("entry".to_owned(), b"odd".to_vec(), Some(key(0)));
    let request = WatchRequest { partition: HERE, table, filter, after, ..WatchRequest::default() };
    let mut watch = world.service.watch(Request::new(request)).await.unwrap().into_inner();
    let (mut existing, mut positions) = (Vec::new(), Vec::new());
    loop {
        let WatchResponse { entries, live, last_scanned_key, .. } = watch.next().await.unwrap().unwrap();
        existing.extend(keys(&entries));
        positions.push(last_scanned_key);
        if live {
            break;
        }
    }
    assert_eq!(existing, odds(1..=1202));
    assert_eq!(positions, [key(500), key(1000), key(1202)], "where it resumes, whether that row was wanted or not");
    let publish = |nth: u64, row: Option<&[u8]>| {
        let rows = [(ENTRIES, key(nth), row)];
        let rows = rows.iter().map(|(table, key, row)| (*table, key.as_slice(), *row));
        world.view.publish(nth, world.view.gather(rows, |_| false));
    };
    publish(1203, Some(parity(1203)));
    publish(1204, Some(parity(1204)));
    // Nobody knows whether a row that is no more was a wanted one.
    publish(1205, None);
    for (nth, deleted) in [(1203, false), (1205, true)] {
        let entry = watch.next().await.unwrap().unwrap().entries.pop().unwrap();
        assert_eq!((entry.key, entry.deleted), (key(nth), deleted));
    }
    // However little is wanted, the watcher comes to know where it is.
    (1206..=1705).for_each(|nth| publish(nth, Some(b"even")));
    let response = watch.next().await.unwrap().unwrap();
    assert_eq!((response.entries, response.last_scanned_key), (Vec::new(), key(1705)));
}
