//! Tables of one partition: ordered rows with the positions they were derived from, in one atomic write.
//!
//! A [`Store`] holds every table of one task in one key space; the first byte of a key names its table ([`TableId`]).
//! [`Store::commit`] writes a [`Batch`] of rows together with the [`Progress`] that explains them, so a store found
//! after a crash is always a state that existed. [`open`] gives the RocksDB store and refuses one that belongs to
//! somebody else ([`Identity`]); [`MemoryStore`] is its twin in memory and passes the same tests.
//!
//! The crate refuses to know where rows come from: no topics, no records, no clock, no threads of its own. It never
//! repairs: a damaged store is an error ([`StoreError::Corrupt`]), the caller wipes it and rebuilds it from its log.
//! Uncommitted rows live in an [`Overlay`] and reach the disk only through a batch.

mod batch;
mod checksum;
mod error;
mod identity;
pub mod keys;
mod memory;
mod overlay;
mod own_rows;
mod progress;
mod rocks;
pub mod rows;
mod scan;
mod store;

pub use batch::Batch;
pub use checksum::checksum;
pub use error::StoreError;
pub use identity::Identity;
pub use memory::MemoryStore;
pub use overlay::Overlay;
pub use progress::Progress;
pub use rocks::{Budget, Opened, RocksStore, open, wipe};
pub use scan::{Page, Row, ScanRange};
pub use store::{Snapshot, Store, TableId};
