//! Who owned a shard before, and may not know yet that it does not any more. Pure.
//!
//! An owner answers fresh until it reads that the shard was given away. So whoever is given one waits until the owner
//! before says, by the epoch in its heartbeats, that it has read so, or counts as gone: then its lease is over too. It
//! waits for nobody else: a member that died holds up nothing, and neither does one that has just begun and has not read
//! any assignment yet (see [`Roster::others_act_by`]).

use std::collections::{BTreeMap, BTreeSet};

use schemas::records::Assignment;

use super::roster::Roster;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Former {
    /// Epoch of the first assignment that was read: what earlier ones said is not known.
    first_epoch: Option<i64>,
    actives: Vec<String>,
    /// By shard: who lost it, and by which epoch.
    lost: BTreeMap<i32, BTreeMap<String, i64>>,
}

impl Former {
    /// The next assignment, in the order of the log.
    pub fn assigned(&mut self, assignment: &Assignment) {
        self.first_epoch.get_or_insert(assignment.epoch);
        let actives: Vec<String> = assignment.shards.iter().map(|owners| owners.active.clone()).collect();
        for (shard, (before, after)) in (0..).zip(self.actives.iter().zip(&actives)) {
            let lost = self.lost.entry(shard).or_default();
            // Whoever has it back knows that by the same word.
            lost.remove(after);
            if before != after && !before.is_empty() {
                lost.insert(before.clone(), assignment.epoch);
            }
        }
        self.actives = actives;
    }

    /// Shards whose earlier owner lives and may not know. Forgets whoever does.
    pub fn unaware(&mut self, roster: &Roster, me: &str) -> BTreeSet<i32> {
        let epochs = roster.others_act_by();
        let first = self.first_epoch.unwrap_or(0);
        if epochs.values().any(|epoch| *epoch < first) {
            return (0..).zip(&self.actives).map(|(shard, _)| shard).collect();
        }
        let mut unaware = BTreeSet::new();
        for (shard, lost) in &mut self.lost {
            lost.retain(|name, epoch| name != me && epochs.get(name.as_str()).is_none_or(|acts_by| acts_by < epoch));
            if lost.keys().any(|name| epochs.contains_key(name.as_str())) {
                unaware.insert(*shard);
            }
        }
        unaware
    }
}

#[cfg(test)]
mod tests {
    use schemas::records::{Member, ShardOwners};

    use super::super::roster::SILENT_BEATS_MAX;
    use super::*;

    fn assignment(epoch: i64, actives: &[&str]) -> Assignment {
        let owners = |active: &&str| ShardOwners { active: (*active).to_owned(), ..ShardOwners::default() };
        Assignment { epoch, shards: actives.iter().map(owners).collect(), ..Assignment::default() }
    }

    /// A roster of "me", which others beat into.
    struct World(Roster, i64);

    impl World {
        fn new() -> World {
            World(Roster::new("me", "1"), 0)
        }

        fn beat(&mut self, name: &str, epoch: i64) {
            self.say((name, "1"), (self.1 + 1, epoch));
        }

        /// A life says its first word: it has read nothing yet.
        fn begin(&mut self, name: &str, incarnation: &str) {
            self.say((name, incarnation), (1, 0));
        }

        fn say(&mut self, (name, incarnation): (&str, &str), (beat, epoch): (i64, i64)) {
            self.1 += 1;
            self.0.beat(&Member {
                instance: name.to_owned(),
                incarnation: incarnation.to_owned(),
                beat,
                seen: self.1,
                layout: 1,
                epoch,
                ..Member::default()
            });
        }
    }

