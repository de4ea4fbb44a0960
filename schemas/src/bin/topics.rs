//! `topics plan|apply|verify`: the command line of [`schemas::topics`].

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use schemas::topics::{self, Target, TopicsError, Topology, VerifyError};

const OK: u8 = 0;
const FAILED: u8 = 1;
const DIFFERENT: u8 = 2;
const USAGE: u8 = 64;

/// Keeps the topics and schemas of a cluster as topics.yaml declares them.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  topics plan                      what would change on localhost:9092
  topics apply --bootstrap kafka:9092 --registry http://registry:8080/apis/ccompat/v7
  topics apply --prefix test1. --delete-unknown
  topics verify --json

Exit codes:
  0   as declared (plan, verify), or made so (apply)
  1   Kafka or the registry could not be asked, or refused
  2   not as declared (plan, verify), or a topic has another number of partitions, so nothing was changed (apply)
  64  wrong arguments or a wrong topics.yaml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what differs; change nothing.
    Plan {
        #[command(flatten)]
        common: Common,
        /// Also plan to delete topics that are not declared (never internal or protected ones; with a prefix, only under it;
        /// without one, also those of banks that have a prefix).
        #[arg(long)]
        delete_unknown: bool,
    },
    /// Create, change and register what is missing.
    Apply {
        #[command(flatten)]
        common: Common,
        /// Also delete topics that are not declared (never internal or protected ones; with a prefix, only under it; without
        /// one, also those of banks that have a prefix).
        #[arg(long)]
        delete_unknown: bool,
    },
    /// Check what a service checks at its start; change nothing.
    Verify {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    /// The declaration.
    #[arg(long, value_name = "FILE", env = "KONTOR_TOPICS", default_value = "topics.yaml")]
    topics: PathBuf,
    /// Kafka.
    #[arg(long, value_name = "HOST:PORT", env = "KONTOR_BOOTSTRAP", default_value = "localhost:9092")]
    bootstrap: String,
    /// Base address of the schema registry's Confluent API.
    #[arg(long, value_name = "URL", env = "KONTOR_REGISTRY", default_value = "http://localhost:8081/apis/ccompat/v7")]
    registry: String,
    /// What topic names start with, separator included: `test1.`
    #[arg(long, value_name = "PREFIX", env = "KONTOR_PREFIX", default_value = "")]
    prefix: String,
    /// Print one JSON document on stdout.
    #[arg(long)]
    json: bool,
    /// How long to try in all.
    #[arg(long, value_name = "SECONDS", env = "KONTOR_TIMEOUT_S", default_value_t = 30)]
    timeout_s: u64,
}

impl Common {
    fn target(&self) -> Target {
        Target { timeout_ms: self.timeout_s.saturating_mul(1000), ..Target::new(&self.bootstrap, &self.registry) }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; everything else must not look like "different".
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { OK });
        }
    };
    let common = match &cli.command {
        Command::Plan { common, .. } | Command::Apply { common, .. } | Command::Verify { common } => common,
    };
    let topology = match Topology::load(&common.topics) {
        Ok(topology) => topology.with_prefix(&common.prefix),
        Err(error) => return complain(&common.topics.display().to_string(), &error, USAGE),
    };
    run(&cli.command, common, &topology).await
}

async fn run(command: &Command, common: &Common, topology: &Topology) -> ExitCode {
    let target = common.target();
    match command {
        Command::Plan { delete_unknown, .. } => match topics::plan(&target, topology, *delete_unknown).await {
            Ok(plan) => {
                print(&if common.json { topics::to_json(&plan) } else { plan.to_string() });
                ExitCode::from(if plan.is_empty() { OK } else { DIFFERENT })
            }
            Err(error) => fail("plan", &error),
        },
        Command::Apply { delete_unknown, .. } => {
            let progress = |line: &str| eprintln!("{line}");
            match topics::apply(&target, topology, *delete_unknown, progress).await {
                Ok(applied) => {
                    let done = format!("{} changes made, the cluster is as declared", applied.actions.len());
                    print(&if common.json { topics::to_json(&applied) } else { done });
                    ExitCode::from(OK)
                }
                Err(error) => fail("apply", &error),
            }
        }
        Command::Verify { .. } => match topics::verify(&target, topology).await {
            Ok(()) => {
                print(if common.json { "[]" } else { "the cluster is as declared" });
                ExitCode::from(OK)
            }
            Err(VerifyError::Mismatch(found)) => {
                if common.json {
                    print(&topics::to_json(&found));
                }
                complain("verify", &VerifyError::Mismatch(found), DIFFERENT)
            }
            Err(VerifyError::Topics(error)) => fail("verify", &error),
        },
    }
}

fn fail(what: &str, error: &TopicsError) -> ExitCode {
    let code = match error {
        TopicsError::Refused(_) => DIFFERENT,
        TopicsError::Name(_) => USAGE,
        _ => FAILED,
    };
    complain(what, error, code)
}

/// One line with all causes.
fn complain(what: &str, error: &dyn std::error::Error, code: u8) -> ExitCode {
    let mut line = format!("topics: {what}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        // Some libraries repeat their cause in their own words.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    eprintln!("{line}");
    ExitCode::from(code)
}

fn print(text: &str) {
    // A reader that went away (`topics plan | head`) is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}
