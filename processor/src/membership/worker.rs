//! The membership's two threads: one beats, and waits for nothing else; the other reads, and leads when it is its turn.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use schemas::control::{self, Change, ControlError, Directory};
use schemas::records::{Assignment, Member, ShardRole};
use schemas::{Encoder, SchemaCache};

use super::assignment::Rules;
use super::board::{Board, Failure, Identity};
use super::former::Former;
use super::leader::{Field, Leader};
use super::roster::Roster;
use super::tenure::Tenure;
use crate::clock::{Clock, SharedClock};
use crate::fault::LogError;
use crate::layout::{self, Layout};
use crate::log::{Log, LogAppender, LogConsumer, Record, RecordBatch, TopicId, TopicPartition};

/// Between two heartbeats, from the acknowledgement of the one to the next.
const BEAT_INTERVAL: Duration = Duration::from_millis(100);
/// Records and bytes of one poll.
const POLL_RECORDS: usize = 10_000;
const POLL_BYTES: usize = 1 << 20;
/// Wait of one poll while this instance takes the lead: partitions without an owner wait for it.
const TAKING_POLL: Duration = Duration::from_millis(5);
/// Own heartbeats that are remembered.
const OWN_KEPT: usize = 16;
/// Wait after a failed attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// What a membership is about.
#[derive(Clone, Debug)]
pub struct MembershipOptions {
    /// The control topic.
    pub control: TopicId,
    /// First part of the leader's transactional id.
    pub application: String,
    /// Layout of the shards.
    pub layout: Layout,
    /// Name of this instance.
    pub instance: String,
    /// This life of it; a later one is greater.
    pub incarnation: String,
    /// Where its query service is reached, `http://host:port`.
    pub endpoint: String,
    /// Failure domain; empty: none.
    pub rack: String,
    /// What an assignment aims at.
    pub rules: Rules,
    /// For how long this instance keeps its shards when it ends; zero: it gives them away at once.
    pub grace: Duration,
}

/// A running membership of one instance.
pub struct Membership {
    board: Arc<Board>,
    threads: Vec<std::thread::JoinHandle<()>>,
    grace: Duration,
}

impl Membership {
    /// Joins: the first heartbeat goes out, and the thread begins to read.
    pub fn start<L: Log>(
        log: &Arc<L>,
        clock: &SharedClock,
        schemas: &SchemaCache,
        (member, assignment): (Encoder<Member>, Encoder<Assignment>),
        options: MembershipOptions,
    ) -> Result<Membership, LogError> {
        let me = Identity {
            instance: options.instance.clone(),
            incarnation: options.incarnation.clone(),
            endpoint: options.endpoint.clone(),
            rack: options.rack.clone(),
        };
        let appender: Box<dyn LogAppender> = Box::new(log.appender("heartbeats")?);
        let at = TopicPartition { topic: options.control, partition: control::ASSIGNMENT_PARTITION };
        let ends = Arc::clone(log);
        let end_of_assignment = Box::new(move || ends.watermarks(at).map(|watermarks| watermarks.high));
        let heart = (appender, member);
        let board = Board::new(
            (me, options.layout),
            options.control,
            Arc::clone(clock),
            BEAT_INTERVAL,
            heart,
            end_of_assignment,
        );
        let board = Arc::new(board);
        let grace = options.grace;
        let mut worker = Worker {
            log: Arc::clone(log),
            clock: Arc::clone(clock),
            schemas: schemas.clone(),
            board: Arc::clone(&board),
            roster: Roster::new(&options.instance, &options.incarnation),
            directory: Directory::default(),
            former: Former::default(),
            tenure: Tenure::default(),
            leader: Leader::new(
                Arc::clone(log),
                Field {
                    control: options.control,
                    transactional_id: format!("{}.leader", options.application),
                    layout: options.layout,
                    rules: options.rules,
                },
                (options.instance.clone(), options.incarnation.clone()),
                assignment,
            ),
            consumer: None,
            polled: RecordBatch::default(),
            unread: None,
            read_to: [0; 2],
            proof: Proof::default(),
            options,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|error| LogError::Refused(format!("thread: {error}")))
        };
        let (beating, beats_on) = (Arc::clone(&board), Arc::clone(clock));
        let beats = spawn("heartbeats", Box::new(move || beat(&beating, &*beats_on)))?;
        let reading = Arc::clone(&board);
        let read = move || {
            // Without a reader nobody here learns of anything any more, while the heartbeats say that all is well.
            if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                reading.end_failed();
            }
        };
        let reads = spawn("membership", Box::new(read))?;
        Ok(Membership { board, threads: vec![beats, reads], grace })
    }

    /// What it knows.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Says goodbye; call it when no shard runs any more. Blocks for a moment.
    pub fn leave(mut self) {
        self.end();
        // Somebody else goes on under this name.
        if self.board.failure() == Some(Failure::Usurped) {
            return;
        }
        if let Err(error) = self.board.leave(grace_beats(self.grace)) {
            tracing::warn!(%error, "could not say goodbye: the others find out by themselves");
        }
    }

    /// Falls silent without a word.
    pub(super) fn end(&mut self) {
        self.board.end();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the membership panicked");
            }
        }
    }
}

