//! A shard: the tasks {p | p mod S = s}, one thread, one consumer, one transactional producer.
//!
//! ```text
//!  own() ──► step() ──► step() ──► …            poll, stage, commit, apply, release
//!    ▲          │
//!    │          ├─ discard / failed or corrupt store ──► own() again: init, restore, claim
//!    └──────────┤
//!               ├─ fenced ──► whose is it now? ours ──► own(), another's ──► let go and say so
//!               ├─ told to do something else ──► follow() as a standby, or rest
//!               └─ the end, or a record that must not be lost ──► stop
//! ```
//! The thread is synchronous and knows no tokio. It decides nothing about records (that is the application), knows no
//! bytes of the store (state-store) and no error codes (fault.rs).

mod interrupt;
mod parts;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use schemas::records::{self, ShardRole};

use crate::fault::LogError;
use crate::history::HistoryLoader;
use crate::log::{Log, LogConsumer, RecordBatch, TopicPartition};
use crate::membership::Role;
use crate::outbox::Outbox;
use crate::policy::CommitPolicy;
use crate::probe::Step;
use crate::query::view::{Life, News};
use crate::restore;
use crate::stage::{Blocked, text_of};
use crate::task::Task;
use crate::topology::{Application, Definition};
use crate::transaction::Transaction;

pub use interrupt::{Exit, Interrupt};
pub(crate) use interrupt::{interrupt_of, interrupt_of_process, interrupt_of_store};
pub use parts::{Codecs, ShardOptions, ShardParts, Stores};

/// Longest wait for something to do.
const REST: Duration = Duration::from_secs(1);

/// Positions that did not change are mirrored again after this time; the broker forgets them after a week.
const MIRROR_AGAIN: Duration = Duration::from_secs(3600);

/// What a shard holds only while it owns its partitions.
pub(crate) struct Owned<L: Log> {
    /// Epoch under which it was claimed.
    pub epoch: i64,
    pub transaction: Transaction<L::Producer>,
    pub history: Option<HistoryLoader<L>>,
}

/// See the module.
pub struct Shard<L: Log, A: Application> {
    pub(crate) parts: ShardParts<L, A>,
    pub(crate) consumer: Option<L::Consumer>,
    /// The consumer was left reading every changelog from where the stores stand, with nothing staged.
    pub(crate) tails: bool,
    pub(crate) tasks: Vec<Task>,
    pub(crate) owned: Option<Owned<L>>,
    pub(crate) blocked: Vec<Blocked>,
    pub(crate) outbox: Outbox,
    pub(crate) polled: RecordBatch,
    policy: CommitPolicy,
    mirrored_at: Duration,
    /// The positions that were mirrored last, and when.
    mirrored: (Vec<(TopicPartition, i64)>, Duration),
    waiting: bool,
    checked_at: Duration,
    affirmed_at: Duration,
    /// The claim in the changelog when this shard was initialised last, until ours has replaced it.
    pub(crate) claim_found: Option<records::Owner>,
    /// Partitions whose store was wiped in this life: a second time is a stop, not a loop.
    pub(crate) wiped: Vec<i32>,
}

impl<L: Log, A: Application> Shard<L, A> {
    /// A shard that owns nothing yet.
    pub fn new(parts: ShardParts<L, A>) -> Shard<L, A> {
        Shard {
            parts,
            consumer: None,
            tails: false,
            tasks: Vec::new(),
            owned: None,
            blocked: Vec::new(),
            outbox: Outbox::default(),
            polled: RecordBatch::default(),
            policy: CommitPolicy::default(),
            mirrored_at: Duration::ZERO,
            mirrored: (Vec::new(), Duration::ZERO),
            waiting: false,
            checked_at: Duration::ZERO,
            affirmed_at: Duration::ZERO,
            claim_found: None,
            wiped: Vec::new(),
        }
    }

    /// The thread: owns and steps until something ends it.
    pub fn run(&mut self) -> Exit {
        // A panic outside of a record (in housekeeping, in a fold) must not leave a dead thread that looks alive.
        let exit = catch_unwind(AssertUnwindSafe(|| self.run_until_exit())).unwrap_or_else(|panic| {
            self.disown();
            Exit::Stopped(text_of(&*panic))
        });
        self.leave(&exit);
        exit
    }

    fn run_until_exit(&mut self) -> Exit {
        loop {
            let went = match self.parts.roles.role(self.parts.id) {
                Role::Ended => return Exit::Shutdown,
                Role::Active => self.own().and_then(|()| Err(self.serve())),
                Role::Standby => self.follow(),
                Role::Nothing => self.rest(),
            };
            if let Err(interrupt) = went
                && let Some(exit) = self.recover(interrupt)
            {
                return exit;
            }
        }
    }

