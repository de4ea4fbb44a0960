//! One child leaves while the others go on.

use std::time::Instant;

use rustix::process::Signal;

use super::{Leaving, Supervised, Supervisor};

impl Supervisor<'_> {
    /// Asks a child to end, and to stay away: it leaves `stack.json` when it has. Its directory stays.
    pub fn dismiss(&mut self, name: &str) {
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        child.restart_at = None;
        let Some(running) = &child.running else {
            // It died by itself, and was to be started again.
            return self.let_go(name);
        };
        let since = Instant::now();
        running.process.signal(Signal::TERM);
        child.leaving = Some(Leaving { since, kill_at: Some(since + child.spec.patience) });
    }

    /// Whether a child that was dismissed has not ended yet.
    pub fn is_one_leaving(&self) -> bool {
        self.children.values().any(|c| c.leaving.is_some())
    }

    pub(super) fn let_go(&mut self, name: &str) {
        self.children.remove(name);
        self.file.remove(name);
        self.note();
    }

    /// SIGKILL for those whose patience is over.
    pub(super) fn kill_overdue(&mut self) {
        let now = Instant::now();
        let overdue = |c: &&Supervised| c.leaving.as_ref().and_then(|l| l.kill_at).is_some_and(|at| at <= now);
        for child in self.children.values().filter(overdue) {
            self.kill(child);
        }
        for leaving in self.children.values_mut().filter_map(|c| c.leaving.as_mut()) {
            leaving.kill_at = leaving.kill_at.filter(|at| *at > now);
        }
    }
}
