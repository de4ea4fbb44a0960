//! What a user of the engine supplies: topics, tables, and an [`Application`] that processes records.
//!
//! Nothing here reads or writes. An application is called by the shard's thread with the state of one partition in
//! hand ([`crate::context::TaskContext`]); it must give the same result for the same state and record, so it takes
//! times and identifiers from the record, never from the machine.

use std::time::Duration;

use state_store::{StoreError, TableId};

use crate::context::TaskContext;
use crate::layout::Layout;
use crate::log::{Record, TopicId, Topics};

/// The shape of a topology. The same for every instance of an application.
pub struct Definition {
    /// Prefix of the transactional ids and name of the consumer group that mirrors positions.
    pub application: String,
    /// Number of the layout, recorded with the state: whoever changes `shards` raises it.
    pub layout: i32,
    /// Number of shards.
    pub shards: i32,
    /// Instances besides the owner that follow each shard, as far as there are instances for them.
    pub standbys: usize,
    /// All topics; `topics.partitions` is the number of tasks.
    pub topics: Topics,
    /// Topics that are processed.
    pub inputs: Vec<Input>,
    /// The one changelog of all tables.
    pub changelog: TopicId,
    /// How long the changelog keeps a tombstone (`delete.retention.ms`). A store that was away for longer may have
    /// missed one.
    pub tombstone_retention: Duration,
    /// Where records go that cannot be processed.
    pub dead_letters: TopicId,
    /// Tables backed by the changelog.
    pub tables: Vec<Table>,
    /// Event topics that are the changelog of their own tables.
    pub events: Vec<EventTopic>,
}

impl Definition {
    /// The layout as one value.
    pub fn placement(&self) -> Layout {
        Layout { number: self.layout, shards: self.shards }
    }

    /// The shard that owns `partition`.
    pub fn shard_of(&self, partition: i32) -> i32 {
        partition % self.shards
    }

    /// The partitions of a shard, ascending.
    pub fn partitions_of(&self, shard: i32) -> Vec<i32> {
        (0..self.topics.partitions).filter(|partition| self.shard_of(*partition) == shard).collect()
    }

    /// The table of this id among those backed by the changelog.
    pub fn table(&self, id: TableId) -> Option<&Table> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// The id of a table by its name, whatever backs it.
    pub fn table_id(&self, name: &str) -> Option<TableId> {
        let backed = self.tables.iter().map(|table| (table.name, table.id));
        let folded = self.events.iter().flat_map(|events| events.tables.iter().copied());
        backed.chain(folded).find(|(known, _)| *known == name).map(|(_, id)| id)
    }

    /// Index among the inputs.
    pub fn input_index(&self, topic: TopicId) -> Option<usize> {
        self.inputs.iter().position(|input| input.topic == topic)
    }

    /// Index among the event topics.
    pub fn event_index(&self, topic: TopicId) -> Option<usize> {
        self.events.iter().position(|events| events.topic == topic)
    }
}

/// A topic that is processed.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The topic.
    pub topic: TopicId,
    /// What happens to a record that can never be processed.
    pub bad_record: BadRecord,
    /// Records below the committed position are deleted: the topic carries work in flight, nothing else reads it.
    pub prune: bool,
}

/// What happens to a record that can never be processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// It is a client's: to the dead letters, and on.
    DeadLetter,
    /// It is our own: losing it would lose what it stands for, so the shard stops and says so.
    Stop,
}

/// A table backed by the changelog.
pub struct Table {
    /// First part of its changelog keys: `name/key`.
    pub name: &'static str,
    /// Kind prefix of its rows in the store.
    pub id: TableId,
    /// How rows look in the changelog.
    pub format: Box<dyn RowFormat>,
    /// Local table of index rows, see [`RowFormat::index_key`]. Not in the changelog: it follows from the rows.
    pub index: Option<TableId>,
    /// Callers may wait for rows of this table to become final.
    pub awaited: bool,
}

