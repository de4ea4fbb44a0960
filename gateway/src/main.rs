//! The binary `gateway`: reads the configuration, runs until told to stop. Exit codes: 0 stopped as asked, 1 cannot
//! start, 2 wrong arguments.

use clap::Parser;
use gateway::config::{Cli, Task, one_line, table};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// A log-in fills 19 MB on some thread of a pool; the C library's allocator keeps them for each thread that ever did.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            eprintln!("gateway: {}; --help lists the settings", one_line(&error));
            return ExitCode::from(2);
        }
        Err(help) => return print(&help.to_string()),
    };
    match cli.task {
        Some(Task::Sdl) => print(&gateway::schema::sdl()),
        Some(Task::Config { markdown }) => print(&table(markdown)),
        None => run(cli.config).await,
    }
}

async fn run(config: gateway::config::Config) -> ExitCode {
    let filter = match tracing_subscriber::EnvFilter::try_new(&config.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("gateway: KONTOR_LOG `{}`: {error}", config.log);
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match gateway::serve::run(config, told_to_stop()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM or Ctrl-C, heard from now on; a second one ends the process at once.
fn told_to_stop() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signals cannot be received: the gateway runs until it is killed");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::process::exit(130);
        });
    }
}

/// A closed pipe is no failure of ours.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
