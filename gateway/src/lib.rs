//! The gateway: GraphQL for people and programs, commands to Kafka, questions to the processors.
//!
//! Stateless: any number of gateways serve the same bank. It decides nothing about money; it hands commands to the
//! topic `commands`, waits for the answer at the processor that decides, reads committed rows, and pushes changes. It
//! depends on the crate `schemas` and meets the processors only there and on the wire.
//!
//! From outside to inside: [`http`] (routes, WebSocket) -> [`api`] (limits, counting) -> [`schema`] (names and types)
//! -> [`command`], [`query`], [`live`] (what is done) -> [`processors`] over [`routing`], and Kafka.

pub mod api;
pub mod command;
pub mod config;
pub mod http;
pub mod limits;
pub mod live;
pub mod money;
pub mod problem;
pub mod processors;
pub mod query;
pub mod routing;
pub mod rows;
pub mod schema;
pub mod serve;
pub mod time_text;