/// An event topic kept for ever that is at once the changelog of its tables.
pub struct EventTopic {
    /// The topic, written only by this topology.
    pub topic: TopicId,
    /// Names and ids of the tables folded from it.
    pub tables: Vec<(&'static str, TableId)>,
}

/// Translates the rows of one table between the store and the changelog.
pub trait RowFormat: Send + Sync {
    /// Appends the text that stands for a local key in the changelog (after `name/`).
    fn changelog_key(&self, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(key);
    }
    /// The local key for the text in the changelog.
    fn local_key(&self, text: &[u8]) -> Result<Vec<u8>, FormatError> {
        Ok(text.to_vec())
    }
    /// Appends the changelog value of a row.
    fn write_changelog(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError>;
    /// Appends the row of a changelog value.
    fn read_changelog(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError>;
    /// Key of the index row of this row, if it has one. A pure function of key and row.
    fn index_key(&self, _key: &[u8], _row: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// A row could not be translated.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The writer's schema is being fetched.
    #[error("schema {0} is not known yet")]
    Wait(u32),
    /// Bytes that are not what they should be.
    #[error("{0}")]
    Bad(String),
}

/// Why a record was not processed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It never can be: returned before the first change of state.
    #[error("{0}")]
    Poison(String),
    /// Its schema is not known yet: this partition of this topic waits, the others go on.
    #[error("schema {0} is not known yet")]
    WaitForSchema(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The shard must stop: going on would make wrong data.
    #[error("{0}")]
    Stop(String),
}

impl From<FormatError> for ProcessError {
    fn from(error: FormatError) -> ProcessError {
        match error {
            FormatError::Wait(id) => ProcessError::WaitForSchema(id),
            FormatError::Bad(reason) => ProcessError::Poison(reason),
        }
    }
}

/// Receives the rows that an event becomes.
pub type RowSink<'a> = &'a mut dyn FnMut(TableId, &[u8], &[u8]);

/// Whether a caller wants a row, by its value as presented to that caller.
pub type RowFilter = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// The answer for a caller that waits for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As presented to the caller.
    pub value: Vec<u8>,
    /// Commits in other partitions that the answer depends on: (partition, commit sequence).
    pub depends_on: Vec<(i32, u64)>,
}

/// The logic of a topology. One value serves all shards of the process.
pub trait Application: Send + Sync + 'static {
    /// Its shape.
    fn definition(&self) -> &Definition;

    /// Called in the first transaction of an owner, for each of its partitions: rows that exist from the start.
    fn open(&self, task: &mut TaskContext<'_>) -> Result<(), ProcessError>;

    /// Processes one record of an input.
    fn process(&self, task: &mut TaskContext<'_>, record: &Record<'_>) -> Result<(), ProcessError>;

    /// Called once per transaction and touched partition after its records: bounded housekeeping such as expiry.
    /// `latest_ms`: by index of the definition's inputs, the time of the latest record that the transaction has of it, in
    /// milliseconds since 1970. What must outlive the records of one input is to be measured by that input's time: another
    /// may be far ahead, after a time without a processor for one.
    fn housekeep(&self, task: &mut TaskContext<'_>, latest_ms: &[Option<i64>]) -> Result<(), ProcessError>;

    /// The rows that an event of an event topic becomes. Called for events just produced and for those read back;
    /// only with the same result is a restored table the same as the live one.
    fn fold(&self, topic: TopicId, key: &[u8], value: &[u8], rows: RowSink<'_>) -> Result<(), FormatError>;

    /// What callers of the query service see of a row. `lookup` reads other rows of the same snapshot.
    fn present(
        &self,
        table: TableId,
        key: &[u8],
        row: &[u8],
        lookup: &dyn Fn(TableId, &[u8]) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Vec<u8>, ProcessError>;

    /// Makes a caller's filter ready for the rows of this table, which must never change: a watcher is not told of a row
    /// that was wanted and is not any more. The error tells the caller what is wrong with the filter.
    fn filter(&self, _table: TableId, _filter: &[u8]) -> Result<RowFilter, String> {
        Err("the rows of this table know no filter".to_owned())
    }

    /// How much each key of this table is greater than the one before, when its keys are the identifiers that the task
    /// gives out ([`crate::context::TaskContext::set_last_transaction`]) as 8 bytes, big-endian, and each has a row.
    /// Watches then tell a reader whose cursor is too old. `None`: keys are something else.
    fn identifier_step(&self, _table: TableId) -> Option<i64> {
        None
    }

    /// The final answer that a row holds for a caller with this context, or `None` while it is not final.
    fn answer(&self, table: TableId, row: &[u8], context: &[u8]) -> Result<Option<Answer>, ProcessError>;
}
