//! Leading: deciding the assignment, and writing it under the leader's transactional id.
//!
//! ```text
//!  follower ──the leader is silent, and it is my turn──► taking ──initialised──► leading
//!     ▲                                                                            │
//!     └──────────────────────── fenced, or any unclear answer ────────────────────┘
//! ```
//! Whoever initialises last leads; Kafka fences the others. A new leader reads the assignment to its end after its
//! initialisation, so it goes on where the last one stopped, and it decides again only when it has read what it wrote.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use schemas::Encoder;
use schemas::control::{self, Directory};
use schemas::records::Assignment;

use super::assignment::{self, Rules};
use super::roster::Roster;
use crate::fault::Fault;
use crate::layout::Layout;
use crate::log::{Log, LogProducer, OutRecord, TopicId, TopicPartition};

/// Of the initialisation, which waits half a second when it meets an open transaction.
const INIT_DEADLINE: Duration = Duration::from_secs(10);
/// Of one commit. Afterwards somebody leads anew.
const COMMIT_DEADLINE: Duration = Duration::from_secs(2);
/// Own beats that each member waits longer than the one before it in the order of names.
const TURN_BEATS: u32 = 3;

/// What is decided about.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub control: TopicId,
    pub transactional_id: String,
    pub layout: Layout,
    pub rules: Rules,
}

enum State<L: Log> {
    Follower,
    Taking(Receiver<Result<L::Producer, Fault>>),
    Leading {
        producer: L::Producer,
        /// The assignment is decided upon only when it was read up to here.
        read_to: i64,
    },
}

/// See the module.
pub(super) struct Leader<L: Log> {
    log: Arc<L>,
    field: Field,
    me: (String, String),
    encoder: Encoder<Assignment>,
    state: State<L>,
    /// Own beats since nobody leads.
    leaderless_beats: u32,
}

impl<L: Log> Leader<L> {
    pub fn new(log: Arc<L>, field: Field, me: (String, String), encoder: Encoder<Assignment>) -> Leader<L> {
        Leader { log, field, me, encoder, state: State::Follower, leaderless_beats: 0 }
    }

    /// Whether it is I who decides.
    pub fn leads(&self) -> bool {
        matches!(self.state, State::Leading { .. })
    }

    /// One of my beats came back.
    pub fn beat(&mut self) {
        self.leaderless_beats = self.leaderless_beats.saturating_add(1);
    }

    /// Whether something comes that is not read from the log.
    pub fn is_taking(&self) -> bool {
        matches!(self.state, State::Taking(_))
    }

    /// Takes the lead when it is my turn; leads when I have it. `read_to`: how far the assignment was read.
    pub fn step(&mut self, directory: &Directory, roster: &Roster, read_to: i64) {
        if let State::Taking(initialised) = &self.state {
            match initialised.try_recv() {
                Err(TryRecvError::Empty) => {}
                Ok(Ok(producer)) => self.begin(producer),
                // The next attempt comes after the next look at the log.
                Ok(Err(fault)) => return self.resign(&fault.to_string()),
                Err(TryRecvError::Disconnected) => return self.resign("its thread ended"),
            }
        }
        let is_of_others = self.is_of_others(directory);
        match &mut self.state {
            State::Follower => {
                if self.is_my_turn(directory, roster) {
                    self.take();
                }
            }
            State::Taking(_) => {}
            State::Leading { read_to: wanted, .. } if read_to < *wanted => {}
            // Taken before it was read: who is alone takes the lead as soon as it sees itself among the members.
            State::Leading { .. } if is_of_others => self.resign("the shards are of another layout"),
            State::Leading { .. } => {
                if let Some(next) = self.decide(directory, roster)
                    && let Err(fault) = self.write(&next)
                {
                    self.resign(&fault.to_string());
                }
            }
        }
    }

    /// The first in the order of names begins at once, each further one a little later: two at once would only fence
    /// each other.
    fn is_my_turn(&mut self, directory: &Directory, roster: &Roster) -> bool {
        if !roster.is_joined() {
            return false;
        }
        let (me, _) = &self.me;
        if self.is_of_others(directory) {
            return false;
        }
        if let Some(assignment) = &directory.assignment {
            let (leader, life) = (&assignment.leader, &assignment.leader_incarnation);
            // It is me: then somebody fenced me, and has not said anything since.
            if leader == me && *life == self.me.1 {
                return self.leaderless_beats >= TURN_BEATS;
            }
            if leader != me && roster.lives(leader, life) && !roster.is_away(leader) {
                self.leaderless_beats = 0;
                return false;
            }
            // An earlier life of mine led.
            if leader == me {
                return true;
            }
        }
        let turn = roster.living().iter().position(|member| member.instance == *me).unwrap_or(0);
        self.leaderless_beats >= u32::try_from(turn).unwrap_or(u32::MAX).saturating_mul(TURN_BEATS)
    }

    /// The assignment is of another layout: not for me to decide about.
    fn is_of_others(&self, directory: &Directory) -> bool {
        let layout = directory.assignment.as_ref().map(Layout::of_assignment);
        layout.is_some_and(|layout| layout != self.field.layout)
    }

