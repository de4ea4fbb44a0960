//! How a shard becomes the owner of its partitions, and how it finds out that it is not any more.
//!
//! Order matters: initialise the producer (this ends the earlier owner's open transaction and fences it), only then ask
//! for the high watermark, restore up to it, and claim the shard in the first transaction. Without the claim a fenced
//! owner that simply initialises again would steal the shard back, for ever.

use std::sync::Arc;
use std::time::Duration;

use state_store::StoreError;

use crate::context::TaskContext;
use crate::fault::{Fault, LogError};
use crate::history::HistoryLoader;
use crate::layout;
use crate::log::{Log, TopicPartition};
use crate::membership::Role;
use crate::query::view::Life;
use crate::restore;
use crate::shard::{Interrupt, Owned, Shard, interrupt_of, interrupt_of_process, interrupt_of_store};
use crate::task::{OWNER_PREFIX, OWNER_TABLE, Task};
use crate::topology::Application;
use crate::transaction::Transaction;
use schemas::records::{self, ShardRole};

/// Row key of the claim of a shard; its changelog key as well.
fn claim_key(shard: i32) -> Vec<u8> {
    format!("{OWNER_PREFIX}{shard}").into_bytes()
}

impl<L: Log, A: Application> Shard<L, A> {
    /// Becomes the owner: afterwards commands run.
    pub fn own(&mut self) -> Result<(), Interrupt> {
        let began = self.parts.clock.monotonic();
        self.parts.still(Role::Active)?;
        self.blocked.clear();
        self.parts.roles.report(self.parts.id, Some((ShardRole::Restoring, -1)));
        // Who was replaced without having read so must not fence its successor.
        self.confirm()?;
        self.parts.roles.await_release(self.parts.id).map_err(Interrupt::Retake)?;
        // That may have taken a while, and the next assignment may be here.
        self.parts.still(Role::Active)?;
        let definition = self.parts.application.definition();
        let transactional_id = format!("{}.{}.{}", definition.application, definition.layout, self.parts.id);
        let producer = self.initialise(&transactional_id)?;
        let initialised = self.parts.clock.monotonic();
        let tails = std::mem::take(&mut self.tails);
        let report = self.catch_up(Role::Active, tails, None)?;
        self.check_layout()?;
        self.claim_found = self.current_claim()?;
        let restored = self.parts.clock.monotonic();
        let transaction = Transaction::new(producer, Arc::clone(&self.parts.clock), self.parts.options.commit_deadline);
        self.find_first_positions()?;
        // Before the claim: its commit ends the fetch that is under way at the broker of that changelog, and inputs there
        // are fetched only after it, otherwise up to half a second later.
        self.assign_inputs()?;
        // Again: a later assignment may have given it to another while we initialised, whom we have fenced by that.
        let epoch = self.confirm()?;
        self.owned = Some(Owned { epoch, transaction, history: None });
        self.claim(epoch)?;
        // Ours has replaced it: another's that is found from now on came after us, also when it reads the same.
        self.claim_found = None;
        let history = HistoryLoader::start(&self.parts, &self.tasks)?;
        if let Some(owned) = &mut self.owned {
            owned.history = history;
        }
        self.tasks.iter().for_each(|task| task.view.claimed(epoch));
        self.resume_life();
        tracing::info!(
            shard = self.parts.id,
            restored_records = report.records,
            init_ms = initialised.saturating_sub(began).as_millis() as u64,
            restore_ms = restored.saturating_sub(initialised).as_millis() as u64,
            total_ms = self.parts.clock.monotonic().saturating_sub(began).as_millis() as u64,
            "running"
        );
        Ok(())
    }

    /// Initialises the producer, and meanwhile opens the stores and connects the consumer: each takes about as long as
    /// the others, and the high watermark is asked for only afterwards.
    fn initialise(&mut self, transactional_id: &str) -> Result<L::Producer, Interrupt> {
        let (log, deadline) = (Arc::clone(&self.parts.log), self.parts.options.init_deadline);
        let init = || log.producer(transactional_id, deadline);
        let (producer, prepared) = if self.parts.options.one_thread {
            (init(), self.prepare(Role::Active))
        } else {
            std::thread::scope(|scope| {
                let initialising = scope.spawn(init);
                let prepared = self.prepare(Role::Active);
                let panicked = |_| Err(Fault::Discard("panic".to_owned()));
                (initialising.join().unwrap_or_else(panicked), prepared)
            })
        };
        let producer = producer.map_err(|fault| Interrupt::Retake(format!("init of {transactional_id}: {fault}")))?;
        prepared?;
        Ok(producer)
    }

