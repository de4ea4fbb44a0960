//! How a steady load is answered while partitions move: the share of those that stay, the pause of those that move.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bank, Cluster, PARTITIONS, Phase, Times, now_ms};

/// Also what began before the instances were seen to be settled, and ended after it.
const MARGIN_MS: i64 = 1_000;

/// Which instance owns which partition.
type Owners = BTreeMap<i32, String>;

/// One change of the instances.
struct Change {
    phase: Phase,
    /// Partitions that have another owner afterwards.
    moved: Vec<i32>,
    stayed: Vec<i32>,
}

/// The changes of a campaign, in their order.
pub struct Pace {
    from_ms: i64,
    before: Owners,
    changes: Vec<Change>,
}

async fn owners(cluster: &Cluster) -> Owners {
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
        Pace { from_ms: now_ms(), before: owners(cluster).await, changes: Vec::new() }
    }

    /// The next change begins now.
    pub fn changing(&mut self) {
        self.from_ms = now_ms();
    }

    /// The instances are settled again.
    pub async fn changed(&mut self, cluster: &Cluster) {
        let phase = Phase::since(self.from_ms);
        let after = owners(cluster).await;
        let (stayed, moved) = (0..PARTITIONS).partition(|partition| self.before.get(partition) == after.get(partition));
        self.before = after;
        self.changes.push(Change { phase, moved, stayed });
    }

    /// Prints what the answers to transfers say. A transfer to a partition that moves waits for it, wherever its payer
    /// is: what stayed is judged by the transfers that touch nothing else.
    pub async fn print(&self, bank: &Bank) {
        let timeline = bank.timeline().await;
        let (mut shares, mut together) = (Vec::new(), (0, 0));
        let (mut pauses, mut of_stayed) = (Times::default(), Times::default());
        for Change { phase, moved, stayed } in &self.changes {
            let (answered, came) = timeline.share(stayed, *phase);
            together = (together.0 + answered, together.1 + came);
            shares.extend((answered * 100).checked_div(came));
            let wide = Phase { from_ms: phase.from_ms - MARGIN_MS, to_ms: phase.to_ms + MARGIN_MS };
            let pause =
                |partition: &i32| Duration::from_millis(timeline.longest_pause_ms(*partition, wide).unsigned_abs());
            moved.iter().for_each(|partition| pauses.add(pause(partition)));
            stayed.iter().for_each(|partition| of_stayed.add(pause(partition)));
        }
        shares.sort_unstable();
        let at = |percent: usize| shares.get(shares.len() * percent / 100).copied().unwrap_or_default();
        let (answered, came) = together;
        println!(
            "{} changes: partitions that stayed answered {answered} transfers and got {came}, {} %; by change p10 {}, p50 {}",
            self.changes.len(),
            answered * 100 / came.max(1),
            at(10),
            at(50),
        );
        println!("{}", of_stayed.line("longest time between two answers of a partition that stayed"));
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
