//! Asks every instance for every partition, all the time, and holds the answers against each other.
//!
//! A fresh answer is of a commit that is not older than any that was answered fresh before it was asked for, by whomever;
//! and two answers of one commit are the same. Whoever was replaced without knowing it would break the first rule, two
//! owners at once the second.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{Cluster, Holder, Queries};

/// Between two rounds of questions to one instance: three of them are not to be the load of the test.
const PACE: Duration = Duration::from_millis(20);
/// An instance that takes longer was stopped; it is asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub struct Witness {
    stop: Arc<AtomicBool>,
    asking: Vec<JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The latest commit that was answered fresh, by partition.
    latest: BTreeMap<i32, u64>,
    /// The account that was read, by partition and commit.
    rows: HashMap<(i32, u64), Vec<u8>>,
    fresh: usize,
    refused: usize,
    wrong: Vec<String>,
}

impl Witness {
    /// Begins to ask the instances that run now, for the account of a holder in each partition.
    pub fn start(cluster: &Cluster, of_partition: &BTreeMap<i32, Holder>) -> Witness {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Seen>>::default());
        let ask = |(name, queries): (String, Queries)| {
            let (stop, seen, accounts) = (Arc::clone(&stop), Arc::clone(&seen), of_partition.clone());
            tokio::spawn(async move {
                let mut pace = tokio::time::interval(PACE);
                while !stop.load(Ordering::SeqCst) {
                    pace.tick().await;
                    for (partition, holder) in &accounts {
                        ask(&name, &queries, *partition, holder, &seen).await;
                    }
                }
            })
        };
        let instances = cluster.instances.iter().map(|(name, instance)| (name.clone(), instance.queries()));
        let asking = instances.map(ask).collect();
        Witness { stop, asking, seen }
    }

    /// Ends it. Nothing was wrong, and enough was seen to say so.
    pub async fn assert_one_history(self) {
        self.stop.store(true, Ordering::SeqCst);
        for asking in self.asking {
            asking.await.unwrap();
        }
        let seen = self.seen.lock();
        let (fresh, commits) = (seen.fresh, seen.rows.len());
        println!("{fresh} fresh answers of {commits} commits, {} refused", seen.refused);
        assert!(seen.wrong.is_empty(), "{} answers were wrong: {:?}", seen.wrong.len(), seen.wrong.first());
        assert!(commits > 100, "it saw too little: {fresh} answers of {commits} commits");
    }
}

async fn ask(name: &str, queries: &Queries, partition: i32, holder: &Holder, seen: &Mutex<Seen>) {
    // What anybody had answered before this question.
    let before = seen.lock().latest.get(&partition).copied().unwrap_or(0);
    let asked = queries.get_within(partition, "account", holder.iban.as_bytes(), 0);
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let mut seen = seen.lock();
    let Ok(Ok(mut answer)) = answer else {
        seen.refused += 1;
        return;
    };
    let commit = answer.token.unwrap().commit_sequence;
    let row = answer.entries.pop().unwrap().value;
    seen.fresh += 1;
    if commit < before {
        let text = format!("{name} answered partition {partition} of commit {commit}, {before} was known");
        seen.wrong.push(text);
    }
    let same = seen.rows.entry((partition, commit)).or_insert_with(|| row.clone()) == &row;
    if !same {
        seen.wrong.push(format!("{name} answered partition {partition} of commit {commit} in another way"));
    }
    let latest = seen.latest.entry(partition).or_default();
    *latest = commit.max(*latest);
}
