//! A peer that misbehaves in one way, in front of one that does not.

use std::sync::atomic::{AtomicBool, Ordering};

use schemas::peer::peer_server::Peer;
use schemas::peer::{Chunk, FilesRequest, FilesResponse, ReadRequest};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::peer::service::PeerService;

/// How it misbehaves. Pieces are counted within a file; `Once`: the first time that a file has so many.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    None,
    /// A flipped bit in this piece.
    FlipOnce(usize),
    FlipAlways,
    /// The stream ends before this piece, as if the file did.
    CutOnce(usize),
    CutAlways,
    /// The stream fails before this piece, as when a connection breaks.
    BreakOnce(usize),
    /// As many copies as allowed are being made.
    BusyOnce,
    /// Files are longer than it said.
    TooLong,
    WrongName(&'static str),
    NoFiles,
    /// No such checkpoint when it is read.
    Forgets,
    /// Accepts, and says nothing.
    Silent,
}

pub(super) struct Faulty {
    inner: PeerService,
    fault: Fault,
    done: AtomicBool,
}

impl Faulty {
    pub fn new(inner: PeerService, fault: Fault) -> Faulty {
        Faulty { inner, fault, done: AtomicBool::new(false) }
    }
}

#[tonic::async_trait]
impl Peer for Faulty {
    async fn files(&self, request: Request<FilesRequest>) -> Result<Response<FilesResponse>, Status> {
        let mut offer = self.inner.files(request).await?.into_inner();
        match self.fault {
            Fault::TooLong => offer.files.iter_mut().for_each(|file| file.bytes = file.bytes.saturating_sub(1)),
            Fault::WrongName(name) => name.clone_into(&mut offer.files[0].name),
            Fault::NoFiles => offer.files.clear(),
            Fault::Silent => std::future::pending().await,
            _ => {}
        }
        Ok(Response::new(offer))
    }

    type ReadStream = ReceiverStream<Result<Chunk, Status>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        match self.fault {
            Fault::None => return self.inner.read(request).await,
            Fault::Forgets => return Err(Status::not_found("there is no such checkpoint any more")),
            _ => {}
        }
        if matches!(self.fault, Fault::BusyOnce) && !self.done.swap(true, Ordering::SeqCst) {
            return Err(Status::resource_exhausted("busy"));
        }
        let chunks: Vec<_> = self.inner.read(request).await?.into_inner().collect().await;
        let (sender, receiver) = tokio::sync::mpsc::channel(chunks.len().max(1));
        for (number, chunk) in chunks.into_iter().enumerate() {
            let mut chunk: Chunk = chunk?;
            let once = |at: usize| number == at && !self.done.swap(true, Ordering::SeqCst);
            match self.fault {
                Fault::FlipOnce(at) if once(at) => chunk.data[0] ^= 1,
                Fault::FlipAlways => chunk.data[0] ^= 1,
                Fault::CutOnce(at) if once(at) => break,
                Fault::CutAlways => break,
                Fault::BreakOnce(at) if once(at) => {
                    let _ = sender.send(Err(Status::unavailable("broken"))).await;
                    break;
                }
                _ => {}
            }
            let _ = sender.send(Ok(chunk)).await;
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
