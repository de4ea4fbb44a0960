//! Instances that come and go behind gateways that stay.

use super::owners::Owners;
use crate::support::{Holder, PATIENCE, deposit, holder, transfer};
use futures_util::StreamExt;
use kontor_compose::testing::{GraphQl, NamespaceOptions};
use kontor_compose::{Namespace, Service, TestStack, eventually};
use schemas::partition_of;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use uuid::Uuid;

/// Of the topics of a campaign.
pub const PARTITIONS: i32 = 12;
/// Two partitions in each.
pub const SHARDS: i32 = 6;
/// What every holder begins with, in cents.
pub const BEGINNING: i64 = 1_000_000;

/// See the module.
pub struct Fleet {
    /// Topics and directories.
    pub space: Namespace,
    /// Two of them; they find the instances by the control topic.
    pub gateways: Vec<Service>,
    /// Who owns what.
    pub owners: Owners,
    instances: BTreeMap<String, Service>,
    turn: usize,
}

impl Fleet {
    /// So many instances that share the partitions, each followed by another, and two gateways.
    pub async fn open(name: &str, instances: usize) -> Self {
        let options = NamespaceOptions::default().partitions(PARTITIONS).shards(SHARDS);
        let space = TestStack::shared().unwrap().namespace_with(name, options).await.unwrap();
        let owners = Owners::follow(&space);
        let names = (1..=instances).map(|number| format!("p{number}"));
        let start = |name: String| {
            let builder = space.instance(&name).env("NO_COLOR", "1").env("KONTOR_BLOCK_CACHE_MIB", "16");
            (name, builder.env("KONTOR_WRITE_BUFFERS_MIB", "8").start().unwrap())
        };
        let instances = names.map(start).collect();
        let mut fleet = Self { space, gateways: Vec::new(), owners, instances, turn: 0 };
        fleet.settle().await;
        for name in ["g1", "g2"] {
            let mut gateway = fleet.space.gateway(name, &[]).start().unwrap();
            gateway.wait_ready(PATIENCE).await.unwrap();
            fleet.gateways.push(gateway);
        }
        fleet
    }

    /// Clients of the gateways.
    pub fn apis(&self) -> Vec<GraphQl> {
        self.gateways.iter().map(Service::graphql).collect()
    }

    /// Where the gateways listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(crate::support::address).collect()
    }

    /// `per_partition` holders in each partition, with money; those of one round follow each other.
    pub async fn holders(&self, per_partition: usize) -> Vec<Holder> {
        let api = self.gateways[0].graphql();
        let one = |(round, partition): (usize, i32)| {
            let api = api.clone();
            async move {
                let holder = holder(&api, &name_in(partition, round)).await;
                assert_eq!(partition_of(holder.iban.as_bytes(), PARTITIONS), partition);
                let result = transfer(&api, deposit(Uuid::now_v7(), &holder.iban, BEGINNING)).await;
                assert_eq!(result["success"], true, "{result}");
                holder
            }
        };
        let all = (0..per_partition).flat_map(|round| (0..PARTITIONS).map(move |partition| (round, partition)));
        futures_util::stream::iter(all).map(one).buffered(4).collect().await
    }

    /// One instance leaves, by SIGTERM and by `kill -9` in turn, and comes back when the others have its partitions.
    /// Each of them has a turn. Afterwards all is settled.
    pub async fn shake(&mut self) {
        let names: Vec<String> = self.instances.keys().cloned().collect();
        let victim = names[self.turn % names.len()].clone();
        let leaves = self.turn % 2 == 1;
        self.turn += 1;
        let instance = self.instances.get_mut(&victim).unwrap();
        if leaves {
            let status = instance.sigterm(PATIENCE).await.unwrap();
            assert_eq!(status.code(), Some(0), "{}", instance.log_text());
        } else {
            instance.kill9();
        }
        let others: Vec<String> = names.into_iter().filter(|name| *name != victim).collect();
        let taken =
            eventually(PATIENCE, "the others run its partitions", async || self.owners.served_by(&others)).await;
        taken.unwrap_or_else(|error| panic!("{error}\n{}", self.owners.text()));
        self.instances.get_mut(&victim).unwrap().start().unwrap();
        self.settle().await;
    }

    async fn settle(&mut self) {
        let names: Vec<String> = self.instances.keys().cloned().collect();
        for instance in self.instances.values_mut() {
            // Starts it again when something else has taken its port meanwhile.
            instance.wait_ready(PATIENCE).await.unwrap();
        }
        let settled =
            eventually(PATIENCE, "the instances share the partitions", async || self.owners.settled_on(&names));
        settled.await.unwrap_or_else(|error| panic!("{error}\n{}", self.owners.text()));
    }

    /// The money adds up, every command has one outcome, nothing is pending.
    pub async fn assert_clean(&self) {
        let (code, said) = self.space.audit(60).await.unwrap();
        assert_eq!(code, 0, "{said}");
    }
}

/// A username whose partition it is.
fn name_in(partition: i32, round: usize) -> String {
    let mut names = (0..).map(|attempt| format!("holder-{round}-{attempt}-{partition}"));
    names.find(|name| partition_of(name.as_bytes(), PARTITIONS) == partition).unwrap()
}
