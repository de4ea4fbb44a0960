//! Which layout of shards the state belongs to, and changing it.
//!
//! Every Position names the layout under which it was written, so each partition says in its own changelog whose it is.
//! An owner reads that before its first transaction and goes no further when it is not its own ([`permit`]).
//!
//! A change ([`Change`]) is, for each shard of the old layout, one last transaction under the old layout's own
//! transactional id ([`seal`]): nothing but the Positions of its partitions, in the name of the new layout. The
//! initialisation before it fences whoever still holds the id; whoever initialises the id later finds the seal. So an
//! owner of the old layout can never commit behind a seal, whether it is a member of anything or not, and the new layout
//! takes a partition only from behind one. When all shards are sealed the assignment of the new layout is published
//! ([`control`]). Each step is atomic and finds out by itself whether it was done: after a crash the change is begun
//! again from the start.
//!
//! Rows, positions in the inputs, event topics and stores do not change: which shard a partition is in is no part of
//! them. The number of partitions is, and cannot change.

mod change;
pub mod control;
mod seal;
mod survey;
mod tail;

#[cfg(test)]
mod tests;

use std::fmt;

pub use change::{Change, ChangeError, Site, Step};
pub use survey::{Survey, survey};

use schemas::records::{Assignment, Position};

/// A layout: its number, and how many shards the partitions are dealt to. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layout {
    /// Rises with every change.
    pub number: i32,
    /// Partition p is in shard p mod shards.
    pub shards: i32,
}

impl Layout {
    /// The layout that a Position was written under; `None` when nothing says so: no Position, or one of before the
    /// field.
    pub fn of_position(position: Option<&Position>) -> Option<Layout> {
        let named = position.map(|position| Layout { number: position.layout, shards: position.shards });
        named.filter(|layout| *layout != Layout::default())
    }

    /// The layout that an assignment is for.
    pub fn of_assignment(assignment: &Assignment) -> Layout {
        let shards = i32::try_from(assignment.shards.len()).unwrap_or(i32::MAX);
        Layout { number: assignment.layout, shards }
    }

    /// The partitions of a shard, ascending.
    pub fn partitions_of(self, shard: i32, partitions: i32) -> impl Iterator<Item = i32> {
        (0..partitions).filter(move |partition| self.shards > 0 && partition % self.shards == shard)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "layout {} with {} shards", self.number, self.shards)
    }
}

/// Whether a processor with this configuration may go on with state of that layout (the default: nothing says which it
/// is). The error is for an operator and names the way out.
pub fn permit(state: Layout, configured: Layout) -> Result<(), String> {
    if state == configured || state == Layout::default() {
        return Ok(());
    }
    let way_out = if configured.number > state.number {
        "stop all instances and run `processor layout --apply`"
    } else if configured.number < state.number {
        "this process has a topics.yaml of before a change of layout; give it the one of now"
    } else {
        "restore `shards` in topics.yaml, or raise `layout` with it"
    };
    Err(format!("the state is of {state}, configured is {configured}: {way_out}"))
}
