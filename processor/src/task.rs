//! One partition's state: its store, what the open transaction would change, and where it stands in the log.
//!
//! ```text
//!   opened ──► restoring ──► running ──► (wiped and opened again when the store is corrupt)
//! ```
//! A task never talks to the log; the shard moves records and positions in and out.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::records;
use state_store::{Batch, Overlay, Progress, Store, StoreError, TableId};

use crate::layout::Layout;
use crate::log::TopicId;
use crate::outbox::Outbox;
use crate::query::view::{News, PartitionView};
use crate::topology::{Application, Definition, FormatError, ProcessError};

/// Key of the Position record in the changelog.
pub const POSITION_KEY: &[u8] = b"position";
/// First part of the keys of ownership claims in the changelog.
pub const OWNER_PREFIX: &str = "owner/";
/// Local table of ownership claims.
pub const OWNER_TABLE: TableId = TableId(250);

/// Where a task stands. `next_offset` and `event_offset` are by index of the definition's inputs and event topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Next offset to process of each input; -1 before the first commit.
    pub next_offset: Vec<i64>,
    /// Commits so far.
    pub commit_sequence: u64,
    /// Last identifier given out; 0 before the first.
    pub last_transaction: i64,
    /// Next offset of the changelog that the store has not applied.
    pub changelog_offset: i64,
    /// Under which the last transaction was written; the default before the first.
    pub layout: Layout,
}

/// See the module.
pub struct Task {
    /// Its partition.
    pub partition: i32,
    /// Committed rows.
    pub store: Arc<dyn Store>,
    /// What queries see of it.
    pub view: Arc<PartitionView>,
    /// Rows of the open transaction.
    pub overlay: Overlay,
    /// As of the last commit that the store has applied.
    pub committed: Standing,
    /// As the open transaction will leave it.
    pub staged: Standing,
    /// By index of the definition's inputs: latest timestamp among the records of the open transaction.
    pub latest_ms: Vec<Option<i64>>,
    /// The open transaction touches this task.
    pub touched: bool,
    event_rows: Vec<(TableId, Vec<u8>, Vec<u8>)>,
}

impl Task {
    /// A task over an opened store, standing where its progress says.
    pub fn new(
        partition: i32,
        store: Arc<dyn Store>,
        view: Arc<PartitionView>,
        definition: &Definition,
    ) -> Result<Task, StoreError> {
        let committed = Standing::from_progress(&store.progress()?, definition);
        Ok(Task {
            partition,
            store,
            view,
            overlay: Overlay::default(),
            staged: committed.clone(),
            committed,
            latest_ms: vec![None; definition.inputs.len()],
            touched: false,
            event_rows: Vec::new(),
        })
    }

    /// Drops everything that is not committed.
    pub fn discard_staged(&mut self) {
        self.overlay.clear();
        self.event_rows.clear();
        self.staged.clone_from(&self.committed);
        self.latest_ms.fill(None);
        self.touched = false;
    }

    /// Stages the rows that a staged event becomes.
    pub fn fold_event<A: Application>(
        &mut self,
        application: &A,
        topic: TopicId,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), FormatError> {
        let rows = &mut self.event_rows;
        application.fold(topic, key, value, &mut |table, key, row| {
            rows.push((table, key.to_vec(), row.to_vec()));
        })
    }

    /// Stages one changelog record per changed row, and the Position as the last of all.
    pub fn stage_changelog(
        &self,
        definition: &Definition,
        position: &schemas::Encoder<records::Position>,
        owner: &schemas::Encoder<records::Owner>,
        outbox: &mut Outbox,
    ) -> Result<(), ProcessError> {
        let mut text = Vec::with_capacity(64);
        for (table, key, row) in self.overlay.iter() {
            text.clear();
            if table == OWNER_TABLE {
                text.extend_from_slice(key);
                let row = row.unwrap_or_default();
                let claim: records::Owner =
                    state_store::rows::decode(row).map_err(|error| ProcessError::Stop(error.to_string()))?;
                outbox
                    .push(
                        definition.changelog,
                        self.partition,
                        Some(&text),
                        Some(|out: &mut Vec<u8>| owner.encode(&claim, out)),
                    )
                    .map_err(|error| ProcessError::Stop(error.to_string()))?;
                continue;
            }
            let Some(declared) = definition.table(table) else {
                return Err(ProcessError::Stop(format!("table {} is not declared", table.0)));
            };
            text.extend_from_slice(declared.name.as_bytes());
            text.push(b'/');
            declared.format.changelog_key(key, &mut text);
            let write = row.map(|row| |out: &mut Vec<u8>| declared.format.write_changelog(row, out));
            outbox.push(definition.changelog, self.partition, Some(&text), write)?;
        }
        let record = self.staged.to_record(definition, self.committed.commit_sequence + 1);
        outbox
            .push(
                definition.changelog,
                self.partition,
                Some(POSITION_KEY),
                Some(|out: &mut Vec<u8>| position.encode(&record, out)),
            )
            .map_err(|error| ProcessError::Stop(error.to_string()))
    }

