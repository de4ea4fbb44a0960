//! Compares a store with what the log says it must hold, byte for byte.
//!
//! The expected rows are built in memory by reading the changelog and the event topics from their beginning; the store
//! was written by live transactions and whatever restores it lived through. Both must be the same.
//!
//! A store may be right and stand before the end of its log: after `kill -9` between a commit and its batch, or when
//! others went on after its instance had left. That is told, and nothing is judged: its next start reads what it lacks.

use std::sync::Arc;

use state_store::{MemoryStore, Progress, ScanRange, Store, StoreError, TableId};

use crate::history;
use crate::log::Log;
use crate::membership::Role;
use crate::query::view::PartitionView;
use crate::restore;
use crate::shard::{Interrupt, ShardParts};
use crate::task::Task;
use crate::topology::{Application, Definition};

/// Rows of one page.
const PAGE: usize = 1000;

/// The comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The log could not be read.
    #[error("the log could not be read: {0}")]
    Log(String),
    /// A store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was compared in one partition.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Rows of the log.
    pub rows: u64,
    /// The first difference.
    pub difference: Option<String>,
    /// By how much the store stands before the end of the log. What it lacks is no difference, so then none is named.
    pub behind: Option<String>,
}

/// Compares the store of `partition` with the log. `parts` says how to read it; its stores are not used.
pub fn compare<L: Log, A: Application>(
    parts: &ShardParts<L, A>,
    partition: i32,
    store: &dyn Store,
) -> Result<Comparison, CompareError> {
    let expected = rebuild(parts, partition)?;
    let (wanted, found) = (expected.progress()?, store.progress()?);
    let mut comparison = Comparison { behind: commits_behind(&wanted, &found), ..Comparison::default() };
    if comparison.behind.is_some() {
        return Ok(comparison);
    }
    // 0 and 255 are the store's own.
    for table in (1..=254).map(TableId) {
        compare_table(table, &expected, store, &mut comparison)?;
        if comparison.difference.is_some() {
            comparison.behind = events_behind(table, parts.application.definition(), &wanted, &found);
            if comparison.behind.is_some() {
                comparison.difference = None;
            }
            return Ok(comparison);
        }
    }
    let of = |progress: &Progress| {
        (progress.commit_sequence, progress.last_transaction, progress.next_offset.clone(), progress.layout)
    };
    if of(&wanted) != of(&found) {
        comparison.difference = Some(format!("progress is {:?}, the log says {:?}", of(&found), of(&wanted)));
    }
    Ok(comparison)
}

/// Every transaction of a partition counts by one, so the count says whether the store has them all.
fn commits_behind(log: &Progress, store: &Progress) -> Option<String> {
    let lacking = log.commit_sequence.checked_sub(store.commit_sequence).filter(|lacking| *lacking > 0)?;
    Some(format!("{lacking} commits behind its log"))
}

/// For a table that is folded from events: the loader of a store that lost it may not have come to the end. Asked only
/// when rows differ, because markers and aborted events at the end of the log are no rows that a store could lack.
fn events_behind(table: TableId, definition: &Definition, log: &Progress, store: &Progress) -> Option<String> {
    let of_table = definition.events.iter().find(|events| events.tables.iter().any(|(_, id)| *id == table))?;
    let topic = definition.topics.name(of_table.topic);
    let stands = |progress: &Progress| progress.event_offset.get(topic).copied().unwrap_or(0);
    let lacking = stands(log) - stands(store);
    // One offset can only be the marker of the last commit.
    (lacking > 1).then(|| format!("up to {lacking} events of {topic} behind its log"))
}