    /// What [`catch_up`](Self::catch_up) needs: open stores and a consumer. Stores that are missing are copied first, where
    /// another instance has them.
    pub(crate) fn prepare(&mut self, role: Role) -> Result<(), Interrupt> {
        self.copy_missing(role)?;
        self.open_tasks()?;
        if self.consumer.is_none() {
            let name = format!("shard-{}", self.parts.id);
            let consumer = self.parts.log.consumer(&name).map_err(|error| Interrupt::Retake(error.to_string()))?;
            self.consumer = Some(consumer);
        }
        Ok(())
    }

    /// After a fence: who claims the shard; `Some`: another. Whoever fenced us claims only after a restore, so that claim is
    /// waited for. To initialise again without waiting would fence them, and be fenced by them, for as long as they restore.
    pub(crate) fn await_claim(&mut self, patience: Duration) -> Result<Option<String>, Interrupt> {
        let now = self.parts.clock.monotonic();
        // Who is sure of a time-out still looks once, and has to read for that.
        let (until, read_until) = (now + patience, now + self.parts.options.claim_patience);
        loop {
            let claim = self.read_claim(read_until);
            let is_over = self.parts.clock.monotonic() >= until;
            match claim {
                Ok(None) | Err(Interrupt::Retake(_)) if !is_over => {}
                claim => return claim,
            }
            self.parts.still(Role::Active)?;
            self.parts.clock.pause(self.parts.options.retry_pause);
        }
    }

    /// Catches up with what is committed and reads who claims the shard. `Some`: another, who came after
    /// us. A claim that we found and have not replaced is of the past: our first transaction may time out before that.
    fn read_claim(&mut self, until: Duration) -> Result<Option<String>, Interrupt> {
        self.prepare(Role::Active)?;
        self.tails = false;
        self.catch_up(Role::Active, false, Some(until))?;
        self.check_layout()?;
        let Some(claim) = self.current_claim()? else { return Ok(None) };
        let options = &self.parts.options;
        let ours = claim.instance == options.instance && claim.incarnation == options.incarnation;
        let past = self.claim_found.as_ref() == Some(&claim);
        Ok((!ours && !past).then(|| format!("{} (incarnation {})", claim.instance, claim.incarnation)))
    }

    /// Removes the store of a partition that cannot be trusted. The second time in one life is an error: a disk that
    /// keeps lying must be looked at.
    pub(crate) fn wipe(&mut self, partition: i32, reason: &str) -> Result<(), String> {
        tracing::error!(partition, reason, "store cannot be trusted: wiping it, the changelog restores it");
        metrics::counter!("kontor_store_wipes_total").increment(1);
        if self.wiped.contains(&partition) {
            return Err(format!("the store of partition {partition} went bad twice ({reason}): check the disk"));
        }
        self.wiped.push(partition);
        self.let_go_of_stores(&Life::Restoring);
        let mut tries = 0;
        loop {
            match self.parts.stores.wipe(partition) {
                Ok(()) => {
                    // Readers have let go of the old store: whatever they met was in it.
                    self.parts.views[partition as usize].take_trouble();
                    return Ok(());
                }
                Err(error) if tries >= 50 => {
                    return Err(format!("the store of partition {partition} cannot be removed: {error}"));
                }
                Err(_) => tries += 1,
            }
            self.parts.clock.pause(self.parts.options.retry_pause / 10);
        }
    }

    /// The claim of state, or `None` when the shard was never owned.
    fn current_claim(&self) -> Result<Option<records::Owner>, Interrupt> {
        let Some(task) = self.tasks.first() else { return Ok(None) };
        let key = claim_key(self.parts.id);
        let row = task.store.get(OWNER_TABLE, &key).map_err(|error| interrupt_of_store(task.partition, error))?;
        let decoded = row.map(|row| state_store::rows::decode(&row)).transpose();
        decoded.map_err(|error| Interrupt::Corrupt { partition: task.partition, reason: error.to_string() })
    }

    /// State of another layout is not ours to go on with: its shards have other producers.
    fn check_layout(&self) -> Result<(), Interrupt> {
        let configured = self.definition().placement();
        self.tasks
            .iter()
            .try_for_each(|task| layout::permit(task.committed.layout, configured))
            .map_err(Interrupt::Stop)
    }

