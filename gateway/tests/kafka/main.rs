//! The gateway as a process, beside a real processor, broker and registry: what only those can show. Everything else
//! is shown over fakes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod campaign;
#[path = "../fakes/fake/request.rs"]
mod request;
#[path = "../fakes/fake/socket.rs"]
mod socket;
mod support;

mod commands;
mod filters;
mod gateway_killed;
mod live;
mod moves;
mod on_the_wire;
mod own_writes;
mod page;
mod routed;
mod rows;
mod stale;
mod start_and_stop;
