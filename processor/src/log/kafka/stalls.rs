//! Finding out that the client library does not read a partition any more.
//!
//! A partition whose leader was unknown for a moment, because its broker came back or it moved, may be without one in the
//! client for ever: it is not fetched, and no error says so (librdkafka 2.12.1 to 2.14.1; its issues 5430 and 5280). To the
//! caller that looks like a partition in which nothing happens. So now and then a consumer compares where it stands with
//! where the log ends for it. It does not mend anything: its caller makes a new one.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::fault::{self, LogError};
use crate::log::{TopicPartition, Topics};

/// Between two looks. A partition that has stalled is found at the second one.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// Wait for the ends at one look. The caller has better things to do; the next look asks again.
const ENDS_TIMEOUT: Duration = Duration::from_millis(200);

/// Where a partition stands at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub at: TopicPartition,
    /// Offset of the next record to read.
    pub position: i64,
    /// Offset up to which committed records could be read before the position was asked for.
    pub end: i64,
}

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    looked_at: Duration,
    behind: Vec<(TopicPartition, i64)>,
}

impl Stalls {
    /// Forgets what was seen: the assignment is new, or the broker did not answer.
    pub fn begin(&mut self, now: Duration) {
        (self.looked_at, self.behind) = (now, Vec::new());
    }

    /// Whether it is time for a look.
    pub fn is_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.looked_at) >= LOOK_INTERVAL
    }

    /// A partition that was behind its end at the last look and has not moved since.
    pub fn look(&mut self, now: Duration, seen: &[Seen]) -> Option<Seen> {
        // Whoever did not poll for longer has given the client no chance.
        let before = if now.saturating_sub(self.looked_at) < 2 * LOOK_INTERVAL {
            std::mem::take(&mut self.behind)
        } else {
            Vec::new()
        };
        self.looked_at = now;
        let behind = || seen.iter().filter(|seen| seen.position < seen.end);
        self.behind = behind().map(|seen| (seen.at, seen.position)).collect();
        behind().find(|seen| before.contains(&(seen.at, seen.position))).copied()
    }
}

/// Asks where partitions end for readers of committed records. A client of its own: on the connection of a consumer the
/// answer would come behind that of the fetch that waits there.
pub(super) struct Ends {
    client: BaseConsumer,
    topics: Topics,
}

impl Ends {
    /// `client` reads committed records only.
    pub fn new(client: BaseConsumer, topics: Topics) -> Ends {
        Ends { client, topics }
    }

    /// The end of each partition that has an answer.
    pub fn of(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, i64)>, LogError> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for at in partitions {
            asked
                .add_partition_offset(self.topics.name(at.topic), at.partition, Offset::End)
                .map_err(|error| LogError::Refused(error.to_string()))?;
        }
        let told = self.client.offsets_for_times(asked, ENDS_TIMEOUT).map_err(|error| fault::of_read(error, "ends"))?;
        let end = |at: &TopicPartition| match told.find_partition(self.topics.name(at.topic), at.partition)?.offset() {
            Offset::Offset(end) => Some((*at, end)),
            _ => None,
        };
        Ok(partitions.iter().filter_map(end).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::TopicId;

    const AT: TopicPartition = TopicPartition { topic: TopicId(0), partition: 1 };
    const OTHER: TopicPartition = TopicPartition { topic: TopicId(1), partition: 1 };

    fn seen(at: TopicPartition, position: i64, end: i64) -> Seen {
        Seen { at, position, end }
    }

    #[test]
    fn who_stands_behind_the_end_at_two_looks_has_stalled() {
        let mut stalls = Stalls::default();
        assert_eq!(stalls.look(LOOK_INTERVAL, &[seen(AT, 5, 9), seen(OTHER, 5, 5)]), None);
        assert_eq!(stalls.look(2 * LOOK_INTERVAL, &[seen(AT, 5, 12), seen(OTHER, 5, 6)]), Some(seen(AT, 5, 12)));
    }

    #[test]
    fn who_moves_or_has_nothing_to_read_has_not() {
        let mut stalls = Stalls::default();
        let looks = [seen(AT, 5, 9), seen(AT, 6, 12), seen(AT, 12, 12), seen(AT, 12, 12), seen(AT, 12, 13)];
        for (count, look) in looks.into_iter().enumerate() {
            assert_eq!(stalls.look(LOOK_INTERVAL * (count as u32 + 1), &[look]), None, "{look:?}");
        }
    }

    #[test]
    fn a_new_assignment_and_a_caller_that_was_away_begin_anew() {
        let mut stalls = Stalls::default();
        assert_eq!(stalls.look(LOOK_INTERVAL, &[seen(AT, 5, 9)]), None);
        stalls.begin(LOOK_INTERVAL);
        assert!(!stalls.is_due(LOOK_INTERVAL));
        assert!(stalls.is_due(2 * LOOK_INTERVAL));
        assert_eq!(stalls.look(2 * LOOK_INTERVAL, &[seen(AT, 5, 9)]), None);
        assert_eq!(stalls.look(4 * LOOK_INTERVAL, &[seen(AT, 5, 9)]), None);
        assert_eq!(stalls.look(5 * LOOK_INTERVAL, &[seen(AT, 5, 9)]), Some(seen(AT, 5, 9)));
    }
}
