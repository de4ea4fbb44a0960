//! What the membership knows, pinned up for the shards and the query service, and what they have to say for the next
//! heartbeat.
//!
//! The membership's thread writes what it read; shards read their roles and report their parts, and never wait for the
//! broker here. A report that changes a part is news, which the thread that beats tells at once: whoever takes the shard
//! over waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use schemas::Encoder;
use schemas::control::{self, Directory};
use schemas::query::NotOwner;
use schemas::records::{Member, MemberShard, ShardRole};

use super::peers;
use super::role::{Role, Roles};
use super::roster::{Roster, SILENT_BEATS_MAX};
use super::tenure::Tenure;
use crate::clock::SharedClock;
use crate::fault::LogError;
use crate::layout::Layout;
use crate::log::{LogAppender, TopicId, TopicPartition};

/// Wait for the acknowledgement of one heartbeat.
const BEAT_DEADLINE: Duration = Duration::from_secs(1);
/// Wait for the end of the assignment.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// Wait for an earlier owner to let go.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(500);
/// Wait until an earlier owner knows that it is not one any more, or counts as gone.
const AWARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Heartbeats whose time is remembered.
const SENT_KEPT: usize = 16;

/// Who says it: this instance, for its heartbeats.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name of the instance.
    pub instance: String,
    /// This life of it; a later life has a greater one.
    pub incarnation: String,
    /// Where its query service is reached, `http://host:port`.
    pub endpoint: String,
    /// Failure domain; empty: none.
    pub rack: String,
}

/// Why a membership ended that nobody asked to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another process goes on under this name.
    #[error("another process goes on under this instance's name; give each its own")]
    Usurped,
    /// Its reading thread panicked.
    #[error("the membership panicked, the log says where; start the instance again")]
    Panicked,
    /// The shards are of another layout than this instance.
    #[error("{0}")]
    OtherLayout(String),
}

#[derive(Default)]
struct State {
    directory: Directory,
    /// Next offset of the assignment's partition that was not read.
    assignment_read_to: i64,
    /// Shards that living others say they own.
    owned_elsewhere: BTreeSet<i32>,
    /// Shards whose earlier owner lives, and may not know that it is not their owner any more.
    unaware: BTreeSet<i32>,
    /// By shard: the last epoch under which it was, or may have been, another's.
    lost_at: BTreeMap<i32, i64>,
    /// Highest epoch that anybody has said to act by.
    epoch_heard: i64,
    /// Next offset of the members' partition that was acted upon.
    acted_to: i64,
    joined: bool,
    shards_ended: bool,
    ended: bool,
    failure: Option<Failure>,
    parts: BTreeMap<i32, (ShardRole, i64)>,
    /// Shards that ended here, and need an operator.
    stopped: BTreeSet<i32>,
    /// A part changed since the last heartbeat.
    has_news: bool,
    /// Monotonic time up to which nobody can have taken this instance for gone.
    current_until: Duration,
    /// The last heartbeats and when they were sent.
    sent: VecDeque<(i64, Duration)>,
}

struct Heart {
    appender: Box<dyn LogAppender>,
    encoder: Encoder<Member>,
    beat: i64,
}

/// Gives the high watermark of the assignment's partition.
type EndOfAssignment = Box<dyn Fn() -> Result<i64, LogError> + Send + Sync>;

/// See the module.
pub struct Board {
    me: Identity,
    layout: Layout,
    control: TopicId,
    clock: SharedClock,
    beat_interval: Duration,
    end_of_assignment: EndOfAssignment,
    heart: Mutex<Heart>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    pub(super) fn new(
        (me, layout): (Identity, Layout),
        control: TopicId,
        clock: SharedClock,
        beat_interval: Duration,
        (appender, encoder): (Box<dyn LogAppender>, Encoder<Member>),
        end_of_assignment: EndOfAssignment,
    ) -> Board {
        let heart = Mutex::new(Heart { appender, encoder, beat: 0 });
        let (state, changed) = (Mutex::new(State::default()), Condvar::new());
        Board { me, layout, control, clock, beat_interval, end_of_assignment, heart, state, changed }
    }

    /// What the topic says, as far as it was read.
    pub fn directory(&self) -> Directory {
        self.state.lock().directory.clone()
    }

    /// From now on every role is [`Role::Ended`]; heartbeats go on until [`Board::end`].
    pub fn end_shards(&self) {
        self.state.lock().shards_ended = true;
        self.changed.notify_all();
    }

