//! What an application sees while it processes a record: the rows of one partition through the overlay of the open
//! transaction, the outbox, and the few numbers that may decide anything.

use serde::Serialize;
use serde::de::DeserializeOwned;
use state_store::{ScanRange, StoreError, TableId};

use crate::log::TopicId;
use crate::outbox::Outbox;
use crate::task::Task;
use crate::topology::ProcessError;

/// State of one partition and the staged effects of the transaction.
pub struct TaskContext<'a> {
    task: &'a mut Task,
    outbox: &'a mut Outbox,
    partitions: i32,
    effects: usize,
}

impl<'a> TaskContext<'a> {
    pub(crate) fn new(task: &'a mut Task, outbox: &'a mut Outbox, partitions: i32) -> TaskContext<'a> {
        TaskContext { task, outbox, partitions, effects: 0 }
    }

    /// The partition that is processed.
    pub fn partition(&self) -> i32 {
        self.task.partition
    }

    /// Partitions of the topology.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The number that the transaction will have in this partition once committed.
    pub fn commit_sequence(&self) -> u64 {
        self.task.committed.commit_sequence + 1
    }

    /// The last identifier given out in this partition; 0 before the first.
    pub fn last_transaction(&self) -> i64 {
        self.task.staged.last_transaction
    }

    /// Notes the last identifier given out. Identifiers only rise.
    pub fn set_last_transaction(&mut self, last: i64) {
        debug_assert!(last >= self.task.staged.last_transaction);
        self.task.staged.last_transaction = last;
        self.effects += 1;
    }

    /// The row as the transaction sees it: staged, else committed.
    pub fn get<T: DeserializeOwned>(&self, table: TableId, key: &[u8]) -> Result<Option<T>, ProcessError> {
        match self.get_bytes(table, key)? {
            None => Ok(None),
            Some(row) => state_store::rows::decode(&row).map(Some).map_err(|error| {
                ProcessError::Store(StoreError::Corrupt {
                    what: format!("row of table {}", table.0),
                    detail: error.to_string(),
                })
            }),
        }
    }

    /// Like [`TaskContext::get`], undecoded.
    pub fn get_bytes(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.task.overlay.get(table, key) {
            Some(staged) => Ok(staged.map(<[u8]>::to_vec)),
            None => self.task.store.get(table, key),
        }
    }

    /// Stages a row.
    pub fn put<T: Serialize>(&mut self, table: TableId, key: &[u8], row: &T) -> Result<(), ProcessError> {
        let mut bytes = Vec::with_capacity(128);
        state_store::rows::encode(row, &mut bytes).map_err(|error| ProcessError::Stop(error.to_string()))?;
        self.task.overlay.put(table, key, &bytes);
        self.effects += 1;
        Ok(())
    }

    /// Stages the removal of a row.
    pub fn delete(&mut self, table: TableId, key: &[u8]) {
        self.task.overlay.delete(table, key);
        self.effects += 1;
    }

    /// The first `limit` committed rows of a table in key order. Does not see what the transaction has staged.
    pub fn first_committed(&self, table: TableId, limit: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let page = self.task.store.snapshot()?.scan(table, &ScanRange::all().limit(limit))?;
        Ok(page.rows)
    }

    /// Stages a record; `write` appends the value.
    pub fn emit<E>(
        &mut self,
        topic: TopicId,
        partition: i32,
        key: &[u8],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.effects += 1;
        self.outbox.push(topic, partition, Some(key), Some(write))
    }

    /// True once the application has staged anything.
    pub(crate) fn has_effects(&self) -> bool {
        self.effects > 0
    }
}
