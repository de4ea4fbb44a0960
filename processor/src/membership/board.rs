//! What the membership knows, pinned up for the shards and the query service, and what they have to say for the next
//! heartbeat.
//!
//! The membership's thread writes what it read; shards read their roles and report their parts. A report that changes a
//! part goes out at once: whoever takes the shard over waits for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use schemas::Encoder;
use schemas::control::{self, Directory};
use schemas::query::NotOwner;
use schemas::records::{Member, MemberShard, ShardRole};

use super::role::{Role, Roles};
use super::roster::SILENT_BEATS_MAX;
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

#[derive(Default)]
struct State {
    directory: Directory,
    /// Next offset of the assignment's partition that was not read.
    assignment_read_to: i64,
    /// Shards that living others say they own.
    owned_elsewhere: BTreeSet<i32>,
    /// Next offset of the members' partition that was acted upon.
    acted_to: i64,
    joined: bool,
    shards_ended: bool,
    ended: bool,
    usurped: bool,
    refusal: Option<String>,
    parts: BTreeMap<i32, (ShardRole, i64)>,
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
        self.state.lock().usurped = true;
        self.end();
    }

    /// Whether somebody else goes on under this name.
    pub fn is_usurped(&self) -> bool {
        self.state.lock().usurped
    }

    /// The same, because the shards are of another layout than this instance.
    pub(super) fn end_refused(&self, reason: String) {
        self.state.lock().refusal = Some(reason);
        self.end();
    }

    /// Why this instance has nothing to do here.
    pub fn refusal(&self) -> Option<String> {
        self.state.lock().refusal.clone()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Pins up what was read.
    pub(super) fn publish(
        &self,
        directory: &Directory,
        (assignment_read_to, acted_to): (i64, i64),
        owned_elsewhere: BTreeSet<i32>,
        joined: bool,
    ) {
        let mut state = self.state.lock();
        if state.directory != *directory {
            state.directory.clone_from(directory);
        }
        state.assignment_read_to = assignment_read_to;
        state.acted_to = acted_to;
        state.owned_elsewhere = owned_elsewhere;
        state.joined = joined;
        drop(state);
        self.changed.notify_all();
    }

    /// One heartbeat; returns when the broker has it. In an unbroken row each one keeps the instance current: from the
    /// moment at which it was sent nobody can call this instance gone before they have made almost as many beats of
    /// their own as that takes. After a gap it proves nothing, because it may come too late: see [`Board::prove`].
    pub(super) fn beat(&self) -> Result<(), LogError> {
        let mut heart = self.heart.lock();
        let sent_at = self.clock.monotonic();
        heart.beat += 1;
        self.heard_at(&mut heart, sent_at)
    }

    /// Says between two heartbeats that a part changed. It repeats the number of the last one, because heartbeats are
    /// the others' measure of time.
    fn announce(&self) -> Result<(), LogError> {
        let mut heart = self.heart.lock();
        let record = self.record(heart.beat, 0);
        self.append(&mut heart, Some(&record))
    }

    fn heard_at(&self, heart: &mut Heart, sent_at: Duration) -> Result<(), LogError> {
        let record = self.record(heart.beat, 0);
        self.append(heart, Some(&record))?;
        let mut state = self.state.lock();
        if sent_at < state.current_until {
            state.current_until = sent_at + self.lease();
        }
        state.sent.push_back((heart.beat, sent_at));
        if state.sent.len() > SENT_KEPT {
            state.sent.pop_front();
        }
        Ok(())
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
        let (shards, seen) = {
            let state = self.state.lock();
            (state.parts.iter().map(part).collect(), state.acted_to)
        };
        let Identity { instance, incarnation, endpoint, rack } = self.me.clone();
        Member { instance, incarnation, endpoint, rack, beat, grace_beats, seen, shards }
    }

    fn append(&self, heart: &mut Heart, record: Option<&Member>) -> Result<(), LogError> {
        let at = TopicPartition { topic: self.control, partition: control::MEMBER_PARTITION };
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

    fn await_release(&self, shard: i32) {
        let held = |state: &mut State| state.owned_elsewhere.contains(&shard) && !state.shards_ended;
        self.changed.wait_while_for(&mut self.state.lock(), held, RELEASE_TIMEOUT);
    }

    fn report(&self, shard: i32, part: Option<(ShardRole, i64)>) {
        let before = {
            let mut state = self.state.lock();
            match part {
                Some(part) => state.parts.insert(shard, part),
                None => state.parts.remove(&shard),
            }
        };
        let role = |part: Option<(ShardRole, i64)>| part.map(|(role, lag)| (role, lag < 0));
        if role(before) != role(part)
            && !self.is_ended()
            && let Err(error) = self.announce()
        {
            // The next regular one says it too.
            tracing::debug!(shard, %error, "a change of role was not told at once");
        }
    }

    fn settles(&self) -> bool {
        true
    }

    fn owner(&self, shard: i32) -> NotOwner {
        let state = self.state.lock();
        let member = state.directory.owners(shard).and_then(|owners| state.directory.members.get(&owners.active));
        let endpoint = member.map(|member| member.endpoint.clone()).unwrap_or_default();
        NotOwner { epoch: state.directory.epoch(), endpoint }
    }

    fn is_current(&self) -> bool {
        let state = self.state.lock();
        state.joined && state.directory.assignment.is_some() && self.clock.monotonic() < state.current_until
    }
}