    /// Nothing to do here, until there is.
    fn rest(&mut self) -> Result<(), Interrupt> {
        // Before the instance knows what is decided it has nothing to say.
        if self.parts.roles.is_current() {
            self.close(&Life::Elsewhere);
            // What may go wrong once, may do so once in each turn.
            self.wiped.clear();
            self.parts.roles.report(self.parts.id, None);
        }
        self.parts.roles.wait_while(self.parts.id, Role::Nothing, REST);
        Ok(())
    }

    fn serve(&mut self) -> Interrupt {
        loop {
            if let Err(interrupt) = self.step() {
                return interrupt;
            }
        }
    }

    /// Decides how to go on after an interrupt; `Some` ends the shard.
    pub fn recover(&mut self, interrupt: Interrupt) -> Option<Exit> {
        let timed_out = self.owned.as_ref().is_none_or(|owned| owned.transaction.may_have_timed_out());
        self.disown();
        let shard = self.parts.id;
        match interrupt {
            // Before anybody else is told that the shard is free, nothing here answers for it any more.
            Interrupt::Released => self.set_life(|task| Life::Standby(Arc::clone(&task.store))),
            Interrupt::Stop(reason) => return Some(Exit::Stopped(reason)),
            Interrupt::Fenced(reason) => {
                metrics::counter!("kontor_transactions_total", "outcome" => "fenced").increment(1);
                self.set_life(|task| Life::Waiting(Arc::clone(&task.store), format!("fenced: {reason}")));
                if self.parts.roles.settles() {
                    // The assignment says whose the shard is, and `own` reads it to its end before it fences anybody.
                    tracing::warn!(shard, reason, "fenced; reading the assignment");
                    self.parts.clock.pause(self.parts.options.retry_pause);
                    return None;
                }
                tracing::warn!(shard, reason, "fenced; reading the claim");
                let patience = if timed_out { Duration::ZERO } else { self.parts.options.claim_patience };
                match self.await_claim(patience) {
                    Ok(Some(other)) => return Some(Exit::NotOwner(other)),
                    Ok(None) => tracing::info!(shard, "the claim is still ours; initialising again"),
                    Err(Interrupt::Released) => {}
                    Err(Interrupt::Stop(reason)) => return Some(Exit::Stopped(reason)),
                    Err(interrupt) => {
                        tracing::warn!(shard, ?interrupt, "the claim could not be read; initialising again");
                        self.set_life(|task| Life::Waiting(Arc::clone(&task.store), format!("fenced: {reason}")));
                    }
                }
            }
            Interrupt::Retake(reason) => {
                tracing::warn!(shard, reason, "initialising again");
                metrics::counter!("kontor_transactions_total", "outcome" => "discarded").increment(1);
                self.set_life(|task| Life::Waiting(Arc::clone(&task.store), reason.clone()));
                self.parts.clock.pause(self.parts.options.retry_pause);
            }
            Interrupt::Reopen { partition, reason } => {
                tracing::warn!(shard, partition, reason, "a store failed; opening the stores anew");
                metrics::counter!("kontor_transactions_total", "outcome" => "discarded").increment(1);
                self.let_go_of_stores(&Life::Stalled(reason));
                self.parts.clock.pause(self.parts.options.retry_pause);
            }
            Interrupt::Corrupt { partition, reason } => {
                if let Err(reason) = self.wipe(partition, &reason) {
                    return Some(Exit::Stopped(reason));
                }
            }
        }
        None
    }

    /// One round: wait for records, run them. Returns when the input was drained or a transaction committed.
    pub fn step(&mut self) -> Result<(), Interrupt> {
        self.parts.still(Role::Active)?;
        if self.was_lost() {
            return Err(Interrupt::Retake("the shard was another's meanwhile".to_owned()));
        }
        self.trouble_met()?;
        self.retry_blocked()?;
        if let Some(history) = self.owned.as_mut().and_then(|owned| owned.history.as_mut()) {
            history.step(&self.parts);
        }
        self.polled.clear();
        self.poll(self.parts.options.idle_poll)?;
        if self.polled.is_empty() {
            self.idle();
            return self.affirm_stores();
        }
        let hold = self.policy.hold(self.polled.len(), self.parts.options.records_max);
        if !hold.is_zero() {
            self.parts.clock.pause(hold);
            self.poll(Duration::ZERO)?;
        }
        // A crash here loses nothing: what was polled is polled again from the committed position.
        self.parts.probe.reached(Step::AfterPoll);
        let polled = std::mem::take(&mut self.polled);
        let outcome = self.run_records(&polled);
        self.polled = polled;
        outcome?;
        self.mirror_positions();
        self.affirm_stores()
    }

