//! What the test files share: identities, budgets, small rows.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod history;

use std::collections::BTreeMap;
use std::path::Path;

use state_store::{Batch, Budget, Identity, Opened, Progress, RocksStore, StoreError, TableId, open};

pub const ACCOUNTS: TableId = TableId(1);
pub const USERS: TableId = TableId(2);
pub const HISTORY: TableId = TableId(254);

pub fn identity() -> Identity {
    Identity {
        application: "bank".into(),
        cluster_id: "4L6g3nShT-eMCtK--X86sw".into(),
        partition: 3,
        prefix: "test-".into(),
        check: vec![7; 16],
        earlier_checks: Vec::new(),
    }
}

/// Small, so that a few thousand rows are flushed and compacted.
pub fn budget() -> Budget {
    Budget::new(4 << 20, 1 << 20)
}

pub fn try_reopen(path: &Path) -> Result<Opened, StoreError> {
    open(path, &identity(), &budget())
}

pub fn reopen(path: &Path) -> RocksStore {
    try_reopen(path).unwrap().into_store()
}

pub fn batch(rows: &[(TableId, &str, Option<&str>)]) -> Batch {
    let mut batch = Batch::new();
    for (table, key, row) in rows {
        match row {
            Some(row) => batch.put(*table, key.as_bytes(), row.as_bytes()),
            None => batch.delete(*table, key.as_bytes()),
        }
    }
    batch
}

/// The progress after commit `sequence`; every field follows from it.
pub fn progress(sequence: u64) -> Progress {
    let offset = i64::try_from(sequence).unwrap() * 10;
    Progress {
        changelog_offset: offset + 1,
        commit_sequence: sequence,
        next_offset: BTreeMap::from([("commands".into(), offset + 2), ("transfers".into(), offset + 3)]),
        event_offset: BTreeMap::new(),
        last_transaction: offset + 4,
        layout: (1, 6),
        written_at_ms: offset + 5,
    }
}
