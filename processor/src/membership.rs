//! Which instance does what: members, a leader, and an assignment, all in one small compacted topic.
//!
//! ```text
//!  every member ──heartbeats, plain──► control-1 ──► every member: who lives (roster.rs)
//!  the leader ──assignment, in its transaction──► control-0 ──► every member and every gateway: who owns what
//! ```
//! The leader is whoever initialised the leader's transactional id last: Kafka fences every earlier one. It decides by a
//! pure function (assignment.rs). **A wrong suspicion is harmless**: what protects the data is the fence of the shard and
//! the claim in its changelog (ownership.rs), never the membership. That is what lets it be fast.
//!
//! Shards see it through [`Roles`]; without a control topic [`Alone`] owns everything.

mod assignment;
mod board;
mod former;
mod leader;
mod peers;
mod role;
mod roster;
mod tenure;
mod worker;

#[cfg(test)]
mod tests;

pub use assignment::Rules;
pub use board::{Board, Failure};
pub use role::{Alone, Role, Roles};
pub use worker::{Membership, MembershipOptions};
