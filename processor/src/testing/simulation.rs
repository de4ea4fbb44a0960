//! The scheduler of a simulation: one seed decides who runs next and what breaks.
//!
//! Workers are real shards ([`crate::shard::Shard`]); the log, the stores and the clock are in memory. One thread, so
//! the same seed, conditions and input give the same trace. A worker dies at any step of the commit path and at any
//! call on the log or on a store; its disk stays, or is lost. Two workers may believe that they own a shard.
//!
//! Rules that hold for every topology are checked here (`rules.rs`); what its records mean is checked by its own test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::Encoder;
use state_store::TableId;

use super::conditions::Conditions;
use super::disk::Disk;
use super::expected;
use super::worker::{Round, Surroundings, Worker};
use super::{ManualClock, rules};
use crate::layout::{Change, ChangeError, Site};
use crate::log::TopicPartition;
use crate::log::memory::{Chance, MemoryLog, Tombstones};
use crate::shard::{Codecs, ShardOptions};
use crate::topology::Application;

/// Where the clock stands at first, milliseconds since 1970.
const ORIGIN_MS: i64 = 1_700_000_000_000;
/// Age at which the log aborts a transaction.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A worker that dies later does so within this many of its steps.
const STEPS_TO_DEATH: u64 = 60;
/// Rounds of every worker after which a topology must have come to rest.
const ROUNDS_TO_REST: usize = 2_000;
/// Rounds of every worker after which those that were replaced are ended.
const ROUNDS_OF_PATIENCE: usize = 200;
/// A change of layout is done when it was begun so often.
const ATTEMPTS_TO_CHANGE: usize = 1_000;
/// Per thousand steps of a change.
const DEATHS_OF_A_CHANGE: u32 = 200;
/// Lines of the trace that a breach shows.
const LINES_SHOWN: usize = 60;

/// A rule was broken.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}: {rule}: {what}\nlast steps:\n{steps}")]
pub struct Breach {
    /// Of the simulation.
    pub seed: u64,
    /// The rule.
    pub rule: &'static str,
    /// How.
    pub what: String,
    /// What happened before.
    pub steps: String,
}

/// See the module.
pub struct Simulation<A: Application> {
    pub(super) surroundings: Surroundings<A>,
    pub(super) workers: Vec<Worker<A>>,
    pub(super) disks: Vec<Disk>,
    pub(super) compacted: bool,
    seed: u64,
    conditions: Conditions,
    chance: Chance,
    clock: Arc<ManualClock>,
    lives: u64,
    trace: Vec<String>,
    deaths: BTreeMap<&'static str, u64>,
}

impl<A: Application> Simulation<A> {
    /// A topology on an empty log. Nothing runs before the first step.
    pub fn new(seed: u64, conditions: Conditions, application: A, codecs: Arc<Codecs>) -> Simulation<A> {
        let clock = ManualClock::shared(ORIGIN_MS);
        let log = MemoryLog::simulated(application.definition().topics.clone(), clock.clone());
        let mut chance = Chance::new(seed);
        log.seed_faults(chance.draw(), conditions.log);
        log.show_fence_at_send(chance.per_mille(500));
        log.expire_after(TRANSACTION_TIMEOUT);
        let options = ShardOptions {
            records_max: 1 + chance.index(40),
            restored_bytes_max: chance.index(2000),
            one_thread: true,
            ..ShardOptions::default()
        };
        let application = Arc::new(application);
        Simulation {
            surroundings: Surroundings {
                log,
                application,
                codecs,
                clock: clock.clone(),
                options,
                initialised: Arc::default(),
            },
            workers: Vec::new(),
            disks: (0..conditions.instances.max(1)).map(|_| Disk::default()).collect(),
            compacted: false,
            seed,
            conditions,
            chance,
            clock,
            lives: 0,
            trace: Vec::new(),
            deaths: BTreeMap::new(),
        }
    }

    /// The log, for input and for checks.
    pub fn log(&self) -> &MemoryLog {
        &self.surroundings.log
    }

