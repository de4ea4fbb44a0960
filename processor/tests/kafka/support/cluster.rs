//! Several instances of one bank, and who of them owns what.

use std::collections::BTreeMap;
use std::time::Duration;

use kontor_compose::testing::ServiceBuilder;
use kontor_compose::{eventually, eventually_some};
use schemas::query::StatusResponse;

use super::{Bank, DEADLINE, Holder, PARTITIONS, Processor, Queries, Sent, Stopwatch};

/// Longest wait for what an instance says of itself.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Instances by name, those that run.
pub struct Cluster {
    /// See the struct.
    pub instances: BTreeMap<String, Processor>,
}

impl Cluster {
    /// Starts these, and waits until they share the partitions evenly and every one is followed.
    pub async fn start(bank: &Bank, names: &[&str]) -> Cluster {
        let mut cluster = Cluster { instances: BTreeMap::new() };
        for name in names {
            cluster.launch(bank, name);
        }
        cluster.settled().await;
        cluster
    }

    /// Starts one; it may have lived before.
    pub fn launch(&mut self, bank: &Bank, name: &str) {
        self.launch_with(bank, name, |builder| builder);
    }

    /// The same with further settings.
    pub fn launch_with(&mut self, bank: &Bank, name: &str, settings: impl FnOnce(ServiceBuilder) -> ServiceBuilder) {
        self.instances.insert((*name).to_owned(), bank.launch(name, settings));
    }

    /// SIGTERM: it says goodbye, and ends in good order.
    pub async fn dismiss(&mut self, name: &str) {
        let mut leaving = self.instances.remove(name).unwrap();
        assert_eq!(leaving.terminate().await.code(), Some(0), "{}", leaving.said());
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) -> Processor {
        let mut victim = self.instances.remove(name).unwrap();
        victim.kill();
        victim
    }

    /// Names of those that run.
    pub fn names(&self) -> Vec<String> {
        self.instances.keys().cloned().collect()
    }

    /// States of all partitions by instance; empty for one that does not answer.
    pub async fn states(&self) -> BTreeMap<String, Vec<String>> {
        let mut states = BTreeMap::new();
        for (name, instance) in &self.instances {
            let queries = instance.queries();
            let status = tokio::time::timeout(STATUS_TIMEOUT, queries.status()).await;
            let status: StatusResponse = status.ok().and_then(Result::ok).unwrap_or_default();
            states.insert(name.clone(), status.partitions.into_iter().map(|one| one.state).collect());
        }
        states
    }

    /// Partitions whose commands run at this instance.
    pub async fn owned(&self, name: &str) -> Vec<i32> {
        let states = self.states().await.remove(name).unwrap_or_default();
        let running = states.iter().enumerate().filter(|(_, state)| *state == "running");
        running.map(|(partition, _)| partition as i32).collect()
    }

    /// Waits until each partition runs at one instance and is followed by one other, as evenly as can be.
    pub async fn settled(&self) {
        let settled = || async {
            let states = self.states().await;
            let count = |states: &[String], state: &str| states.iter().filter(|one| *one == state).count();
            let of = |state: &str| states.values().map(|all| count(all, state)).collect::<Vec<_>>();
            let (running, standby) = (of("running"), of("standby"));
            let followed = if self.instances.len() > 1 { PARTITIONS as usize } else { 0 };
            let even = running.iter().max().unwrap_or(&0) - running.iter().min().unwrap_or(&0) <= 1;
            running.iter().sum::<usize>() == PARTITIONS as usize && standby.iter().sum::<usize>() == followed && even
        };
        let waited = eventually(DEADLINE, "the instances share the partitions", settled).await;
        assert!(waited.is_ok(), "{:?}\n{}", self.states().await, self.said());
    }

    /// What all of them have said in this life.
    pub fn said(&self) -> String {
        self.instances.iter().map(|(name, instance)| format!("--- {name}\n{}\n", instance.said())).collect()
    }

    /// Waits until somebody answers fresh for the account, and for the outcome of a payment out of it that was sent
    /// just now. Gives the time to the fresh answer and to the outcome.
    pub async fn answers(&self, bank: &Bank, holder: &Holder, watch: &Stopwatch) -> (Duration, Duration) {
        let partition = schemas::partition_of(holder.iban.as_bytes(), PARTITIONS);
        let sent = bank.pay(holder, "a shop", 1);
        let read = || async {
            for queries in self.queries() {
                if queries.get(partition, "account", holder.iban.as_bytes()).await.is_ok() {
                    return true;
                }
            }
            false
        };
        eventually(DEADLINE, "a fresh answer", read).await.unwrap_or_else(|error| panic!("{error}\n{}", self.said()));
        let read = watch.elapsed();
        self.outcome(&sent).await;
        (read, watch.elapsed())
    }

    /// Waits for a fresh read of the partition, whoever owns it. Gives the commit that it is of.
    pub async fn sequence(&self, partition: i32) -> u64 {
        let read = || async {
            for queries in self.queries() {
                if let Ok(sequence) = queries.sequence(partition).await {
                    return Some(sequence);
                }
            }
            None
        };
        let read = eventually_some(DEADLINE, "a fresh read", read).await;
        read.unwrap_or_else(|error| panic!("partition {partition}: {error}\n{}", self.said()))
    }

    /// Waits for the outcome of a command, whoever owns its partition.
    pub async fn outcome(&self, sent: &Sent) {
        let answered = || async {
            for queries in self.queries() {
                if let Ok(Some(_)) = queries.answer(sent).await {
                    return true;
                }
            }
            false
        };
        eventually(DEADLINE, "an outcome", answered).await.unwrap_or_else(|error| panic!("{error}\n{}", self.said()));
    }

    fn queries(&self) -> Vec<Queries> {
        self.instances.values().map(Processor::queries).collect()
    }
}
