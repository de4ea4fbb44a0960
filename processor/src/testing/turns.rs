//! What a worker of a simulation is told to do: to own its shard, after a turn as a standby now and then.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use schemas::query::NotOwner;
use schemas::records::ShardRole;

use crate::membership::{Alone, Role, Roles};

/// Roles of one worker. A turn as a standby ends when the shard has asked for its role so often: at any of its steps.
#[derive(Default)]
pub(super) struct Turns {
    standby_for: AtomicU32,
    alone: Alone,
}

impl Turns {
    /// The next so many questions are answered with "standby".
    pub fn follow(&self, questions: u32) {
        self.standby_for.store(questions, Ordering::Relaxed);
    }

    /// The turn is over, wherever the shard stands.
    pub fn end(&self) {
        self.follow(0);
    }
}

impl Roles for Turns {
    fn role(&self, shard: i32) -> Role {
        let one_less = |left: u32| left.checked_sub(1);
        match self.standby_for.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => Role::Standby,
            Err(_) => self.alone.role(shard),
        }
    }

    /// Nothing changes while one thread waits.
    fn wait_while(&self, _: i32, _: Role, _: Duration) {}

    fn confirm(&self, shard: i32) -> Result<Option<i64>, String> {
        self.alone.confirm(shard)
    }

    fn await_release(&self, shard: i32) -> Result<(), String> {
        self.alone.await_release(shard)
    }

    fn report(&self, shard: i32, part: Option<(ShardRole, i64)>) {
        self.alone.report(shard, part);
    }

    fn give_up(&self, shard: i32) {
        self.alone.give_up(shard);
    }

    fn settles(&self) -> bool {
        self.alone.settles()
    }

    fn lost_at(&self, shard: i32) -> i64 {
        self.alone.lost_at(shard)
    }

    fn owner(&self, shard: i32) -> NotOwner {
        self.alone.owner(shard)
    }

    fn peers(&self, shard: i32) -> Vec<String> {
        self.alone.peers(shard)
    }

    fn is_current(&self) -> bool {
        self.alone.is_current()
    }
}
