//! How far a store has come in the logs that feed it.

use std::collections::BTreeMap;

/// The positions that a store's rows were derived from. Written in the same atomic write as the rows.
///
/// Offsets are always the next one to read, never the last one read: markers and aborted records take offsets too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Next offset to read of the changelog.
    pub changelog_offset: i64,
    /// Number of the last applied transaction of the task.
    pub commit_sequence: u64,
    /// Input topic to next offset.
    pub next_offset: BTreeMap<String, i64>,
    /// Event topic to next offset to fold. A commit writes the topics that are named here and leaves the others to
    /// [`crate::Store::commit_rows`]: leave out a topic whose loader is at work, or its position goes back.
    pub event_offset: BTreeMap<String, i64>,
    /// Highest transaction id given out.
    pub last_transaction: i64,
    /// Layout of shards under which the last applied transaction was written: number and shards; zeros: none was.
    pub layout: (i32, i32),
    /// Wall time at which the store held everything, as the caller saw it, milliseconds since 1970: of the last commit,
    /// or later. Tells a store that is too old to trust.
    pub written_at_ms: i64,
}
