//! Command line of `load`.

use std::path::PathBuf;
use std::time::Duration;

use crate::idle::IdleArgs;
use crate::mix::Mix;
use crate::resume::ResumeArgs;
use crate::schedule::Schedule;
use crate::worker::WorkerArgs;

/// Load on a running stack, measured open-loop, and the money check afterwards.
///
/// Exit codes: 0 everything answered once and the audit clean, 1 otherwise, 2 wrong usage.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "load", version, about)]
pub struct Cli {
    /// What to load.
    #[command(subcommand)]
    pub command: Command,
}

/// What to load.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    /// Commands straight into Kafka, answers from the feedback topics.
    Commands {
        /// How.
        #[command(flatten)]
        run: RunArgs,
        /// Which commands: `transfers`, or `seeds` for the seeds' mix.
        #[arg(long, default_value = "transfers", value_parser = ["transfers", "seeds"])]
        mix: String,
        /// Milliseconds that the driver's producer gathers records; 0 for latency, 5 for a backlog.
        #[arg(long)]
        linger_ms: Option<u32>,
    },
    /// GraphQL mutations over HTTP, all gateways in turn.
    Graphql {
        /// How.
        #[command(flatten)]
        run: RunArgs,
    },
    /// The bare transactional copy loop alone.
    Loop {
        /// How.
        #[command(flatten)]
        run: RunArgs,
    },
    /// Nothing: what a warm stack costs while it is idle.
    Idle(IdleArgs),
    /// Watchers that resume: what it takes to send them what they missed.
    Resume(ResumeArgs),
    /// The process of the loop; started by the others.
    #[command(hide = true)]
    LoopWorker(WorkerArgs),
}

/// What all runs share.
#[derive(clap::Args, Clone, Debug)]
pub struct RunArgs {
    /// stack.json of the running stack, or its directory.
    #[arg(long)]
    pub stack: PathBuf,
    /// Name of the run, part of the report's file name.
    #[arg(long, default_value = "run")]
    pub name: String,
    /// Where reports are written.
    #[arg(long, default_value = "benches/reports")]
    pub out: PathBuf,
    /// topics.yaml; that of the stack unless given.
    #[arg(long)]
    pub topics: Option<PathBuf>,
    /// The processor's binary for the audit; the one beside this program unless given.
    #[arg(long)]
    pub processor: Option<PathBuf>,
    /// Accounts to open first, spread evenly over the partitions. The seeds' mix opens its own.
    #[arg(long, default_value_t = 120)]
    pub accounts: u64,
    /// Share of transfers between partitions, 0 to 1.
    #[arg(long, default_value_t = 0.75)]
    pub across: f64,
    /// Commands per second.
    #[arg(long, default_value_t = 50.0, value_parser = positive)]
    pub rate: f64,
    /// Seconds of each measured round.
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    pub duration_s: f64,
    /// Seconds at the same rate before the first round, not measured.
    #[arg(long, default_value_t = 10.0)]
    pub warm_up_s: f64,
    /// So many commands as fast as they can be sent, instead of a rate.
    #[arg(long)]
    pub backlog: Option<u64>,
    /// Rounds; with --control the loop takes its turn after each.
    #[arg(long, default_value_t = 1)]
    pub rounds: u32,
    /// Measure the bare loop in the same run, in turns.
    #[arg(long)]
    pub control: bool,
}

impl RunArgs {
    /// Of a measured round.
    pub fn schedule(&self) -> Schedule {
        match self.backlog {
            Some(count) => Schedule::Backlog(count),
            None => Schedule::Rate { per_s: self.rate, duration: Duration::from_secs_f64(self.duration_s) },
        }
    }

    /// Of the warm-up; `None` without one. A backlog is warmed up by a tenth of it.
    pub fn warm_up(&self) -> Option<Schedule> {
        match self.backlog {
            _ if self.warm_up_s <= 0.0 => None,
            Some(count) => Some(Schedule::Backlog(count / 10)),
            None => Some(Schedule::Rate { per_s: self.rate, duration: Duration::from_secs_f64(self.warm_up_s) }),
        }
    }

    /// By its name on the command line.
    pub fn mix(&self, name: &str) -> Mix {
        if name == "seeds" { Mix::Seeds } else { Mix::Transfers { across: self.across } }
    }

    /// Gathers longer when only throughput counts.
    pub fn linger_ms(&self) -> u32 {
        if self.backlog.is_some() { 5 } else { 0 }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("must be a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn run_args(extra: &[&str]) -> RunArgs {
        let words = ["load", "loop", "--stack", "s"].iter().chain(extra);
        let Command::Loop { run } = Cli::parse_from(words).command else { panic!("not a loop") };
        run
    }

    #[test]
    fn a_backlog_replaces_the_rate() {
        assert_eq!(run_args(&["--rate", "100", "--duration-s", "2"]).schedule().count(), 200);
        let run = run_args(&["--backlog", "1000000"]);
        assert_eq!(run.schedule(), Schedule::Backlog(1_000_000));
        assert_eq!(run.warm_up(), Some(Schedule::Backlog(100_000)));
        assert_eq!(run_args(&["--warm-up-s", "0"]).warm_up(), None);
    }

    #[test]
    fn a_rate_must_be_possible() {
        for rate in ["0", "-1", "inf", "x"] {
            assert!(Cli::try_parse_from(["load", "loop", "--stack", "s", "--rate", rate]).is_err(), "{rate}");
        }
    }
}