    /// Writes the committed transaction: rows, index rows, event rows and standing in one atomic batch. Afterwards the
    /// staged state is the committed one. Gives what is to be told of it. `event_offset`: next offset of each event topic, where this task is the one
    /// that advances it.
    pub fn apply(
        &mut self,
        definition: &Definition,
        changelog_offset: i64,
        event_offset: BTreeMap<String, i64>,
        written_at_ms: i64,
    ) -> Result<News, StoreError> {
        self.staged.commit_sequence = self.committed.commit_sequence + 1;
        self.staged.changelog_offset = changelog_offset;
        self.staged.layout = definition.placement();
        let mut batch = Batch::default();
        stage_rows(&self.overlay, self.store.as_ref(), definition, &mut batch)?;
        for (table, key, row) in &self.event_rows {
            batch.put(*table, key, row);
        }
        let progress = self.staged.to_progress(definition, event_offset, written_at_ms);
        self.store.commit(batch, &progress)?;
        let rows = self.overlay.iter().filter(|(table, _, _)| *table != OWNER_TABLE);
        let event_rows = self.event_rows.iter().map(|(table, key, row)| (*table, key.as_slice(), Some(row.as_slice())));
        let awaited = |table| definition.table(table).is_some_and(|declared| declared.awaited);
        let news = self.view.gather(rows.chain(event_rows), awaited);
        self.committed.clone_from(&self.staged);
        self.discard_staged();
        Ok(news)
    }
}

/// Puts the rows of an overlay, and the index rows that follow from them, into a batch.
pub fn stage_rows(
    overlay: &Overlay,
    store: &dyn Store,
    definition: &Definition,
    batch: &mut Batch,
) -> Result<(), StoreError> {
    for (table, key, row) in overlay.iter() {
        let declared = definition.table(table);
        let index = declared.and_then(|declared| declared.index.map(|index| (declared, index)));
        if let Some((declared, index)) = index {
            // The index key follows from the row, so that of the row in the store must leave with it. Also where rows of
            // the topology never change: a restore and a standby fold several transactions into one write, and then a
            // row that left and one that came under its key are one change.
            let old = store.get(table, key)?.and_then(|old| declared.format.index_key(key, &old));
            let new = row.and_then(|row| declared.format.index_key(key, row));
            if let Some(index_key) = old.filter(|old| Some(old) != new.as_ref()) {
                batch.delete(index, &index_key);
            }
            if let Some(index_key) = new {
                batch.put(index, &index_key, key);
            }
        }
        match row {
            Some(row) => batch.put(table, key, row),
            None => batch.delete(table, key),
        }
    }
    Ok(())
}

impl Standing {
    /// As recorded with the rows.
    pub fn from_progress(progress: &Progress, definition: &Definition) -> Standing {
        let offset = |topic: TopicId| progress.next_offset.get(definition.topics.name(topic)).copied();
        Standing {
            next_offset: definition.inputs.iter().map(|input| offset(input.topic).unwrap_or(-1)).collect(),
            commit_sequence: progress.commit_sequence,
            last_transaction: progress.last_transaction,
            changelog_offset: progress.changelog_offset,
            layout: Layout { number: progress.layout.0, shards: progress.layout.1 },
        }
    }

    /// As it is recorded with the rows.
    pub fn to_progress(
        &self,
        definition: &Definition,
        event_offset: BTreeMap<String, i64>,
        written_at_ms: i64,
    ) -> Progress {
        Progress {
            changelog_offset: self.changelog_offset,
            commit_sequence: self.commit_sequence,
            next_offset: self.named_offsets(definition),
            event_offset,
            last_transaction: self.last_transaction,
            layout: (self.layout.number, self.layout.shards),
            written_at_ms,
        }
    }

    /// Takes over what a Position record says.
    pub fn follow(&mut self, record: &records::Position, definition: &Definition) {
        for (index, input) in definition.inputs.iter().enumerate() {
            if let Some(offset) = record.next_offset.get(definition.topics.name(input.topic)) {
                self.next_offset[index] = *offset;
            }
        }
        self.commit_sequence = record.commit_sequence as u64;
        self.last_transaction = record.last_transaction;
        self.layout = Layout::of_position(Some(record)).unwrap_or_default();
    }

    fn to_record(&self, definition: &Definition, commit_sequence: u64) -> records::Position {
        records::Position {
            next_offset: self.named_offsets(definition).into_iter().collect(),
            commit_sequence: commit_sequence as i64,
            last_transaction: self.last_transaction,
            layout: definition.layout,
            shards: definition.shards,
        }
    }

    fn named_offsets(&self, definition: &Definition) -> BTreeMap<String, i64> {
        let named = definition.inputs.iter().zip(&self.next_offset);
        named
            .filter(|(_, offset)| **offset >= 0)
            .map(|(input, offset)| (definition.topics.name(input.topic).to_owned(), *offset))
            .collect()
    }
}
