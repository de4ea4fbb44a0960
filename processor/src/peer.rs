//! Restore from a peer: an instance without the state of a partition copies it from one that has it.
//!
//! ```text
//!  the one that has it                            the one without
//!  store ──checkpoint──► checkpoints.rs           fetch.rs: is it worth it, and from whom?
//!                             │                       │
//!                        service.rs ══gRPC, paced══► copier.rs ──► a directory beside the stores
//!                                                     │            opened once as the store (whose is it? is it whole?),
//!                                                     ▼            then renamed to be the store
//!                                             the ordinary catch-up reads the changelog from there
//! ```
//! **Nothing here is needed.** Whatever fails, lies or is slow: what was copied is deleted, that is said in one line, and
//! the changelog restores the partition alone. So there are deadlines everywhere and no error that a shard would have to
//! deal with. It copies only what is not there at all, and never twice in a life what had to be wiped.

mod checkpoints;
mod copier;
mod fetch;
mod pace;
mod service;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use schemas::peer::peer_server::PeerServer;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::query::view::PartitionView;
use crate::shard::Stores;
pub use copier::Copier;
use service::PeerService;

/// Bytes of one piece of a file.
const CHUNK_BYTES: usize = 256 << 10;

/// How an instance gives and takes copies.
#[derive(Clone, Copy, Debug)]
pub struct PeerOptions {
    /// What all copies that it gives may take together; 0: it gives none and takes none.
    pub bytes_per_second: u64,
    /// Records that a partition must lack before a copy is asked for.
    pub records_min: u64,
}

/// Both sides of an instance: the service for others, and what its own shards copy with. `None` when it is switched off,
/// or when there is no place for copies.
pub(crate) fn sides(
    options: PeerOptions,
    incarnation: &str,
    stores: &dyn Stores,
    views: &[Arc<PartitionView>],
    clock: &SharedClock,
    ended: &CancellationToken,
) -> Option<(PeerServer<PeerService>, Arc<Copier>)> {
    let place = stores.exchange().filter(|_| options.bytes_per_second > 0)?;
    let (incoming, outgoing) = (place.join("in"), place.join("out"));
    for directory in [&incoming, &outgoing] {
        if let Err(error) = make_anew(directory) {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "no place for copies of stores; none are given or taken");
            return None;
        }
    }
    let checkpoints = Arc::new(checkpoints::Checkpoints::new(outgoing, incarnation, Arc::clone(clock)));
    tokio::spawn(Arc::clone(&checkpoints).keep_tidy(ended.clone()));
    let service = PeerService::new(views.to_vec(), checkpoints, options.bytes_per_second, Arc::clone(clock));
    let runtime = tokio::runtime::Handle::current();
    let copier = Copier::new(runtime, Arc::clone(clock), incoming, options.records_min);
    Some((PeerServer::new(service), Arc::new(copier)))
}

/// What an earlier life left there is worth nothing.
fn make_anew(directory: &Path) -> std::io::Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)
}

/// The checksum of a piece of a file: it holds at its place only.
fn checksum(name: &str, offset: u64, data: &[u8]) -> u32 {
    state_store::checksum(&[name.as_bytes(), &offset.to_be_bytes(), data])
}