    /// Commits what is staged: THE commit path. Each step says what a crash there leaves behind.
    pub(crate) fn commit_staged(&mut self) -> Result<(), Interrupt> {
        self.stage_outputs()?;
        // Nothing but memory so far: a crash here leaves no trace.
        self.parts.probe.reached(Step::AfterStage);

        let Some(owned) = &mut self.owned else {
            return Err(Interrupt::Retake("nothing is owned".to_owned()));
        };
        // Events first, then the changelog with the Position as its last record: who sees the Position sees all.
        // A crash inside leaves an open transaction, invisible to read_committed readers; the next init aborts it. If
        // the commit had reached the broker, the next owner finds the Position in the changelog.
        let cost = owned.transaction.commit(&self.outbox, &self.parts.probe).map_err(interrupt_of)?;
        // A crash here, or in the batch: the log has it, the store does not; the restore applies the changelog's tail.
        self.parts.probe.reached(Step::AfterCommit);

        let applied = self.apply_committed()?;
        // Rows, positions and sequence are in the store: a crash here loses only answers that nobody got; their
        // callers ask again by id.
        for (partition, news) in applied {
            let commit_sequence = self.tasks[self.task_index(partition)].committed.commit_sequence;
            self.parts.views[partition as usize].publish(commit_sequence, news);
        }
        self.parts.probe.reached(Step::AfterReply);
        self.policy.committed(self.parts.clock.monotonic(), cost);
        metrics::counter!("kontor_transactions_total", "outcome" => "committed").increment(1);
        metrics::counter!("kontor_records_produced_total").increment(self.outbox.len() as u64);
        metrics::histogram!("kontor_commit_duration_seconds").record(cost.as_secs_f64());
        self.outbox.clear();
        Ok(())
    }

    fn apply_committed(&mut self) -> Result<Vec<(i32, News)>, Interrupt> {
        let Some(owned) = &self.owned else { return Ok(Vec::new()) };
        let definition = self.parts.application.definition();
        let written_at_ms = self.parts.clock.wall_ms();
        let mut applied = Vec::new();
        for task in self.tasks.iter_mut().filter(|task| task.touched) {
            let partition = task.partition;
            let last = |topic| owned.transaction.last_offset(TopicPartition { topic, partition });
            let Some(position) = last(definition.changelog) else {
                return Err(Interrupt::Retake(format!(
                    "no offset was reported for the position of partition {partition}"
                )));
            };
            let event_offset: BTreeMap<String, i64> = definition
                .events
                .iter()
                .filter(|events| {
                    owned.history.as_ref().is_some_and(|history| history.is_complete(events.topic, partition))
                })
                .filter_map(|events| Some((definition.topics.name(events.topic).to_owned(), last(events.topic)? + 1)))
                .collect();
            let news = task
                .apply(definition, position + 1, event_offset, written_at_ms)
                .map_err(|error| interrupt_of_store(partition, error))?;
            applied.push((partition, news));
            self.parts.probe.reached(Step::AfterBatch);
        }
        Ok(applied)
    }

    fn poll(&mut self, timeout: Duration) -> Result<(), Interrupt> {
        let Some(consumer) = &mut self.consumer else {
            return Err(Interrupt::Retake("no consumer".to_owned()));
        };
        let options = &self.parts.options;
        let room = options.records_max.saturating_sub(self.polled.len());
        match consumer.poll(&mut self.polled, room, options.poll_bytes_max, timeout) {
            Ok(()) => {
                // The time first: what is found out after it was true at it.
                let now = self.parts.clock.monotonic();
                if !self.waiting && self.parts.roles.is_current() && !self.was_lost() {
                    self.tasks.iter().for_each(|task| task.view.synced(now));
                }
                Ok(())
            }
            Err(LogError::Unavailable(reason)) => {
                // The client library reconnects by itself; committed rows may be read meanwhile, and are called old.
                if !self.waiting {
                    tracing::warn!(shard = self.parts.id, reason, "broker is not available");
                    self.waiting = true;
                    self.set_life(|task| Life::Waiting(Arc::clone(&task.store), reason.clone()));
                }
                Ok(())
            }
            Err(LogError::Refused(reason)) => Err(Interrupt::Retake(reason)),
            Err(lost @ LogError::OffsetLost { .. }) => Err(Interrupt::Stop(format!(
                "{lost}; records were deleted before they were processed. Restore the topic, or set the position by hand"
            ))),
        }
    }

    /// True: another owned the shard since it was claimed here, whoever it is given to now. Only a thread that stood still
    /// for long finds that.
    fn was_lost(&self) -> bool {
        self.owned.as_ref().is_some_and(|owned| self.parts.roles.lost_at(self.parts.id) >= owned.epoch)
    }

