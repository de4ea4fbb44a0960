//! Runs the whole stack on one machine without containers: Kafka, the schema registry, the processors and the
//! gateways.
//!
//! The binary `stack` serves `compose/up`, `compose/scale` and `compose/down`; the module [`testing`] gives the
//! integration tests of every crate a broker of their own name space and processes that may be killed. Both stand on
//! the same parts: [`kafka`] and [`registry`] say how one node is configured, [`cache`] keeps what was downloaded,
//! [`process`] knows a process by pid and start time, [`supervisor`] starts, watches, restarts and stops.
//!
//! It refuses to know anything of accounts or of the engine: processor and gateway are programs with an environment.
//! It runs on Linux, because it reads `/proc`.

pub mod banner;
pub mod cache;
pub mod config;
pub mod console;
pub mod disk;
pub mod down;
pub mod error;
pub mod graphiql;
pub mod health;
pub mod java;
pub mod kafka;
pub mod maven;
pub mod ports;
pub mod process;
pub mod registry;
pub mod scale;
pub mod services;
pub mod spec;
pub mod stackfile;
pub mod supervisor;
pub mod testing;
pub mod up;

pub use error::{Error, Result};
pub use stackfile::StackFile;
pub use testing::{GraphQl, Namespace, Service, TestStack, eventually, eventually_some};
