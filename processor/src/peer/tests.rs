//! Copies between two directories of one machine, over real connections and real stores; peers that cut, lie and say
//! nothing.

mod faulty;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use schemas::peer::peer_client::PeerClient;
use schemas::peer::peer_server::{Peer, PeerServer};
use schemas::peer::{FilesRequest, ReadRequest};
use state_store::{Batch, Budget, Identity, Progress, Store, StoreError, TableId};
use tokio::runtime::Runtime;
use tonic::Code;

use super::checkpoints::{Checkpoints, UNUSED_MAX};
use super::copier::{Copied, Copier, Failure, Wish};
use super::service::{PeerService, READERS_MAX};
use super::{CHUNK_BYTES, checksum};
use crate::clock::{SharedClock, SystemClock};
use crate::query::view::{Life, PartitionView};
use crate::shard::Stores;
use crate::stores::DiskStores;
use crate::testing::ManualClock;
use faulty::{Fault, Faulty};

const ROWS: TableId = TableId(1);
const PARTITION: i32 = 1;
/// Rows of a kilobyte that nothing compresses: several pieces.
const COUNT: u64 = 3_000;

fn stores(directory: &Path, partitions_of: &str) -> DiskStores {
    let identity = Identity {
        application: partitions_of.to_owned(),
        cluster_id: "cluster".to_owned(),
        partition: 0,
        prefix: String::new(),
        check: vec![1],
        earlier_checks: Vec::new(),
    };
    DiskStores::new(directory.to_owned(), identity, Budget::new(4 << 20, 4 << 20))
}

fn fill(store: &dyn Store) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut batch = Batch::default();
    for key in 0..COUNT {
        let row: Vec<u8> = (0..128)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_be_bytes()
            })
            .collect();
        batch.put(ROWS, &key.to_be_bytes(), &row);
    }
    store.load(batch, &progress()).unwrap();
}

fn progress() -> Progress {
    Progress { changelog_offset: 4711, commit_sequence: 7, ..Progress::default() }
}

/// One who has the state and one who wants it, in directories of their own.
struct Both {
    runtime: Runtime,
    here: PathBuf,
    there: DiskStores,
    address: String,
    _directory: tempfile::TempDir,
}

impl Both {
    /// The giving side misbehaves like this.
    fn with(fault: Fault) -> Both {
        let directory = tempfile::tempdir().unwrap();
        let (giving, here) = (directory.path().join("giving"), directory.path().join("here"));
        let there = stores(&here, "bank");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = stores(&giving, "bank").open(PARTITION).unwrap();
        fill(&*store);
        let service = service(&giving, store, SystemClock::shared());
        let address = serve(&runtime, Faulty::new(service, fault));
        std::fs::create_dir_all(here.join("peer/in")).unwrap();
        Both { runtime, here, there, address, _directory: directory }
    }

    fn copier(&self) -> Copier {
        Copier::new(self.runtime.handle().clone(), SystemClock::shared(), self.here.join("peer/in"), 0)
    }

    fn wish<'w>(&'w self, go_on: &'w dyn Fn() -> bool) -> Wish<'w> {
        Wish { partition: PARTITION, from: &self.address, urgent: true, judge: &|_, _| Ok(()), go_on }
    }

    fn copy(&self) -> Result<Copied, Failure> {
        self.copier().copy(&self.wish(&|| true))
    }

    /// The same, with the patience of a standby.
    fn copy_patiently(&self) -> Result<Copied, Failure> {
        self.copier().copy(&Wish { urgent: false, ..self.wish(&|| true) })
    }

    fn left_over(&self) -> usize {
        std::fs::read_dir(self.here.join("peer/in")).unwrap().count()
    }

    /// The copy becomes the store, and holds what the original holds.
    fn assert_is_the_store(&self, copied: &Copied) {
        assert!(copied.bytes > COUNT * 1_000, "{copied:?}");
        assert!(self.there.is_missing(PARTITION));
        self.there.adopt(PARTITION, &copied.directory).unwrap();
        assert!(!self.there.is_missing(PARTITION));
        let store = self.there.open(PARTITION).unwrap();
        assert_eq!(store.progress().unwrap(), progress());
        let page = store.snapshot().unwrap().scan(ROWS, &state_store::ScanRange::all()).unwrap();
        assert_eq!(page.rows.len() as u64, COUNT);
        assert_eq!(self.left_over(), 0);
    }
}

fn service(giving: &Path, store: Arc<dyn Store>, clock: SharedClock) -> PeerService {
    let views: Vec<_> = (0..3).map(|partition| Arc::new(PartitionView::new(partition, 0))).collect();
    views[PARTITION as usize].set_life(Life::Standby(store));
    let outgoing = giving.join("peer/out");
    std::fs::create_dir_all(&outgoing).unwrap();
    let checkpoints = Arc::new(Checkpoints::new(outgoing, "life", Arc::clone(&clock)));
    PeerService::new(views, checkpoints, 1 << 30, clock)
}

