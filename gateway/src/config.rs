//! The configuration: one struct, read from flags and the environment (flags win), from which the documentation's
//! table is printed. What cannot work is refused here, in one line that names the setting.

use crate::http::origin;
use clap::{CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// GraphQL gateway of the bank.
#[derive(Parser, Debug)]
#[command(
    name = "gateway",
    version,
    after_help = "Example: gateway --listen 127.0.0.1:8080 --bootstrap 127.0.0.1:9092"
)]
pub struct Cli {
    /// What to do; without it the gateway runs.
    #[command(subcommand)]
    pub task: Option<Task>,
    /// Settings.
    #[command(flatten)]
    pub config: Config,
}

/// What else the binary can do.
#[derive(Subcommand, Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Print the GraphQL schema.
    Sdl,
    /// Print the settings and their defaults.
    Config {
        /// As a table for the documentation.
        #[arg(long)]
        markdown: bool,
    },
}

/// Settings of a running gateway.
#[derive(clap::Args, Debug, Clone)]
pub struct Config {
    /// Kafka brokers, host:port, comma-separated
    #[arg(long, env = "KONTOR_BOOTSTRAP", default_value = "localhost:9092", value_parser = non_empty)]
    pub bootstrap: String,
    /// Address of the schema registry's Confluent API
    #[arg(long, env = "KONTOR_REGISTRY", default_value = "http://localhost:8081/apis/ccompat/v7", value_parser = http_url)]
    pub registry: String,
    /// The declaration of the topics
    #[arg(long, env = "KONTOR_TOPICS", default_value = "topics.yaml")]
    pub topics: PathBuf,
    /// What topic names start with, so that several stacks share a broker
    #[arg(long, env = "KONTOR_PREFIX", default_value = "")]
    pub prefix: String,
    /// Where to listen; port 0 takes a free one and says which
    #[arg(long, env = "KONTOR_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Query services of the processors, http://host:port, comma-separated; without them the topic `control` is asked
    #[arg(long, env = "KONTOR_PROCESSORS", value_delimiter = ',', value_parser = http_url)]
    pub processors: Vec<String>,
    /// Where schema ids are remembered, so that the gateway starts while the registry is down
    #[arg(long, env = "KONTOR_CACHE_FILE")]
    pub cache_file: Option<PathBuf>,
    /// Origins of pages that may call, comma-separated; by default this machine's own pages only
    #[arg(long, env = "KONTOR_ALLOWED_ORIGINS", value_delimiter = ',', value_parser = origin::parse)]
    pub allowed_origins: Vec<String>,
    /// Serve GraphiQL and introspection; by default only when listening on a loopback address
    #[arg(long, env = "KONTOR_DEV")]
    pub dev: Option<bool>,
    /// Directory with the scripts of GraphiQL, which compose/up downloads; without them its page is a plain console
    #[arg(long, env = "KONTOR_GRAPHIQL_DIR", value_parser = scripts_dir)]
    pub graphiql_dir: Option<PathBuf>,
    /// How long a command may take before its client is told "timed out", milliseconds
    #[arg(long, env = "KONTOR_COMMAND_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub command_timeout_ms: u32,
    /// How long a query may take, milliseconds
    #[arg(long, env = "KONTOR_QUERY_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub query_timeout_ms: u32,
    /// Operations under way at once on one WebSocket connection
    #[arg(long, env = "KONTOR_SOCKET_OPERATIONS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub socket_operations: u32,
    /// What to log: a level, or directives such as gateway=debug
    #[arg(long, env = "KONTOR_LOG", default_value = "info")]
    pub log: String,
}

impl Config {
    /// Whether GraphiQL and introspection are on.
    #[must_use]
    pub fn is_dev(&self) -> bool {
        self.dev.unwrap_or(self.listen.ip().is_loopback())
    }

    /// See the setting.
    #[must_use]
    pub fn command_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms.into())
    }

    /// See the setting.
    #[must_use]
    pub fn query_timeout(&self) -> Duration {
        Duration::from_millis(self.query_timeout_ms.into())
    }
}