    /// The membership ends too.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        (state.shards_ended, state.ended) = (true, true);
        drop(state);
        self.changed.notify_all();
    }

    /// The same, because somebody else goes on under this name.
    pub(super) fn end_usurped(&self) {
        self.state.lock().failure = Some(Failure::Usurped);
        self.end();
    }

    /// The same, because nothing is read any more.
    pub(super) fn end_failed(&self) {
        self.state.lock().failure = Some(Failure::Panicked);
        self.end();
    }

    /// Why it ended, when nobody asked it to.
    pub fn failure(&self) -> Option<Failure> {
        self.state.lock().failure.clone()
    }

    /// The same, because the shards are of another layout than this instance.
    pub(super) fn end_refused(&self, reason: String) {
        self.state.lock().failure = Some(Failure::OtherLayout(reason));
        self.end();
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Pins up what was read.
    pub(super) fn publish(
        &self,
        directory: &Directory,
        (assignment_read_to, acted_to): (i64, i64),
        (owned_elsewhere, unaware): (BTreeSet<i32>, BTreeSet<i32>),
        tenure: &Tenure,
        roster: &Roster,
    ) {
        let mut state = self.state.lock();
        if state.directory != *directory {
            state.directory.clone_from(directory);
        }
        state.assignment_read_to = assignment_read_to;
        state.acted_to = acted_to;
        state.owned_elsewhere = owned_elsewhere;
        state.unaware = unaware;
        if state.lost_at != *tenure.lost_at() {
            state.lost_at.clone_from(tenure.lost_at());
        }
        state.epoch_heard = roster.epoch_heard();
        state.joined = roster.is_joined();
        drop(state);
        self.changed.notify_all();
    }

    /// One heartbeat; returns when the broker has it.
    pub(super) fn beat(&self) -> Result<(), LogError> {
        let mut heart = self.heart.lock();
        let sent_at = self.clock.monotonic();
        heart.beat += 1;
        self.heard_at(&mut heart, sent_at)
    }

    /// Says between two heartbeats that a part changed. It repeats the number of the last one, because heartbeats are
    /// the others' measure of time.
    pub(super) fn announce(&self) -> Result<(), LogError> {
        let mut heart = self.heart.lock();
        let record = self.record(heart.beat, 0);
        self.append(&mut heart, Some(&record))
    }

    /// Waits for news until this monotonic time. True: there are, and whoever asked tells them.
    pub(super) fn await_news(&self, until: Duration) -> bool {
        let mut state = self.state.lock();
        let left = until.saturating_sub(self.clock.monotonic());
        let nothing = |state: &mut State| !state.has_news && !state.ended;
        self.changed.wait_while_for(&mut state, nothing, left);
        !state.ended && std::mem::take(&mut state.has_news)
    }

    /// Takes a member out of the topic that left no word.
    pub(super) fn bury(&self, instance: &str) -> Result<(), LogError> {
        self.heart.lock().appender.append(self.members(), &control::member_key(instance), None, BEAT_DEADLINE)
    }

    fn members(&self) -> TopicPartition {
        TopicPartition { topic: self.control, partition: control::MEMBER_PARTITION }
    }

    fn heard_at(&self, heart: &mut Heart, sent_at: Duration) -> Result<(), LogError> {
        let record = self.record(heart.beat, 0);
        {
            // Before it is sent: it may be read back before its acknowledgement comes.
            let mut state = self.state.lock();
            state.sent.push_back((heart.beat, sent_at));
            if state.sent.len() > SENT_KEPT {
                state.sent.pop_front();
            }
        }
        self.append(heart, Some(&record))
    }

    /// My heartbeat was read back, and nobody can have given me up before it. In an unbroken row each one keeps the
    /// instance current: from the moment at which it was sent nobody can call this instance gone before they have made
    /// almost as many beats of their own as that takes. After a gap it proves nothing, because it may have come too late:
    /// see [`Board::prove`]. The acknowledgement alone would not do: whoever does not read does not learn what it lost.
    pub(super) fn read_back(&self, beat: i64) {
        let mut state = self.state.lock();
        let sent_at = state.sent.iter().find(|(number, _)| *number == beat).map(|(_, sent_at)| *sent_at);
        if let Some(sent_at) = sent_at.filter(|sent_at| *sent_at < state.current_until) {
            state.current_until = state.current_until.max(sent_at + self.lease());
        }
    }

    /// Somebody may have given me up before my last heartbeat.
    pub(super) fn lapse(&self) {
        self.state.lock().current_until = Duration::ZERO;
    }

    /// After a gap: whoever decides has acted upon this heartbeat, and what was decided before has been read here.
    pub(super) fn prove(&self, beat: i64) {
        let mut state = self.state.lock();
        let sent_at = state.sent.iter().find(|(number, _)| *number == beat).map(|(_, sent_at)| *sent_at);
        let until = sent_at.map(|sent_at| sent_at + self.lease()).unwrap_or_default();
        state.current_until = state.current_until.max(until);
    }

    /// Heartbeats alone do not keep it current: there was a gap.
    pub(super) fn has_lapsed(&self) -> bool {
        self.clock.monotonic() >= self.state.lock().current_until
    }

    fn lease(&self) -> Duration {
        self.beat_interval * (SILENT_BEATS_MAX - 1)
    }

    /// The last word: gone for good, or back within so many beats of others.
    pub(super) fn leave(&self, grace_beats: i32) -> Result<(), LogError> {
        let mut heart = self.heart.lock();
        let record = (grace_beats > 0).then(|| self.record(heart.beat + 1, grace_beats));
        self.append(&mut heart, record.as_ref())
    }

    fn record(&self, beat: i64, grace_beats: i32) -> Member {
        let part =
            |(shard, (role, lag)): (&i32, &(ShardRole, i64))| MemberShard { shard: *shard, role: *role, lag: *lag };
        let (shards, stopped, seen, epoch) = {
            let state = self.state.lock();
            let stopped = state.stopped.iter().copied().collect();
            (state.parts.iter().map(part).collect(), stopped, state.acted_to, state.directory.epoch())
        };
        let (Identity { instance, incarnation, endpoint, rack }, layout) = (self.me.clone(), self.layout.number);
        Member { instance, incarnation, endpoint, rack, beat, grace_beats, seen, shards, stopped, layout, epoch }
    }

    fn append(&self, heart: &mut Heart, record: Option<&Member>) -> Result<(), LogError> {
        let at = self.members();
        let mut value = Vec::new();
        if let Some(record) = record {
            heart.encoder.encode(record, &mut value).map_err(|error| LogError::Refused(error.to_string()))?;
        }
        let value = record.map(|_| value.as_slice());
        heart.appender.append(at, &control::member_key(&self.me.instance), value, BEAT_DEADLINE)
    }
}