fn serve(runtime: &Runtime, service: impl Peer) -> String {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(PeerServer::new(service));
    runtime.spawn(server.serve_with_incoming(incoming));
    address
}

#[test]
fn a_copy_becomes_the_store() {
    let both = Both::with(Fault::None);
    both.assert_is_the_store(&both.copy().unwrap());
}

#[test]
fn damaged_pieces_and_cut_streams_are_asked_for_again_from_there() {
    for fault in [Fault::FlipOnce(0), Fault::FlipOnce(3), Fault::CutOnce(0), Fault::CutOnce(2), Fault::BreakOnce(1)] {
        let both = Both::with(fault);
        both.assert_is_the_store(&both.copy().unwrap_or_else(|failure| panic!("{fault:?}: {failure:?}")));
    }
}

#[test]
fn a_busy_peer_is_asked_again() {
    let both = Both::with(Fault::BusyOnce);
    both.assert_is_the_store(&both.copy().unwrap());
}

#[test]
fn a_peer_that_lies_is_given_up_and_leaves_nothing() {
    for (fault, said) in [
        (Fault::FlipAlways, "damaged"),
        (Fault::CutAlways, "ended before"),
        (Fault::TooLong, "more than its"),
        (Fault::WrongName("../partition-1"), "named"),
        (Fault::WrongName("CURRENT/x"), "named"),
        (Fault::WrongName(""), "named"),
        (Fault::NoFiles, "no files"),
        (Fault::Forgets, "NotFound"),
    ] {
        let both = Both::with(fault);
        let failure = both.copy().unwrap_err();
        assert!(matches!(&failure, Failure::Peer(reason) if reason.contains(said)), "{fault:?}: {failure:?}");
        assert_eq!(both.left_over(), 0, "{fault:?}");
        assert!(both.there.is_missing(PARTITION), "{fault:?}");
    }
    let both = Both::with(Fault::CutAlways);
    assert!(matches!(both.copy_patiently(), Err(Failure::Peer(_))), "patience ends too");
}

#[test]
fn a_peer_that_says_nothing_or_is_not_there_is_given_up() {
    let silent = Both::with(Fault::Silent);
    let failure = silent.copy().unwrap_err();
    assert!(matches!(&failure, Failure::Peer(reason) if reason.contains("no word")), "{failure:?}");
    assert_eq!(silent.left_over(), 0);
    let gone = Both { address: "http://127.0.0.1:1".to_owned(), ..silent };
    assert!(matches!(gone.copy(), Err(Failure::Peer(_))));
    let nonsense = Both { address: "no address".to_owned(), ..gone };
    assert!(matches!(nonsense.copy(), Err(Failure::Peer(_))));
}

#[test]
fn a_copy_that_is_not_wanted_any_more_ends_at_once_and_leaves_nothing() {
    let both = Both::with(Fault::None);
    // It is asked before every answer: somewhere in the middle.
    let looks = AtomicUsize::new(0);
    let go_on = || looks.fetch_add(1, Ordering::Relaxed) < 6;
    assert!(matches!(both.copier().copy(&both.wish(&go_on)), Err(Failure::Released)));
    assert_eq!((both.left_over(), both.there.is_missing(PARTITION)), (0, true));
}

#[test]
fn what_is_not_worth_it_is_not_copied() {
    let both = Both::with(Fault::None);
    let judge = |bytes: u64, per_second: u64| Err(format!("{} {per_second}", bytes > COUNT * 1_000));
    let refused = both.copier().copy(&Wish { judge: &judge, ..both.wish(&|| true) });
    assert!(matches!(&refused, Err(Failure::NotWorth(reason)) if reason == "true 1073741824"), "{refused:?}");
    assert_eq!(both.left_over(), 0);
}

#[test]
fn a_copy_of_somebody_else_s_store_or_a_bad_one_is_not_adopted() {
    let both = Both::with(Fault::None);
    let copied = both.copy().unwrap();
    let other = stores(&both.here, "shop").adopt(PARTITION, &copied.directory);
    assert!(matches!(other, Err(StoreError::WrongStore { what: "application", .. })), "{other:?}");
    let other = both.there.adopt(PARTITION + 1, &copied.directory);
    assert!(matches!(other, Err(StoreError::WrongStore { what: "partition", .. })), "{other:?}");
    let tables = std::fs::read_dir(&copied.directory).unwrap().map(|entry| entry.unwrap().path());
    let table = tables.into_iter().find(|path| path.extension().is_some_and(|name| name == "sst")).unwrap();
    std::fs::remove_file(table).unwrap();
    let bad = both.there.adopt(PARTITION, &copied.directory);
    assert!(matches!(bad, Err(StoreError::Corrupt { .. })), "{bad:?}");
    let empty = both.here.join("peer/in/empty");
    let empty = both.there.adopt(PARTITION, &empty);
    assert!(matches!(empty, Err(StoreError::Corrupt { .. })), "{empty:?}");
    assert!(both.there.is_missing(PARTITION) && both.there.is_missing(PARTITION + 1));
}

