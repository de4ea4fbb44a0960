//! The service over stores in memory: what is answered, as what, and what is refused.

mod filters;
pub(crate) mod notes;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use schemas::query::broken_watch::Reason;
use schemas::query::query_server::Query;
use schemas::query::{BrokenWatch, GetRequest, NotOwner, ScanRequest, Stale, Token, WatchRequest};
use schemas::records::ShardRole;
use state_store::{Batch, MemoryStore, Progress, Store};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use self::notes::{ENTRIES, NOTES, Notes, PARTITIONS};
use super::service::QueryService;
use super::view::{Life, PartitionView};
use crate::clock::Clock;
use crate::membership::{Role, Roles};
use crate::testing::ManualClock;

const LONG_MS: u32 = 20_000;

/// An instance whose part is set by the test.
struct Told(Mutex<(Role, bool)>, AtomicI64);

impl Roles for Told {
    fn role(&self, _: i32) -> Role {
        self.0.lock().0
    }
    fn wait_while(&self, _: i32, _: Role, _: Duration) {}
    fn confirm(&self, _: i32) -> Result<Option<i64>, String> {
        Ok(None)
    }
    fn await_release(&self, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn report(&self, _: i32, _: Option<(ShardRole, i64)>) {}
    fn give_up(&self, _: i32) {}
    fn peers(&self, _: i32) -> Vec<String> {
        Vec::new()
    }
    fn settles(&self) -> bool {
        true
    }
    fn lost_at(&self, _: i32) -> i64 {
        self.1.load(Ordering::Relaxed)
    }
    fn owner(&self, _: i32) -> NotOwner {
        NotOwner { epoch: 7, endpoint: "http://owner".to_owned() }
    }
    fn is_current(&self) -> bool {
        self.0.lock().1
    }
}

/// An instance that serves partition 1.
struct World {
    service: QueryService<Notes>,
    view: Arc<PartitionView>,
    store: Arc<MemoryStore>,
    roles: Arc<Told>,
    clock: Arc<ManualClock>,
}

const HERE: i32 = 1;

impl World {
    fn new(role: Role) -> World {
        let views: Vec<_> = (0..PARTITIONS).map(|partition| Arc::new(PartitionView::new(partition, 0))).collect();
        let (view, store) = (Arc::clone(&views[HERE as usize]), Arc::new(MemoryStore::new()));
        let roles = Arc::new(Told(Mutex::new((role, true)), AtomicI64::new(-1)));
        let clock = ManualClock::shared(0);
        clock.advance(Duration::from_secs(100));
        let service = QueryService::new(
            "me".to_owned(),
            Arc::new(Notes::new()),
            views,
            Arc::clone(&roles) as Arc<dyn Roles>,
            Arc::clone(&clock) as Arc<_>,
        );
        let world = World { service, view, store, roles, clock };
        world.live(role);
        world
    }

    fn owner() -> World {
        World::new(Role::Active)
    }

    fn live(&self, role: Role) {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        self.roles.0.lock().0 = role;
        self.view.set_life(if role == Role::Active { Life::Running(store) } else { Life::Standby(store) });
    }

    /// The nth commit: a note, and the entry with the nth identifier, even or odd as it is, unless it is lost.
    fn commit(&self, nth: u64, lost: bool) {
        let mut batch = Batch::default();
        batch.put(NOTES, b"note", nth.to_string().as_bytes());
        if !lost {
            batch.put(ENTRIES, &key(nth), parity(nth));
        }
        let progress = Progress { commit_sequence: nth, last_transaction: identifier(nth), ..Progress::default() };
        self.store.commit(batch, &progress).unwrap();
        self.view.restored(nth);
    }

    async fn note(&self, want: u64, (timeout_ms, stale_ms_max): (u32, u32)) -> Result<(String, bool), Status> {
        let tokens = vec![Token { partition: HERE, commit_sequence: want }];
        let (table, keys) = ("note".to_owned(), vec![b"note".to_vec()]);
        let request = GetRequest { partition: HERE, table, keys, tokens, timeout_ms, stale_ms_max };
        let mut answer = self.service.get(Request::new(request)).await?.into_inner();
        let value = answer.entries.pop().map(|entry| entry.value).unwrap_or_default();
        Ok((String::from_utf8(value).unwrap(), answer.stale))
    }

    async fn entries(&self, want: u64, (timeout_ms, stale_ms_max): (u32, u32)) -> Result<(usize, bool), Status> {
        let tokens = vec![Token { partition: HERE, commit_sequence: want }];
        let (table, limit) = ("entry".to_owned(), 1000);
        let request =
            ScanRequest { partition: HERE, table, limit, tokens, timeout_ms, stale_ms_max, ..ScanRequest::default() };
        let answer = self.service.scan(Request::new(request)).await?.into_inner();
        Ok((answer.entries.len(), answer.stale))
    }