    /// All of them or none: with a part of its tasks a shard would run, and leave the other partitions to nobody.
    fn open_tasks(&mut self) -> Result<(), Interrupt> {
        if self.tasks.is_empty() {
            let partitions = self.definition().partitions_of(self.parts.id);
            self.tasks = partitions.into_iter().map(|partition| self.open_task(partition)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn open_task(&self, partition: i32) -> Result<Task, Interrupt> {
        let definition = self.parts.application.definition();
        let view = Arc::clone(&self.parts.views[partition as usize]);
        let opened = self.parts.stores.open(partition).and_then(|store| Task::new(partition, store, view, definition));
        opened.map_err(|error| match error {
            // Written under another secret: an operator's doing, and theirs to undo.
            StoreError::WrongStore { what: "check value", .. } => {
                Interrupt::Stop(format!("store of partition {partition}: {error}"))
            }
            // Of another cluster or application: its rows are worth nothing here.
            StoreError::Corrupt { .. } | StoreError::WrongStore { .. } => {
                Interrupt::Corrupt { partition, reason: error.to_string() }
            }
            error => Interrupt::Retake(format!("store of partition {partition}: {error}")),
        })
    }

    /// The epoch under which this instance is to own the shard, as the assignment says it at its end.
    fn confirm(&self) -> Result<i64, Interrupt> {
        let confirmed = self.parts.roles.confirm(self.parts.id).map_err(Interrupt::Retake)?;
        confirmed.ok_or(Interrupt::Released)
    }

    /// `tails` and `until`: see [`restore::Reading`].
    pub(crate) fn catch_up(
        &mut self,
        role: Role,
        tails: bool,
        until: Option<Duration>,
    ) -> Result<restore::Report, Interrupt> {
        let Some(consumer) = &mut self.consumer else {
            return Err(Interrupt::Retake("no consumer".to_owned()));
        };
        restore::catch_up(&self.parts, role, restore::Reading { consumer, tails, until }, &mut self.tasks)
    }

    /// A partition of an input without a position is read from where it begins.
    fn find_first_positions(&mut self) -> Result<(), Interrupt> {
        let definition = self.parts.application.definition();
        for task in &mut self.tasks {
            for (index, input) in definition.inputs.iter().enumerate() {
                if task.committed.next_offset[index] >= 0 {
                    continue;
                }
                let at = TopicPartition { topic: input.topic, partition: task.partition };
                let low = self.parts.log.watermarks(at).map_err(retake)?.low;
                task.committed.next_offset[index] = low;
                task.staged.next_offset[index] = low;
            }
        }
        Ok(())
    }

    /// The first transaction: the claim, and the rows that exist from the start.
    fn claim(&mut self, epoch: i64) -> Result<(), Interrupt> {
        let found = self.claim_found.as_ref().map_or(0, |found| found.epoch);
        if self.parts.roles.settles() && found > epoch {
            // It was read to its end: so these epochs are not those of the claims.
            return Err(Interrupt::Stop(format!(
                "the shard was claimed under epoch {found}, the control topic ends at {epoch}: it was deleted or made anew; \
                 stop all instances and start one with --alone once, then begin again"
            )));
        }
        let definition = self.parts.application.definition();
        let claim = records::Owner {
            instance: self.parts.options.instance.clone(),
            incarnation: self.parts.options.incarnation.clone(),
            epoch,
            layout: definition.layout,
            shards: definition.shards,
        };
        let (partitions, key) = (definition.topics.partitions, claim_key(self.parts.id));
        let placement = definition.placement();
        for (index, task) in self.tasks.iter_mut().enumerate() {
            let partition = task.partition;
            let mut context = TaskContext::new(task, &mut self.outbox, partitions);
            let opened = self
                .parts
                .application
                .open(&mut context)
                .and_then(|()| if index == 0 { context.put(OWNER_TABLE, &key, &claim) } else { Ok(()) });
            opened.map_err(|error| interrupt_of_process(partition, error))?;
            // Every partition says of which layout it is, also one that nothing else touches.
            task.touched = context_has_effects(task) || task.committed.layout != placement;
        }
        self.commit_staged()
    }
}

/// The claim touches the first task; the others when the application opened rows there.
fn context_has_effects(task: &Task) -> bool {
    task.overlay.bytes() > 0
}

fn retake(error: LogError) -> Interrupt {
    Interrupt::Retake(error.to_string())
}

impl From<Fault> for Interrupt {
    fn from(fault: Fault) -> Interrupt {
        interrupt_of(fault)
    }
}