    fn idle(&mut self) {
        if self.waiting {
            let now = self.parts.clock.monotonic();
            if now.saturating_sub(self.checked_at) >= self.parts.options.retry_pause {
                self.checked_at = now;
                let topic = self.parts.application.definition().changelog;
                let at = self.tasks.first().map(|task| TopicPartition { topic, partition: task.partition });
                if at.is_some_and(|at| self.parts.log.watermarks(at).is_ok()) {
                    self.resume_life();
                }
            }
        }
        self.mirror_positions();
    }

    /// Says that commands run (again).
    pub(crate) fn resume_life(&mut self) {
        self.waiting = false;
        self.parts.roles.report(self.parts.id, Some((ShardRole::Active, 0)));
        self.set_life(|task| Life::Running(Arc::clone(&task.store)));
    }

    pub(crate) fn set_life(&self, life: impl Fn(&Task) -> Life) {
        for task in &self.tasks {
            task.view.set_life(life(task));
        }
    }

    /// What readers and the history's thread have met of the stores: some tables are only written here.
    pub(crate) fn trouble_met(&self) -> Result<(), Interrupt> {
        let met = |task: &Task| task.view.take_trouble().map(|error| interrupt_of_store(task.partition, error));
        self.tasks.iter().find_map(met).map_or(Ok(()), Err)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// See [`restore::affirm`]; of an owner and of a standby.
    pub(crate) fn affirm_stores(&mut self) -> Result<(), Interrupt> {
        let now = self.parts.clock.monotonic();
        if self.waiting || now.saturating_sub(self.affirmed_at) < restore::affirm_interval(self.definition()) {
            return Ok(());
        }
        self.affirmed_at = now;
        self.tasks.iter().try_for_each(|task| restore::affirm(&self.parts, task))
    }

    fn mirror_positions(&mut self) {
        let now = self.parts.clock.monotonic();
        if now.saturating_sub(self.mirrored_at) < self.parts.options.mirror_interval {
            return;
        }
        self.mirrored_at = now;
        let positions = self.input_positions();
        let (mirrored, at) = &self.mirrored;
        // Each costs the broker a record: an idle shard mirrors only so that its positions are not forgotten.
        if positions == *mirrored && now.saturating_sub(*at) < MIRROR_AGAIN {
            return;
        }
        if let Some(consumer) = &mut self.consumer {
            consumer.mirror(&positions);
        }
        self.mirrored = (positions, now);
    }

    pub(crate) fn input_positions(&self) -> Vec<(TopicPartition, i64)> {
        let inputs = &self.parts.application.definition().inputs;
        let of_task = |task: &Task| {
            let partition = task.partition;
            let offsets = inputs.iter().zip(task.committed.next_offset.clone());
            offsets
                .filter(|(_, offset)| *offset >= 0)
                .map(move |(input, offset)| (TopicPartition { topic: input.topic, partition }, offset))
                .collect::<Vec<_>>()
        };
        self.tasks.iter().flat_map(of_task).collect()
    }

    pub(crate) fn definition(&self) -> &Definition {
        self.parts.application.definition()
    }

    /// Partitions of a shard are s, s + S, s + 2S, …: the index among its tasks needs no search.
    pub(crate) fn task_index(&self, partition: i32) -> usize {
        (partition / self.definition().shards) as usize
    }

    /// Stores are closed when the last reader lets go; queries hold them for one call.
    pub(crate) fn let_go_of_stores(&mut self, life: &Life) {
        self.tails = false;
        self.set_life(|_| life.clone());
        for task in self.tasks.drain(..) {
            // Whatever was met was in this one.
            task.view.take_trouble();
        }
    }

    fn disown(&mut self) {
        self.owned = None;
        self.outbox.clear();
        for task in &mut self.tasks {
            task.discard_staged();
        }
    }

    fn leave(&mut self, exit: &Exit) {
        let positions = self.input_positions();
        if let Some(consumer) = &mut self.consumer {
            consumer.mirror(&positions);
        }
        self.close(&Life::Stopped(match exit {
            Exit::Shutdown => "shut down".to_owned(),
            Exit::NotOwner(other) => format!("owned by {other}"),
            Exit::Stopped(reason) => reason.clone(),
        }));
        match exit {
            Exit::Stopped(_) => self.parts.roles.give_up(self.parts.id),
            Exit::Shutdown | Exit::NotOwner(_) => self.parts.roles.report(self.parts.id, None),
        }
    }

    /// Lets go of consumer and stores.
    fn close(&mut self, life: &Life) {
        (self.consumer, self.tails) = (None, false);
        for partition in self.definition().partitions_of(self.parts.id) {
            self.parts.views[partition as usize].set_life(life.clone());
        }
        for task in self.tasks.drain(..) {
            if let Err(error) = task.store.flush() {
                tracing::warn!(partition = task.partition, %error, "store was not flushed; the changelog has what is missing");
            }
        }
    }
}
