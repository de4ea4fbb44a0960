//! `load`: load on a running stack, and what it cost. See the library for what is measured and how.

use std::process::ExitCode;

use benches::idle;
use benches::options::{Cli, Command};
use benches::resume;
use benches::session::{self, Level};
use benches::worker;
use clap::Parser;

fn main() -> ExitCode {
    let result = match &Cli::parse().command {
        Command::Commands { run, mix, linger_ms } => {
            session::run(&Level::Commands(mix.clone(), linger_ms.unwrap_or_else(|| run.linger_ms())), run)
        }
        Command::Graphql { run } => session::run(&Level::Graphql, run),
        Command::Loop { run } => session::run(&Level::Loop, run),
        Command::Idle(args) => idle::run(args).map(|()| true),
        Command::Resume(args) => resume::run(args).map(|()| true),
        Command::LoopWorker(args) => worker::run(args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::from(1)
        }
    }
}
