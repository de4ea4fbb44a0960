//! Opening and wiping the directory of a store: whose it is, whether it is whole, who else has it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use rocksdb::DB;

use super::{Budget, RocksStore, budget, classify, precheck};
use crate::{Batch, Identity, Store, StoreError, own_rows};

/// Our own lock, held from before the first look at the files until the store is dropped; RocksDB takes its lock later.
const LOCK: &str = "STORE.lock";

/// A store that was opened.
#[derive(Debug)]
pub enum Opened {
    /// It was there, belongs to the caller, and holds what [`crate::Store::progress`] says.
    Existing(RocksStore),
    /// There was none: it is empty and now belongs to the caller.
    New(RocksStore),
}

impl Opened {
    /// The store, new or not.
    pub fn into_store(self) -> RocksStore {
        match self {
            Opened::Existing(store) | Opened::New(store) => store,
        }
    }
}

/// Opens the store in the directory `path`, or makes one that belongs to `identity`.
///
/// # Errors
/// [`StoreError::Locked`] while somebody else has it open, [`StoreError::WrongStore`] when it belongs to another
/// identity, [`StoreError::Corrupt`] when files are damaged or missing. Nothing is repaired and nothing is wiped here.
pub fn open(path: impl AsRef<Path>, identity: &Identity, budget: &Budget) -> Result<Opened, StoreError> {
    let path = path.as_ref();
    let failed = |error| StoreError::from_io(format!("open of {}", path.display()), &error);
    fs::create_dir_all(path).map_err(failed)?;
    let lock = lock(path).map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::Locked { path: path.to_owned() },
        TryLockError::Error(error) => failed(error),
    })?;
    if holds_store(path)? {
        precheck::precheck(path)?;
    }
    let db = DB::open(&budget.options(), path).map_err(|error| classify::classify(path, "open", &error))?;
    let store = RocksStore {
        db,
        write_options: budget::write_options(),
        path: path.to_owned(),
        _budget: budget.clone(),
        _lock: lock,
    };
    admit(store, identity)
}

/// Removes the store in the directory `path`, and the directory. No directory is no error.
///
/// # Errors
/// [`io::ErrorKind::ResourceBusy`] while a store is open there, here or in another process.
pub fn wipe(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    if !path.try_exists()? {
        return Ok(());
    }
    let held = lock(path).map_err(|error| match error {
        TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, format!("store {} is open, drop it first", path.display()))
        }
        TryLockError::Error(error) => error,
    })?;
    fs::remove_dir_all(path)?;
    drop(held);
    Ok(())
}

/// Compares the identity; a store that never took a write is taken into possession.
fn admit(store: RocksStore, expected: &Identity) -> Result<Opened, StoreError> {
    let found = own_rows::read_identity(&store.view())?;
    if let Some(found) = found {
        found.must_be(expected)?;
        // A damaged position is found now, not at the first question.
        store.progress()?;
        return Ok(Opened::Existing(store));
    }
    if store.db.latest_sequence_number() != 0 {
        return Err(StoreError::corrupt(format!("store {}", store.path.display()), "rows without an identity"));
    }
    let mut batch = Batch::new();
    own_rows::put_identity(&mut batch, expected)?;
    store.write("creation", &batch)?;
    Ok(Opened::New(store))
}

/// Whether there is a store to open. A directory with data but without the file that names the manifest is damaged:
/// RocksDB alone would quietly begin a new store among the remains. Without data it is a creation that was cut short.
fn holds_store(path: &Path) -> Result<bool, StoreError> {
    let mut data = None;
    for name in file_names(path)? {
        if name == "CURRENT" {
            return Ok(true);
        }
        if name.ends_with(".sst") || name.ends_with(".log") {
            data = Some(name);
        }
    }
    match data {
        None => Ok(false),
        Some(name) => {
            let what = format!("store {}", path.display());
            Err(StoreError::corrupt(what, format!("file CURRENT is missing and {name} is there")))
        }
    }
}

pub(super) fn file_names(path: &Path) -> Result<Vec<String>, StoreError> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    list().map_err(|error| StoreError::from_io(format!("listing of {}", path.display()), &error))
}

fn lock(path: &Path) -> Result<File, TryLockError> {
    let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
    let file = file.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}
