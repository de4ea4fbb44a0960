//! How a steady load is answered while partitions move: the rate of those that stay, the pause of those that move.
//!
//! Judged afterwards, by the times at which answers were written to their topic.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Bank, Cluster, PARTITIONS, Times};

/// Who owned what, and when that was the case.
type Settled = (u64, BTreeMap<i32, String>);

/// One change of the instances.
struct Change {
    from_ms: u64,
    to_ms: u64,
    /// Partitions that have another owner afterwards.
    moved: Vec<i32>,
}

/// The changes of a campaign, in their order.
pub struct Pace {
    began_ms: u64,
    before: Settled,
    changes: Vec<Change>,
}

#[expect(clippy::disallowed_methods, reason = "compared with the times of records")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

async fn owners(cluster: &Cluster) -> BTreeMap<i32, String> {
    let mut owners = BTreeMap::new();
    for name in cluster.names() {
        for partition in cluster.owned(&name).await {
            owners.insert(partition, name.clone());
        }
    }
    owners
}

impl Pace {
    /// Of instances that are settled.
    pub async fn start(cluster: &Cluster) -> Pace {
        let began_ms = now_ms();
        Pace { began_ms, before: (began_ms, owners(cluster).await), changes: Vec::new() }
    }

    /// The next change begins now.
    pub fn changing(&mut self) {
        self.before.0 = now_ms();
    }

    /// The instances are settled again.
    pub async fn changed(&mut self, cluster: &Cluster) {
        let (to_ms, after) = (now_ms(), owners(cluster).await);
        let (from_ms, before) = std::mem::replace(&mut self.before, (to_ms, after));
        let moved = (0..PARTITIONS).filter(|partition| before.get(partition) != self.before.1.get(partition)).collect();
        self.changes.push(Change { from_ms, to_ms, moved });
    }

    /// Prints what the answers to transfers say.
    pub async fn print(&self, bank: &Bank) {
        let mut answers: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
        for record in bank.space.read("money_transfer_feedback").await.unwrap() {
            answers.entry(record.partition).or_default().push(u64::try_from(record.timestamp_ms).unwrap());
        }
        answers.values_mut().for_each(|times| times.sort_unstable());
        let between = |partition: i32, from_ms: u64, to_ms: u64| {
            let times = answers.get(&partition).map_or(&[][..], Vec::as_slice);
            let from = times.partition_point(|time| *time < from_ms);
            &times[from..times.partition_point(|time| *time <= to_ms).max(from)]
        };
        let rate =
            |partition, from_ms, to_ms| between(partition, from_ms, to_ms).len() as f64 / (to_ms - from_ms) as f64;
        let (mut stayed, mut pauses, mut moved) = (Vec::new(), Times::default(), 0);
        for change in &self.changes {
            for partition in 0..PARTITIONS {
                let (from_ms, to_ms) = (change.from_ms, change.to_ms.max(change.from_ms + 1));
                if change.moved.contains(&partition) {
                    moved += 1;
                    // Also what began before the instances were seen to be settled.
                    let times = between(partition, from_ms.saturating_sub(1_000), to_ms + 1_000);
                    let pause = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(to_ms - from_ms);
                    pauses.add(Duration::from_millis(pause));
                } else {
                    let usual = rate(partition, self.began_ms, self.before.0.max(self.began_ms + 1));
                    stayed.push((rate(partition, from_ms, to_ms) / usual * 100.0).round() as i64);
                }
            }
        }
        stayed.sort_unstable();
        let of = |share: usize| stayed.get(stayed.len() * share / 100).copied().unwrap_or_default();
        println!(
            "{} changes, {moved} partitions moved; {} stayed, with so many percent of their rate: p10 {}, p50 {}, least {}",
            self.changes.len(),
            stayed.len(),
            of(10),
            of(50),
            of(0),
        );
        println!("{}", pauses.line("longest time between two answers of a partition that moved"));
    }
}

impl Bank {
    /// Longest time between two answers to transfers, of whatever partition, but for the first ones.
    pub async fn longest_silence(&self, but_for: usize) -> Duration {
        let answers = self.space.read("money_transfer_feedback").await.unwrap();
        let mut times: Vec<i64> = answers.iter().map(|record| record.timestamp_ms).collect();
        times.sort_unstable();
        let longest = times[but_for..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(i64::MAX);
        Duration::from_millis(u64::try_from(longest).unwrap())
    }
}
