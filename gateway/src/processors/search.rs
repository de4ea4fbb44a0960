//! The way of one call to the owner of a partition, while owners move.
//!
//! The routing says who it is, a moment late. A processor that is not the owner may name the one that is, by a later
//! assignment than the routing knows: then the call goes there at once. In every other case it waits until the routing
//! changes, or for a pause that grows.

use crate::routing::{Changes, Owner, Routing};
use schemas::query::NotOwner;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// First pause before a call is tried again; doubles up to [`LONGEST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Times that one call goes on without a pause. Names come with rising epochs, so more than one is rare; but two
/// processors that name each other must not make a call spin.
const MOST_HOPS: u32 = 3;

/// See the module.
pub(super) struct Search {
    routing: Arc<dyn Routing>,
    partition: i32,
    changes: Changes,
    /// Named by a processor that is not the owner.
    named: Option<Owner>,
    hops: u32,
    pause: Duration,
}

impl Search {
    pub(super) fn new(routing: Arc<dyn Routing>, partition: i32) -> Self {
        let changes = routing.changes();
        Self { routing, partition, changes, named: None, hops: 0, pause: FIRST_PAUSE }
    }

    /// Whom to call now: by the latest assignment that anybody has told of.
    pub(super) fn owner(&mut self) -> Option<Owner> {
        // Before the look, so that no later change is missed.
        self.changes.seen();
        let known = self.routing.epoch();
        self.named = self.named.take().filter(|named| named.epoch > known);
        self.named.clone().or_else(|| self.routing.owner(self.partition))
    }

    /// Resolves when the partition belongs to another one than the one that [`Search::owner`] gave: that one may be
    /// stopped, and its connections open.
    pub(super) async fn moved(&mut self, from: &Owner) {
        loop {
            self.changes.next().await;
            let elsewhere = |owner: &Owner| owner.processor.endpoint != from.processor.endpoint;
            let later = |owner: &Owner| owner.epoch >= from.epoch;
            if self.routing.owner(self.partition).is_some_and(|owner| elsewhere(&owner) && later(&owner)) {
                return;
            }
        }
    }

    /// Takes up what a failed call says about the owner. Whether to call again at once.
    pub(super) fn learn(&mut self, status: &Status) -> bool {
        let Some(hint) = NotOwner::of(status) else {
            // Whoever was named does not serve it: back to what the routing says.
            self.named = None;
            return false;
        };
        let known = self.named.as_ref().map_or(0, |named| named.epoch).max(self.routing.epoch());
        // Without an address: nobody is the owner.
        if hint.epoch <= known || hint.endpoint.is_empty() {
            return false;
        }
        let Some(processor) = self.routing.processor_at(&hint.endpoint) else { return false };
        self.named = Some(Owner { processor, epoch: hint.epoch });
        self.hops += 1;
        self.hops <= MOST_HOPS
    }

    /// Waits until the routing has changed since the last look, but not longer than a pause that doubles each time.
    pub(super) async fn pause(&mut self, deadline: Instant) {
        let longest = self.pause.min(deadline.saturating_duration_since(Instant::now()));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.changes.next_within(longest).await;
    }
}

#[cfg(test)]
mod tests;
