//! The gateway as a process, beside a real processor, broker and registry: what only those can show. Everything else
//! is shown over fakes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod campaign;
#[expect(dead_code, reason = "the tests over fakes use the rest")]
#[path = "../fakes/fake/socket.rs"]
mod socket;
mod support;

mod commands;
mod gateway_killed;
mod live;
mod moves;
mod own_writes;
mod page;
mod routed;
mod stale;
mod start_and_stop;
