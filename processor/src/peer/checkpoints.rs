//! Checkpoints of running stores for others to copy: one per partition at a time, kept while somebody reads from it.
//!
//! A checkpoint costs next to nothing when it is made, but holds on to tables that the store has merged away since. So it
//! is removed a while after its last reader, with the instance, and at its next start (`peer.rs`). Every call here may wait
//! for the disk: not for async threads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use schemas::peer;
use state_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;

/// A checkpoint that is younger is given to the next one who asks as well.
const FRESH: Duration = Duration::from_secs(10);
/// A checkpoint that nobody has read from for so long goes.
pub(super) const UNUSED_MAX: Duration = Duration::from_secs(30);

pub(super) struct Checkpoints {
    directory: PathBuf,
    incarnation: String,
    clock: SharedClock,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    made: u64,
    by_partition: BTreeMap<i32, Checkpoint>,
}

struct Checkpoint {
    id: String,
    directory: PathBuf,
    files: Vec<peer::File>,
    changelog_offset: i64,
    made_at: Duration,
    used: LastUse,
}

/// When a checkpoint was used last; whoever reads from it says so here, without waiting for anybody.
#[derive(Clone)]
pub(super) struct LastUse {
    /// Monotonic milliseconds.
    at_ms: Arc<AtomicU64>,
    clock: SharedClock,
}

impl LastUse {
    fn now(clock: &SharedClock) -> LastUse {
        let used = LastUse { at_ms: Arc::default(), clock: Arc::clone(clock) };
        used.touch();
        used
    }

    pub fn touch(&self) {
        self.at_ms.store(self.clock.monotonic().as_millis() as u64, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        let at = Duration::from_millis(self.at_ms.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(at) >= UNUSED_MAX
    }
}

/// What a reader may ask for.
pub(super) struct Listing {
    pub id: String,
    pub files: Vec<peer::File>,
    pub changelog_offset: i64,
}

/// Why a file cannot be read.
#[derive(Debug)]
pub(super) enum Missing {
    Checkpoint,
    File,
    Unreadable(std::io::Error),
}

impl Checkpoints {
    /// `directory` is empty, and on the file system of the stores.
    pub fn new(directory: PathBuf, incarnation: &str, clock: SharedClock) -> Checkpoints {
        Checkpoints { directory, incarnation: incarnation.to_owned(), clock, held: Mutex::default() }
    }

    /// A checkpoint of the partition as it is now, or was a moment ago.
    pub fn take(&self, partition: i32, store: &dyn Store) -> Result<Listing, StoreError> {
        // Held all the while: two who ask at once share one.
        let mut held = self.held.lock();
        let now = self.clock.monotonic();
        if let Some(known) = held.by_partition.get_mut(&partition)
            && now.saturating_sub(known.made_at) < FRESH
        {
            known.used.touch();
            return Ok(known.listing());
        }
        if let Some(old) = held.by_partition.remove(&partition) {
            old.remove();
        }
        // Somebody may have tidied up by hand.
        fs::create_dir_all(&self.directory).map_err(|error| StoreError::Io {
            what: self.directory.display().to_string(),
            detail: error.to_string(),
        })?;
        held.made += 1;
        let id = format!("{}/{}", self.incarnation, held.made);
        let directory = self.directory.join(held.made.to_string());
        // Read first: the checkpoint holds at least this.
        let changelog_offset = store.progress()?.changelog_offset;
        let made = store.checkpoint(&directory);
        let used = LastUse::now(&self.clock);
        let checkpoint = Checkpoint { id, directory, files: Vec::new(), changelog_offset, made_at: now, used };
        match made.and_then(|()| checkpoint.find_files()) {
            Ok(files) => {
                let checkpoint = Checkpoint { files, ..checkpoint };
                let listing = checkpoint.listing();
                held.by_partition.insert(partition, checkpoint);
                Ok(listing)
            }
            Err(error) => {
                checkpoint.remove();
                Err(error)
            }
        }
    }

    /// Opens a file of a checkpoint. Names are looked up, never used as paths.
    pub fn open(&self, id: &str, name: &str) -> Result<(File, u64, LastUse), Missing> {
        let held = self.held.lock();
        let known = held.by_partition.values().find(|known| known.id == id).ok_or(Missing::Checkpoint)?;
        known.used.touch();
        let file = known.files.iter().find(|file| file.name == name).ok_or(Missing::File)?;
        let opened = File::open(known.directory.join(&file.name)).map_err(Missing::Unreadable)?;
        Ok((opened, file.bytes, known.used.clone()))
    }

    /// Removes those that nobody has used for a while.
    pub fn sweep(&self) {
        let mut held = self.held.lock();
        let unused = held.by_partition.extract_if(.., |_, known| known.used.is_over());
        unused.for_each(|(_, unused)| unused.remove());
    }

    /// Removes all.
    pub fn clear(&self) {
        let all = std::mem::take(&mut self.held.lock().by_partition);
        all.into_values().for_each(|known| known.remove());
    }

    /// Sweeps now and then, and at the end removes what is left.
    pub async fn keep_tidy(self: Arc<Self>, ended: CancellationToken) {
        let mut rounds = tokio::time::interval(UNUSED_MAX / 3);
        loop {
            let over = tokio::select! {
                _ = rounds.tick() => false,
                () = ended.cancelled() => true,
            };
            if over {
                // Here, although it is files: the runtime that would give it a thread is about to end.
                self.clear();
                return;
            }
            let checkpoints = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || checkpoints.sweep()).await {
                tracing::error!(%error, "checkpoints were not tidied up");
            }
        }
    }
}

impl Checkpoint {
    fn listing(&self) -> Listing {
        Listing { id: self.id.clone(), files: self.files.clone(), changelog_offset: self.changelog_offset }
    }

    fn find_files(&self) -> Result<Vec<peer::File>, StoreError> {
        let list = || -> std::io::Result<Vec<peer::File>> {
            let entries = fs::read_dir(&self.directory)?;
            let file = |entry: std::io::Result<fs::DirEntry>| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok(peer::File { name, bytes: entry.metadata()?.len() })
            };
            entries.map(file).collect()
        };
        let what = || format!("listing of {}", self.directory.display());
        list().map_err(|error| StoreError::Io { what: what(), detail: error.to_string() })
    }

    /// Open files of it can be read to their end.
    fn remove(&self) {
        match fs::remove_dir_all(&self.directory) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                let directory = self.directory.display();
                tracing::warn!(%directory, %error, "a checkpoint was not removed; the next start removes it");
            }
        }
    }
}