    /// Resumes after this key: how many rows come until the watch is live, or how it ends.
    async fn resume(&self, after: Vec<u8>, prefix: &[u8]) -> Result<usize, (usize, BrokenWatch)> {
        let (table, prefix) = ("entry".to_owned(), prefix.to_vec());
        let request = WatchRequest { partition: HERE, table, prefix, after: Some(after), ..WatchRequest::default() };
        let mut responses = self.service.watch(Request::new(request)).await.unwrap().into_inner();
        let mut rows = 0;
        loop {
            match responses.next().await.unwrap() {
                Ok(response) => {
                    rows += response.entries.len();
                    if response.live {
                        return Ok(rows);
                    }
                }
                Err(status) => return Err((rows, BrokenWatch::of(&status).unwrap())),
            }
        }
    }
}

fn identifier(nth: u64) -> i64 {
    nth as i64 * i64::from(PARTITIONS) + i64::from(HERE)
}

fn parity(nth: u64) -> &'static [u8] {
    if nth.is_multiple_of(2) { b"even" } else { b"odd" }
}

fn key(nth: u64) -> Vec<u8> {
    if nth == 0 { 0_i64.to_be_bytes().to_vec() } else { identifier(nth).to_be_bytes().to_vec() }
}

fn reason<T: std::fmt::Debug>(ended: Result<T, (usize, BrokenWatch)>) -> (usize, Reason) {
    let (rows, broken) = ended.unwrap_err();
    (rows, broken.reason())
}

