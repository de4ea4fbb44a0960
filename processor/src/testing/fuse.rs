//! Sudden death at a chosen step: what `kill -9` does to a process, done to one worker of a simulation.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts the steps of one worker and ends it at the one it was armed for.
#[derive(Debug, Default)]
pub(super) struct Fuse {
    left: Mutex<Option<u64>>,
}

/// Carried by the unwinding of a worker that died; says where.
struct Death(&'static str);

impl Fuse {
    pub fn shared() -> Arc<Fuse> {
        Arc::default()
    }

    /// The worker dies at its `steps`-th step from now, counted from 1.
    pub fn arm(&self, steps: u64) {
        *self.left.lock() = Some(steps);
    }

    pub fn disarm(&self) {
        *self.left.lock() = None;
    }

    /// A step of the worker. Does not return when it dies here.
    pub fn step(&self, name: &'static str) {
        let mut left = self.left.lock();
        match *left {
            None => {}
            Some(steps) if steps > 1 => *left = Some(steps - 1),
            Some(_) => {
                *left = None;
                drop(left);
                // Unwinds without the panic hook: this is no bug that anybody wants to read about.
                resume_unwind(Box::new(Death(name)));
            }
        }
    }
}

/// Runs a round of a worker. `Err(step)`: it died there. A real panic goes on as one.
pub(super) fn survive<R>(round: impl FnOnce() -> R) -> Result<R, &'static str> {
    catch_unwind(AssertUnwindSafe(round)).map_err(|panic| match panic.downcast::<Death>() {
        Ok(death) => death.0,
        Err(panic) => resume_unwind(panic),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dies_at_the_step_it_was_armed_for_and_only_once() {
        let fuse = Fuse::shared();
        fuse.step("unarmed");
        fuse.arm(2);
        let round = || {
            fuse.step("one");
            fuse.step("two");
            fuse.step("three");
        };
        assert_eq!(survive(round), Err("two"));
        assert_eq!(survive(round), Ok(()));
        fuse.arm(1);
        fuse.disarm();
        assert_eq!(survive(round), Ok(()));
    }
}
