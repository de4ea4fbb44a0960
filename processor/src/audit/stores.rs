//! I5: the stores of a stopped instance against the log, byte for byte.
//!
//! The one part of the audit that uses the engine: what is compared is the engine's own way of writing rows live with
//! its own way of reading them back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use processor::clock::SystemClock;
use processor::compare::{Comparison, compare};
use processor::log::kafka::{KafkaLog, KafkaOptions};
use processor::membership::Alone;
use processor::probe::Probe;
use processor::shard::{Codecs, ShardOptions, ShardParts};
use processor::stores::DiskStores;
use processor::topology::Application;
use schemas::SchemaCache;
use schemas::topics::Topology;
use state_store::{Budget, Identity};

use super::breach::{Breaches, Invariant};
use super::checks::Check;
use crate::bank_app::{self, Bank, BankOptions};
use crate::config;

/// What it takes to open the stores of an instance.
#[derive(clap::Args, Clone, Debug)]
pub struct StoreArgs {
    /// Compare the stores in this state directory too (I5). Their processor must be stopped.
    #[arg(long)]
    pub store: Option<PathBuf>,
    /// The secret file of the processor that wrote the stores; needed with --store.
    #[arg(long, env = "KONTOR_TOKEN_SECRET_FILE")]
    pub token_secret_file: Option<PathBuf>,
}

/// Compares every partition's store below the directory; `None` when none was asked for.
pub fn check(
    args: &StoreArgs,
    bootstrap: &str,
    topology: &Topology,
    schemas: &SchemaCache,
) -> anyhow::Result<Option<Check>> {
    let Some(directory) = &args.store else { return Ok(None) };
    let secrets = args.token_secret_file.as_deref().context("--store needs --token-secret-file")?;
    let tokens = config::read_tokens(secrets, bank::Tokens::COMPANY_DEFAULT)?;
    schemas.resolve(topology)?;
    let config = bank::Config { tokens: tokens.clone(), iban_draws_max: 0 };
    let options = BankOptions { config, outcome_retention_ms: i64::MAX };
    let application = bank_app::build(topology, schemas, options)?;
    let parts = parts(application, bootstrap, schemas)?;
    let cluster_id = parts.log.cluster_id(std::time::Duration::from_secs(10)).context("the broker does not answer")?;
    let identity = bank_app::identity(topology, cluster_id, &tokens);
    let (mut rows, mut compared, mut found) = (0, 0, Breaches::default());
    for partition in 0..topology.partitions {
        match compare_one(&parts, directory, &identity, partition)? {
            None => {}
            Some(Comparison { rows: of_log, difference }) => {
                rows += of_log;
                compared += 1;
                if let Some(difference) = difference {
                    found.add(None, format!("partition {partition}: {difference}"));
                }
            }
        }
    }
    anyhow::ensure!(compared > 0, "{} holds no stores", directory.display());
    Ok(Some(Check {
        invariant: Invariant::I5,
        sentence: "a store is the fold of its log, byte for byte",
        scope: format!("{rows} rows in {compared} stores"),
        found,
        partial: false,
    }))
}

fn compare_one(
    parts: &ShardParts<KafkaLog, Bank>,
    directory: &Path,
    identity: &Identity,
    partition: i32,
) -> anyhow::Result<Option<Comparison>> {
    let path = DiskStores::path(directory, partition);
    if !path.exists() {
        return Ok(None);
    }
    let identity = Identity { partition, ..identity.clone() };
    let store = state_store::open(&path, &identity, &Budget::new(16 << 20, 16 << 20))
        .with_context(|| format!("store of partition {partition}"))?
        .into_store();
    Ok(Some(compare(parts, partition, &store)?))
}

fn parts(application: Arc<Bank>, bootstrap: &str, schemas: &SchemaCache) -> anyhow::Result<ShardParts<KafkaLog, Bank>> {
    let options = KafkaOptions {
        bootstrap: bootstrap.to_owned(),
        group: "kontor-audit".to_owned(),
        client_id: "audit".to_owned(),
        prefetch_bytes: 32 << 20,
        extra: Vec::new(),
    };
    let encoders = application.encoders();
    let codecs = Codecs { position: encoders.position, owner: encoders.owner, schemas: schemas.clone() };
    Ok(ShardParts {
        id: 0,
        log: Arc::new(KafkaLog::new(options, application.definition().topics.clone())?),
        options: ShardOptions::default(),
        codecs: Arc::new(codecs),
        clock: SystemClock::shared(),
        stores: Arc::new(NoStores),
        views: Vec::new(),
        probe: Probe::none(),
        roles: Arc::new(Alone::default()),
        copier: None,
        application,
    })
}

/// A comparison opens its stores itself.
struct NoStores;

impl processor::shard::Stores for NoStores {
    fn open(&self, _: i32) -> Result<Arc<dyn state_store::Store>, state_store::StoreError> {
        Err(state_store::StoreError::Misuse { detail: "a comparison opens no stores".to_owned() })
    }

    fn wipe(&self, _: i32) -> Result<(), state_store::StoreError> {
        Err(state_store::StoreError::Misuse { detail: "a comparison wipes no stores".to_owned() })
    }
}