#[tokio::test]
async fn a_token_is_waited_for_or_the_answer_says_how_far_it_is() {
    let world = World::owner();
    world.commit(3, false);
    assert_eq!(world.note(3, (0, 0)).await.unwrap(), ("3".to_owned(), false));
    let refused = world.note(5, (0, 0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert_eq!(Stale::of(&refused), Some(Stale { partition: HERE, have: 3, want: 5 }));
    let bounds = (LONG_MS, 0);
    let (answer, ()) = tokio::join!(world.note(5, bounds), async {
        world.commit(4, false);
        world.commit(5, false);
    });
    assert_eq!(answer.unwrap().0, "5");
}

#[tokio::test]
async fn a_standby_answers_within_the_bound_that_the_caller_names_and_says_so() {
    let world = World::new(Role::Standby);
    world.commit(3, false);
    let refused = world.note(0, (0, 1000)).await.unwrap_err();
    assert!(NotOwner::of(&refused).is_some(), "nobody knows how old it is: {refused}");
    world.view.synced(Duration::from_secs(99));
    assert_eq!(world.note(0, (0, 1000)).await.unwrap(), ("3".to_owned(), true));
    for (stale_ms_max, advance) in [(999, 0), (0, 0), (1000, 1)] {
        world.clock.advance(Duration::from_millis(advance));
        let refused = world.note(0, (0, stale_ms_max)).await.unwrap_err();
        let hint = NotOwner { epoch: 7, endpoint: "http://owner".to_owned() };
        assert_eq!(NotOwner::of(&refused), Some(hint), "{stale_ms_max}");
    }
    // The token comes on top of the bound.
    assert_eq!(Stale::of(&world.note(4, (0, 2000)).await.unwrap_err()).map(|stale| stale.have), Some(3));
}

#[tokio::test]
async fn an_owner_that_cannot_prove_that_it_is_one_says_so_and_counts_as_old() {
    let world = World::owner();
    world.commit(1, false);
    world.view.synced(Duration::from_secs(99));
    world.roles.0.lock().1 = false;
    assert_eq!(world.note(0, (0, 0)).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(world.note(0, (0, 1000)).await.unwrap(), ("1".to_owned(), true));
}

#[tokio::test]
async fn rows_of_before_another_owned_it_are_not_fresh() {
    let world = World::owner();
    world.view.claimed(4);
    world.commit(1, false);
    assert_eq!(world.note(0, (0, 0)).await.unwrap(), ("1".to_owned(), false));
    // The membership has read that it was given to another under epoch 5 and back under 6; the shard has not looked yet.
    world.roles.1.store(5, Ordering::Relaxed);
    assert_eq!(world.note(0, (0, 0)).await.unwrap_err().code(), Code::Unavailable);
    world.view.synced(world.clock.monotonic());
    assert_eq!(world.note(0, (0, 1_000)).await.unwrap(), ("1".to_owned(), true), "called old");
    world.view.claimed(6);
    assert_eq!(world.note(0, (0, 0)).await.unwrap(), ("1".to_owned(), false));
}

#[tokio::test]
async fn a_token_counts_for_a_table_of_events_when_a_standby_has_read_them() {
    let world = World::new(Role::Standby);
    world.commit(2, false);
    world.view.synced(Duration::from_secs(100));
    let stale = Stale::of(&world.entries(2, (0, 1000)).await.unwrap_err());
    assert_eq!(stale, Some(Stale { partition: HERE, have: 0, want: 2 }));
    assert_eq!(world.note(2, (0, 1000)).await.unwrap().0, "2", "other tables do not wait for events");
    let (answer, ()) = tokio::join!(world.entries(2, (LONG_MS, 1000)), async { world.view.events_reached(2) });
    assert_eq!(answer.unwrap(), (1, true));
    world.live(Role::Active);
    assert_eq!(world.entries(2, (0, 0)).await.unwrap(), (1, false), "an owner writes them with their commit");
}

#[tokio::test]
async fn a_table_that_is_being_read_back_is_not_answered_from() {
    let world = World::owner();
    world.commit(1, false);
    world.view.history_remaining.store(1, Ordering::Relaxed);
    for stale_ms_max in [0, u32::MAX] {
        assert_eq!(world.entries(0, (0, stale_ms_max)).await.unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!(world.note(0, (0, 0)).await.unwrap().0, "1", "the others wait for no history");
    world.view.history_remaining.store(0, Ordering::Relaxed);
    assert_eq!(world.entries(0, (0, 0)).await.unwrap().0, 1);
}

#[tokio::test]
async fn a_watch_resumes_where_nothing_is_missing() {
    let world = World::owner();
    assert_eq!(world.resume(key(0), b"").await, Ok(0));
    (1..=1201).for_each(|nth| world.commit(nth, false));
    assert_eq!(world.resume(key(0), b"").await, Ok(1201));
    assert_eq!(world.resume(key(1200), b"").await, Ok(1));
    assert_eq!(world.resume(key(1201), b"").await, Ok(0));
}

#[tokio::test]
async fn who_watches_or_waits_looks_again_when_a_commit_came_by_a_restore() {
    let world = World::owner();
    let request = WatchRequest { partition: HERE, table: "entry".to_owned(), ..WatchRequest::default() };
    let mut watch = world.service.watch(Request::new(request)).await.unwrap().into_inner();
    assert!(watch.next().await.unwrap().unwrap().live);
    let waiter = world.view.wait_for(NOTES, b"note");
    let woken = waiter.notify.notified();
    tokio::pin!(woken);
    woken.as_mut().enable();
    // Its answer was lost, the store has it from the changelog. No other commit follows.
    world.commit(1, false);
    woken.await;
    let ended = watch.next().await.unwrap().unwrap_err();
    assert_eq!(BrokenWatch::of(&ended).unwrap().reason(), Reason::FellBehind);
    assert_eq!(world.resume(key(0), b"").await, Ok(1));
}

#[tokio::test]
async fn a_cursor_whose_next_rows_are_gone_is_too_old() {
    // The beginning, a piece in the middle and the end are not kept.
    let world = World::owner();
    (1..=1300).for_each(|nth| world.commit(nth, nth <= 100 || (700..=705).contains(&nth)));
    assert_eq!(reason(world.resume(key(0), b"").await), (0, Reason::TooOld));
    assert_eq!(reason(world.resume(key(99), b"").await), (0, Reason::TooOld));
    assert_eq!(reason(world.resume(key(100), b"").await), (500, Reason::TooOld), "up to the page with the hole");
    let (rows, broken) = world.resume(key(704), b"").await.unwrap_err();
    assert_eq!((rows, broken.reason(), broken.end), (0, Reason::TooOld, key(1300)));
    assert_eq!(world.resume(key(705), b"").await, Ok(595));
    (1301..=1303).for_each(|nth| world.commit(nth, true));
    assert_eq!(reason(world.resume(key(1300), b"").await), (0, Reason::TooOld));
    assert_eq!(world.resume(key(1303), b"").await, Ok(0));
    // Whoever asks for some of the rows only, is told nothing about the others.
    assert_eq!(world.resume(key(704), &key(706)).await, Ok(1));
}

#[tokio::test]
async fn a_cursor_beyond_the_end_is_of_another_log() {
    let world = World::owner();
    (1..=3).for_each(|nth| world.commit(nth, false));
    let (rows, broken) = world.resume(key(4), b"").await.unwrap_err();
    assert_eq!((rows, broken.reason(), broken.end), (0, Reason::BeyondEnd, key(3)));
    assert_eq!(reason(World::owner().resume(key(1), b"").await), (0, Reason::BeyondEnd));
}
