//! A topology of one table of each kind, whose rows mean nothing.

use std::time::Duration;

use state_store::{StoreError, TableId};

use crate::context::TaskContext;
use crate::log::{Record, TopicId, Topics};
use crate::topology::{
    Answer, Application, Definition, EventTopic, FormatError, ProcessError, RowFilter, RowFormat, RowSink, Table,
};

pub const PARTITIONS: i32 = 4;
pub const NOTES: TableId = TableId(1);
/// Keyed by identifiers.
pub const ENTRIES: TableId = TableId(2);

pub struct Notes(Definition);

impl Notes {
    pub fn new() -> Notes {
        let mut topics = Topics::new(PARTITIONS);
        let [changelog, dead_letters, entries] = ["changelog", "dead_letters", "entries"].map(|name| topics.add(name));
        let table = Table { name: "note", id: NOTES, format: Box::new(SameBytes), index: None, awaited: false };
        Notes(Definition {
            application: "notes".to_owned(),
            layout: 1,
            shards: 1,
            standbys: 1,
            topics,
            inputs: Vec::new(),
            changelog,
            tombstone_retention: Duration::from_secs(86_400),
            dead_letters,
            tables: vec![table],
            events: vec![EventTopic { topic: entries, tables: vec![("entry", ENTRIES)] }],
        })
    }
}

impl Application for Notes {
    fn definition(&self) -> &Definition {
        &self.0
    }

    fn open(&self, _: &mut TaskContext<'_>) -> Result<(), ProcessError> {
        Ok(())
    }

    fn process(&self, _: &mut TaskContext<'_>, _: &Record<'_>) -> Result<(), ProcessError> {
        Ok(())
    }

    fn housekeep(&self, _: &mut TaskContext<'_>, _: &[Option<i64>]) -> Result<(), ProcessError> {
        Ok(())
    }

    fn fold(&self, _: TopicId, _: &[u8], _: &[u8], _: RowSink<'_>) -> Result<(), FormatError> {
        Ok(())
    }

    fn present(
        &self,
        _: TableId,
        _: &[u8],
        row: &[u8],
        _: &dyn Fn(TableId, &[u8]) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Vec<u8>, ProcessError> {
        Ok(row.to_vec())
    }

    /// Entries are wanted by their value.
    fn filter(&self, table: TableId, filter: &[u8]) -> Result<RowFilter, String> {
        let wanted = filter.to_vec();
        let fits = (table == ENTRIES).then(|| Box::new(move |value: &[u8]| value == wanted) as RowFilter);
        fits.ok_or_else(|| "notes are all alike".to_owned())
    }

    fn identifier_step(&self, table: TableId) -> Option<i64> {
        (table == ENTRIES).then_some(i64::from(PARTITIONS))
    }

    fn answer(&self, _: TableId, _: &[u8], _: &[u8]) -> Result<Option<Answer>, ProcessError> {
        Ok(None)
    }
}

struct SameBytes;

impl RowFormat for SameBytes {
    fn write_changelog(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.extend_from_slice(row);
        Ok(())
    }

    fn read_changelog(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.extend_from_slice(value);
        Ok(())
    }
}
