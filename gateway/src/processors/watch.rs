//! An open watch.

use super::search::Search;
use crate::routing::Owner;
use schemas::query::{WatchRequest, WatchResponse};
use tonic::{Status, Streaming};

/// What one processor tells of a table, for as long as it owns the partition. It ends when the partition moves, whether
/// or not the processor ends it: one that was stopped says nothing more and keeps its connections.
pub struct Watch {
    stream: Streaming<WatchResponse>,
    owner: Owner,
    search: Search,
}

impl Watch {
    /// At the owner; goes on to another one when the owner moves or is named, and returns any other error.
    pub(super) async fn open(mut search: Search, request: WatchRequest) -> Result<Self, Status> {
        loop {
            let owner = search.owner();
            let owner = owner.ok_or_else(|| Status::unavailable("nobody is known to own the partition"))?;
            let mut watches = owner.processor.watches.clone();
            let opened = tokio::select! {
                biased;
                opened = watches.watch(request.clone()) => opened,
                () = search.moved(&owner) => continue,
            };
            match opened {
                Ok(stream) => return Ok(Self { stream: stream.into_inner(), owner, search }),
                Err(status) if search.learn(&status) => {}
                Err(status) => return Err(status),
            }
        }
    }

    /// The next response. An error is the end.
    pub async fn next(&mut self) -> Result<WatchResponse, Status> {
        tokio::select! {
            biased;
            () = self.search.moved(&self.owner) => Err(Status::unavailable("the partition has moved")),
            response = self.stream.message() => {
                response?.ok_or_else(|| Status::unavailable("the processor has ended the watch"))
            }
        }
    }
}
