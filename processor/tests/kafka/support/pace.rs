//! How a steady load is answered while partitions move: the share of those that stay, the pause of those that move.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bank, Cluster, PARTITIONS, Phase, Times, now_ms};

/// Also what began before the instances were seen to be settled, and ended after it.
const MARGIN_MS: i64 = 1_000;
/// A broker that took nothing of a steady load for so long stood still.
const STANDSTILL_MS: i64 = 1_000;

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
    /// Longest time in which the broker took transfers and nobody answered one, of whatever partition; the first answers
    /// are left out.
    pub async fn longest_silence(&self, but_for: usize) -> Duration {
        let answers = self.space.read("money_transfer_feedback").await.unwrap();
        let mut answered_ms: Vec<i64> = answers.iter().map(|record| record.timestamp_ms).collect();
        answered_ms.sort_unstable();
        let mut taken_ms: Vec<i64> = self.transfers_taken().await.iter().map(|one| one.came_ms).collect();
        taken_ms.sort_unstable();
        let longest = longest_silence_ms(&answered_ms[but_for..], &taken_ms);
        Duration::from_millis(u64::try_from(longest).unwrap())
    }
}

/// The longest time between two answers, without what the broker stood still of it: it was seen to take nothing from
/// anybody for ten seconds (why is not known), and that says nothing of the instances. Both sorted.
fn longest_silence_ms(answered_ms: &[i64], taken_ms: &[i64]) -> i64 {
    let gaps = taken_ms.windows(2).map(|pair| (pair[0], pair[1]));
    let standstills: Vec<(i64, i64)> = gaps.filter(|(from, to)| to - from >= STANDSTILL_MS).collect();
    let silence = |pair: &[i64]| {
        let shared = |(from, to): &(i64, i64)| (pair[1].min(*to) - pair[0].max(*from)).max(0);
        pair[1] - pair[0] - standstills.iter().map(shared).sum::<i64>()
    };
    answered_ms.windows(2).map(silence).max().unwrap_or(i64::MAX)
}

#[test]
fn a_silence_is_as_long_as_commands_came_in_it() {
    let every_5_ms: Vec<i64> = (0..4_000).map(|nth| nth * 5).collect();
    assert_eq!(longest_silence_ms(&[100, 200, 12_200, 12_300], &every_5_ms), 12_000);
    assert_eq!(longest_silence_ms(&[100], &every_5_ms), i64::MAX, "who answered once has not gone on");
}

#[test]
fn what_the_broker_stood_still_is_no_silence_of_the_instances() {
    let taken: Vec<i64> = (0..200).map(|nth| nth * 5).chain((2_200..3_000).map(|nth| nth * 5)).collect();
    // From 995 to 11,000 nothing was taken; the answers stop before it and come again after it.
    assert_eq!(longest_silence_ms(&[500, 900, 13_000], &taken), 13_000 - 900 - (11_000 - 995));
    // Of one that an answer lies in, each side has its part.
    assert_eq!(longest_silence_ms(&[500, 5_000, 13_000], &taken), 13_000 - 11_000);
    // Shorter gaps are the pace of the load.
    assert_eq!(longest_silence_ms(&[0, 2_000], &[0, 999, 1_998]), 2_000);
}