/// Beats until the membership ends, and says between two beats what cannot wait for the next one.
fn beat(board: &Board, clock: &dyn Clock) {
    let mut silent = false;
    while !board.is_ended() {
        match board.beat() {
            Ok(()) if silent => {
                silent = false;
                tracing::info!("heartbeats are written again");
            }
            Ok(()) => {}
            Err(error) if !silent => {
                silent = true;
                tracing::warn!(%error, "a heartbeat was not written");
            }
            Err(_) => {}
        }
        let next_at = clock.monotonic() + BEAT_INTERVAL;
        while board.await_news(next_at) {
            if let Err(error) = board.announce() {
                // The next heartbeat says it too.
                tracing::debug!(%error, "a change of role was not told at once");
            }
        }
    }
}

/// Others count time in beats of their own.
fn grace_beats(grace: Duration) -> i32 {
    i32::try_from(grace.as_millis() / BEAT_INTERVAL.as_millis()).unwrap_or(i32::MAX)
}

/// How far it is with showing that it was not given up.
#[derive(Default)]
struct Proof {
    /// The last own heartbeats that were read back, and where they lie.
    own: VecDeque<(i64, i64)>,
    /// An own heartbeat that the leader has acted upon.
    acknowledged: Option<i64>,
    /// The same, and the end of the assignment at that time.
    pending: Option<(i64, i64)>,
}

/// A control record that waits for its schema.
struct Unread {
    offset: i64,
    key: Vec<u8>,
    value: Vec<u8>,
}

struct Worker<L: Log> {
    log: Arc<L>,
    clock: SharedClock,
    schemas: SchemaCache,
    board: Arc<Board>,
    roster: Roster,
    directory: Directory,
    former: Former,
    tenure: Tenure,
    leader: Leader<L>,
    consumer: Option<L::Consumer>,
    polled: RecordBatch,
    /// An assignment whose schema is not known yet.
    unread: Option<Unread>,
    /// Next offset of each partition, for a reader that begins anew.
    read_to: [i64; 2],
    proof: Proof,
    options: MembershipOptions,
}

impl<L: Log> Worker<L> {
    fn run(&mut self) {
        while !self.board.is_ended() {
            if let Err(error) = self.read() {
                tracing::warn!(%error, "the control topic cannot be read; trying again");
                self.consumer = None;
                self.clock.pause(PAUSE);
            }
            if let Some(other) = self.roster.usurper() {
                let instance = &self.options.instance;
                tracing::error!(instance, other, "a later process uses this name: this one ends; give each its own");
                self.board.end_usurped();
                return;
            }
            if let Some(reason) = self.refusal() {
                tracing::error!(instance = self.options.instance, reason, "this process ends");
                self.board.end_refused(reason);
                return;
            }
        }
    }

