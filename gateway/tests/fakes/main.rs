//! The gateway over fakes: a processor from maps behind a real socket, commands without Kafka. One file per behaviour.
//!
//! All files make one program, because a program for each would be linked a dozen times. Tests wait for conditions.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod cursors;
mod fake;
mod hostile;
mod http;
mod moves;
mod operations;
mod reads;
mod schema_text;
mod streams;
mod websocket;
