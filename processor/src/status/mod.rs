//! `processor status`: who owns what, who follows, how far they are, and what moves.
//!
//! It reads the control topic to its end, then asks every member that is named there for the state of its partitions,
//! twice, so that it can tell rates. It writes nothing and decides nothing; a member that does not answer is shown so.

mod ask;
mod read;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use schemas::topics::Topology;
use schemas::{CacheConfig, SchemaCache};

use report::Report;

/// Show the instances, and who owns which shard.
///
/// Exit codes: 0 every shard has an owner that answers and whose commands run, 1 not.
#[derive(clap::Args, Clone, Debug)]
pub struct StatusArgs {
    /// Kafka brokers, host:port, separated by commas.
    #[arg(long, env = "KONTOR_BOOTSTRAP", default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Base address of the schema registry's Confluent API.
    #[arg(long, env = "KONTOR_REGISTRY", default_value = "http://127.0.0.1:8081/apis/ccompat/v7")]
    pub registry: String,
    /// The declaration of the topics.
    #[arg(long, env = "KONTOR_TOPICS", default_value = "topics.yaml")]
    pub topics: PathBuf,
    /// What topic names start with.
    #[arg(long, env = "KONTOR_PREFIX", default_value = "")]
    pub prefix: String,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let topology = Topology::load(&args.topics)?.with_prefix(&args.prefix);
    let schemas = SchemaCache::start(CacheConfig { registry_url: args.registry.clone(), file: None })?;
    let control = read::control(&args.bootstrap, &topology, &schemas)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(ask::all(&control.directory));
    let report = Report::of(&control, &answers);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(if report.serves { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
