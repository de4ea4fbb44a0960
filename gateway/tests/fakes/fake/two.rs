//! Two processors of one bank. The control topic says which of them owns the partitions.

use super::processor::FakeProcessor;
use super::{PARTITIONS, World};
use gateway::routing::{Control, Routing};
use gateway::serve::Behaviour;
use schemas::control::Directory;
use schemas::query::NotOwner;
use schemas::records::{Assignment, Member, ShardOwners};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio_util::sync::CancellationToken;

pub struct Two {
    pub world: World,
    pub a: Arc<FakeProcessor>,
    pub b: Arc<FakeProcessor>,
    control: Arc<Control>,
    epoch: AtomicI64,
}

impl Two {
    /// The first one owns everything.
    pub async fn new() -> Self {
        Self::with(Behaviour::default()).await
    }

    pub async fn with(behaviour: Behaviour) -> Self {
        let two = Self::begun(behaviour, |a, b| vec![owned(a, b)]).await;
        two.world.until_followed().await;
        two
    }

    /// The first one owns the partitions with even numbers, and nobody the others.
    pub async fn half_served() -> Self {
        Self::begun(Behaviour::default(), |a, b| vec![owned(a, b), ShardOwners::default()]).await
    }

    async fn begun(behaviour: Behaviour, shards: fn(&FakeProcessor, &FakeProcessor) -> Vec<ShardOwners>) -> Self {
        let bank = FakeProcessor::start(PARTITIONS).await;
        let (a, b) = (bank.beside("a"), bank.beside("b"));
        bank.kill();
        let (control, background) = (Arc::new(Control::new(PARTITIONS)), CancellationToken::new());
        tokio::spawn({
            let (control, background) = (Arc::clone(&control), background.clone());
            async move { control.follow(background).await }
        });
        let epoch = AtomicI64::new(0);
        publish(&control, &epoch, [&a, &b], shards(&a, &b));
        let world = World::begun(bank, Arc::clone(&control) as Arc<dyn Routing>, background, behaviour).await;
        Self { world, a, b, control, epoch }
    }

    /// From now on this one owns everything, and the gateway has read it.
    pub fn give_to(&self, owner: &FakeProcessor) {
        let other = if owner.name == self.a.name { &self.b } else { &self.a };
        publish(&self.control, &self.epoch, [&self.a, &self.b], vec![owned(owner, other)]);
    }

    /// From now on nobody owns anything, both follow, and the gateway has read it.
    pub fn orphan(&self) {
        let standbys = vec![self.a.name.clone(), self.b.name.clone()];
        let shard = ShardOwners { standbys, ..ShardOwners::default() };
        publish(&self.control, &self.epoch, [&self.a, &self.b], vec![shard]);
    }

    /// What a processor says that has read of a later owner than the gateway.
    pub fn later(&self, owner: &FakeProcessor) -> NotOwner {
        NotOwner { epoch: self.epoch.load(Ordering::SeqCst) + 1, endpoint: owner.endpoint() }
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        self.a.kill();
        self.b.kill();
    }
}

/// The other one follows.
fn owned(owner: &FakeProcessor, other: &FakeProcessor) -> ShardOwners {
    let standbys = vec![other.name.clone()];
    ShardOwners { active: owner.name.clone(), standbys, ..ShardOwners::default() }
}

fn publish(control: &Control, epoch: &AtomicI64, members: [&Arc<FakeProcessor>; 2], shards: Vec<ShardOwners>) {
    let epoch = epoch.fetch_add(1, Ordering::SeqCst) + 1;
    let assignment = Some(Assignment { epoch, shards, ..Assignment::default() });
    let members = members.map(|processor| (processor.name.clone(), member(processor)));
    control.publish(&Directory { assignment, members: members.into() });
}

fn member(processor: &FakeProcessor) -> Member {
    Member {
        instance: processor.name.clone(),
        incarnation: "1".into(),
        endpoint: processor.endpoint(),
        beat: 1,
        ..Member::default()
    }
}
