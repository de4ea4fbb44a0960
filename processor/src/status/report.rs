//! What is shown, as data and as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use schemas::control::Directory;
use schemas::query::PartitionStatus;
use schemas::records::{Member, ShardRole};
use serde::Serialize;

use super::ask::{Answer, INTERVAL};
use super::read::Control;

/// The state of everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Every shard has an owner that answers, and whose commands run.
    pub serves: bool,
    /// Of the assignment; 0: there is none.
    pub epoch: i64,
    /// Who decided it.
    pub leader: String,
    /// Moves under way.
    pub moves: usize,
    /// By name.
    pub instances: Vec<Instance>,
    /// By number.
    pub shards: Vec<Shard>,
}

/// One member.
#[derive(Debug, Serialize)]
pub struct Instance {
    name: String,
    endpoint: String,
    rack: String,
    /// Milliseconds since it last said that it lives.
    heard_ms_ago: i64,
    /// Whether its query service answers.
    answers: bool,
    active: usize,
    standby: usize,
    /// Commits of its partitions.
    commits_per_second: f64,
}

/// One shard.
#[derive(Debug, Serialize)]
pub struct Shard {
    shard: i32,
    active: String,
    /// As its owner says it, the worst of its partitions; `silent` when it does not answer.
    state: String,
    /// Why, where its owner has more to say than that.
    reason: String,
    /// Changelog records before its commands run.
    remaining: i64,
    /// Event records before its history is complete.
    history_remaining: i64,
    standbys: Vec<Follower>,
    /// Who becomes the owner when it has caught up.
    warming: Option<Follower>,
    /// Where it cannot go on before an operator has looked at it, with the reason as far as it is said.
    stopped: BTreeMap<String, String>,
}

/// One that follows a shard.
#[derive(Debug, Serialize)]
pub struct Follower {
    name: String,
    /// Changelog records that it lacks; -1: not known.
    lag: i64,
}

impl Report {
    /// Puts together what was read and what was said.
    pub fn of(control: &Control, answers: &BTreeMap<String, Answer>) -> Report {
        let directory = &control.directory;
        let assignment = directory.assignment.clone().unwrap_or_default();
        let shards: Vec<Shard> = assignment
            .shards
            .iter()
            .enumerate()
            .map(|(index, owners)| {
                let shard = i32::try_from(index).unwrap_or(i32::MAX);
                let follower = |name: &String| {
                    let lag = lag_of(directory.members.get(name), shard);
                    Follower { name: name.clone(), lag }
                };
                let partitions = answers.get(&owners.active).map(|answer| of_shard(&answer.after.partitions, shard));
                let (state, reason) = partitions.as_deref().map_or(("silent", ""), worst);
                let sum = |of: fn(&PartitionStatus) -> i64| partitions.iter().flatten().map(|status| of(status)).sum();
                Shard {
                    shard,
                    active: owners.active.clone(),
                    state: state.to_owned(),
                    reason: reason.to_owned(),
                    remaining: sum(|status| status.changelog_remaining),
                    history_remaining: sum(|status| status.history_remaining),
                    standbys: owners.standbys.iter().map(follower).collect(),
                    warming: (!owners.warming.is_empty()).then(|| follower(&owners.warming)),
                    stopped: stopped_at(directory, answers, shard),
                }
            })
            .collect();
        let instances = directory.members.values().map(|member| instance(control, member, answers)).collect();
        Report {
            serves: !shards.is_empty() && shards.iter().all(|shard| shard.state == "running"),
            epoch: assignment.epoch,
            leader: assignment.leader,
            moves: shards.iter().filter(|shard| shard.warming.is_some()).count(),
            instances,
            shards,
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "epoch {}, leader {}, {} moves under way", self.epoch, named(&self.leader), self.moves);
        let rows = self.instances.iter().map(|one| {
            let heard = format!("{:.1} s ago", one.heard_ms_ago as f64 / 1000.0);
            let answers = if one.answers { "yes" } else { "NO" };
            let rate = format!("{:.0}", one.commits_per_second);
            let (active, standby) = (one.active.to_string(), one.standby.to_string());
            [one.name.clone(), one.endpoint.clone(), one.rack.clone(), heard, answers.to_owned(), active, standby, rate]
        });
        let head = ["instance", "endpoint", "rack", "heard", "answers", "active", "standby", "commits/s"];
        columns(&mut out, &head, rows.map(Vec::from).collect());
        let rows = self.shards.iter().map(|one| {
            let standbys: Vec<String> = one.standbys.iter().map(Follower::text).collect();
            let warming = one.warming.as_ref().map(Follower::text).unwrap_or_default();
            let (remaining, history) = (one.remaining.to_string(), one.history_remaining.to_string());
            let active = named(&one.active).to_owned();
            vec![one.shard.to_string(), active, one.state.clone(), remaining, history, standbys.join(" "), warming]
        });
        let head = ["shard", "active", "state", "to restore", "history", "standbys (lag)", "warming (lag)"];
        columns(&mut out, &head, rows.collect());
        for one in &self.shards {
            if !one.reason.is_empty() && !one.stopped.contains_key(&one.active) {
                let _ = writeln!(out, "\nshard {} is {} at {}: {}", one.shard, one.state, one.active, one.reason);
            }
            for (name, reason) in &one.stopped {
                let _ = writeln!(out, "\nshard {} stopped at {name}, and needs an operator: {reason}", one.shard);
            }
        }
        out
    }
}

