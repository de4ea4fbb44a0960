//! The bank's processor: `run` it, `audit` what it did, see its `status`, change its `layout`, print its `config`.

mod audit;
mod bank_app;
mod change_layout;
mod config;
mod dead_letters;
mod run;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A backlog fills and empties megabytes on a thread per shard; the C library's allocator keeps most of that, an arena
/// for each thread. This one gives it back within seconds (figures: docs/decisions.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Wrong usage. 1 and 2 are answers of the tools.
const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "processor",
    version,
    about = "The processor of a bank on Kafka",
    after_help = "\
Exit codes:
  0   as asked, and nothing is wrong
  1   it failed; or a breach was found (audit), a shard is not served (status), the layout is another (layout), every
      letter was left out (dead-letters replay)
  2   undecided (audit); no letter matches (dead-letters replay)
  64  wrong arguments or a wrong KONTOR_LOG"
)]
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
    /// Show records that could not be processed, or send them again.
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Show the instances, and who owns which shard.
    Status(status::StatusArgs),
    /// Show the layout of shards that the state is of, or change it.
    Layout(change_layout::LayoutArgs),
    /// Print the settings of `run` as a Markdown table.
    Config,
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version are no errors; everything else must not look like an audit that could not decide.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // The client library's own error lines repeat what the engine says with more context, or what a tool asked for.
    let quiet =
        if matches!(command, Command::Run(_)) { "info,rdkafka=off" } else { "warn,rdkafka=off,librdkafka=error" };
    let filter = match log_filter(quiet) {
        Ok(filter) => filter,
        Err(refusal) => {
            eprintln!("processor: {refusal}");
            return ExitCode::from(USAGE);
        }
    };
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let outcome = match command {
        Command::Run(args) => run_until_signal(*args).map(|()| ExitCode::SUCCESS),
        Command::Audit(args) => audit::run(args),
        Command::DeadLetters(args) => dead_letters::run(args),
        Command::Status(args) => status::run(args),
        Command::Layout(args) => change_layout::run(args),
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

/// What is logged: `KONTOR_LOG`, or `usual` without it. A wrong one is refused: nobody sees that lines are missing.
fn log_filter(usual: &str) -> Result<EnvFilter, String> {
    let Some(given) = std::env::var_os("KONTOR_LOG") else { return Ok(EnvFilter::new(usual)) };
    let given = given.to_string_lossy();
    EnvFilter::try_new(&given).map_err(|error| format!("KONTOR_LOG `{given}`: {error}"))
}

fn run_until_signal(args: config::RunArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(run::run(args));
    // Threads of clients that wait for a broker must not hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}
