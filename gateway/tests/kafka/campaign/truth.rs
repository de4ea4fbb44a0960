//! What really happened, and whether subscribers were told exactly that.
//!
//! The truth is the topic of balance changes, read committed to its end when nothing is under way any more. Ids rise
//! within a partition, so "everything after the cursor" is a set of ids in an order.

use super::fleet::PARTITIONS;
use super::subscriber::{Heard, Plan};
use super::traffic::Paid;
use crate::support::{decoded, schemas_of};
use gateway::live::cursor::Cursor;
use kontor_compose::Namespace;
use schemas::records::BalanceChanged;
use std::collections::BTreeMap;
use uuid::Uuid;

/// All changes of balances, by partition and in the order of the log.
pub struct Truth {
    changes: Vec<BalanceChanged>,
}

impl Truth {
    /// Up to the end of now. Ids must rise within a partition.
    pub async fn read(space: &Namespace) -> Self {
        let schemas = schemas_of(space);
        let mut changes: Vec<BalanceChanged> = Vec::new();
        let mut last = BTreeMap::new();
        for record in space.read("balance_changed").await.unwrap() {
            let change: BalanceChanged = decoded(&schemas, &record.value.unwrap()).await;
            assert_eq!(partition_of(change.transaction_id), record.partition);
            let before = last.insert(record.partition, change.transaction_id).unwrap_or(0);
            assert!(before < change.transaction_id, "{before} before {}", change.transaction_id);
            changes.push(change);
        }
        Self { changes }
    }

    /// Each of these has one effect: one debit and one credit.
    pub fn assert_paid_once(&self, paid: &[Paid]) {
        let mut effects: BTreeMap<Uuid, Vec<(&str, i64)>> = BTreeMap::new();
        for change in &self.changes {
            let Some(id) = change.transfer_id else { continue };
            effects.entry(id.into()).or_default().push((&change.iban, change.changed_by));
        }
        for one in paid {
            let mut expected = vec![(one.from.as_str(), -one.cents), (one.to.as_str(), one.cents)];
            let mut found = effects.remove(&one.uuid).unwrap_or_default();
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{one:?}");
        }
    }

    /// What a subscriber must have heard, by partition; empty when it must have heard something first to tell.
    fn expected(&self, plan: &Plan, heard: &Heard) -> BTreeMap<i32, Vec<i64>> {
        let Some(start) = plan.after.as_ref().or(heard.first_cursor.as_ref()) else { return BTreeMap::new() };
        // Without a cursor to begin with, the first transaction itself is the beginning.
        let first = if plan.after.is_none() { heard.ids.first().copied() } else { None };
        let start = Cursor::decode(start).unwrap();
        let is_after = |id: i64| match &start {
            Cursor::Account { transaction_id, .. } => id > *transaction_id,
            Cursor::All(last) => id > last[partition_of(id) as usize],
        };
        let wanted = |change: &&BalanceChanged| plan.iban.as_ref().is_none_or(|iban| *iban == change.iban);
        let ids = self.changes.iter().filter(wanted).map(|change| change.transaction_id);
        by_partition(ids.filter(|id| first == Some(*id) || is_after(*id)))
    }

    /// How many transactions each subscriber must have heard.
    pub fn counts(&self, plans: &[Plan], heard: &[Heard]) -> Vec<usize> {
        let count = |(plan, heard)| self.expected(plan, heard).values().map(Vec::len).sum();
        plans.iter().zip(heard).map(count).collect()
    }

    /// Every subscriber has heard something, and from where it began everything, once and in order. Returns how many
    /// transactions all of them have heard.
    pub fn assert_heard(&self, plans: &[Plan], heard: &[Heard]) -> usize {
        let mut wrong = Vec::new();
        for (number, (plan, heard)) in plans.iter().zip(heard).enumerate() {
            let (expected, found) = (self.expected(plan, heard), by_partition(heard.ids.iter().copied()));
            if heard.ids.is_empty() {
                wrong.push(format!("{number} heard nothing: {plan:?} {:?}", heard.ends));
            }
            for partition in 0..PARTITIONS {
                let none = Vec::new();
                let (expected, found) =
                    (expected.get(&partition).unwrap_or(&none), found.get(&partition).unwrap_or(&none));
                if expected != found {
                    let what = difference(expected, found);
                    wrong.push(format!("{number} in partition {partition}: {what}; {plan:?} {:?}", heard.ends));
                }
            }
        }
        assert!(wrong.is_empty(), "{} sequences are wrong:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
        heard.iter().map(|heard| heard.ids.len()).sum()
    }
}

fn partition_of(id: i64) -> i32 {
    (id % i64::from(PARTITIONS)) as i32
}

fn by_partition(ids: impl Iterator<Item = i64>) -> BTreeMap<i32, Vec<i64>> {
    let mut all: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    ids.for_each(|id| all.entry(partition_of(id)).or_default().push(id));
    all
}

/// What one has and the other has not, or that the order differs.
fn difference(expected: &[i64], found: &[i64]) -> String {
    let lacks: Vec<_> = expected.iter().filter(|id| !found.contains(id)).collect();
    let extra: Vec<_> = found.iter().filter(|id| !expected.contains(id)).collect();
    let twice: Vec<_> = found.windows(2).filter(|two| two[0] >= two[1]).collect();
    format!("{} of {}, lacks {lacks:?}, should not have {extra:?}, not rising {twice:?}", found.len(), expected.len())
}
