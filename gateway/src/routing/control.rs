//! Routing by what the control topic says.
//!
//! [`Routes`] is what a directory means for calls, without any connection. [`Control`] connects to the addresses in it
//! when they are called, and lets go of those that have no part any more. Who owns a partition is for the assignment
//! to say; how the partition is, for its owner, who is asked for it.

use super::statuses::Statuses;
use super::{Changes, Owner, PartitionState, Processor, Routing};
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use schemas::control::Directory;
use schemas::records::Member;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where the partitions are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Routes {
    epoch: i64,
    /// By partition; `None` while nobody owns it or its owner has not said where it is.
    owners: Vec<Option<Place>>,
    /// By partition: addresses of those that follow it.
    standbys: Vec<Vec<String>>,
    /// Addresses of the members that have a part in any shard. Who has none is not called; who died without a word
    /// loses its parts, and stays a member for ever.
    endpoints: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    instance: String,
    endpoint: String,
}

impl Routes {
    fn of(directory: &Directory, partitions: i32) -> Self {
        let place = |partition| {
            let member = directory.active(partition).filter(|member| !member.endpoint.is_empty())?;
            Some(Place { instance: member.instance.clone(), endpoint: member.endpoint.clone() })
        };
        let address = |member: &Member| Some(member.endpoint.clone()).filter(|endpoint| !endpoint.is_empty());
        let standbys = |partition| directory.standbys(partition).into_iter().filter_map(address).collect();
        let shards = directory.assignment.iter().flat_map(|assignment| &assignment.shards);
        let parts = shards.flat_map(|shard| [&shard.active, &shard.warming].into_iter().chain(&shard.standbys));
        Self {
            epoch: directory.epoch(),
            owners: (0..partitions).map(place).collect(),
            standbys: (0..partitions).map(standbys).collect(),
            endpoints: parts.filter_map(|name| directory.members.get(name)).filter_map(address).collect(),
        }
    }

    fn owner(&self, partition: i32) -> Option<&Place> {
        self.owners.get(usize::try_from(partition).ok()?)?.as_ref()
    }

    fn standbys(&self, partition: i32) -> &[String] {
        let index = usize::try_from(partition).ok();
        index.and_then(|index| self.standbys.get(index)).map_or(&[], Vec::as_slice)
    }
}

/// See the module.
pub struct Control {
    partitions: i32,
    routes: RwLock<Routes>,
    connections: Mutex<HashMap<String, Processor>>,
    statuses: Statuses,
    is_read: AtomicBool,
    changed: watch::Sender<()>,
}

impl Control {
    /// Knows nobody before the first [`Control::publish`].
    #[must_use]
    pub fn new(partitions: i32) -> Self {
        Self {
            partitions,
            routes: RwLock::default(),
            connections: Mutex::default(),
            statuses: Statuses::new(partitions),
            is_read: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        }
    }

    /// Goes by this directory from now on: what the topic says at its end. A sign of life alone changes nothing.
    pub fn publish(&self, directory: &Directory) {
        self.is_read.store(true, Ordering::Relaxed);
        let routes = Routes::of(directory, self.partitions);
        if *self.routes.read() == routes {
            return;
        }
        let endpoints = routes.endpoints.clone();
        let unowned = routes.owners.iter().filter(|owner| owner.is_none()).count();
        tracing::info!(epoch = routes.epoch, members = endpoints.len(), unowned, "members or owners have changed");
        // In this order: nobody connects by the old routes after their connections are gone.
        *self.routes.write() = routes;
        self.connections.lock().retain(|endpoint, _| endpoints.contains(endpoint));
        self.changed.send_replace(());
    }

    /// Keeps the states current until told to stop.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut changes = self.changes();
        loop {
            let members = self.members();
            self.statuses.keep(&members);
            let all = join_all(members.iter().map(|processor| self.statuses.follow(processor)));
            tokio::select! {
                () = stop.cancelled() => return,
                () = changes.next() => {}
                // Without members there is nothing to wait for.
                _ = all, if !members.is_empty() => {}
            }
        }
    }

    fn members(&self) -> Vec<Processor> {
        let endpoints = self.routes.read().endpoints.clone();
        endpoints.iter().filter_map(|endpoint| self.connection(endpoint)).collect()
    }

    /// The one connection to an address.
    fn connection(&self, endpoint: &str) -> Option<Processor> {
        let mut connections = self.connections.lock();
        if let Some(known) = connections.get(endpoint) {
            return Some(known.clone());
        }
        match Processor::connect_lazy(endpoint) {
            Ok(processor) => {
                connections.insert(endpoint.to_owned(), processor.clone());
                Some(processor)
            }
            Err(problem) => {
                tracing::warn!(%problem, "a processor cannot be called");
                None
            }
        }
    }
}

impl Routing for Control {
    fn partitions(&self) -> i32 {
        self.partitions
    }

    fn owner(&self, partition: i32) -> Option<Owner> {
        let routes = self.routes.read();
        let processor = self.connection(&routes.owner(partition)?.endpoint)?;
        Some(Owner { processor, epoch: routes.epoch })
    }

    fn holders(&self, partition: i32) -> Vec<Processor> {
        let routes = self.routes.read();
        let owner = routes.owner(partition).map(|owner| &owner.endpoint);
        let all = owner.into_iter().chain(routes.standbys(partition));
        all.filter_map(|endpoint| self.connection(endpoint)).collect()
    }

    fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    fn epoch(&self) -> i64 {
        self.routes.read().epoch
    }

    /// Any address: who has named it may have read of a member that is not known here yet.
    fn processor_at(&self, endpoint: &str) -> Option<Processor> {
        self.connection(endpoint)
    }

