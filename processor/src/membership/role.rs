//! What an instance is told to do for a shard, as the shard's thread sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use schemas::query::NotOwner;
use schemas::records::ShardRole;

/// The part of this instance in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To own it.
    Active,
    /// To follow its changelog.
    Standby,
    /// None.
    Nothing,
    /// The instance ends.
    Ended,
}

/// Where shards learn their roles, and say how far they are.
pub trait Roles: Send + Sync + 'static {
    /// The role of now.
    fn role(&self, shard: i32) -> Role;

    /// Returns when the role is another than `role`, at the latest after `timeout`.
    fn wait_while(&self, shard: i32, role: Role, timeout: Duration);

    /// Reads what is decided to its end of now. The epoch under which this instance is to own the shard; `None`: it is
    /// not. An error when that cannot be read: try again.
    fn confirm(&self, shard: i32) -> Result<Option<i64>, String>;

    /// Waits a moment for an earlier owner that lives to let go of the shard, because an initialisation that meets its
    /// open transaction takes longer; whoever does not let go is fenced all the same. And waits until it knows that it is
    /// not the owner any more: up to then it calls its answers fresh. An error when that does not come: try again.
    fn await_release(&self, shard: i32) -> Result<(), String>;

    /// What this instance does for the shard, and the changelog records that it lacks (-1: not known); `None`: nothing.
    fn report(&self, shard: i32, part: Option<(ShardRole, i64)>);

    /// This instance cannot hold the shard before an operator has looked at it: another one may try.
    fn give_up(&self, shard: i32);

    /// True: what is decided settles who owns a shard. False: only the fence and the claim do.
    fn settles(&self) -> bool;

    /// The last epoch under which the shard was, or may have been, another's. Whoever claimed it under an earlier one, or
    /// under this one, has to begin anew.
    fn lost_at(&self, shard: i32) -> i64;

    /// Who owns the shard, for those who ask the wrong instance.
    fn owner(&self, shard: i32) -> NotOwner;

    /// Addresses of others that have the state of the shard and can give copies of it: standbys before the owner, which
    /// has enough to do.
    fn peers(&self, shard: i32) -> Vec<String>;

    /// Whether this instance may call its answers fresh: it knows what is decided, and nobody can have taken its place
    /// without its knowledge.
    fn is_current(&self) -> bool;
}

/// One instance that owns all shards and asks nobody.
#[derive(Debug, Default)]
pub struct Alone {
    ended: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Alone {
    /// From now on the instance ends.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(self.lock.lock());
        self.changed.notify_all();
    }
}

impl Roles for Alone {
    fn role(&self, _: i32) -> Role {
        if self.ended.load(Ordering::Relaxed) { Role::Ended } else { Role::Active }
    }

    fn wait_while(&self, shard: i32, role: Role, timeout: Duration) {
        let mut guard = self.lock.lock();
        self.changed.wait_while_for(&mut guard, |()| self.role(shard) == role, timeout);
    }

    fn confirm(&self, shard: i32) -> Result<Option<i64>, String> {
        Ok((self.role(shard) == Role::Active).then_some(0))
    }

    fn await_release(&self, _: i32) -> Result<(), String> {
        Ok(())
    }

    fn report(&self, _: i32, _: Option<(ShardRole, i64)>) {}

    fn give_up(&self, _: i32) {}

    fn settles(&self) -> bool {
        false
    }

    fn lost_at(&self, _: i32) -> i64 {
        -1
    }

    fn owner(&self, _: i32) -> NotOwner {
        NotOwner::default()
    }

    fn peers(&self, _: i32) -> Vec<String> {
        Vec::new()
    }

    fn is_current(&self) -> bool {
        true
    }
}
