//! The query side of an instance: committed rows over gRPC, health and metrics over HTTP.

mod gap;
pub mod http;
pub mod service;
mod sift;
pub mod view;
mod watch;

#[cfg(test)]
pub(crate) mod tests;