impl Board {
    fn role_in(&self, state: &State, shard: i32) -> Role {
        if state.shards_ended {
            return Role::Ended;
        }
        let me = &self.me.instance;
        // Shards of another layout are other shards.
        let ours = state.directory.assignment.as_ref().map(Layout::of_assignment) == Some(self.layout);
        match state.directory.owners(shard).filter(|_| ours && state.joined) {
            Some(owners) if owners.active == *me => Role::Active,
            Some(owners) if owners.warming == *me || owners.standbys.contains(me) => Role::Standby,
            _ => Role::Nothing,
        }
    }
}

impl Roles for Board {
    fn role(&self, shard: i32) -> Role {
        self.role_in(&self.state.lock(), shard)
    }

    fn wait_while(&self, shard: i32, role: Role, timeout: Duration) {
        let same = |state: &mut State| self.role_in(state, shard) == role;
        self.changed.wait_while_for(&mut self.state.lock(), same, timeout);
    }

    fn confirm(&self, shard: i32) -> Result<Option<i64>, String> {
        let end = (self.end_of_assignment)().map_err(|error| error.to_string())?;
        let mut state = self.state.lock();
        let behind = |state: &mut State| state.assignment_read_to < end && !state.shards_ended;
        if self.changed.wait_while_for(&mut state, behind, CONFIRM_TIMEOUT).timed_out() {
            return Err(format!("the assignment was read to {}, it ends at {end}", state.assignment_read_to));
        }
        let is_active = self.role_in(&state, shard) == Role::Active;
        Ok(is_active.then(|| state.directory.epoch()))
    }

    fn await_release(&self, shard: i32) -> Result<(), String> {
        let mut state = self.state.lock();
        let held = |state: &mut State| state.owned_elsewhere.contains(&shard) && !state.shards_ended;
        self.changed.wait_while_for(&mut state, held, RELEASE_TIMEOUT);
        let unaware = |state: &mut State| state.unaware.contains(&shard) && !state.shards_ended;
        if self.changed.wait_while_for(&mut state, unaware, AWARE_TIMEOUT).timed_out() {
            return Err("its earlier owner lives, and has not said that it knows".to_owned());
        }
        Ok(())
    }

    fn report(&self, shard: i32, part: Option<(ShardRole, i64)>) {
        let mut state = self.state.lock();
        let before = match part {
            Some(part) => state.parts.insert(shard, part),
            None => state.parts.remove(&shard),
        };
        let role = |part: Option<(ShardRole, i64)>| part.map(|(role, lag)| (role, lag < 0));
        if role(before) != role(part) {
            state.has_news = true;
            drop(state);
            self.changed.notify_all();
        }
    }

    fn give_up(&self, shard: i32) {
        let mut state = self.state.lock();
        state.parts.remove(&shard);
        state.stopped.insert(shard);
        state.has_news = true;
        drop(state);
        self.changed.notify_all();
    }

    fn settles(&self) -> bool {
        true
    }

    fn lost_at(&self, shard: i32) -> i64 {
        self.state.lock().lost_at.get(&shard).copied().unwrap_or(-1)
    }

    fn owner(&self, shard: i32) -> NotOwner {
        let state = self.state.lock();
        let member = state.directory.owners(shard).and_then(|owners| state.directory.members.get(&owners.active));
        let endpoint = member.map(|member| member.endpoint.clone()).unwrap_or_default();
        NotOwner { epoch: state.directory.epoch(), endpoint }
    }

    fn peers(&self, shard: i32) -> Vec<String> {
        peers::of(&self.state.lock().directory, &self.me.instance, shard)
    }

    fn is_current(&self) -> bool {
        let state = self.state.lock();
        // Somebody acts by a later assignment, which may have taken anything from me.
        let is_behind = state.epoch_heard > state.directory.epoch();
        let has_lease = self.clock.monotonic() < state.current_until;
        state.joined && state.directory.assignment.is_some() && has_lease && !is_behind
    }
}
