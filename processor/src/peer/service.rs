//! The giving side: checkpoints of the partitions that are open here, read over gRPC at a bounded rate.
//!
//! It serves owners and standbys alike, whoever asks, and also an owner that cannot prove that it still is one: a
//! checkpoint is of the past anyway. It refuses more than a few readers at once, and lets go of one that stops reading.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use schemas::peer::peer_server::Peer;
use schemas::peer::{Chunk, FilesRequest, FilesResponse, ReadRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::checkpoints::{Checkpoints, LastUse, Missing};
use super::pace::Pace;
use super::{CHUNK_BYTES, checksum};
use crate::clock::SharedClock;
use crate::query::view::{Life, PartitionView};

/// Files that are read at once. Each takes a few pieces of memory; the rate they share.
pub(super) const READERS_MAX: usize = 8;
/// Pieces of a file that wait for the network.
const CHUNKS_BUFFERED: usize = 2;
/// A reader that takes nothing for so long is gone.
const READER_SILENT_MAX: Duration = Duration::from_secs(10);

/// See the module.
pub struct PeerService {
    views: Vec<Arc<PartitionView>>,
    checkpoints: Arc<Checkpoints>,
    pace: Arc<Pace>,
    readers: Arc<Semaphore>,
}

impl PeerService {
    pub(super) fn new(
        views: Vec<Arc<PartitionView>>,
        checkpoints: Arc<Checkpoints>,
        bytes_per_second: u64,
        clock: SharedClock,
    ) -> PeerService {
        let pace = Arc::new(Pace::new(bytes_per_second, clock));
        PeerService { views, checkpoints, pace, readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn files(&self, request: Request<FilesRequest>) -> Result<Response<FilesResponse>, Status> {
        let partition = request.into_inner().partition;
        let view = usize::try_from(partition).ok().and_then(|index| self.views.get(index));
        let view = view.ok_or_else(|| Status::invalid_argument(format!("there is no partition {partition}")))?;
        let store = match view.life() {
            Life::Running(store) | Life::Standby(store) | Life::Waiting(store, _) => store,
            life => return Err(Status::unavailable(format!("partition {partition} is {} here", life.name()))),
        };
        let (checkpoints, view) = (Arc::clone(&self.checkpoints), Arc::clone(view));
        let listing = blocking(move || {
            let taken = checkpoints.take(partition, &*store);
            taken.inspect_err(|error| view.note(error))
        });
        let listing = listing.await?.map_err(|error| Status::unavailable(format!("no checkpoint: {error}")))?;
        Ok(Response::new(FilesResponse {
            checkpoint: listing.id,
            files: listing.files,
            changelog_offset: listing.changelog_offset,
            bytes_per_second: self.pace.bytes_per_second(),
        }))
    }

    type ReadStream = ReceiverStream<Result<Chunk, Status>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let ReadRequest { checkpoint, name, offset } = request.into_inner();
        let permit = Arc::clone(&self.readers).try_acquire_owned();
        let permit = permit.map_err(|_| Status::resource_exhausted("as many copies as allowed are being made"))?;
        let (checkpoints, looked_up) = (Arc::clone(&self.checkpoints), name.clone());
        let opened = blocking(move || checkpoints.open(&checkpoint, &looked_up)).await?;
        let (file, bytes, used) = opened.map_err(|missing| match missing {
            Missing::Checkpoint => Status::not_found("there is no such checkpoint any more; ask for the files again"),
            Missing::File => Status::invalid_argument(format!("the checkpoint has no file {name:?}")),
            Missing::Unreadable(error) => Status::unavailable(format!("{name}: {error}")),
        })?;
        if offset > bytes {
            return Err(Status::invalid_argument(format!("{name} ends at {bytes}, asked for was {offset}")));
        }
        let (sender, receiver) = mpsc::channel(CHUNKS_BUFFERED);
        let reading = Reading { name, file, offset, used, pace: Arc::clone(&self.pace), _permit: permit };
        tokio::spawn(reading.send_all(sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// One file on its way.
struct Reading {
    name: String,
    file: File,
    offset: u64,
    used: LastUse,
    pace: Arc<Pace>,
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    /// Until the end of the file, or of the reader.
    async fn send_all(mut self, sender: mpsc::Sender<Result<Chunk, Status>>) {
        loop {
            let Ok((reading, read)) = blocking(move || self.next()).await else { return };
            self = reading;
            let chunk = match read {
                Ok(None) => return,
                Ok(Some(chunk)) => Ok(chunk),
                Err(error) => Err(Status::unavailable(format!("{}: {error}", self.name))),
            };
            let bytes = chunk.as_ref().map_or(0, |chunk| chunk.data.len());
            let turn = self.pace.turn(bytes);
            if !turn.is_zero() && tokio::time::timeout(turn, sender.closed()).await.is_ok() {
                return;
            }
            let failed = chunk.is_err();
            let sent = tokio::time::timeout(READER_SILENT_MAX, sender.send(chunk)).await;
            if failed || !matches!(sent, Ok(Ok(()))) {
                return;
            }
            self.used.touch();
            metrics::counter!("kontor_peer_bytes_total", "direction" => "out").increment(bytes as u64);
        }
    }

    /// The next piece; `None` at the end. Waits for the disk.
    fn next(mut self) -> (Reading, std::io::Result<Option<Chunk>>) {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        let read = self
            .file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| (&mut self.file).take(CHUNK_BYTES as u64).read_to_end(&mut data));
        let chunk = read.map(|bytes| {
            let checksum = checksum(&self.name, self.offset, &data);
            self.offset += bytes as u64;
            (bytes > 0).then_some(Chunk { data, checksum })
        });
        (self, chunk)
    }
}

/// Runs what waits for the disk where waiting is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}
