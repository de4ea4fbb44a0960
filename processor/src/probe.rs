//! Named steps of the commit path, at which tests make the process (or the simulated worker) die or stand still.
//!
//! A release binary passes [`Probe::none`] and cannot be told otherwise; only the feature `crash-points` compiles the
//! probe that kills and stalls.

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

/// The probe of the fault tests. `KONTOR_CRASH_AT=<step>:<n>` kills the process when the step is reached for the n-th
/// time, as `kill -9` would; a thread that reaches it while the process dies does not pass it either, but at
/// `during-commit`, where all go on until then. `KONTOR_STALL_AT=<step>:<n>:<ms>`, several separated by commas, makes
/// the thread that reaches the step then stand still for so long; `each` instead of n makes every one do so.
#[cfg(feature = "crash-points")]
pub fn from_environment() -> anyhow::Result<Probe> {
    let crash = std::env::var("KONTOR_CRASH_AT").ok().map(|setting| crash_at(&setting)).transpose()?;
    let stalls = std::env::var("KONTOR_STALL_AT").unwrap_or_default();
    let stalls = stalls.split(',').filter(|setting| !setting.is_empty()).map(stall_at);
    let hooks = crash.into_iter().map(Ok).chain(stalls).collect::<anyhow::Result<Vec<_>>>()?;
    if hooks.is_empty() {
        return Ok(Probe::none());
    }
    Ok(Probe::new(move |step| hooks.iter().for_each(|hook| hook(step))))
}

#[cfg(feature = "crash-points")]
type Hook = Box<dyn Fn(Step) + Send + Sync>;

#[cfg(feature = "crash-points")]
fn step_of(name: &str) -> anyhow::Result<Step> {
    let named = Step::ALL.into_iter().find(|step| step.name() == name);
    named.ok_or_else(|| anyhow::anyhow!("there is no step {name:?} to crash or to stall at"))
}

/// The how many-th time it is that this step is reached, from 1; `None` at other steps.
#[cfg(feature = "crash-points")]
fn counted(wanted: Step) -> impl Fn(Step) -> Option<u64> + Send + Sync {
    use std::sync::atomic::{AtomicU64, Ordering};
    let seen = AtomicU64::new(0);
    move |step| (step == wanted).then(|| seen.fetch_add(1, Ordering::SeqCst) + 1)
}

#[cfg(feature = "crash-points")]
fn crash_at(setting: &str) -> anyhow::Result<Hook> {
    let (name, count) = setting.split_once(':').unwrap_or((setting, "1"));
    let (reached, last) = (counted(step_of(name)?), count.parse()?);
    Ok(Box::new(move |step| {
        // Dying takes milliseconds, in which another shard would go on to its commit.
        if reached(step).is_none_or(|time| time < last) {
            return;
        }
        if step == Step::DuringCommit {
            // The commit call blocks the shard's thread: another one dies for it, while the request is under way.
            let _ = std::thread::Builder::new().spawn(|| {
                pause(std::time::Duration::from_micros(700));
                die();
            });
        } else {
            die();
        }
    }))
}

#[cfg(feature = "crash-points")]
fn stall_at(setting: &str) -> anyhow::Result<Hook> {
    let parts: Vec<&str> = setting.split(':').collect();
    let [name, count, ms] = parts[..] else { anyhow::bail!("a stall is <step>:<n>:<ms>, not {setting:?}") };
    let (wanted, time) = (step_of(name)?, std::time::Duration::from_millis(ms.parse()?));
    if count == "each" {
        return Ok(Box::new(move |step| {
            if step == wanted {
                pause(time);
            }
        }));
    }
    let (reached, nth) = (counted(wanted), count.parse()?);
    Ok(Box::new(move |step| {
        if reached(step) == Some(nth) {
            tracing::warn!(step = step.name(), ms = time.as_millis() as u64, "stands still");
            pause(time);
            tracing::warn!(step = step.name(), "goes on after a stall");
        }
    }))
}

#[cfg(feature = "crash-points")]
fn pause(time: std::time::Duration) {
    crate::clock::Clock::pause(&*crate::clock::SystemClock::shared(), time);
}

#[cfg(feature = "crash-points")]
fn die() {
    let pid = std::process::id().to_string();
    // SIGKILL by the system's own tool: no unsafe code for a test feature.
    let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
    std::process::abort();
}
