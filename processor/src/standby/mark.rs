//! How old the rows of a standby may be.
//!
//! A mark is where the logs of one partition ended at one moment. Once everything up to there has been applied, the rows
//! are no older than that moment. To compare with the end of now instead would call a standby old for as long as the
//! owner writes. Changelog and event topics are marked together: one bound holds for every table.

use std::time::Duration;

use crate::fault::LogError;
use crate::log::{Log, TopicPartition};
use crate::task::Task;
use crate::topology::Definition;

/// See the module.
#[derive(Debug)]
pub(super) struct Mark {
    /// Monotonic time before the ends were asked for.
    at: Duration,
    /// Commits that the store held then. Their events lie before the ends: a transaction is committed as a whole.
    commit_sequence: u64,
    changelog: (TopicPartition, i64),
    events: Vec<(TopicPartition, i64)>,
}

impl Mark {
    /// The ends of now. `changelog_end` is asked for after `at`. Where the changelog has not grown since the mark before,
    /// no event was committed either, and nothing more is asked.
    pub fn set<L: Log>(
        log: &L,
        definition: &Definition,
        task: &Task,
        (at, changelog_end): (Duration, i64),
        before: Option<Mark>,
    ) -> Result<Mark, LogError> {
        let here = |topic| TopicPartition { topic, partition: task.partition };
        let end_of = |topic| -> Result<_, LogError> { Ok((here(topic), log.watermarks(here(topic))?.high)) };
        let commit_sequence = task.committed.commit_sequence;
        let changelog = (here(definition.changelog), changelog_end);
        let events = match before.filter(|before| before.changelog == changelog) {
            Some(before) => before.events,
            None => definition.events.iter().map(|events| end_of(events.topic)).collect::<Result<_, LogError>>()?,
        };
        Ok(Mark { at, commit_sequence, changelog, events })
    }

    /// Tells readers when it has been passed; `passed` gives the offset up to which a log was read. Whether it has.
    pub fn tell(&self, task: &Task, mut passed: impl FnMut(TopicPartition) -> i64) -> bool {
        let mut ends = std::iter::once(&self.changelog).chain(&self.events);
        // What is staged may be the end of a transaction that was committed before the mark.
        let is_passed = task.overlay.bytes() == 0 && ends.all(|(log, end)| passed(*log) >= *end);
        if is_passed {
            task.view.synced(self.at);
            task.view.events_reached(self.commit_sequence);
        }
        is_passed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use state_store::MemoryStore;

    use super::*;
    use crate::log::memory::MemoryLog;
    use crate::query::tests::notes::{NOTES, Notes};
    use crate::query::view::{Life, PartitionView};
    use crate::testing::ManualClock;
    use crate::topology::Application;

    const AT: Duration = Duration::from_secs(10);
    const LATER: Duration = Duration::from_secs(12);

    /// A standby of partition 1 that holds three commits, and its logs.
    fn standby() -> (Notes, MemoryLog, Task) {
        let notes = Notes::new();
        let definition = notes.definition();
        let log = MemoryLog::new(definition.topics.clone(), ManualClock::shared(0));
        let (store, view) = (Arc::new(MemoryStore::new()), Arc::new(PartitionView::new(1, 0)));
        view.set_life(Life::Standby(store.clone()));
        let mut task = Task::new(1, store, view, definition).unwrap();
        task.committed.commit_sequence = 3;
        (notes, log, task)
    }

    fn append(log: &MemoryLog, topic: crate::log::TopicId) -> i64 {
        let at = TopicPartition { topic, partition: 1 };
        log.append(at, Some(b"key"), Some(b"value"), None).unwrap() + 1
    }

    #[test]
    fn rows_are_as_old_as_the_last_mark_that_changelog_and_events_have_passed() {
        let (notes, log, mut task) = standby();
        let definition = notes.definition();
        let events = definition.events[0].topic;
        let changelog_end = append(&log, definition.changelog);
        let events_end = append(&log, events);
        let mark = Mark::set(&log, definition, &task, (AT, changelog_end), None).unwrap();
        // More comes, which does not matter.
        append(&log, events);
        let read_to = |changelog: i64, of_events: i64| {
            move |log: TopicPartition| if log.topic == events { of_events } else { changelog }
        };
        let staleness = |task: &Task| task.view.staleness(LATER);
        assert!(!mark.tell(&task, read_to(changelog_end, events_end - 1)), "events are missing");
        assert!(!mark.tell(&task, read_to(changelog_end - 1, events_end)), "commits are missing");
        task.overlay.put(NOTES, b"key", b"half a transaction");
        assert!(!mark.tell(&task, read_to(changelog_end, events_end)));
        assert_eq!((staleness(&task), task.view.applied(3, true)), (None, 0));
        task.overlay.clear();
        assert!(mark.tell(&task, read_to(changelog_end, events_end)));
        assert_eq!((staleness(&task), task.view.applied(3, true)), (Some(LATER - AT), 3));
    }

    #[test]
    fn where_the_changelog_has_not_grown_the_events_have_not_either() {
        let (notes, log, task) = standby();
        let definition = notes.definition();
        let end = append(&log, definition.changelog);
        let before = Mark::set(&log, definition, &task, (AT, end), None).unwrap();
        // Not committed yet: its transaction has not written to the changelog.
        append(&log, definition.events[0].topic);
        let events = before.events.clone();
        let mark = Mark::set(&log, definition, &task, (LATER, end), Some(before)).unwrap();
        assert_eq!((mark.at, &mark.events), (LATER, &events));
        let grown = append(&log, definition.changelog);
        let mark = Mark::set(&log, definition, &task, (LATER, grown), Some(mark)).unwrap();
        assert_eq!(mark.events[0].1, events[0].1 + 1);
    }
}
