//! Which schema an id means, and which id this build's schemas have.
//!
//! [`SchemaCache`] answers from memory, at once, on any thread. What it does not know is asked by a thread of its own
//! (`worker`) through `client`, the only file that talks to a registry; what it learned is kept in a file (`file`),
//! so that a service starts and goes on while the registry is down. Nothing here ever registers a schema.

mod cache;
mod client;
mod file;
mod worker;

#[cfg(test)]
mod tests;

pub use cache::{CacheConfig, Lookup, ResolveError, SchemaCache, StartError};