/// The first line of an error of the argument parser, which names the setting and the value.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("wrong arguments").trim_start_matches("error: ").to_owned();
    let tip = lines.find_map(|line| line.strip_prefix("tip: "));
    match tip {
        Some(tip) => format!("{first} ({tip})"),
        None => first,
    }
}

/// The settings as a Markdown table, or as plain lines.
#[must_use]
pub fn table(markdown: bool) -> String {
    let mut table = String::new();
    if markdown {
        table.push_str("| Variable | Flag | Default | Meaning |\n|---|---|---|---|\n");
    }
    for argument in Cli::command().get_arguments() {
        let (Some(variable), Some(flag)) = (argument.get_env().and_then(|name| name.to_str()), argument.get_long())
        else {
            continue;
        };
        let defaults = argument.get_default_values().iter().filter_map(|value| value.to_str()).collect::<Vec<_>>();
        let default = defaults.join(",");
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let line = if markdown {
            let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
            format!("| `{variable}` | `--{flag}` | {default} | {help} |\n")
        } else {
            format!("{variable:<26} {default:<40} {help}\n")
        };
        table.push_str(&line);
    }
    table
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".into()) } else { Ok(text.to_owned()) }
}

fn http_url(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match authority {
        Some(authority) if !authority.is_empty() && !authority.starts_with('/') => Ok(text.to_owned()),
        _ => Err("it must look like http://host:port".into()),
    }
}

fn scripts_dir(text: &str) -> Result<PathBuf, String> {
    let dir = PathBuf::from(text);
    if dir.join("graphiql.min.js").is_file() { Ok(dir) } else { Err("it holds no graphiql.min.js".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, String> {
        Cli::try_parse_from(std::iter::once(&"gateway").chain(arguments)).map_err(|error| one_line(&error))
    }

    #[test]
    fn development_is_on_by_default_on_loopback_only() {
        for (arguments, dev) in [
            (vec![], true),
            (vec!["--listen", "0.0.0.0:80"], false),
            (vec!["--listen", "0.0.0.0:80", "--dev", "true"], true),
            (vec!["--dev", "false"], false),
        ] {
            assert_eq!(parse(&arguments).unwrap().config.is_dev(), dev, "{arguments:?}");
        }
    }

    #[test]
    fn a_wrong_value_gives_one_line_that_names_it() {
        for arguments in [
            ["--listen", "nowhere"],
            ["--processors", "localhost:7001"],
            ["--allowed-origins", "*"],
            ["--command-timeout-ms", "5"],
            ["--dev", "perhaps"],
            ["--graphiql-dir", "/nowhere"],
            ["--bootstrap", ""],
            ["--listne", "127.0.0.1:1"],
        ] {
            let line = parse(&arguments).map(|_| ()).unwrap_err();
            assert!(!line.contains('\n') && line.contains(arguments[0]), "{line}");
        }
    }

    #[test]
    fn without_addresses_the_processors_are_found_by_the_control_topic() {
        assert!(parse(&[]).unwrap().config.processors.is_empty());
        let given = parse(&["--processors", "http://a:1,http://b:2"]).unwrap().config.processors;
        assert_eq!(given, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn the_documentation_has_the_table() {
        let documented = include_str!("../../docs/configuration.md");
        assert!(documented.contains(&table(true)), "put `gateway config --markdown` into docs/configuration.md");
    }

    #[test]
    fn every_setting_is_in_the_table() {
        let markdown = table(true);
        for variable in ["KONTOR_BOOTSTRAP", "KONTOR_PROCESSORS", "KONTOR_ALLOWED_ORIGINS", "KONTOR_QUERY_TIMEOUT_MS"] {
            assert!(markdown.contains(&format!("| `{variable}` |")), "{markdown}");
        }
        assert!(markdown.lines().skip(2).all(|line| line.matches('|').count() == 5), "{markdown}");
    }
}
