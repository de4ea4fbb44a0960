//! Who lives, judged in log time. Pure.
//!
//! A member is silent for as many beats as my own heartbeats were appended since its last one. So a broker that stalls,
//! or a reader that lags, suspects nobody: my own beats stand still with those of the others. A wrong suspicion (a
//! member without the processor for a second) costs a move; data is protected by the fence and the claim.
//!
//! A member that beats, and does not come to act by the assignment that I act by, is as good as dead too: what is taken
//! from it would wait for its word for ever.
//!
//! Who was given up lives again when it says that it has read the log up to there. One that is heard and hears nothing
//! (the answers are lost on their way to it) would otherwise be taken back with each of its heartbeats, and be given
//! shards without ever learning of it.

use std::collections::{BTreeMap, BTreeSet};

use schemas::records::Member;

use super::assignment::Candidate;

/// Own beats without one of another member after which it counts as gone.
pub const SILENT_BEATS_MAX: u32 = 5;
/// Number of the first heartbeat of a life.
const FIRST_BEAT: i64 = 1;
/// Own beats without one of another member after which nobody needs its record any more: about a minute and a half.
const FORGOTTEN_BEATS: u32 = 1_000;

#[derive(Clone, Debug)]
struct Seen {
    member: Member,
    silent_beats: u32,
    /// Own beats for which it has acted by an earlier assignment than I.
    behind_beats: u32,
    /// Beats of it since my last one.
    beats_since_mine: u32,
    /// How far I had read when I gave it up.
    gone_at: Option<i64>,
    /// Of a life whose first word I heard: it acts by no earlier assignment than this, whatever it has said so far.
    epoch_min: i64,
}

/// The members as one of them sees them.
#[derive(Clone, Debug)]
pub struct Roster {
    me: String,
    incarnation: String,
    seen: BTreeMap<String, Seen>,
    own: Option<Member>,
    /// Own beats of this incarnation that came back.
    beats: u64,
    /// Between my last two beats lay so many of one other that it may have given me up.
    overslept: bool,
    /// Incarnations under my name whose words lie before my first one.
    earlier_lives: BTreeSet<String>,
    usurper: Option<String>,
}

impl Roster {
    /// Nobody is known yet.
    pub fn new(me: &str, incarnation: &str) -> Roster {
        let (me, incarnation) = (me.to_owned(), incarnation.to_owned());
        Roster {
            me,
            incarnation,
            seen: BTreeMap::new(),
            own: None,
            beats: 0,
            overslept: false,
            earlier_lives: BTreeSet::new(),
            usurper: None,
        }
    }

    /// A heartbeat, in the order of the log.
    pub fn beat(&mut self, member: &Member) {
        if member.instance == self.me {
            if member.incarnation != self.incarnation {
                self.hear_namesake(member);
                return;
            }
            let before = self.own.replace(member.clone());
            // A change of a part is said with the number of the last heartbeat: no time has passed.
            if before.is_some_and(|before| before.beat >= member.beat) {
                return;
            }
            self.beats += 1;
            self.overslept = self.seen.values().any(|seen| seen.beats_since_mine >= SILENT_BEATS_MAX);
            for seen in self.seen.values_mut() {
                seen.beats_since_mine = 0;
                seen.silent_beats = seen.silent_beats.saturating_add(1);
                let is_behind = seen.member.epoch < member.epoch;
                seen.behind_beats = if is_behind { seen.behind_beats.saturating_add(1) } else { 0 };
                if !is_living(seen) {
                    seen.gone_at.get_or_insert(member.seen);
                }
            }
            return;
        }
        let before = self.seen.get(&member.instance).filter(|seen| seen.member.incarnation == member.incarnation);
        // Both count what was read as the next offset that was not.
        let gone_at = before.and_then(|seen| seen.gone_at).filter(|gone_at| member.seen <= *gone_at);
        let behind_beats = before.map_or(0, |seen| seen.behind_beats);
        // A word between two beats repeats the number of the last one, and is no time.
        let is_beat = before.is_none_or(|before| before.member.beat < member.beat);
        let beats_since_mine = before.map_or(0, |seen| seen.beats_since_mine) + u32::from(is_beat);
        let epoch_min = before.map_or_else(|| self.epoch_of_newcomer(member), |before| before.epoch_min);
        let member = member.clone();
        let seen = Seen { member, silent_beats: 0, behind_beats, beats_since_mine, gone_at, epoch_min };
        self.seen.insert(seen.member.instance.clone(), seen);
    }