impl Follower {
    fn text(&self) -> String {
        if self.lag < 0 { format!("{} (?)", self.name) } else { format!("{} ({})", self.name, self.lag) }
    }
}

fn named(name: &str) -> &str {
    if name.is_empty() { "nobody" } else { name }
}

fn instance(control: &Control, member: &Member, answers: &BTreeMap<String, Answer>) -> Instance {
    let role = |role: ShardRole| member.shards.iter().filter(|shard| shard.role == role).count();
    let answer = answers.get(&member.instance);
    let commits = |partitions: &[PartitionStatus]| {
        partitions.iter().filter(|status| status.state == "running").map(|status| status.commit_sequence).sum::<u64>()
    };
    let rate = answer.map_or(0.0, |answer| {
        let made = commits(&answer.after.partitions).saturating_sub(commits(&answer.before.partitions));
        made as f64 / INTERVAL.as_secs_f64()
    });
    Instance {
        name: member.instance.clone(),
        endpoint: member.endpoint.clone(),
        rack: member.rack.clone(),
        heard_ms_ago: control.heard_ms.get(&member.instance).map_or(-1, |at| (control.now_ms - at).max(0)),
        answers: answer.is_some(),
        active: role(ShardRole::Active),
        standby: role(ShardRole::Standby),
        commits_per_second: rate,
    }
}

fn stopped_at(directory: &Directory, answers: &BTreeMap<String, Answer>, shard: i32) -> BTreeMap<String, String> {
    let stopped = directory.members.values().filter(|member| member.stopped.contains(&shard));
    let reason = |member: &Member| {
        let answer = answers.get(&member.instance)?;
        let partitions = of_shard(&answer.after.partitions, shard);
        partitions.iter().map(|status| status.reason.clone()).find(|reason| !reason.is_empty())
    };
    let of = |member: &Member| (member.instance.clone(), reason(member).unwrap_or_else(|| "see its log".to_owned()));
    stopped.map(of).collect()
}

fn lag_of(member: Option<&Member>, shard: i32) -> i64 {
    let of = |member: &Member| member.shards.iter().find(|part| part.shard == shard).map(|part| part.lag);
    member.and_then(of).unwrap_or(-1)
}

fn of_shard(partitions: &[PartitionStatus], shard: i32) -> Vec<&PartitionStatus> {
    partitions.iter().filter(|status| status.shard == shard).collect()
}

/// The states of a partition, the one that is furthest from running last. One that is not known is further.
const STATES: [&str; 8] = ["running", "standby", "elsewhere", "starting", "restoring", "waiting", "stalled", "stopped"];

/// The state that is furthest from running, and the reason of the first partition that has it.
fn worst<'s>(partitions: &[&'s PartitionStatus]) -> (&'s str, &'s str) {
    let rank = |state: &str| STATES.iter().position(|known| *known == state).unwrap_or(STATES.len());
    let worst = partitions.iter().rev().max_by_key(|status| rank(&status.state));
    worst.map_or(("unknown", ""), |status| (&status.state, &status.reason))
}

