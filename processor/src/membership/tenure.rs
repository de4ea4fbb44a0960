//! Since when this instance has had each shard without a break. Pure.
//!
//! A shard's thread that stands still for seconds may find its instance to be the owner, as before, while another owned
//! the shard and committed in between. The assignments say so, and they are read by another thread.

use std::collections::BTreeMap;

use schemas::records::Assignment;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Tenure {
    epoch: i64,
    lost_at: BTreeMap<i32, i64>,
}

impl Tenure {
    /// The next assignment, in the order of the log.
    pub fn assigned(&mut self, assignment: &Assignment, me: &str) {
        // Whoever reads late does not see every assignment: the topic is compacted. What was in between may have been
        // anything.
        let missed = (assignment.epoch > self.epoch + 1).then_some(assignment.epoch - 1);
        for (shard, owners) in (0..).zip(&assignment.shards) {
            let lost_at = if owners.active == me { missed } else { Some(assignment.epoch) };
            if let Some(lost_at) = lost_at {
                self.lost_at.insert(shard, lost_at);
            }
        }
        self.epoch = assignment.epoch;
    }

    /// By shard: the last epoch under which it was, or may have been, another's.
    pub fn lost_at(&self) -> &BTreeMap<i32, i64> {
        &self.lost_at
    }
}

#[cfg(test)]
mod tests {
    use schemas::records::ShardOwners;

    use super::*;

    fn read(tenure: &mut Tenure, epoch: i64, actives: &[&str]) -> Vec<i64> {
        let owners = |active: &&str| ShardOwners { active: (*active).to_owned(), ..ShardOwners::default() };
        let shards = actives.iter().map(owners).collect();
        tenure.assigned(&Assignment { epoch, shards, ..Assignment::default() }, "me");
        (0..actives.len() as i32).map(|shard| tenure.lost_at().get(&shard).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn a_shard_that_was_given_away_and_back_was_lost() {
        let mut tenure = Tenure::default();
        assert_eq!(read(&mut tenure, 1, &["me", "me", "other"]), [0, 0, 1]);
        assert_eq!(read(&mut tenure, 2, &["me", "other", "me"]), [0, 2, 1]);
        assert_eq!(read(&mut tenure, 3, &["me", "me", "me"]), [0, 2, 1]);
        assert_eq!(read(&mut tenure, 4, &["me", "", "me"]), [0, 4, 1], "nobody's is not ours either");
    }

    #[test]
    fn what_was_not_read_may_have_been_anything() {
        let mut tenure = Tenure::default();
        assert_eq!(read(&mut tenure, 7, &["me", "other"]), [6, 7]);
        assert_eq!(read(&mut tenure, 8, &["me", "me"]), [6, 7]);
        assert_eq!(read(&mut tenure, 10, &["me", "me"]), [9, 9]);
    }
}
