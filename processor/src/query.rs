//! The query side of an instance: committed rows over gRPC, health and metrics over HTTP.

mod filtered;
mod gap;
pub mod http;
pub mod service;
pub mod view;
mod watch;

#[cfg(test)]
pub(crate) mod tests;