    #[test]
    fn a_shard_waits_for_the_word_of_its_last_owner_alone() {
        let (mut former, mut world) = (Former::default(), World::new());
        former.assigned(&assignment(1, &["a", "b"]));
        for name in ["me", "a", "b"] {
            world.beat(name, 1);
        }
        assert!(former.unaware(&world.0, "me").is_empty());
        former.assigned(&assignment(2, &["me", "b"]));
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]));
        world.beat("b", 2);
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]));
        world.beat("a", 2);
        assert!(former.unaware(&world.0, "me").is_empty());
    }

    #[test]
    fn the_dead_are_not_waited_for() {
        let (mut former, mut world) = (Former::default(), World::new());
        former.assigned(&assignment(1, &["a"]));
        world.beat("a", 1);
        former.assigned(&assignment(2, &["me"]));
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]));
        for _ in 0..SILENT_BEATS_MAX {
            world.beat("me", 2);
        }
        assert!(former.unaware(&world.0, "me").is_empty());
    }

    #[test]
    fn two_moves_in_a_row_wait_for_both_and_whoever_has_it_back_is_not_waited_for() {
        let (mut former, mut world) = (Former::default(), World::new());
        former.assigned(&assignment(1, &["a"]));
        world.beat("a", 1);
        world.beat("b", 1);
        former.assigned(&assignment(2, &["b"]));
        former.assigned(&assignment(3, &["me"]));
        world.beat("b", 3);
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]), "a may still think that it is the owner");
        world.beat("a", 2);
        assert!(former.unaware(&world.0, "me").is_empty());
        former.assigned(&assignment(4, &["a"]));
        assert!(former.unaware(&world.0, "me").is_empty());
    }

    #[test]
    fn what_was_before_the_first_word_is_not_known() {
        let (mut former, mut world) = (Former::default(), World::new());
        former.assigned(&assignment(7, &["me", "a"]));
        world.beat("a", 6);
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0, 1]));
        world.beat("a", 7);
        assert!(former.unaware(&world.0, "me").is_empty());
    }

    #[test]
    fn who_begins_holds_up_nobody() {
        let (mut former, mut world) = (Former::default(), World::new());
        former.assigned(&assignment(7, &["a", "b"]));
        for name in ["me", "a", "b"] {
            world.beat(name, 7);
        }
        former.assigned(&assignment(8, &["me", "b"]));
        world.begin("c", "1");
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]));
        world.beat("a", 8);
        assert!(former.unaware(&world.0, "me").is_empty());
        // However often it says that it has read nothing.
        world.say(("c", "1"), (2, 0));
        assert!(former.unaware(&world.0, "me").is_empty());
    }

    #[test]
    fn who_may_have_begun_before_i_knew_anything_is_waited_for() {
        let (mut former, mut world) = (Former::default(), World::new());
        world.begin("a", "1");
        former.assigned(&assignment(7, &["me"]));
        world.beat("me", 7);
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]));
        // Its first word was not heard: it may have been before mine.
        world.say(("b", "1"), (2, 0));
        world.beat("a", 7);
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]));
        world.beat("b", 7);
        assert!(former.unaware(&world.0, "me").is_empty());
    }

    #[test]
    fn a_new_life_knows_no_less_than_the_one_before() {
        let (mut former, mut world) = (Former::default(), World::new());
        former.assigned(&assignment(7, &["a"]));
        world.beat("a", 7);
        world.beat("me", 7);
        world.begin("a", "2");
        assert!(former.unaware(&world.0, "me").is_empty());
        // What was taken from it later it has to read.
        former.assigned(&assignment(8, &["me"]));
        world.beat("me", 8);
        assert_eq!(former.unaware(&world.0, "me"), BTreeSet::from([0]));
        world.say(("a", "2"), (2, 8));
        assert!(former.unaware(&world.0, "me").is_empty());
    }

    #[test]
    fn an_earlier_life_that_knows_less_is_waited_for_until_it_is_gone() {
        for is_gone in [false, true] {
            let (mut former, mut world) = (Former::default(), World::new());
            former.assigned(&assignment(7, &["me"]));
            world.beat("a", 6);
            let my_beats = if is_gone { SILENT_BEATS_MAX } else { 1 };
            for _ in 0..my_beats {
                world.beat("me", 7);
            }
            world.begin("a", "2");
            assert_eq!(former.unaware(&world.0, "me").is_empty(), is_gone);
            world.say(("a", "2"), (2, 7));
            assert!(former.unaware(&world.0, "me").is_empty());
        }
    }
}