#[test]
fn the_service_names_what_it_cannot_give() {
    let both = Both::with(Fault::None);
    both.runtime.block_on(async {
        let mut client = PeerClient::connect(both.address.clone()).await.unwrap();
        let mut files = async |partition| client.files(FilesRequest { partition }).await;
        assert_eq!(files(-1).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(files(3).await.unwrap_err().code(), Code::InvalidArgument);
        let starting = files(0).await.unwrap_err();
        assert_eq!((starting.code(), starting.message()), (Code::Unavailable, "partition 0 is starting here"));
        let offer = files(PARTITION).await.unwrap().into_inner();
        assert_eq!((offer.changelog_offset, offer.bytes_per_second), (4711, 1 << 30));
        let table = offer.files.iter().max_by_key(|file| file.bytes).unwrap();
        assert!(table.bytes > 4 * CHUNK_BYTES as u64, "{table:?}");
        let read = |checkpoint: &str, name: &str, offset| {
            let mut client = client.clone();
            let request = ReadRequest { checkpoint: checkpoint.to_owned(), name: name.to_owned(), offset };
            async move { client.read(request).await.map(tonic::Response::into_inner) }
        };
        assert_eq!(read("another", &table.name, 0).await.unwrap_err().code(), Code::NotFound);
        let outside = read(&offer.checkpoint, "../1/CURRENT", 0).await.unwrap_err();
        assert_eq!(outside.code(), Code::InvalidArgument);
        let behind = read(&offer.checkpoint, &table.name, table.bytes + 1).await.unwrap_err();
        assert_eq!(behind.code(), Code::InvalidArgument);
        assert!(read(&offer.checkpoint, &table.name, table.bytes).await.unwrap().message().await.unwrap().is_none());
        let mut tail = read(&offer.checkpoint, &table.name, table.bytes - 3).await.unwrap();
        let chunk = tail.message().await.unwrap().unwrap();
        assert_eq!(chunk.checksum, checksum(&table.name, table.bytes - 3, &chunk.data));
        assert_ne!(chunk.checksum, checksum(&table.name, 0, &chunk.data), "right only in its place");
        drop(tail);
        // Readers that read nothing hold their places.
        let mut held = Vec::new();
        loop {
            match read(&offer.checkpoint, &table.name, 0).await {
                Ok(stream) => held.push(stream),
                Err(status) => break assert_eq!(status.code(), Code::ResourceExhausted),
            }
            assert!(held.len() <= READERS_MAX);
        }
    });
}

#[test]
fn checkpoints_are_shared_while_they_are_fresh_and_go_when_they_are_unused() {
    let directory = tempfile::tempdir().unwrap();
    let store = stores(&directory.path().join("state"), "bank").open(PARTITION).unwrap();
    fill(&*store);
    let clock = ManualClock::shared(0);
    let outgoing = directory.path().join("state/out");
    let checkpoints = Checkpoints::new(outgoing.clone(), "life", Arc::clone(&clock) as SharedClock);
    let on_disk = || std::fs::read_dir(&outgoing).unwrap().count();
    let first = checkpoints.take(PARTITION, &*store).unwrap();
    assert_eq!(checkpoints.take(PARTITION, &*store).unwrap().id, first.id);
    clock.advance(UNUSED_MAX / 2);
    let second = checkpoints.take(PARTITION, &*store).unwrap();
    assert_ne!(second.id, first.id, "not of long ago");
    assert_eq!(on_disk(), 1, "one per partition");
    assert!(checkpoints.open(&first.id, "CURRENT").is_err());
    let (_, bytes, used) = checkpoints.open(&second.id, "CURRENT").unwrap();
    assert!(bytes > 0);
    clock.advance(UNUSED_MAX - Duration::from_millis(1));
    used.touch();
    clock.advance(Duration::from_millis(1));
    checkpoints.sweep();
    assert_eq!(on_disk(), 1, "somebody reads from it");
    clock.advance(UNUSED_MAX);
    checkpoints.sweep();
    assert_eq!(on_disk(), 0);
    checkpoints.take(PARTITION, &*store).unwrap();
    checkpoints.clear();
    assert_eq!(on_disk(), 0);
}