    /// On a thread of its own: heartbeats must go on meanwhile.
    fn take(&mut self) {
        self.leaderless_beats = 0;
        let (sender, receiver) = bounded(1);
        let (log, id) = (Arc::clone(&self.log), self.field.transactional_id.clone());
        let init = move || {
            // Whoever wanted it may have ended.
            let _ = sender.send(log.producer(&id, INIT_DEADLINE));
        };
        match std::thread::Builder::new().name("leader-init".to_owned()).spawn(init) {
            Ok(_) => self.state = State::Taking(receiver),
            Err(error) => self.resign(&error.to_string()),
        }
    }

    fn begin(&mut self, producer: L::Producer) {
        let at = self.at();
        match self.log.watermarks(at) {
            Ok(watermarks) => {
                tracing::info!(instance = self.me.0, "leads");
                self.state = State::Leading { producer, read_to: watermarks.high };
            }
            Err(error) => self.resign(&error.to_string()),
        }
    }

    fn resign(&mut self, reason: &str) {
        tracing::warn!(instance = self.me.0, reason, "does not lead");
        self.state = State::Follower;
        self.leaderless_beats = 0;
    }

    fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.field.control, partition: control::ASSIGNMENT_PARTITION }
    }

    /// `Some`: what is to be written, because it differs, or because I have not yet said that I lead.
    fn decide(&self, directory: &Directory, roster: &Roster) -> Option<Assignment> {
        let Field { layout: Layout { number: layout, shards }, rules, .. } = self.field;
        let previous = directory.assignment.as_ref();
        let before = previous.map_or(&[][..], |previous| &previous.shards);
        // Whoever died before I began must not be given shards: until that is found out I only say that I lead.
        let decided = if roster.is_settled() || before.is_empty() {
            assignment::next(before, shards, &roster.candidates(layout), rules)
        } else {
            before.to_vec()
        };
        let (leader, leader_incarnation) = self.me.clone();
        let known = previous
            .is_some_and(|previous| previous.leader == leader && previous.leader_incarnation == leader_incarnation);
        if known && decided == before {
            return None;
        }
        Some(Assignment { epoch: directory.epoch() + 1, layout, leader, leader_incarnation, shards: decided })
    }

    fn write(&mut self, next: &Assignment) -> Result<(), Fault> {
        let at = self.at();
        let State::Leading { producer, read_to } = &mut self.state else { return Ok(()) };
        let mut value = Vec::new();
        self.encoder.encode(next, &mut value).map_err(|error| Fault::Discard(error.to_string()))?;
        producer.begin()?;
        producer.send(OutRecord {
            topic: at.topic,
            partition: at.partition,
            key: Some(control::ASSIGNMENT_KEY),
            value: Some(&value),
            headers: &[],
        })?;
        producer.commit(COMMIT_DEADLINE)?;
        let written = producer.last_offset(at).ok_or_else(|| Fault::Discard("no offset was reported".to_owned()))?;
        *read_to = written + 1;
        tracing::info!(epoch = next.epoch, moves = moves(next), "assigned");
        metrics::counter!("kontor_assignments_total").increment(1);
        Ok(())
    }
}

/// Moves under way, for people.
fn moves(assignment: &Assignment) -> usize {
    assignment.shards.iter().filter(|owners| !owners.warming.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use schemas::records::ShardOwners;

    use super::*;
    use crate::log::Topics;
    use crate::log::memory::MemoryLog;
    use crate::testing::ManualClock;

    const ID: &str = "leader";

    /// One that leads, of a layout with so many shards, and its log.
    fn leading(shards: i32) -> (Leader<MemoryLog>, MemoryLog) {
        let mut topics = Topics::new(1);
        let control = topics.add("control");
        let log = MemoryLog::simulated(topics, ManualClock::shared(0));
        let layout = Layout { number: 1, shards };
        let field = Field { control, transactional_id: ID.to_owned(), layout, rules: Rules::default() };
        let me = ("a".to_owned(), "1".to_owned());
        let mut leader = Leader::new(Arc::new(log.clone()), field, me, Encoder::new(1));
        leader.begin(log.producer(ID, INIT_DEADLINE).unwrap());
        assert!(leader.leads());
        (leader, log)
    }

    /// What is read is the assignment of a layout with two shards. Gives the number of records written.
    fn step(leader: &mut Leader<MemoryLog>, log: &MemoryLog) -> usize {
        let owners = || ShardOwners { active: "b".to_owned(), ..ShardOwners::default() };
        let shards = vec![owners(), owners()];
        let assignment = Assignment { epoch: 1, layout: 1, leader: "b".to_owned(), shards, ..Assignment::default() };
        let directory = Directory { assignment: Some(assignment), ..Directory::default() };
        leader.step(&directory, &Roster::new("a", "1"), 0);
        log.read_committed(leader.at()).unwrap().len()
    }

    #[test]
    fn the_lead_is_given_back_when_the_assignment_is_of_another_layout() {
        let (mut leader, log) = leading(1);
        assert_eq!(step(&mut leader, &log), 0, "the assignment of others stays");
        assert!(!leader.leads());
        let (mut leader, log) = leading(2);
        assert_eq!(step(&mut leader, &log), 1, "who leads says so");
        assert!(leader.leads());
    }
}
