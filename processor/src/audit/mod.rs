//! `processor audit`: recomputes the standing invariants from the topics alone.
//!
//! cut -> read (decode to facts) -> fold -> checks -> report. It shares no rule and no state with the engine, so that
//! a defect there cannot hide itself here; it writes nothing to the topics and can run beside a live system. Only with
//! `--store` it opens files, and RocksDB writes where it opens: the processor of these stores must be stopped
//! (stores.rs). A system with work in flight has no consistent cut, so then it says what is pending instead of
//! guessing.

mod breach;
mod checks;
mod cut;
mod decode;
mod entries;
mod facts;
mod fold;
#[cfg(test)]
pub(crate) mod in_memory;
mod read;
mod report;
mod scope;
mod stores;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use processor::clock::SystemClock;
use schemas::topics::Topology;

use crate::config::ClusterArgs;
use crate::dead_letters::RetentionArgs;
use facts::Topic;
use fold::Fold;
use read::{Cursor, Ends, Source};
use report::Report;

/// Recompute the invariants of the bank from its topics.
///
/// Exit codes: 0 all hold, 1 a breach was found, 2 it could not be decided (work in flight, topics unreadable, stores
/// behind their log, or commands without an answer whose dead letters may have been deleted).
#[derive(clap::Args, Clone, Debug)]
pub struct AuditArgs {
    /// Of the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Wait up to so many seconds for work in flight to be done.
    #[arg(long, default_value_t = 0)]
    pub wait_s: u64,
    /// Of the memory of ids.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// Of the stores.
    #[command(flatten)]
    pub stores: stores::StoreArgs,
}

/// Audits and prints. The code is that of the process.
pub fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let report = match examine(&args) {
        Ok(report) => report,
        Err(error) => Report::unreadable(&error),
    };
    let text = if args.json { report.to_json()? } else { report.to_table() };
    println!("{}", text.trim_end());
    Ok(ExitCode::from(report.exit_code()))
}

fn examine(args: &AuditArgs) -> anyhow::Result<Report> {
    let topology = args.cluster.topology()?;
    let cache = args.cluster.schemas(None)?;
    let outcome_retention_ms = args.retention.ms()?;
    let letters_kept_from_ms = kept_from_ms(letter_retention_ms(&topology), SystemClock::shared().wall_ms());
    let in_stores = stores::check(&args.stores, &args.cluster.bootstrap, &topology, &cache)?;
    let source = Source::new(args.cluster.bootstrap.clone(), topology, cache);
    let started = now();
    let deadline = started + Duration::from_secs(args.wait_s);
    let mut fold = Fold::new(source.partitions());
    let mut cursor = Cursor::new();
    loop {
        let (ends, under_way) = cut::cut(|topics| source.ends(topics))?;
        fold.lost_letters(trimmed_partitions(&ends), letters_kept_from_ms);
        source.read(&ends, &mut cursor, &mut fold, &|topic, count| {
            if !args.json && count > 0 {
                eprintln!("read {count} records of {}", topic.base());
            }
        })?;
        let mut pending = checks::pending(&fold);
        pending.extend(under_way);
        let mut undecided = missing_starts(&ends);
        if pending.is_empty() || !undecided.is_empty() || now() >= deadline {
            let drained = pending.is_empty() && undecided.is_empty();
            let mut judged = checks::judge(&fold, drained, outcome_retention_ms);
            undecided.extend(judged.undecided);
            judged.checks.extend(in_stores.check);
            pending.extend(in_stores.pending);
            let checks = judged.checks;
            return Ok(Report::new(&fold, checks, pending, undecided, started.elapsed()));
        }
    }
}

/// Partitions whose oldest dead letters were deleted.
fn trimmed_partitions(ends: &Ends) -> Vec<i32> {
    let trimmed = ends.iter().filter(|((topic, _), end)| *topic == Topic::DeadLetters && end.low > 0);
    trimmed.map(|((_, partition), _)| *partition).collect()
}

/// For how long the topics declare that dead letters stay; `None`: for ever, or they do not say.
fn letter_retention_ms(topology: &Topology) -> Option<i64> {
    let declared = topology.topic(Topic::DeadLetters.base())?.config.get("retention.ms")?;
    declared.parse::<i64>().ok().filter(|ms| *ms > 0)
}

/// The letter of a command from then on is still there. A letter is younger than its command, so it stays for longer;
/// less a tenth, because the clocks of broker, processor and this machine differ. Letters that should have stayed for
/// ever were deleted by somebody, of whatever age: then nothing is known to be there.
fn kept_from_ms(retention_ms: Option<i64>, now_ms: i64) -> i64 {
    retention_ms.map_or(i64::MAX, |retention_ms| now_ms.saturating_sub(retention_ms - retention_ms / 10))
}

/// Topics that must be whole and are not.
fn missing_starts(ends: &Ends) -> Vec<String> {
    let trimmed = ends.iter().filter(|((topic, _), end)| !topic.may_lose_its_start() && end.low > 0);
    trimmed
        .map(|((topic, partition), end)| {
            format!("{}-{partition}: records before {} were deleted, so nothing adds up", topic.base(), end.low)
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a deadline of an operator's tool, outside of the engine")]
fn now() -> Instant {
    Instant::now()
}
