//! When transfers came and when they were answered, for all of them, read from the topics after the fact: the time at
//! which the broker took the command, and the time at which the processor produced its answer (its commit, some
//! milliseconds more, is not in it). Both clocks are this machine's.

use std::collections::{BTreeMap, HashMap};

use bank::Iban;
use schemas::records::{ConfirmMoneyTransfer, Owner, Uuid};
use schemas::{AvroRecord, partition_of};

use super::{Bank, PARTITIONS, now_ms};

/// A part of a test, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// Its first one.
    pub from_ms: i64,
    /// The first one after it.
    pub to_ms: i64,
}

impl Phase {
    /// From then to now.
    pub fn since(from_ms: i64) -> Phase {
        Phase { from_ms, to_ms: now_ms() }
    }

    fn holds(self, at_ms: i64) -> bool {
        (self.from_ms..self.to_ms).contains(&at_ms)
    }

    fn seconds(self) -> f64 {
        (self.to_ms - self.from_ms).max(1) as f64 / 1000.0
    }
}

/// A transfer as the broker took it.
pub struct Taken {
    /// Of the command.
    pub id: Uuid,
    /// Milliseconds since 1970.
    pub came_ms: i64,
    /// The partitions that have a part in it: of the command, of the payer and of the payee.
    touches: Vec<i32>,
}

struct Answered {
    partition: i32,
    touches: Vec<i32>,
    came_ms: i64,
    answered_ms: i64,
}

/// See the module.
pub struct Timeline(Vec<Answered>);

impl Bank {
    /// Of every transfer that was answered.
    pub async fn timeline(&self) -> Timeline {
        let taken: HashMap<Uuid, Taken> = self.transfers_taken().await.into_iter().map(|one| (one.id, one)).collect();
        let answered = self.transfer_feedback().await.into_iter().filter_map(|feedback| {
            let Taken { touches, came_ms, .. } = taken.get(&feedback.id)?;
            let (touches, came_ms) = (touches.clone(), *came_ms);
            Some(Answered { partition: feedback.partition, touches, came_ms, answered_ms: feedback.at_ms })
        });
        Timeline(answered.collect())
    }

    /// The transfers in `commands`; one that lies there twice comes twice.
    pub async fn transfers_taken(&self) -> Vec<Taken> {
        let records = self.space.read("commands").await.unwrap();
        let taken = |record: &kontor_compose::testing::Record| {
            let value = record.value.as_deref()?;
            let is_transfer = self.name_of(value) == ConfirmMoneyTransfer::full_name();
            let command: ConfirmMoneyTransfer = is_transfer.then(|| self.decode(value))?;
            // Cash and accounts of other banks are in no partition.
            let ours = [&command.from, &command.to].into_iter().filter(|iban| Iban::parse(iban).is_some());
            let parties = ours.map(|iban| partition_of(iban.as_bytes(), PARTITIONS));
            let touches = parties.chain([record.partition]).collect();
            Some(Taken { id: command.id, came_ms: record.timestamp_ms, touches })
        };
        records.iter().filter_map(taken).collect()
    }

    /// Claims of shards in the changelog, in the order of each partition: when, of which shard, by which instance.
    pub async fn claims(&self) -> Vec<(i64, i32, String)> {
        let records = self.space.read("changelog").await.unwrap();
        let claim = |record: kontor_compose::testing::Record| {
            let key = String::from_utf8(record.key?).unwrap();
            let shard = key.strip_prefix("owner/")?.parse().unwrap();
            let owner: Owner = self.decode(record.value.as_deref()?);
            Some((record.timestamp_ms, shard, owner.instance))
        };
        records.into_iter().filter_map(claim).collect()
    }
}

impl Timeline {
    /// `name: 1200 transfers, answered after p50 6 ms, p99 900 ms, at most 1210 ms`, of those that came in the phase.
    pub fn line(&self, name: &str, phase: Phase) -> String {
        let came = self.0.iter().filter(|one| phase.holds(one.came_ms));
        let mut latencies: Vec<i64> = came.map(|one| one.answered_ms - one.came_ms).collect();
        latencies.sort_unstable();
        let at = |percent: usize| latencies.get((latencies.len() * percent / 100).min(latencies.len().max(1) - 1));
        let at = |percent| at(percent).copied().unwrap_or_default();
        let count = latencies.len();
        format!(
            "{name}: {count} transfers, answered after p50 {} ms, p99 {} ms, at most {} ms",
            at(50),
            at(99),
            at(100)
        )
    }

    /// Answers per second by partition.
    pub fn rates(&self, phase: Phase) -> BTreeMap<i32, f64> {
        let mut rates: BTreeMap<i32, f64> = (0..PARTITIONS).map(|partition| (partition, 0.0)).collect();
        for one in self.0.iter().filter(|one| phase.holds(one.answered_ms)) {
            *rates.entry(one.partition).or_default() += 1.0 / phase.seconds();
        }
        rates
    }

    /// Of those that touch nothing but these partitions: how many were answered in the phase, and how many came in it.
    pub fn share(&self, partitions: &[i32], phase: Phase) -> (usize, usize) {
        let within = |one: &&Answered| one.touches.iter().all(|partition| partitions.contains(partition));
        let of =
            |at_ms: fn(&Answered) -> i64| self.0.iter().filter(within).filter(|one| phase.holds(at_ms(one))).count();
        (of(|one| one.answered_ms), of(|one| one.came_ms))
    }

    /// The longest time in which a partition answered nothing, milliseconds.
    pub fn longest_pause_ms(&self, partition: i32, phase: Phase) -> i64 {
        let of_partition = self.0.iter().filter(|one| one.partition == partition && phase.holds(one.answered_ms));
        let mut at_ms: Vec<i64> = of_partition.map(|one| one.answered_ms).chain([phase.from_ms, phase.to_ms]).collect();
        at_ms.sort_unstable();
        at_ms.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}
