//! One worker of a simulation: the real shard of one life of one instance, run round by round until it dies or ends.
//! Before it owns the shard it may follow it for a while.

use std::sync::Arc;

use super::disk::{Disk, MountedDisk};
use super::fragile_log::{FragileLog, Initialised};
use super::fuse::{Fuse, survive};
use super::turns::Turns;
use crate::clock::SharedClock;
use crate::log::memory::{Chance, MemoryLog};
use crate::probe::Probe;
use crate::query::view::PartitionView;
use crate::shard::{Codecs, Exit, Interrupt, Shard, ShardOptions, ShardParts};
use crate::topology::Application;

/// Per thousand rounds in which it could own the shard: it follows first.
const FOLLOWS: u32 = 300;
/// A turn as a standby ends when the shard has asked for its role fewer times than this.
const QUESTIONS_MAX: u64 = 16;

/// What a round came to.
pub(super) enum Round {
    /// It became the owner.
    Owns,
    /// It polled, and processed what it got.
    Stepped,
    /// It found itself fenced, and the shard still its own to take.
    Fenced(String),
    /// It was interrupted and will try to own the shard (again).
    Interrupted(String),
    /// It died at this step.
    Died(&'static str),
    /// It ended by its own decision.
    Ended(Exit),
}

/// What all workers of a simulation share.
pub(super) struct Surroundings<A> {
    pub log: MemoryLog,
    pub application: Arc<A>,
    pub codecs: Arc<Codecs>,
    pub clock: SharedClock,
    pub options: ShardOptions,
    pub initialised: Initialised,
}

pub(super) struct Worker<A: Application> {
    pub shard: i32,
    pub instance: usize,
    pub incarnation: String,
    pub fuse: Arc<Fuse>,
    pub views: Vec<Arc<PartitionView>>,
    /// Whose claim stood when it initialised the shard last.
    pub claim_found: Option<String>,
    disk: Arc<MountedDisk>,
    turns: Arc<Turns>,
    /// Of following; `None`: it goes straight for the shard.
    chance: Option<Chance>,
    owns: bool,
    runs: Shard<FragileLog, A>,
}

impl<A: Application> Worker<A> {
    pub fn start(
        surroundings: &Surroundings<A>,
        shard: i32,
        (instance, disk): (usize, &Disk),
        incarnation: String,
        (mut chance, store_faults_per_mille): (Chance, u32),
    ) -> Worker<A> {
        let (turns, of_following) = (Arc::new(Turns::default()), chance.fork());
        let fuse = Fuse::shared();
        let definition = surroundings.application.definition();
        let views: Vec<_> = (0..definition.topics.partitions)
            .map(|partition| Arc::new(PartitionView::new(partition, definition.shard_of(partition))))
            .collect();
        let disk = Arc::new(disk.mounted(Arc::clone(&fuse), chance, store_faults_per_mille));
        let probed = Arc::clone(&fuse);
        let initialised = Arc::clone(&surroundings.initialised);
        let log = FragileLog::new(surroundings.log.clone(), Arc::clone(&fuse), &incarnation, initialised);
        let runs = Shard::new(ShardParts {
            id: shard,
            log: Arc::new(log),
            application: Arc::clone(&surroundings.application),
            options: ShardOptions {
                instance: format!("instance-{instance}"),
                incarnation: incarnation.clone(),
                ..surroundings.options.clone()
            },
            codecs: Arc::clone(&surroundings.codecs),
            clock: Arc::clone(&surroundings.clock),
            stores: disk.clone(),
            views: views.clone(),
            probe: Probe::new(move |step| probed.step(step.name())),
            roles: turns.clone(),
            copier: None,
        });
        let chance = Some(of_following);
        Worker { shard, instance, incarnation, fuse, views, claim_found: None, disk, turns, chance, owns: false, runs }
    }

    /// Follows the shard, owns it, or takes one step of it.
    pub fn round(&mut self) -> Round {
        let follows = !self.owns && self.chance.as_mut().is_some_and(|chance| chance.per_mille(FOLLOWS));
        if follows && let Some(chance) = &mut self.chance {
            self.turns.follow(1 + chance.below(QUESTIONS_MAX) as u32);
        }
        let (runs, owns) = (&mut self.runs, self.owns);
        let round = survive(|| {
            let went = match (follows, owns) {
                (true, _) => runs.follow().map(|()| Round::Stepped),
                (false, true) => runs.step().map(|()| Round::Stepped),
                (false, false) => runs.own().map(|()| Round::Owns),
            };
            went.unwrap_or_else(|interrupt| {
                let told = text_of(&interrupt);
                let goes_on = match interrupt {
                    Interrupt::Fenced(_) => Round::Fenced(told),
                    _ => Round::Interrupted(told),
                };
                runs.recover(interrupt).map_or(goes_on, Round::Ended)
            })
        });
        let round = round.unwrap_or_else(Round::Died);
        self.turns.end();
        self.owns = matches!(round, Round::Owns | Round::Stepped);
        round
    }

    /// False: its next round begins with an initialisation.
    pub fn owns(&self) -> bool {
        self.owns
    }

    /// Nothing goes wrong here any more.
    pub fn calm(&mut self) {
        self.chance = None;
        self.fuse.disarm();
        self.disk.calm();
    }
}

fn text_of(interrupt: &Interrupt) -> String {
    match interrupt {
        Interrupt::Released => "released".to_owned(),
        Interrupt::Fenced(reason) => format!("fenced: {reason}"),
        Interrupt::Retake(reason) => format!("retake: {reason}"),
        Interrupt::Reopen { partition, reason } => format!("reopen: partition {partition}: {reason}"),
        Interrupt::Corrupt { partition, reason } => format!("corrupt: partition {partition}: {reason}"),
        Interrupt::Stop(reason) => format!("stop: {reason}"),
    }
}