    /// An earlier life of mine, or somebody who began after me under my name. The log tells them apart, since clocks may
    /// step back: whose words lie before my first one began before me. One that I hear of later began after me when it
    /// says its first word; where compaction took that word, the time in its incarnation has to do.
    fn hear_namesake(&mut self, member: &Member) {
        if self.own.is_none() {
            self.earlier_lives.insert(member.incarnation.clone());
        } else if !self.earlier_lives.contains(&member.incarnation)
            && (member.beat == FIRST_BEAT || member.incarnation > self.incarnation)
        {
            self.usurper = Some(member.incarnation.clone());
        }
    }

    /// The earliest assignment that a life can act by which I hear of for the first time; 0: not known.
    ///
    /// Nobody owns before its own heartbeat came back, and then only after it has read the assignment to its end. So if
    /// its first word lies behind one of mine, it acts by no earlier assignment than I did in mine. Its first word it must
    /// be: of a later one the log does not tell how long before mine this life joined.
    fn epoch_of_newcomer(&self, member: &Member) -> i64 {
        if member.beat > FIRST_BEAT || member.epoch > 0 {
            return 0;
        }
        let mine = self.own.as_ref().map_or(0, |own| own.epoch);
        // An earlier life may still run and own by what it said; not when it is gone, and not after its last word.
        let earlier = self.seen.get(&member.instance).filter(|seen| is_living(seen) && seen.member.grace_beats == 0);
        earlier.map_or(mine, |earlier| mine.min(acts_by(earlier)))
    }

    /// A heartbeat that says no more than that: its schema is not known yet.
    pub fn beat_unread(&mut self, instance: &str) {
        if let Some(seen) = self.seen.get_mut(instance) {
            seen.silent_beats = 0;
        }
    }

    /// A member left.
    pub fn leave(&mut self, instance: &str) {
        self.seen.remove(instance);
    }

    /// Whether whoever is dead has been found out by now: a member that has just begun knows of many who left no word.
    pub fn is_settled(&self) -> bool {
        self.seen.is_empty() || self.beats >= u64::from(SILENT_BEATS_MAX)
    }

    /// Whether a member has said that it will be back: it keeps what it has, and does not lead.
    pub fn is_away(&self, instance: &str) -> bool {
        self.seen.get(instance).is_some_and(|seen| seen.member.grace_beats > 0)
    }

    /// Whether somebody may have given me up before my last beat, by the order of the log.
    pub fn has_overslept(&self) -> bool {
        self.overslept
    }

    /// Others that count as living, and the earliest assignment that each of them can act by.
    pub fn others_act_by(&self) -> BTreeMap<&str, i64> {
        let living = self.seen.iter().filter(|(_, seen)| is_living(seen));
        living.map(|(name, seen)| (name.as_str(), acts_by(seen))).collect()
    }

    /// Highest epoch that anybody has said to act by.
    pub fn epoch_heard(&self) -> i64 {
        self.seen.values().map(|seen| seen.member.epoch).max().unwrap_or(0)
    }

    /// Whether my own beats came back: before that I have not read what the log knows.
    pub fn is_joined(&self) -> bool {
        self.beats > 0
    }

    /// Incarnation of another process that uses my name.
    pub fn usurper(&self) -> Option<&str> {
        self.usurper.as_deref()
    }

    /// Whether this life of a member counts as living.
    pub fn lives(&self, instance: &str, incarnation: &str) -> bool {
        if instance == self.me {
            return incarnation == self.incarnation;
        }
        self.seen.get(instance).is_some_and(|seen| seen.member.incarnation == incarnation && is_living(seen))
    }

    /// Members that count as living, me among them once I have joined, by name.
    pub fn living(&self) -> Vec<&Member> {
        let others = self.seen.values().filter(|seen| is_living(seen)).map(|seen| &seen.member);
        let mut living: Vec<_> = others.chain(&self.own).collect();
        living.sort_by(|a, b| a.instance.cmp(&b.instance));
        living
    }

    /// The same, as the decision about the assignment takes them. Who was configured with another layout has other
    /// shards.
    pub fn candidates(&self, layout: i32) -> Vec<Candidate> {
        let candidate = |member: &&Member| Candidate {
            name: member.instance.clone(),
            rack: member.rack.clone(),
            shards: member.shards.iter().map(|shard| (shard.shard, (shard.role, shard.lag))).collect(),
            stopped: member.stopped.iter().copied().collect(),
        };
        let ours = |member: &&Member| member.layout == 0 || member.layout == layout;
        self.living().iter().filter(|member| ours(member)).map(candidate).collect()
    }