    /// Reads what came, and acts upon it.
    fn read(&mut self) -> Result<(), LogError> {
        if self.consumer.is_none() {
            self.open()?;
        }
        let [assignment, members] = control::PARTS.map(|partition| self.at(partition));
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        self.polled.clear();
        let wait = if self.leader.is_taking() { TAKING_POLL } else { BEAT_INTERVAL };
        consumer.poll(&mut self.polled, POLL_RECORDS, POLL_BYTES, wait)?;
        // Before it passed anything it stands where it began.
        self.read_to[0] = consumer.position(assignment)?.unwrap_or(0).max(self.read_to[0]);
        self.read_to[1] = consumer.position(members)?.unwrap_or(0).max(self.read_to[1]);
        let polled = std::mem::take(&mut self.polled);
        for record in polled.iter() {
            self.fold(&record);
        }
        self.polled = polled;
        self.read_again();
        // What nobody here understands yet counts as not read: no shard begins on what was decided before it.
        let read_to = self.unread.as_ref().map_or(self.read_to[0], |unread| unread.offset);
        self.leader.step(&self.directory, &self.roster, read_to);
        let acted_to = self.read_to[1];
        self.prove(read_to)?;
        let held = (self.owned_elsewhere(), self.former.unaware(&self.roster, &self.options.instance));
        self.board.publish(&self.directory, (read_to, acted_to), held, &self.tenure, &self.roster);
        Ok(())
    }

    /// Why an instance with this layout has nothing to do here: as the assignment says it at its end, because what it
    /// said before may be of earlier layouts.
    fn refusal(&self) -> Option<String> {
        let assignment = self.directory.assignment.as_ref()?;
        let reason = layout::permit(Layout::of_assignment(assignment), self.options.layout).err()?;
        let end = self.log.watermarks(self.at(control::ASSIGNMENT_PARTITION)).ok()?.high;
        (self.unread.is_none() && self.read_to[0] >= end).then_some(reason)
    }

    /// After a gap in its heartbeats an instance may have been given up without knowing it. It is current again when the
    /// leader says that it has acted upon one of its heartbeats (so whatever it decided without that one is written), and
    /// when what is written by then has been read.
    fn prove(&mut self, read_to: i64) -> Result<(), LogError> {
        if !self.board.has_lapsed() {
            (self.proof.acknowledged, self.proof.pending) = (None, None);
            return Ok(());
        }
        if let Some(beat) = self.proof.acknowledged.take() {
            let end = self.log.watermarks(self.at(control::ASSIGNMENT_PARTITION))?.high;
            self.proof.pending = Some((beat, end));
        }
        if let Some((beat, end)) = self.proof.pending
            && read_to >= end
        {
            self.proof.pending = None;
            self.board.prove(beat);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), LogError> {
        let mut starts = Vec::new();
        for (index, partition) in control::PARTS.into_iter().enumerate() {
            let at = self.at(partition);
            // Not from the beginning again: heartbeats of long ago would be taken for time that passes.
            self.read_to[index] = self.read_to[index].max(self.log.watermarks(at)?.low);
            starts.push((at, self.read_to[index]));
        }
        let mut consumer = self.log.consumer("control")?;
        consumer.assign(&starts)?;
        self.consumer = Some(consumer);
        Ok(())
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.options.control, partition }
    }