    /// The logic.
    pub fn application(&self) -> &A {
        &self.surroundings.application
    }

    /// The clock of all.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Settings of workers that start from now on.
    pub fn options(&mut self) -> &mut ShardOptions {
        &mut self.surroundings.options
    }

    /// Committed rows of a table over all partitions, as the owners' stores hold them, in key order per partition. After
    /// [`Simulation::drain`].
    pub fn rows(&self, table: TableId) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Breach> {
        rules::owned_rows(self, table).map_err(|what| self.breach("every shard has an owner", what))
    }

    /// What happened, a line a step.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }

    /// Deaths by the step at which they came.
    pub fn deaths(&self) -> &BTreeMap<&'static str, u64> {
        &self.deaths
    }

    /// Lets chance strike, then runs one round of one worker.
    pub fn step(&mut self) -> Result<(), Breach> {
        self.trouble_log();
        self.trouble_workers();
        self.restart_some();
        if !self.workers.is_empty() {
            let index = self.chance.index(self.workers.len());
            self.run_round(index)?;
        }
        self.check("a store or an answer is ahead of the log", rules::nothing_is_ahead)
    }

    /// Ends all trouble and runs until every input is processed and no transaction is open.
    pub fn drain(&mut self) -> Result<(), Breach> {
        self.note("calm".to_owned());
        self.conditions = Conditions { instances: self.conditions.instances, ..Conditions::CALM };
        self.log().end_faults();
        self.workers.iter_mut().for_each(Worker::calm);
        for round in 1..=ROUNDS_TO_REST {
            self.log().deliver_all();
            if round % ROUNDS_OF_PATIENCE == 0 {
                self.end_replaced();
            }
            self.restart_some();
            for index in (0..self.workers.len()).rev() {
                self.run_round(index)?;
            }
            if self.is_at_rest()? {
                return Ok(());
            }
        }
        Err(self.breach("everything is processed in the end", "input is left, or a transaction is open".to_owned()))
    }

    /// Checks, after [`Simulation::drain`], what must hold for every topology: stores equal the fold of the topics byte
    /// for byte (the owner's, those of all disks once restored, and one restored from nothing after a compaction),
    /// positions and commit sequences rise without gaps, no producer was used against its rules.
    pub fn check_rules(&mut self) -> Result<(), Breach> {
        self.check("a producer is used by its rules", rules::no_misuse)?;
        self.check("commit sequences rise one by one, positions never go back", rules::positions_rise)?;
        self.check("the owner's store equals the fold of the topics", rules::owners_agree)?;
        for instance in 0..self.disks.len() {
            self.restore_all(instance)?;
        }
        self.compact_all()?;
        self.disks.push(Disk::default());
        self.restore_all(self.disks.len() - 1)
    }

    /// Every shard on one instance, from what its disk holds; then the stores must equal the topics.
    pub fn restore_all(&mut self, instance: usize) -> Result<(), Breach> {
        self.note(format!("restore on instance {instance}"));
        self.workers.clear();
        for shard in 0..self.application().definition().shards {
            self.start(shard, instance);
        }
        self.drain()?;
        self.check("a restored store equals the fold of the topics", rules::owners_agree)
    }

    /// A worker without input does not learn that it was replaced. Its instance would be told.
    fn end_replaced(&mut self) {
        for index in (0..self.workers.len()).rev() {
            if rules::is_replaced(self, index) {
                self.die(index, "replaced");
            }
        }
    }

    /// Ends all workers and begins the layout of `application`, which is the same application otherwise. The log may fail
    /// meanwhile, and whoever makes the change may die between two steps: it is begun again until it is done.
    pub fn change_layout(&mut self, application: A) -> Result<(), Breach> {
        self.workers.clear();
        self.surroundings.application = Arc::new(application);
        for _ in 0..ATTEMPTS_TO_CHANGE {
            match self.try_to_change_layout() {
                Ok(true) => return Ok(()),
                Ok(false) => self.note("a change of layout dies".to_owned()),
                Err(ChangeError::Again(reason)) => self.note(format!("a change of layout fails: {reason}")),
                Err(error) => return Err(self.breach("a layout can be changed", error.to_string())),
            }
        }
        Err(self.breach("a change of layout ends", "it never did".to_owned()))
    }

    fn try_to_change_layout(&mut self) -> Result<bool, ChangeError> {
        let Surroundings { log, application, codecs, clock, .. } = &self.surroundings;
        let site = Site {
            log,
            clock,
            definition: application.definition(),
            control: None,
            schemas: &codecs.schemas,
            position: codecs.position,
            // Without a control topic nothing is assigned.
            assignment: Encoder::new(0),
        };
        let Some(mut change) = Change::plan(&site)? else { return Ok(true) };
        loop {
            if self.chance.per_mille(DEATHS_OF_A_CHANGE) {
                return Ok(false);
            }
            if change.step(&site)?.is_none() {
                return Ok(true);
            }
        }
    }

    /// Every changelog is compacted, tombstones included: as long after they were written.
    pub fn compact_all(&mut self) -> Result<(), Breach> {
        let definition = self.application().definition();
        let (topic, partitions) = (definition.changelog, definition.topics.partitions);
        self.compacted = true;
        for partition in 0..partitions {
            let compacted = self.log().compact(TopicPartition { topic, partition }, Tombstones::Drop);
            compacted.map_err(|error| self.breach("a changelog can be compacted", error.to_string()))?;
        }
        Ok(())
    }

    fn trouble_log(&mut self) {
        let definition = self.surroundings.application.definition();
        let (topic, partitions) = (definition.changelog, definition.topics.partitions);
        if self.log().late() > 0 && self.chance.per_mille(500) {
            let index = self.chance.index(self.log().late());
            self.log().deliver_late(index);
        }
        if self.chance.per_mille(self.conditions.expiries) {
            self.log().expire_transactions();
            self.note("transactions expire".to_owned());
        }
        if self.chance.per_mille(self.conditions.compactions) {
            let partition = self.chance.index(partitions as usize) as i32;
            // The partition is one of the topology's.
            _ = self.log().compact(TopicPartition { topic, partition }, Tombstones::Keep);
            self.compacted = true;
            self.note(format!("compaction of changelog {partition}"));
        }
        if self.chance.per_mille(self.conditions.prunings) {
            let partition = self.chance.index(partitions as usize) as i32;
            self.prune(partition);
        }
    }

    /// Deletes work in flight below the committed position, as the owner of an input may.
    fn prune(&mut self, partition: i32) {
        let definition = self.surroundings.application.definition();
        let Some(position) = rules::committed_position(self, partition) else { return };
        for input in definition.inputs.iter().filter(|input| input.prune) {
            let Some(offset) = position.next_offset.get(definition.topics.name(input.topic)) else { continue };
            // The partition is one of the topology's.
            _ = self.log().delete_below(TopicPartition { topic: input.topic, partition }, *offset);
        }
        self.note(format!("pruning of partition {partition}"));
    }

    fn trouble_workers(&mut self) {
        if !self.workers.is_empty() && self.chance.per_mille(self.conditions.deaths) {
            let index = self.chance.index(self.workers.len());
            if self.chance.per_mille(200) {
                self.die(index, "between two steps");
            } else {
                let steps = 1 + self.chance.below(STEPS_TO_DEATH);
                self.workers[index].fuse.arm(steps);
            }
        }
        let shards = self.application().definition().shards;
        if self.chance.per_mille(self.conditions.takeovers) {
            let (shard, instance) = (self.chance.index(shards as usize) as i32, self.chance.index(self.disks.len()));
            if !self.is_used(shard, instance) {
                self.start(shard, instance);
            }
        }
        if self.chance.per_mille(self.conditions.lost_stores) {
            let partition = self.chance.index(self.application().definition().topics.partitions as usize) as i32;
            let instance = self.chance.index(self.disks.len());
            if !self.is_used(self.application().definition().shard_of(partition), instance) {
                self.disks[instance].lose(partition);
                self.note(format!("instance {instance} loses the store of partition {partition}"));
            }
        }
    }

    fn restart_some(&mut self) {
        for shard in 0..self.application().definition().shards {
            let has_worker = self.workers.iter().any(|worker| worker.shard == shard);
            if !has_worker && self.chance.per_mille(self.conditions.restarts) {
                let instance = self.chance.index(self.disks.len());
                self.start(shard, instance);
            }
        }
    }

    /// A store is used by one process at a time.
    fn is_used(&self, shard: i32, instance: usize) -> bool {
        self.workers.iter().any(|worker| worker.shard == shard && worker.instance == instance)
    }

    fn start(&mut self, shard: i32, instance: usize) {
        self.lives += 1;
        let incarnation = format!("life-{}", self.lives);
        self.note(format!("{incarnation}: shard {shard} starts on instance {instance}"));
        let faults = (self.chance.fork(), self.conditions.store_faults);
        let disk = (instance, &self.disks[instance]);
        self.workers.push(Worker::start(&self.surroundings, shard, disk, incarnation, faults));
    }

    fn die(&mut self, index: usize, at: &'static str) {
        let worker = self.workers.remove(index);
        *self.deaths.entry(at).or_default() += 1;
        self.note(format!("{}: dies {at}", worker.incarnation));
    }

    fn run_round(&mut self, index: usize) -> Result<(), Breach> {
        if !self.workers[index].owns() {
            self.workers[index].claim_found = rules::claimant(self, self.workers[index].shard);
        }
        let (round, name) = (self.workers[index].round(), self.workers[index].incarnation.clone());
        match round {
            Round::Stepped => self.note(format!("{name}: steps")),
            Round::Owns => self.note(format!("{name}: owns")),
            Round::Fenced(reason) if self.conditions.reads_fail() || rules::may_take_back(self, index) => {
                self.note(format!("{name}: {reason}"));
            }
            Round::Fenced(_) => return Err(self.breach("a shard that another claims is left alone", name)),
            Round::Interrupted(reason) => self.note(format!("{name}: {reason}")),
            Round::Died(step) => self.die(index, step),
            Round::Ended(exit) if !rules::is_replaced(self, index) => {
                return Err(self.breach("a shard is given up only to another", format!("{name}: {exit:?}")));
            }
            // One that was replaced knows only a part of what happened; what it makes of it does no harm.
            Round::Ended(exit) => {
                self.workers.remove(index);
                self.note(format!("{name}: ends: {exit:?}"));
            }
        }
        Ok(())
    }

    fn is_at_rest(&self) -> Result<bool, Breach> {
        let told = |error| self.breach("the log can be read", error);
        let definition = self.application().definition();
        if !self.log().open_transactions().is_empty() || self.log().late() > 0 {
            return Ok(false);
        }
        for partition in 0..definition.topics.partitions {
            // A partition that nothing has touched has none.
            let position = rules::committed_position(self, partition).unwrap_or_default();
            for input in &definition.inputs {
                let end = expected::end_of(self.log(), input.topic, partition).map_err(told)?;
                let next = position.next_offset.get(definition.topics.name(input.topic)).copied();
                if next.unwrap_or(0) < end {
                    return Ok(false);
                }
            }
        }
        Ok(rules::owners_are_complete(self))
    }

    fn check(
        &self,
        rule: &'static str,
        holds: impl FnOnce(&Simulation<A>) -> Result<(), String>,
    ) -> Result<(), Breach> {
        holds(self).map_err(|what| self.breach(rule, what))
    }

    fn breach(&self, rule: &'static str, what: String) -> Breach {
        let shown = self.trace.len().saturating_sub(LINES_SHOWN);
        Breach { seed: self.seed, rule, what, steps: self.trace[shown..].join("\n") }
    }

    fn note(&mut self, line: String) {
        self.trace.push(line);
    }
}
