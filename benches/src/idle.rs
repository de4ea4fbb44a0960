//! What a stack costs while nothing happens: threads, descriptors, memory, and CPU time by kind of thread.
//!
//! Everything comes from /proc, before and after a quiet time. Threads are grouped by their names without numbers, so
//! that a report says what an idle shard costs and where. CPU time is the scheduler's, in nanoseconds: ticks of 10 ms are
//! coarse for hundreds of threads that use a few milliseconds each.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::stack::Stack;
use crate::usage::resident_bytes;

/// Groups that a table shows.
const GROUPS_SHOWN: usize = 8;

/// Settings of `load idle`.
#[derive(clap::Args, Clone, Debug)]
pub struct IdleArgs {
    /// stack.json of the running stack, or its directory.
    #[arg(long)]
    pub stack: std::path::PathBuf,
    /// Quiet seconds that are measured.
    #[arg(long, default_value_t = 60)]
    pub duration_s: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What one process costs.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// As in the stack.
    pub process: String,
    /// Threads at the end.
    pub threads: usize,
    /// Open descriptors at the end.
    pub descriptors: usize,
    /// Resident bytes at the end.
    pub rss_bytes: u64,
    /// CPU seconds in a minute, user and system.
    pub cpu_s_per_minute: f64,
    /// Times a second that a thread began to run.
    pub wakeups_per_s: f64,
    /// By kind of thread, the dearest first.
    pub groups: Vec<Group>,
}

/// Threads of one kind.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Group {
    /// Name without numbers.
    pub name: String,
    /// How many.
    pub threads: usize,
    /// CPU seconds of all of them in a minute.
    pub cpu_s_per_minute: f64,
    /// Times a second that one of them began to run.
    pub wakeups_per_s: f64,
}

