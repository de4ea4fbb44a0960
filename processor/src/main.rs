//! The bank's processor: `run` it, `audit` what it did, print its `config`.

mod audit;
mod bank_app;
mod config;
mod run;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "processor", version, about = "The processor of a bank on Kafka")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Own the shards of the bank: handle commands, answer queries.
    Run(Box<config::RunArgs>),
    /// Recompute the invariants of the money from the topics alone. Exit code: 0 clean, 1 a breach, 2 undecided.
    Audit(audit::AuditArgs),
    /// Print the settings of `run` as a Markdown table.
    Config,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("KONTOR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = match Cli::parse().command {
        Command::Run(args) => run_until_signal(*args).map(|()| ExitCode::SUCCESS),
        Command::Audit(args) => audit::run(args),
        Command::Config => {
            print!("{}", config::markdown::<config::RunArgs>());
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_until_signal(args: config::RunArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(run::run(args));
    // Threads of clients that wait for a broker must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}
