//! A bank of its own for one test: topics under a prefix, commands as any client would send them, and the audit at
//! the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kontor_compose::testing::{NamespaceOptions, Sender, ServiceBuilder};
use kontor_compose::{Namespace, TestStack};
use schemas::records::{Atype, ConfirmAccountCreation, ConfirmMoneyTransfer, Uuid};
use schemas::topics::Topology;
use schemas::{AvroRecord, CacheConfig, Encoder, SchemaCache, fingerprint, partition_of};

use super::{PARTITIONS, Processor, SHARDS};

/// The company's account, which exists before the first client.
pub const COMPANY: &str = "NL66OPEN0000000000";

/// See the module.
pub struct Bank {
    /// Its topics and directories.
    pub space: Namespace,
    /// Its declaration, names with the prefix.
    pub topology: Topology,
    /// What its records are.
    pub schemas: SchemaCache,
    /// Sends records of any kind.
    pub sender: Arc<Sender>,
    ids: AtomicU64,
}

/// A command that the broker has taken.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Of the command.
    pub id: Uuid,
    /// Of its body.
    pub fingerprint: [u8; 16],
    /// Where it lies.
    pub partition: i32,
}

/// Somebody with an account.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Name.
    pub username: String,
    /// Account.
    pub iban: String,
    /// What lets them pay.
    pub token: String,
}

impl Bank {
    /// With topics as declared, but fewer partitions and shards.
    pub async fn new(name: &str) -> Bank {
        Bank::with_shards(name, SHARDS).await
    }

    /// The same with another number of shards.
    pub async fn with_shards(name: &str, shards: i32) -> Bank {
        Bank::on(TestStack::shared().unwrap(), name, shards).await
    }

    /// The same on a broker of its own.
    pub async fn on(stack: &TestStack, name: &str, shards: i32) -> Bank {
        Bank::of(stack, name, NamespaceOptions::default().shards(shards)).await
    }

    /// With another setting of one topic.
    pub async fn with_setting(name: &str, topic: &str, (key, value): (&str, &str)) -> Bank {
        let options = NamespaceOptions::default().shards(SHARDS).config(topic, key, value);
        Bank::of(TestStack::shared().unwrap(), name, options).await
    }

    async fn of(stack: &TestStack, name: &str, options: NamespaceOptions) -> Bank {
        let options = options.partitions(PARTITIONS);
        let space = stack.namespace_with(name, options).await.unwrap();
        let topology = Topology::load(&space.topics_file).unwrap().with_prefix(&space.prefix);
        let config = CacheConfig { registry_url: space.registry().to_owned(), file: None };
        let schemas = SchemaCache::start(config).unwrap();
        let (cache, declared) = (schemas.clone(), topology.clone());
        tokio::task::spawn_blocking(move || cache.resolve(&declared).unwrap()).await.unwrap();
        let sender = Arc::new(space.sender().unwrap());
        Bank { space, topology, schemas, sender, ids: AtomicU64::new(1) }
    }

