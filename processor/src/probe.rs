//! Named steps of the commit path, at which tests make the process (or the simulated worker) die.
//!
//! A release binary passes [`Probe::none`] and cannot be told otherwise; only the feature `crash-points` compiles the
//! probe that kills.

use std::sync::Arc;

/// A step of the commit path. What a crash there leaves behind is said in `shard.rs` at the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Records were polled.
    AfterPoll,
    /// Half of the records of a transaction are staged.
    MidBatch,
    /// All effects are staged in memory.
    AfterStage,
    /// All records were handed to the producer.
    AfterProduce,
    /// Right before the commit is sent.
    BeforeCommit,
    /// A moment after the commit was sent.
    DuringCommit,
    /// The commit is acknowledged.
    AfterCommit,
    /// The batch of the first touched task is written.
    AfterBatch,
    /// Replies are released.
    AfterReply,
}

impl Step {
    /// All steps in order.
    pub const ALL: [Step; 9] = [
        Step::AfterPoll,
        Step::MidBatch,
        Step::AfterStage,
        Step::AfterProduce,
        Step::BeforeCommit,
        Step::DuringCommit,
        Step::AfterCommit,
        Step::AfterBatch,
        Step::AfterReply,
    ];

    /// Name in the environment variable of the tests.
    pub fn name(self) -> &'static str {
        match self {
            Step::AfterPoll => "after-poll",
            Step::MidBatch => "mid-batch",
            Step::AfterStage => "after-stage",
            Step::AfterProduce => "after-produce",
            Step::BeforeCommit => "before-commit",
            Step::DuringCommit => "during-commit",
            Step::AfterCommit => "after-commit",
            Step::AfterBatch => "after-batch",
            Step::AfterReply => "after-reply",
        }
    }
}

/// Is told of every step.
#[derive(Clone, Default)]
pub struct Probe(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Probe {
    /// Does nothing.
    pub fn none() -> Probe {
        Probe(None)
    }

    /// Calls `hook` at every step.
    pub fn new(hook: impl Fn(Step) + Send + Sync + 'static) -> Probe {
        Probe(Some(Arc::new(hook)))
    }

    /// A step was reached.
    #[inline]
    pub fn reached(&self, step: Step) {
        if let Some(hook) = &self.0 {
            hook(step);
        }
    }
}

/// The probe of the fault tests: `KONTOR_CRASH_AT=<step>:<n>` kills the process when the step is reached for the n-th
/// time, as `kill -9` would.
#[cfg(feature = "crash-points")]
pub fn from_environment() -> anyhow::Result<Probe> {
    use std::sync::atomic::{AtomicU64, Ordering};
    let Ok(setting) = std::env::var("KONTOR_CRASH_AT") else {
        return Ok(Probe::none());
    };
    let (name, count) = setting.split_once(':').unwrap_or((&setting, "1"));
    let wanted = Step::ALL
        .into_iter()
        .find(|step| step.name() == name)
        .ok_or_else(|| anyhow::anyhow!("KONTOR_CRASH_AT names no step: {name}"))?;
    let count: u64 = count.parse()?;
    let seen = AtomicU64::new(0);
    Ok(Probe::new(move |step| {
        if step != wanted || seen.fetch_add(1, Ordering::SeqCst) + 1 != count {
            return;
        }
        if step == Step::DuringCommit {
            // The commit call blocks the shard's thread: another one dies for it, while the request is under way.
            let _ = std::thread::Builder::new().spawn(|| {
                crate::clock::Clock::pause(
                    &*crate::clock::SystemClock::shared(),
                    std::time::Duration::from_micros(700),
                );
                die();
            });
        } else {
            die();
        }
    }))
}

#[cfg(feature = "crash-points")]
fn die() {
    let pid = std::process::id().to_string();
    // SIGKILL by the system's own tool: no unsafe code for a test feature.
    let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
    std::process::abort();
}