fn rebuild<L: Log, A: Application>(parts: &ShardParts<L, A>, partition: i32) -> Result<MemoryStore, CompareError> {
    let unread = |error: &dyn std::fmt::Display| CompareError::Log(error.to_string());
    let definition = parts.application.definition();
    let store = MemoryStore::new();
    let view = Arc::new(PartitionView::new(partition, definition.shard_of(partition)));
    let mut tasks = vec![Task::new(partition, Arc::new(store.clone()), view, definition)?];
    let mut consumer = parts.log.consumer("compare").map_err(|error| unread(&error))?;
    let interrupted = |interrupt: Interrupt| CompareError::Log(format!("{interrupt:?}"));
    let reading = restore::Reading { consumer: &mut consumer, tails: false, until: None };
    restore::catch_up(parts, Role::Active, reading, &mut tasks).map_err(interrupted)?;
    history::load_all(parts, &tasks).map_err(CompareError::Log)?;
    Ok(store)
}

fn compare_table(
    table: TableId,
    expected: &dyn Store,
    found: &dyn Store,
    comparison: &mut Comparison,
) -> Result<(), CompareError> {
    let (expected, found) = (expected.snapshot()?, found.snapshot()?);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let range = ScanRange { after: after.take(), ..ScanRange::all().limit(PAGE) };
        let (wanted, has) = (expected.scan(table, &range)?, found.scan(table, &range)?);
        comparison.rows += wanted.rows.len() as u64;
        if wanted != has {
            let at = wanted.rows.iter().zip(&has.rows).position(|(wanted, has)| wanted != has);
            let at = at.unwrap_or(wanted.rows.len().min(has.rows.len()));
            let key =
                wanted.rows.get(at).or(has.rows.get(at)).map(|(key, _)| String::from_utf8_lossy(key).into_owned());
            comparison.difference = Some(format!(
                "table {} differs at key {:?}: {} in the store, {} in the log",
                table.0,
                key.unwrap_or_default(),
                of_row(has.rows.get(at)),
                of_row(wanted.rows.get(at))
            ));
            return Ok(());
        }
        match wanted.rows.last() {
            Some((key, _)) if wanted.more => after = Some(key.clone()),
            _ => return Ok(()),
        }
    }
}