/// Columns as wide as what is in them.
fn columns(out: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    let cells = std::iter::once(head.iter().map(|name| (*name).to_owned()).collect()).chain(rows);
    let cells: Vec<Vec<String>> = cells.collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    out.push('\n');
    for row in &cells {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::query::StatusResponse;
    use schemas::records::{Assignment, MemberShard, ShardOwners};

    fn member(name: &str, shards: &[(i32, ShardRole, i64)]) -> Member {
        Member {
            instance: name.to_owned(),
            endpoint: format!("http://{name}:1"),
            rack: "r".to_owned(),
            beat: 1,
            shards: shards
                .iter()
                .map(|(shard, role, lag)| MemberShard { shard: *shard, role: *role, lag: *lag })
                .collect(),
            ..Member::default()
        }
    }

    fn answer(states: &[(i32, &str)], commits: [u64; 2]) -> Answer {
        let response = |commit_sequence| StatusResponse {
            partitions: states
                .iter()
                .map(|(shard, state)| PartitionStatus {
                    shard: *shard,
                    state: (*state).to_owned(),
                    commit_sequence,
                    ..PartitionStatus::default()
                })
                .collect(),
            ..StatusResponse::default()
        };
        Answer { before: response(commits[0]), after: response(commits[1]) }
    }

    fn report(states: &[(i32, &str)]) -> Report {
        let owners = |standby: &str, warming: &str| ShardOwners {
            active: "a".to_owned(),
            standbys: vec![standby.to_owned()],
            warming: warming.to_owned(),
        };
        let assignment = Assignment {
            epoch: 7,
            leader: "a".to_owned(),
            shards: vec![owners("b", ""), owners("c", "b")],
            ..Assignment::default()
        };
        let a = member("a", &[(0, ShardRole::Active, 0), (1, ShardRole::Active, 0)]);
        let mut b = member("b", &[(0, ShardRole::Standby, 12), (1, ShardRole::Standby, -1)]);
        b.stopped.push(1);
        let members = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let directory = Directory { assignment: Some(assignment), members };
        let heard_ms = BTreeMap::from([("a".to_owned(), 9_900), ("b".to_owned(), 8_500)]);
        let control = Control { directory, heard_ms, now_ms: 10_000 };
        Report::of(&control, &BTreeMap::from([("a".to_owned(), answer(states, [100, 150]))]))
    }

    #[test]
    fn everything_that_is_known_is_in_the_table() {
        let report = report(&[(0, "running"), (1, "running")]);
        assert!(report.serves);
        let lines: Vec<String> =
            report.table().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "epoch 7, leader a, 1 moves under way",
                "",
                "instance endpoint rack heard answers active standby commits/s",
                "a http://a:1 r 0.1 s ago yes 2 0 200",
                "b http://b:1 r 1.5 s ago NO 0 2 0",
                "",
                "shard active state to restore history standbys (lag) warming (lag)",
                "0 a running 0 0 b (12)",
                "1 a running 0 0 c (?) b (?)",
                "",
                "shard 1 stopped at b, and needs an operator: see its log",
            ]
        );
    }

    #[test]
    fn what_is_furthest_from_running_is_said_with_its_reason() {
        let partition = |state: &str, reason: &str| PartitionStatus {
            state: state.to_owned(),
            reason: reason.to_owned(),
            ..PartitionStatus::default()
        };
        let partitions = [
            partition("running", ""),
            partition("restoring", ""),
            partition("stalled", "at 7"),
            partition("stalled", ""),
        ];
        let partitions: Vec<&PartitionStatus> = partitions.iter().collect();
        assert_eq!(worst(&partitions), ("stalled", "at 7"));
        assert_eq!(worst(&partitions[..2]), ("restoring", ""));
        assert_eq!(worst(&[]), ("unknown", ""));
        let mut report = report(&[(0, "running"), (1, "stalled")]);
        report.shards[1].reason = "a transaction is open".to_owned();
        assert!(report.table().contains("\nshard 1 is stalled at a: a transaction is open\n"), "{}", report.table());
    }

    #[test]
    fn one_shard_that_does_not_run_is_enough_to_say_so() {
        let report = report(&[(0, "running"), (1, "restoring")]);
        assert!(!report.serves);
        assert_eq!(report.shards[1].state, "restoring");
    }
}
