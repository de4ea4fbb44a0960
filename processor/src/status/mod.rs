//! `processor status`: who owns what, who follows, how far they are, and what moves.
//!
//! It reads the control topic to its end, then asks every member that is named there for the state of its partitions,
//! twice, so that it can tell rates. It writes nothing and decides nothing; a member that does not answer is shown so.

mod ask;
mod read;
mod report;

use std::process::ExitCode;

use crate::config::ClusterArgs;
use report::Report;

/// Show the instances, and who owns which shard.
///
/// Exit codes: 0 every shard has an owner that answers and whose commands run, 1 not.
#[derive(clap::Args, Clone, Debug)]
pub struct StatusArgs {
    /// Of the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let topology = args.cluster.topology()?;
    let schemas = args.cluster.schemas(None)?;
    let control = read::control(&args.cluster.bootstrap, &topology, &schemas)?;
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
