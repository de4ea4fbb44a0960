//! What a shard is made of: its settings, and everything that its instance lends it. No behaviour.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemas::{Encoder, SchemaCache, records};
use state_store::{Store, StoreError};

use crate::clock::SharedClock;
use crate::membership::{Role, Roles};
use crate::peer::Copier;
use crate::probe::Probe;
use crate::query::view::PartitionView;
use crate::shard::Interrupt;

/// Opens the stores of an instance.
pub trait Stores: Send + Sync + 'static {
    /// The store of a partition, new or as it was left.
    fn open(&self, partition: i32) -> Result<Arc<dyn Store>, StoreError>;
    /// Removes it.
    fn wipe(&self, partition: i32) -> Result<(), StoreError>;
    /// True when nothing at all is there of a partition.
    fn is_missing(&self, partition: i32) -> bool {
        let _ = partition;
        false
    }
    /// Where copies of stores that are given or taken may lie until they are stores; `None`: these have no files.
    fn exchange(&self) -> Option<PathBuf> {
        None
    }
    /// Makes a copy below [`Stores::exchange`] the store of a partition that has none, if it is whole and belongs here. After
    /// an error it lies where it was.
    fn adopt(&self, partition: i32, copy: &Path) -> Result<(), StoreError> {
        let detail = format!("partition {partition} cannot be taken from {}", copy.display());
        Err(StoreError::Misuse { detail })
    }
    /// Memory that all stores hold together now, by part, in bytes. For operators.
    fn memory_bytes(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }
}

/// Settings of a shard. Times are deadlines, sizes are bounds.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Name of the instance, in the claim.
    pub instance: String,
    /// This life of the instance, in the claim.
    pub incarnation: String,
    /// Key and value of a client's record. A larger one becomes a dead letter: what it turns into might be more than the
    /// producer may send, and then no transaction with it would ever commit.
    pub record_bytes_max: usize,
    /// Records of one transaction.
    pub records_max: usize,
    /// Bytes polled for one transaction.
    pub poll_bytes_max: usize,
    /// Bytes of staged rows and records that end a transaction early.
    pub staged_bytes_max: usize,
    /// Bytes of staged rows after which a restore writes a store.
    pub restored_bytes_max: usize,
    /// Wait for a first record; also how late a shutdown is seen. A standby waits so long for another role.
    pub idle_poll: Duration,
    /// Of one commit; afterwards the producer is discarded.
    pub commit_deadline: Duration,
    /// Of the initialisation of a producer.
    pub init_deadline: Duration,
    /// Between two attempts after a fault of the broker.
    pub retry_pause: Duration,
    /// Wait for the claim of whoever fenced us: it comes after their restore. If there is none by then, they are gone.
    pub claim_patience: Duration,
    /// Between two mirrors of the positions to the consumer group.
    pub mirror_interval: Duration,
    /// Event topics are read back between two steps instead of by a thread of their own. For simulations: one thread
    /// gives the same run again.
    pub one_thread: bool,
}

impl Default for ShardOptions {
    fn default() -> ShardOptions {
        ShardOptions {
            instance: "processor".to_owned(),
            incarnation: String::new(),
            record_bytes_max: 256 << 10,
            records_max: 2000,
            poll_bytes_max: 4 << 20,
            staged_bytes_max: 16 << 20,
            restored_bytes_max: 4 << 20,
            idle_poll: Duration::from_millis(100),
            commit_deadline: Duration::from_secs(5),
            init_deadline: Duration::from_secs(30),
            retry_pause: Duration::from_millis(250),
            claim_patience: Duration::from_secs(10),
            mirror_interval: Duration::from_secs(5),
            one_thread: false,
        }
    }
}

/// Encoders of the engine's own records, and the schemas of everybody's.
pub struct Codecs {
    /// Of Position records.
    pub position: Encoder<records::Position>,
    /// Of ownership claims.
    pub owner: Encoder<records::Owner>,
    /// Writer schemas by id.
    pub schemas: SchemaCache,
}

/// Everything a shard needs from its instance.
pub struct ShardParts<L, A> {
    /// Number of the shard.
    pub id: i32,
    /// The log.
    pub log: Arc<L>,
    /// The logic.
    pub application: Arc<A>,
    /// Settings.
    pub options: ShardOptions,
    /// Encoders and schemas.
    pub codecs: Arc<Codecs>,
    /// Time.
    pub clock: SharedClock,
    /// Stores.
    pub stores: Arc<dyn Stores>,
    /// What queries see, by partition of the whole topology.
    pub views: Vec<Arc<PartitionView>>,
    /// Steps of the commit path are told to it.
    pub probe: Probe,
    /// What the instance is told to do for the shard.
    pub roles: Arc<dyn Roles>,
    /// Copies stores that are missing from other instances; `None`: the changelog restores them.
    pub copier: Option<Arc<Copier>>,
}

impl<L, A> ShardParts<L, A> {
    /// An interrupt when the instance is told to do something else for the shard by now.
    pub(crate) fn still(&self, role: Role) -> Result<(), Interrupt> {
        if self.roles.role(self.id) == role { Ok(()) } else { Err(Interrupt::Released) }
    }
}