    /// Members that died without a goodbye, so long ago that their records are of no use to anybody.
    pub fn forgotten(&self) -> Vec<String> {
        let silent = |(name, seen): (&String, &Seen)| {
            let since = seen.silent_beats.saturating_sub(u32::try_from(seen.member.grace_beats).unwrap_or(0));
            (since >= FORGOTTEN_BEATS).then(|| name.clone())
        };
        self.seen.iter().filter_map(silent).collect()
    }
}

/// What it has said, unless more is known.
fn acts_by(seen: &Seen) -> i64 {
    seen.member.epoch.max(seen.epoch_min)
}

/// Who asked for a grace when it left (a restart) is waited for so long.
fn is_living(seen: &Seen) -> bool {
    let grace = u32::try_from(seen.member.grace_beats).unwrap_or(0);
    let hears = grace > 0 || seen.behind_beats < SILENT_BEATS_MAX;
    seen.gone_at.is_none() && hears && seen.silent_beats < SILENT_BEATS_MAX.max(grace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(instance: &str, incarnation: &str) -> Member {
        use std::sync::atomic::{AtomicI64, Ordering};
        static NUMBER: AtomicI64 = AtomicI64::new(0);
        Member {
            instance: instance.to_owned(),
            incarnation: incarnation.to_owned(),
            beat: NUMBER.fetch_add(1, Ordering::Relaxed),
            ..Member::default()
        }
    }

    fn names(roster: &Roster) -> Vec<&str> {
        roster.living().iter().map(|member| member.instance.as_str()).collect()
    }

    #[test]
    fn who_is_silent_for_too_many_of_my_beats_is_gone() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("a", "1"));
        assert_eq!(names(&roster), ["a"]);
        assert!(!roster.is_joined());
        for _ in 1..SILENT_BEATS_MAX {
            roster.beat(&beat("b", "1"));
            assert_eq!(names(&roster), ["a", "b"]);
        }
        // One sign of life is enough.
        roster.beat(&beat("a", "1"));
        for _ in 0..SILENT_BEATS_MAX {
            assert!(roster.lives("a", "1"));
            roster.beat(&beat("b", "1"));
        }
        assert_eq!(names(&roster), ["b"]);
        assert!(!roster.lives("a", "1"));
    }

    #[test]
    fn who_was_given_up_comes_back_when_it_has_read_so() {
        let mut roster = Roster::new("b", "1");
        let has_read = |seen: i64, member: Member| Member { seen, ..member };
        roster.beat(&has_read(90, beat("a", "1")));
        for _ in 0..SILENT_BEATS_MAX {
            roster.beat(&has_read(100, beat("b", "1")));
        }
        assert_eq!(names(&roster), ["b"]);
        // It is heard again, and has heard nothing.
        for seen in [90, 100] {
            roster.beat(&has_read(seen, beat("a", "1")));
            roster.beat(&has_read(110, beat("b", "1")));
            assert_eq!(names(&roster), ["b"]);
        }
        roster.beat(&has_read(101, beat("a", "1")));
        assert_eq!(names(&roster), ["a", "b"]);
        // Another life of it has nothing to make up for.
        for _ in 0..SILENT_BEATS_MAX {
            roster.beat(&has_read(120, beat("b", "1")));
        }
        assert_eq!(names(&roster), ["b"]);
        roster.beat(&beat("a", "2"));
        assert_eq!(names(&roster), ["a", "b"]);
    }

    #[test]
    fn who_does_not_act_by_the_assignment_is_given_up() {
        let mut roster = Roster::new("b", "1");
        let by = |epoch: i64, seen: i64, member: Member| Member { epoch, seen, ..member };
        for beats in 1..=SILENT_BEATS_MAX {
            roster.beat(&by(3, i64::from(beats), beat("a", "1")));
            assert_eq!(names(&roster).len(), if beats == 1 { 1 } else { 2 });
            roster.beat(&by(4, i64::from(beats), beat("b", "1")));
        }
        assert_eq!(names(&roster), ["b"]);
        assert_eq!(roster.epoch_heard(), 3);
        // It has read it.
        roster.beat(&by(4, 100, beat("a", "1")));
        roster.beat(&by(4, 100, beat("b", "1")));
        assert_eq!(names(&roster), ["a", "b"]);
    }

    #[test]
    fn who_sleeps_through_the_beats_of_another_knows_it() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("b", "1"));
        for _ in 1..SILENT_BEATS_MAX {
            roster.beat(&beat("a", "1"));
        }
        roster.beat(&beat("b", "1"));
        assert!(!roster.has_overslept());
        let last = beat("a", "1");
        for _ in 0..SILENT_BEATS_MAX {
            roster.beat(&last);
        }
        roster.beat(&beat("b", "1"));
        assert!(!roster.has_overslept(), "words between two beats are no time");
        for _ in 0..SILENT_BEATS_MAX {
            roster.beat(&beat("a", "1"));
        }
        roster.beat(&beat("b", "1"));
        assert!(roster.has_overslept());
        roster.beat(&beat("b", "1"));
        assert!(!roster.has_overslept());
    }

    #[test]
    fn a_log_that_stands_still_suspects_nobody() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("b", "1"));
        // However long nothing comes: no beat of mine, no silence of others.
        for _ in 0..100 {
            roster.beat(&beat("a", "1"));
            roster.beat(&beat("c", "1"));
        }
        assert_eq!(names(&roster), ["a", "b", "c"]);
    }

    #[test]
    fn a_change_of_a_part_is_no_time() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("a", "1"));
        let own = beat("b", "1");
        for _ in 0..100 {
            roster.beat(&own);
        }
        assert_eq!(names(&roster), ["a", "b"]);
        assert!(!roster.is_settled());
    }

    #[test]
    fn who_leaves_is_gone_at_once_and_who_asked_for_a_grace_later() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("b", "1"));
        roster.beat(&beat("a", "1"));
        roster.beat(&Member { grace_beats: 20, ..beat("c", "1") });
        roster.leave("a");
        assert_eq!(names(&roster), ["b", "c"]);
        for _ in 0..19 {
            roster.beat(&beat("b", "1"));
        }
        assert_eq!(names(&roster), ["b", "c"]);
        roster.beat(&beat("b", "1"));
        assert_eq!(names(&roster), ["b"]);
    }

    #[test]
    fn a_heartbeat_that_cannot_be_read_yet_is_a_sign_of_life() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("a", "1"));
        for _ in 0..3 {
            for _ in 1..SILENT_BEATS_MAX {
                roster.beat(&beat("b", "1"));
            }
            roster.beat_unread("a");
        }
        assert_eq!(names(&roster), ["a", "b"]);
        // Where it is, nobody knows: it can be given nothing.
        roster.beat_unread("c");
        assert_eq!(names(&roster), ["a", "b"]);
    }

    #[test]
    fn who_died_without_a_word_is_forgotten_in_the_end() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("a", "1"));
        for _ in 1..FORGOTTEN_BEATS {
            roster.beat(&beat("b", "1"));
        }
        assert!(roster.forgotten().is_empty());
        roster.beat(&beat("b", "1"));
        assert_eq!(roster.forgotten(), ["a"]);
        roster.leave("a");
        assert!(roster.forgotten().is_empty());
    }

    #[test]
    fn who_has_other_shards_is_given_none_of_ours() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&Member { layout: 2, ..beat("b", "1") });
        roster.beat(&Member { layout: 1, ..beat("a", "1") });
        let names: Vec<_> = roster.candidates(2).into_iter().map(|candidate| candidate.name).collect();
        assert_eq!(names, ["b"]);
    }

    #[test]
    fn another_life_is_another_member_under_the_same_name() {
        let mut roster = Roster::new("b", "1");
        roster.beat(&beat("b", "1"));
        roster.beat(&beat("a", "1"));
        roster.beat(&beat("a", "2"));
        assert!(roster.lives("a", "2") && !roster.lives("a", "1"));
    }

    #[test]
    fn a_second_process_under_my_name_is_told_from_my_own_past() {
        let mut roster = Roster::new("b", "2");
        roster.beat(&beat("b", "1"));
        assert_eq!(roster.usurper(), None);
        roster.beat(&beat("b", "2"));
        assert_eq!(roster.usurper(), None);
        roster.beat(&beat("b", "3"));
        assert_eq!(roster.usurper(), Some("3"));
    }

    #[test]
    fn a_clock_that_stepped_back_makes_no_usurper_of_the_past_and_hides_none() {
        let mut roster = Roster::new("b", "2");
        roster.beat(&beat("b", "9"));
        roster.beat(&beat("b", "2"));
        // It has not read yet that another life began.
        roster.beat(&beat("b", "9"));
        assert_eq!(roster.usurper(), None);
        roster.beat(&Member { beat: FIRST_BEAT, ..beat("b", "1") });
        assert_eq!(roster.usurper(), Some("1"));
    }
}