    fn changes(&self) -> Changes {
        Changes::of(&self.changed)
    }

    fn states(&self) -> Vec<PartitionState> {
        let routes = self.routes.read();
        let state = |partition| match routes.owner(partition) {
            Some(owner) => self
                .statuses
                .state(&owner.endpoint, partition)
                .unwrap_or_else(|| PartitionState::unknown(partition, Some(owner.instance.clone()))),
            None => PartitionState::unknown(partition, None),
        };
        (0..self.partitions).map(state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::samples::directory;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(20);

    fn places(routes: &Routes) -> Vec<Option<&str>> {
        routes.owners.iter().map(|place| place.as_ref().map(|place| &*place.endpoint)).collect()
    }

    fn owner(control: &Control, partition: i32) -> Option<(String, i64)> {
        control.owner(partition).map(|owner| (owner.processor.endpoint.to_string(), owner.epoch))
    }

    fn connected(control: &Control) -> Vec<String> {
        let mut endpoints: Vec<String> = control.connections.lock().keys().cloned().collect();
        endpoints.sort();
        endpoints
    }

    #[test]
    fn partitions_are_where_the_owners_of_their_shards_are() {
        let routes = Routes::of(&directory(3, &["a", "b", "gone", ""], &["a", "b", "c"]), 8);
        assert_eq!(routes.epoch, 3);
        let (a, b) = (Some("http://a"), Some("http://b"));
        assert_eq!(places(&routes), [a, b, None, None, a, b, None, None]);
        assert_eq!(routes.owner(5).unwrap().instance, "b");
        assert!(routes.owner(2).is_none() && routes.owner(8).is_none() && routes.owner(-1).is_none());
        assert_eq!(routes.endpoints.iter().collect::<Vec<_>>(), ["http://a", "http://b"], "c has no part");
    }

    #[tokio::test]
    async fn who_holds_rows_is_the_owner_and_then_its_standbys() {
        let control = Control::new(3);
        assert!(!control.is_read());
        let mut two_shards = directory(1, &["a", "gone"], &["a", "b", "c", "d", "e"]);
        let shards = &mut two_shards.assignment.as_mut().unwrap().shards;
        shards[0].standbys = vec!["b".to_owned(), "gone".to_owned(), "c".to_owned()];
        shards[0].warming = "d".to_owned();
        shards[1].standbys = vec!["c".to_owned()];
        control.publish(&two_shards);
        assert!(control.is_read());
        let holders = |partition| {
            let holders = control.holders(partition);
            holders.iter().map(|one| one.endpoint.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(holders(0), ["http://a", "http://b", "http://c"]);
        assert_eq!((holders(1), holders(2), holders(3)), (vec!["http://c".to_owned()], holders(0), vec![]));
        let parts = control.routes.read().endpoints.clone();
        assert_eq!(parts.into_iter().collect::<Vec<_>>(), ["http://a", "http://b", "http://c", "http://d"]);
    }

    #[test]
    fn before_there_is_an_assignment_and_without_an_address_nobody_owns_anything() {
        let mut silent = directory(1, &["a"], &["a"]);
        silent.members.get_mut("a").unwrap().endpoint.clear();
        let undecided = Directory { assignment: None, ..directory(1, &["a"], &["a"]) };
        for directory in [Directory::default(), undecided, silent] {
            assert_eq!(places(&Routes::of(&directory, 2)), [None, None], "{directory:?}");
        }
    }

    #[tokio::test]
    async fn a_change_of_owners_is_told_and_a_sign_of_life_is_not() {
        let control = Control::new(2);
        let mut changes = control.changes();
        control.publish(&directory(1, &["a", "b"], &["a", "b"]));
        tokio::time::timeout(LONG, changes.next()).await.unwrap();
        assert_eq!(owner(&control, 1), Some(("http://b".to_owned(), 1)));

        let mut beat = directory(1, &["a", "b"], &["a", "b"]);
        beat.members.get_mut("a").unwrap().beat += 1;
        control.publish(&beat);
        assert!(!changes.0.has_changed().unwrap());

        control.publish(&directory(2, &["a", "a"], &["a", "b"]));
        assert!(changes.0.has_changed().unwrap());
        assert_eq!(owner(&control, 1), Some(("http://a".to_owned(), 2)));
        control.publish(&directory(2, &["a", "a"], &["b"]));
        assert_eq!((owner(&control, 1), control.epoch()), (None, 2));
    }

    #[tokio::test]
    async fn there_is_one_connection_to_an_address_until_no_member_has_it() {
        let control = Control::new(2);
        control.publish(&directory(1, &["a", "b"], &["a", "b"]));
        assert!(connected(&control).is_empty(), "nobody was called yet");
        for _ in 0..3 {
            assert!(control.owner(0).is_some() && control.owner(1).is_some());
        }
        assert!(control.processor_at("http://new").is_some());
        assert_eq!(connected(&control), ["http://a", "http://b", "http://new"]);
        control.publish(&directory(2, &["a", "new"], &["a", "new"]));
        assert_eq!(connected(&control), ["http://a", "http://new"]);
        assert!(control.processor_at("no address").is_none());
    }

    #[tokio::test]
    async fn an_owner_that_says_nothing_is_named_with_an_unknown_state() {
        let control = Control::new(2);
        control.publish(&directory(1, &["a", "b"], &["a"]));
        let states = control.states();
        let named: Vec<_> = states.iter().map(|state| (state.owner.as_deref(), &*state.state)).collect();
        assert_eq!(named, [(Some("a"), "unknown"), (None, "unknown")]);
    }
}
