//! I5: the stores of a stopped instance against the log, byte for byte.
//!
//! The one part of the audit that uses the engine: what is compared is the engine's own way of writing rows live with
//! its own way of reading them back. And the one part that writes: a store is opened where it lies and as it always is,
//! so RocksDB replays its log, starts a new one and may compact. The rows stay as they are.

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
    /// Compare the stores in this state directory too (I5). Their processor must be stopped; opening them changes their
    /// files, though no row.
    #[arg(long, requires = "token_secret_file")]
    pub store: Option<PathBuf>,
    /// The secret file of the processor that wrote the stores; needed with --store.
    #[arg(long, env = "KONTOR_TOKEN_SECRET_FILE")]
    pub token_secret_file: Option<PathBuf>,
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub struct InStores {
    /// Of the stores that stand at the end of their log; `None` when none was asked for.
    pub check: Option<Check>,
    /// Stores that do not, a line each.
    pub pending: Vec<String>,
}

/// Compares every partition's store below the directory, if one was named.
pub fn check(
    args: &StoreArgs,
    bootstrap: &str,
    topology: &Topology,
    schemas: &SchemaCache,
) -> anyhow::Result<InStores> {
    let Some(directory) = &args.store else { return Ok(InStores::default()) };
    let secrets = args.token_secret_file.as_deref().context("--store needs --token-secret-file")?;
    let tokens = config::read_tokens(secrets, bank::Tokens::COMPANY_DEFAULT)?;
    schemas.resolve(topology)?;
    let config = bank::Config { tokens: tokens.clone(), iban_draws_max: 0 };
    let options = BankOptions { config, outcome_retention_ms: i64::MAX };
    let application = bank_app::build(topology, schemas, options)?;
    let parts = parts(application, bootstrap, schemas)?;
    let cluster_id = parts.log.cluster_id(std::time::Duration::from_secs(10)).context("the broker does not answer")?;
    let identity = bank_app::identity(topology, cluster_id, &tokens);
    let mut tally = Tally::default();
    for partition in 0..topology.partitions {
        if let Some(comparison) = compare_one(&parts, directory, &identity, partition)? {
            tally.add(partition, comparison);
        }
    }
    anyhow::ensure!(tally.stores > 0, "{} holds no stores", directory.display());
    Ok(tally.finish())
}

/// The comparisons so far.
#[derive(Default)]
struct Tally {
    stores: usize,
    rows: u64,
    found: Breaches,
    pending: Vec<String>,
}

impl Tally {
    fn add(&mut self, partition: i32, comparison: Comparison) {
        self.stores += 1;
        self.rows += comparison.rows;
        if let Some(difference) = comparison.difference {
            self.found.add(None, format!("partition {partition}: {difference}"));
        }
        if let Some(behind) = comparison.behind {
            self.pending.push(format!("store of partition {partition}: pending: {behind}"));
        }
    }

    fn finish(self) -> InStores {
        let compared = self.stores - self.pending.len();
        let check = Check {
            invariant: Invariant::I5,
            sentence: "a store is the fold of its log, byte for byte",
            scope: format!("{} rows in {compared} of {} stores", self.rows, self.stores),
            found: self.found,
            partial: !self.pending.is_empty(),
        };
        InStores { check: Some(check), pending: self.pending }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::fold::Fold;
    use crate::audit::report::Report;

    fn exit_code(comparisons: &[Comparison]) -> u8 {
        let mut tally = Tally::default();
        for (partition, comparison) in (0..).zip(comparisons) {
            tally.add(partition, comparison.clone());
        }
        let InStores { check, pending } = tally.finish();
        let report = Report::new(&Fold::new(1), check.into_iter().collect(), pending, vec![], Duration::ZERO);
        report.exit_code()
    }

    #[test]
    fn a_store_that_is_behind_is_pending_and_one_that_differs_is_a_breach() {
        let level = Comparison { rows: 3, ..Comparison::default() };
        let behind = Comparison { behind: Some("2 commits behind its log".to_owned()), ..Comparison::default() };
        let other = Comparison { difference: Some("table 1 differs".to_owned()), ..Comparison::default() };
        assert_eq!(exit_code(&[level.clone(), level.clone()]), 0);
        assert_eq!(exit_code(&[level.clone(), behind.clone()]), 2);
        assert_eq!(exit_code(&[other, behind, level]), 1);
    }

    #[test]
    fn what_is_behind_is_said_by_how_much() {
        let mut tally = Tally::default();
        tally.add(0, Comparison { rows: 3, ..Comparison::default() });
        tally.add(1, Comparison { behind: Some("2 commits behind its log".to_owned()), ..Comparison::default() });
        let InStores { check, pending } = tally.finish();
        assert_eq!(pending, ["store of partition 1: pending: 2 commits behind its log"]);
        let check = check.unwrap();
        assert_eq!((check.scope.as_str(), check.partial), ("3 rows in 1 of 2 stores", true));
    }
}