/// Keys and lengths only: rows may hold what nobody should read in a report.
fn of_row(row: Option<&state_store::Row>) -> String {
    row.map_or("nothing more".to_owned(), |(key, row)| {
        format!("{} bytes under {:?}", row.len(), String::from_utf8_lossy(key))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schemas::records;
    use state_store::Batch;

    use super::*;
    use crate::context::TaskContext;
    use crate::log::memory::MemoryLog;
    use crate::log::{Record, TopicId, TopicPartition, Topics};
    use crate::membership::Alone;
    use crate::probe::Probe;
    use crate::shard::{ShardOptions, Stores};
    use crate::task::{OWNER_TABLE, POSITION_KEY};
    use crate::testing::{ManualClock, codecs};
    use crate::topology::{Answer, EventTopic, FormatError, ProcessError, RowSink};

    const MOVES: TableId = TableId(10);

    /// Processes nothing: its transactions are written by the tests. Events are rows as they are.
    struct Nothing(Definition);

    impl Application for Nothing {
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

        fn fold(&self, _: TopicId, key: &[u8], value: &[u8], rows: RowSink<'_>) -> Result<(), FormatError> {
            rows(MOVES, key, value);
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

        fn answer(&self, _: TableId, _: &[u8], _: &[u8]) -> Result<Option<Answer>, ProcessError> {
            Ok(None)
        }
    }

    struct NoStores;

    impl Stores for NoStores {
        fn open(&self, _: i32) -> Result<Arc<dyn Store>, StoreError> {
            Err(StoreError::Misuse { detail: "a comparison opens no stores".to_owned() })
        }

        fn wipe(&self, _: i32) -> Result<(), StoreError> {
            Err(StoreError::Misuse { detail: "a comparison wipes no stores".to_owned() })
        }
    }

    fn parts() -> ShardParts<MemoryLog, Nothing> {
        let mut topics = Topics::new(1);
        let (changelog, moves) = (topics.add("changelog"), topics.add("moves"));
        let definition = Definition {
            application: "test".to_owned(),
            layout: 1,
            shards: 1,
            standbys: 1,
            topics: topics.clone(),
            inputs: Vec::new(),
            changelog,
            tombstone_retention: Duration::from_secs(60),
            dead_letters: changelog,
            tables: Vec::new(),
            events: vec![EventTopic { topic: moves, tables: vec![("moves", MOVES)] }],
        };
        let clock = ManualClock::shared(0);
        ShardParts {
            id: 0,
            log: Arc::new(MemoryLog::simulated(topics, clock.clone())),
            application: Arc::new(Nothing(definition)),
            options: ShardOptions::default(),
            codecs: codecs(&[]).unwrap(),
            clock,
            stores: Arc::new(NoStores),
            views: Vec::new(),
            probe: Probe::none(),
            roles: Arc::new(Alone::default()),
            copier: None,
        }
    }

    fn append(parts: &ShardParts<MemoryLog, Nothing>, topic: &str, key: &[u8], value: &[u8]) {
        let topic = parts.log.topics().find(topic).unwrap();
        parts.log.append(TopicPartition { topic, partition: 0 }, Some(key), Some(value), None).unwrap();
    }

    /// The transaction of this number, with one row.
    fn commit(parts: &ShardParts<MemoryLog, Nothing>, number: i64) {
        let owner = records::Owner {
            instance: "a".to_owned(),
            incarnation: format!("life-{number}"),
            epoch: number,
            layout: 1,
            shards: 1,
        };
        let position =
            records::Position { commit_sequence: number, layout: 1, shards: 1, ..records::Position::default() };
        let (mut claim, mut standing) = (Vec::new(), Vec::new());
        parts.codecs.owner.encode(&owner, &mut claim).unwrap();
        parts.codecs.position.encode(&position, &mut standing).unwrap();
        append(parts, "changelog", b"owner/0", &claim);
        append(parts, "changelog", POSITION_KEY, &standing);
    }

    #[test]
    fn a_store_before_the_end_of_its_log_is_behind_and_not_different() {
        let parts = parts();
        commit(&parts, 1);
        let store = rebuild(&parts, 0).unwrap();
        let level = compare(&parts, 0, &store).unwrap();
        assert_eq!((level.rows, level.difference, level.behind), (1, None, None));
        commit(&parts, 2);
        commit(&parts, 3);
        let comparison = compare(&parts, 0, &store).unwrap();
        assert_eq!(comparison.difference, None);
        assert_eq!(comparison.behind.as_deref(), Some("2 commits behind its log"));
    }

    #[test]
    fn a_store_whose_events_are_not_read_to_their_end_is_behind() {
        let parts = parts();
        commit(&parts, 1);
        let store = rebuild(&parts, 0).unwrap();
        append(&parts, "moves", b"1", b"a move");
        append(&parts, "moves", b"2", b"a move");
        let comparison = compare(&parts, 0, &store).unwrap();
        assert_eq!(comparison.difference, None);
        assert_eq!(comparison.behind.as_deref(), Some("up to 2 events of moves behind its log"));
    }

    #[test]
    fn a_store_at_the_end_of_its_log_that_differs_is_different() {
        let parts = parts();
        commit(&parts, 1);
        append(&parts, "moves", b"1", b"a move");
        for table in [OWNER_TABLE, MOVES] {
            let store = rebuild(&parts, 0).unwrap();
            let mut batch = Batch::default();
            batch.put(table, b"strange", b"row");
            let progress = store.progress().unwrap();
            store.commit(batch, &progress).unwrap();
            let comparison = compare(&parts, 0, &store).unwrap();
            assert!(comparison.difference.is_some_and(|what| what.contains("strange")), "{table:?}");
            assert_eq!(comparison.behind, None, "{table:?}");
        }
        let ahead = rebuild(&parts, 0).unwrap();
        let progress = Progress { commit_sequence: 2, ..ahead.progress().unwrap() };
        ahead.commit(Batch::default(), &progress).unwrap();
        let comparison = compare(&parts, 0, &ahead).unwrap();
        assert!(comparison.difference.is_some_and(|what| what.contains("progress")));
    }
}