/// Measures and prints.
pub fn run(args: &IdleArgs) -> anyhow::Result<()> {
    let stack = Stack::load(&args.stack)?;
    let mut watched = stack.processes();
    watched.retain(|watched| watched.name != "driver" && watched.within.is_none());
    let quiet = Duration::from_secs(args.duration_s.max(1));
    let before: Vec<Vec<Threads>> =
        watched.iter().map(|one| one.pids.iter().map(|pid| threads(*pid)).collect()).collect();
    std::thread::sleep(quiet);
    let mut all = Vec::new();
    for (one, before) in watched.iter().zip(&before) {
        for (index, (pid, before)) in one.pids.iter().zip(before).enumerate() {
            let process = if one.pids.len() > 1 { format!("{}-{}", one.name, index + 1) } else { one.name.clone() };
            all.push(measured(process, *pid, before, quiet)?);
        }
    }
    if args.json {
        println!("{}", serde_json::to_string(&all)?);
    } else {
        print!("{}", table(&all));
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
struct Thread {
    name: String,
    cpu_s: f64,
    wakeups: u64,
}

type Threads = BTreeMap<i32, Thread>;

fn threads(pid: i32) -> Threads {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(|id| Some((id, thread(pid, id)?))).collect()
}

/// None when it has ended meanwhile.
fn thread(pid: i32, id: i32) -> Option<Thread> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{id}/{file}")).ok();
    let (schedule, status) = (read("schedstat")?, read("status")?);
    let count =
        |field: &str| -> Option<u64> { status.lines().find_map(|line| line.strip_prefix(field))?.trim().parse().ok() };
    let wakeups = count("voluntary_ctxt_switches:")? + count("nonvoluntary_ctxt_switches:")?;
    Some(Thread { name: kind(read("comm")?.trim()), cpu_s: cpu_seconds(&schedule)?, wakeups })
}

/// Time on a processor, the first field of `schedstat`, in nanoseconds there.
fn cpu_seconds(schedule: &str) -> Option<f64> {
    Some(schedule.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// The name without the numbers that tell its threads apart.
fn kind(name: &str) -> String {
    let kept = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '#');
    if kept.is_empty() { name.to_owned() } else { kept.to_owned() }
}

fn measured(process: String, pid: i32, before: &Threads, quiet: Duration) -> anyhow::Result<Idle> {
    let after = threads(pid);
    anyhow::ensure!(!after.is_empty(), "{process} has ended");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let groups = groups(before, &after, quiet);
    Ok(Idle {
        process,
        threads: after.len(),
        descriptors,
        rss_bytes: resident_bytes(&status).unwrap_or(0),
        cpu_s_per_minute: groups.iter().map(|group| group.cpu_s_per_minute).sum(),
        wakeups_per_s: groups.iter().map(|group| group.wakeups_per_s).sum(),
        groups,
    })
}

fn groups(before: &Threads, after: &Threads, quiet: Duration) -> Vec<Group> {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for (id, now) in after {
        // One that began meanwhile had used nothing.
        let then = before.get(id).filter(|then| then.name == now.name);
        let (cpu_s, wakeups) = then.map_or((0.0, 0), |then| (then.cpu_s, then.wakeups));
        let group = groups.entry(&now.name).or_insert_with(|| Group {
            name: now.name.clone(),
            threads: 0,
            cpu_s_per_minute: 0.0,
            wakeups_per_s: 0.0,
        });
        group.threads += 1;
        group.cpu_s_per_minute += (now.cpu_s - cpu_s) * 60.0 / quiet.as_secs_f64();
        group.wakeups_per_s += now.wakeups.saturating_sub(wakeups) as f64 / quiet.as_secs_f64();
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by(|a, b| b.cpu_s_per_minute.total_cmp(&a.cpu_s_per_minute).then(b.threads.cmp(&a.threads)));
    groups
}

fn table(all: &[Idle]) -> String {
    let mut out = String::from(
        "| process | threads | descriptors | RSS MB | CPU s/min | wake-ups/s |\n|---|---|---|---|---|---|\n",
    );
    for one in all {
        out.push_str(&format!(
            "| {} | {} | {} | {:.0} | {:.2} | {:.0} |\n",
            one.process,
            one.threads,
            one.descriptors,
            one.rss_bytes as f64 / 1e6,
            one.cpu_s_per_minute,
            one.wakeups_per_s
        ));
    }
    out.push_str("\n| process | kind of thread | threads | CPU s/min | wake-ups/s |\n|---|---|---|---|---|\n");
    for one in all {
        for group in one.groups.iter().take(GROUPS_SHOWN) {
            out.push_str(&format!(
                "| {} | {} | {} | {:.2} | {:.0} |\n",
                one.process, group.name, group.threads, group.cpu_s_per_minute, group.wakeups_per_s
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_kind_are_counted_together() {
        for (name, expected) in [
            ("shard-3", "shard"),
            ("shard-11", "shard"),
            ("rdk:broker1", "rdk:broker"),
            ("rdk:broker-1", "rdk:broker"),
            ("rdk:main", "rdk:main"),
            ("42", "42"),
        ] {
            assert_eq!(kind(name), expected);
        }
    }

    #[test]
    fn a_group_holds_what_its_threads_used_meanwhile() {
        let thread = |name: &str, cpu_s, wakeups| Thread { name: name.to_owned(), cpu_s, wakeups };
        let before = Threads::from([(1, thread("a", 1.0, 10)), (2, thread("b", 5.0, 0)), (3, thread("a", 9.0, 9))]);
        let after = Threads::from([(1, thread("a", 1.5, 40)), (2, thread("b", 5.0, 0)), (4, thread("a", 0.5, 30))]);
        let found = groups(&before, &after, Duration::from_secs(30));
        let group = |name: &str, threads, cpu_s_per_minute, wakeups_per_s| Group {
            name: name.to_owned(),
            threads,
            cpu_s_per_minute,
            wakeups_per_s,
        };
        assert_eq!(found, [group("a", 2, 2.0, 2.0), group("b", 1, 0.0, 0.0)]);
    }

    #[test]
    fn cpu_time_is_in_nanoseconds() {
        assert_eq!(cpu_seconds("1500000000 77 12\n"), Some(1.5));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_has_threads() {
        let own = threads(i32::try_from(std::process::id()).unwrap());
        assert!(!own.is_empty());
    }
}
