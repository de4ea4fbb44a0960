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
        let bank = FakeProcessor::start(PARTITIONS).await;
        let (a, b) = (bank.beside("a"), bank.beside("b"));
        bank.kill();
        let (control, background) = (Arc::new(Control::new(PARTITIONS)), CancellationToken::new());
        tokio::spawn({
            let (control, background) = (Arc::clone(&control), background.clone());
            async move { control.follow(background).await }
        });
        let epoch = AtomicI64::new(0);
        give(&control, &epoch, [&a, &b], &a);
        let world = World::over(bank, Arc::clone(&control) as Arc<dyn Routing>, background, behaviour).await;
        Self { world, a, b, control, epoch }
    }

    /// From now on this one owns everything, and the gateway has read it.
    pub fn give_to(&self, owner: &FakeProcessor) {
        give(&self.control, &self.epoch, [&self.a, &self.b], owner);
    }

    /// From now on nobody owns anything, both follow, and the gateway has read it.
    pub fn orphan(&self) {
        let standbys = vec![self.a.name.clone(), self.b.name.clone()];
        let shard = ShardOwners { standbys, ..ShardOwners::default() };
        publish(&self.control, &self.epoch, [&self.a, &self.b], shard);
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
fn give(control: &Control, epoch: &AtomicI64, members: [&Arc<FakeProcessor>; 2], owner: &FakeProcessor) {
    let others = members.iter().filter(|member| member.name != owner.name);
    let standbys = others.map(|member| member.name.clone()).collect();
    let shard = ShardOwners { active: owner.name.clone(), standbys, ..ShardOwners::default() };
    publish(control, epoch, members, shard);
}

fn publish(control: &Control, epoch: &AtomicI64, members: [&Arc<FakeProcessor>; 2], shard: ShardOwners) {
    let epoch = epoch.fetch_add(1, Ordering::SeqCst) + 1;
    let assignment = Some(Assignment { epoch, shards: vec![shard], ..Assignment::default() });
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
