//! Wire formats: everything that the parts of the system, and their users, must agree on.
//!
//! - [`records`]: typed Avro records, one per file of `avro/`; [`Encoder`] and [`Writer`] turn them into the Confluent
//!   framing and back; [`SchemaCache`] knows which schema id means what, also while the registry is down.
//! - [`topics`]: `topics.yaml`, the one declaration of every topic, and what `topics plan|apply|verify` do with it.
//! - [`control`]: who lives and who owns what, as the control topic says it.
//! - [`partition_of`]: Kafka's default partitioner, for everyone who must find the partition of a key.
//! - [`fingerprint`]: what makes two commands with one id the same command.
//! - [`query`], [`bank_view`]: the protocol between processors and those who ask them; [`peer`]: between processors.
//!
//! Knows nothing of how records are processed or stored. Services never register schemas: `topics apply` does.

mod codec;
pub mod control;
pub mod fingerprint;
mod frame;
mod murmur2;
mod proto;
pub mod records;
mod registry;
pub mod topics;
mod transaction_filter;

pub use codec::{DecodeError, EncodeError, Encoder, Writer};
pub use frame::{FRAME_BYTES, FrameError, frame, unframe};
pub use murmur2::{murmur2, partition_of};
pub use proto::{bank_view, peer, query};
pub use records::AvroRecord;
pub use registry::{CacheConfig, Lookup, ResolveError, SchemaCache, StartError};
pub use transaction_filter::TransactionPredicate;