    fn fold(&mut self, record: &Record<'_>) {
        match self.directory.apply(&self.schemas, record.partition, record.key, record.value) {
            Ok(change) => {
                if record.partition == control::ASSIGNMENT_PARTITION {
                    self.unread = None;
                }
                self.changed(change, record.offset);
            }
            // Written by a later version. Heartbeats of all the others must be read meanwhile.
            Err(ControlError::Wait(_)) => match (record.partition, record.key, record.value) {
                (control::ASSIGNMENT_PARTITION, Some(key), Some(value)) => {
                    let (key, value) = (key.to_vec(), value.to_vec());
                    self.unread = Some(Unread { offset: record.offset, key, value });
                }
                (_, Some(key), _) => {
                    if let Some(name) = control::member_of(key) {
                        self.roster.beat_unread(name);
                    }
                }
                _ => {}
            },
            Err(error) => tracing::error!(%error, "a control record is skipped"),
        }
    }

    /// The assignment that waits for its schema, once more.
    fn read_again(&mut self) {
        let Some(unread) = self.unread.take() else { return };
        let at = (control::ASSIGNMENT_PARTITION, Some(unread.key.as_slice()), Some(unread.value.as_slice()));
        match self.directory.apply(&self.schemas, at.0, at.1, at.2) {
            Ok(change) => self.changed(change, unread.offset),
            Err(ControlError::Wait(_)) => self.unread = Some(unread),
            Err(error) => tracing::error!(%error, "an assignment is skipped"),
        }
    }

    fn changed(&mut self, change: Change, offset: i64) {
        match change {
            Change::Beat(name) => self.heard(&name, offset),
            Change::Left(name) => self.roster.leave(&name),
            Change::Assigned => {
                if let Some(assignment) = &self.directory.assignment {
                    self.former.assigned(assignment);
                    self.tenure.assigned(assignment, &self.options.instance);
                }
                // My own word: every earlier leader was fenced before it.
                if self.is_led_by(&self.options.instance) {
                    self.proof.acknowledged = self.proof.own.back().map(|(beat, _)| *beat);
                }
            }
            Change::Nothing => {}
        }
    }

    fn heard(&mut self, name: &str, offset: i64) {
        let Some(member) = self.directory.members.get(name) else { return };
        self.roster.beat(member);
        if self.is_led_by(name) {
            let acted_upon = self.proof.own.iter().rev().find(|(_, own)| *own < member.seen);
            self.proof.acknowledged = acted_upon.map(|(beat, _)| *beat).or(self.proof.acknowledged);
        }
        let own = member.instance == self.options.instance && member.incarnation == self.options.incarnation;
        // The same number again: a part changed, no time has passed.
        if own && self.proof.own.back().is_none_or(|(beat, _)| *beat < member.beat) {
            if self.roster.has_overslept() {
                self.board.lapse();
            } else {
                self.board.read_back(member.beat);
            }
            self.proof.own.push_back((member.beat, offset));
            if self.proof.own.len() > OWN_KEPT {
                self.proof.own.pop_front();
            }
            self.leader.beat();
            self.bury_the_forgotten();
        }
    }

    /// Who died without a goodbye long ago leaves the topic, or every reader to come would take its record for news.
    fn bury_the_forgotten(&self) {
        if !self.leader.leads() {
            return;
        }
        for name in self.roster.forgotten() {
            match self.board.bury(&name) {
                Ok(()) => tracing::info!(instance = name, "forgotten: it died without a goodbye"),
                Err(error) => tracing::debug!(instance = name, %error, "is forgotten later"),
            }
        }
    }

    /// Whether this life of a member leads, as far as the assignment tells.
    fn is_led_by(&self, name: &str) -> bool {
        let (Some(assignment), Some(member)) = (&self.directory.assignment, self.directory.members.get(name)) else {
            return false;
        };
        assignment.leader == name && assignment.leader_incarnation == member.incarnation
    }

    fn owned_elsewhere(&self) -> BTreeSet<i32> {
        let others = self.roster.living().into_iter().filter(|member| member.instance != self.options.instance);
        let parts = others.flat_map(|member| &member.shards);
        parts.filter(|part| part.role == ShardRole::Active).map(|part| part.shard).collect()
    }
}