    /// Starts the processor of this name, which has a directory of its own, with further settings.
    pub fn launch(&self, name: &str, settings: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Processor {
        // Plain text in the log, little memory: several run side by side.
        let builder = self.space.processor(name).env("NO_COLOR", "1");
        // The same in every life of it.
        let builder = builder.env("KONTOR_INSTANCE", format!("processor-{name}"));
        let builder = builder.env("KONTOR_BLOCK_CACHE_MIB", "16").env("KONTOR_WRITE_BUFFERS_MIB", "8");
        Processor::launch(settings(builder), &self.space.dir.join(format!("{name}.log")))
    }

    /// Starts the processor of this name with a crash point, such as `after-poll:3`.
    pub fn launch_to_crash(&self, name: &str, crash_at: &str) -> Processor {
        self.launch(name, |builder| builder.program("processor-faults").env("KONTOR_CRASH_AT", crash_at))
    }

    /// The processor of this name as one that knows of no membership and owns every shard.
    pub fn launch_alone(&self, name: &str, settings: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Processor {
        self.launch(name, |builder| settings(builder.env("KONTOR_ALONE", "true")))
    }

    /// The same, with commands running.
    pub async fn run_alone(&self, name: &str) -> Processor {
        let mut processor = self.launch_alone(name, |builder| builder);
        processor.ready().await;
        processor
    }

    /// The processor of this name, with commands running.
    pub async fn run_as(&self, name: &str) -> Processor {
        let mut processor = self.launch(name, |builder| builder);
        processor.ready().await;
        processor
    }

    /// A processor whose commands run.
    pub async fn run(&self) -> Processor {
        self.run_as("p1").await
    }

    /// An id that no other command of this bank has.
    pub fn id(&self) -> Uuid {
        Uuid::from(uuid::Uuid::from_u128(u128::from(self.ids.fetch_add(1, Ordering::Relaxed))))
    }

    /// Encoder of a record for a topic of topics.yaml.
    pub fn encoder<T: AvroRecord>(&self, topic: &str) -> Encoder<T> {
        Encoder::new(self.schemas.id_of(&self.space.topic(topic), T::full_name()).unwrap())
    }

    /// A command as a value of the topic.
    pub fn encoded<T: AvroRecord>(&self, record: &T) -> Vec<u8> {
        let mut value = Vec::new();
        self.encoder::<T>("commands").encode(record, &mut value).unwrap();
        value
    }

    /// A name whose partition is `partition`.
    pub fn name_in(&self, partition: i32) -> String {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut names = (0..).map(|attempt| format!("holder-{number}-{attempt}"));
        names.find(|name| partition_of(name.as_bytes(), PARTITIONS) == partition).unwrap()
    }

    /// Sends raw bytes to `commands`, where a client's partitioner would.
    pub fn send(&self, key: &str, value: &[u8]) -> (i32, i64) {
        self.sender.send(&self.space.topic("commands"), Some(key.as_bytes()), Some(value)).unwrap()
    }

    /// A new creation of an account.
    pub fn creation(&self, username: &str) -> ConfirmAccountCreation {
        let username = username.to_owned();
        ConfirmAccountCreation {
            id: self.id(),
            username,
            a_type: Atype::Manual,
            password_hash: Some("hash".to_owned()),
        }
    }

    /// Sends a creation.
    pub fn send_creation(&self, command: &ConfirmAccountCreation) -> Sent {
        let (partition, _) = self.send(&command.username, &self.encoded(command));
        Sent { id: command.id, fingerprint: fingerprint::account_creation(command), partition }
    }

    /// A new transfer; `holder` pays.
    pub fn payment(&self, holder: &Holder, to: &str, amount: i64) -> ConfirmMoneyTransfer {
        ConfirmMoneyTransfer {
            id: self.id(),
            token: holder.token.clone(),
            amount,
            from: holder.iban.clone(),
            to: to.to_owned(),
            description: "a payment".to_owned(),
        }
    }

    /// A new cash deposit.
    pub fn deposit(&self, to: &str, amount: i64) -> ConfirmMoneyTransfer {
        let (token, from) = ("cash".to_owned(), "cash".to_owned());
        let description = "a deposit".to_owned();
        ConfirmMoneyTransfer { id: self.id(), token, amount, from, to: to.to_owned(), description }
    }

    /// Sends a transfer under this key.
    pub fn send_transfer(&self, key: &str, command: &ConfirmMoneyTransfer) -> Sent {
        let (partition, _) = self.send(key, &self.encoded(command));
        Sent { id: command.id, fingerprint: fingerprint::transfer(command), partition }
    }

    /// Sends a payment of `holder` under their name.
    pub fn pay(&self, holder: &Holder, to: &str, amount: i64) -> Sent {
        self.send_transfer(&holder.username, &self.payment(holder, to, amount))
    }

    /// Sends a deposit under the account that it credits.
    pub fn pay_in(&self, to: &str, amount: i64) -> Sent {
        self.send_transfer(to, &self.deposit(to, amount))
    }

    /// Somebody in this partition with a new account that holds `cents`.
    pub async fn holder(&self, processor: &Processor, partition: i32, cents: i64) -> Holder {
        let username = self.name_in(partition);
        let sent = self.send_creation(&self.creation(&username));
        let opened = processor.queries().outcome(&sent).await;
        assert_eq!(opened.reason, "", "{username}");
        if cents > 0 {
            let sent = self.pay_in(&opened.iban, cents);
            assert_eq!(processor.queries().reason(&sent).await, "");
        }
        Holder { username, iban: opened.iban, token: opened.token }
    }

    /// `per_partition` holders in each partition.
    pub async fn holders(&self, processor: &Processor, per_partition: usize, cents: i64) -> Vec<Holder> {
        let mut holders = Vec::new();
        for _ in 0..per_partition {
            for partition in 0..PARTITIONS {
                holders.push(self.holder(processor, partition, cents).await);
            }
        }
        holders
    }

    /// The audit's exit code and what it said, without waiting for work in flight.
    pub async fn audit_now(&self) -> (i32, String) {
        self.space.audit(0).await.unwrap()
    }

    /// The money adds up, every command has one outcome, nothing is pending.
    pub async fn assert_clean(&self) {
        self.assert_clean_within(60).await;
    }

    /// The same, with so many seconds for what is in flight.
    pub async fn assert_clean_within(&self, wait_s: u32) {
        let (code, said) = self.space.audit(wait_s).await.unwrap();
        assert_eq!(code, 0, "{said}");
    }

    /// The same, and the stores of a stopped processor are the fold of the topics, byte for byte.
    pub async fn assert_clean_with_stores(&self, state_dir: &Path) {
        let (code, said) = self.space.audit_with_stores(60, state_dir).await.unwrap();
        assert_eq!(code, 0, "{said}");
    }
}
