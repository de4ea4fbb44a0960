//! What the tests of this directory share: a bank of its own for each test, its clients, a steady load, and looks
//! into topics and stores.

mod answers;
mod bank;
mod cluster;
mod gateway;
mod load;
mod meddler;
mod numbers;
mod pace;
mod processor;
mod queries;
mod stores;
mod stranger;
mod timeline;
mod tools;
mod usage;
mod witness;

pub use answers::Answer;
pub use bank::{Bank, COMPANY, Holder, Sent};
pub use cluster::Cluster;
pub use gateway::{Gateway, Told};
pub use load::Load;
pub use meddler::{Meddle, Meddler};
pub use numbers::{Stopwatch, Times, kills_by_hand, kills_wanted, now_ms, seed, time_wanted, wanted};
pub use pace::Pace;
pub use processor::Processor;
pub use queries::{Queries, Rows};
pub use stores::{Lack, Stopped};
pub use stranger::{OpenTransaction, refusal_of_a_record};
pub use timeline::{Phase, Taken};
pub use usage::Usage;
pub use witness::Witness;

use std::time::Duration;

/// Everything that is waited for has come within this time, or the test fails.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// A processor is ready within this time, whatever happened to it before; usual is less than a second.
pub const READY: Duration = Duration::from_secs(30);
/// Partitions of a test's topics.
pub const PARTITIONS: i32 = 4;
/// Shards of a test's processor.
pub const SHARDS: i32 = 2;
