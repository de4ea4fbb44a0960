//! Configuration of the bank's processor: flags over environment over defaults. The secret that makes tokens comes from a
//! file only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bank::{IBAN_DRAWS_MAX, TokenSecret, Tokens};
use schemas::topics::{MOST_STANDBYS, Target, Topology};
use schemas::{CacheConfig, SchemaCache};

/// Where the topics are, what they are called and who knows their schemas.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Kafka brokers, host:port, separated by commas.
    #[arg(long, env = "KONTOR_BOOTSTRAP", default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Base address of the schema registry's Confluent API.
    #[arg(long, env = "KONTOR_REGISTRY", default_value = "http://127.0.0.1:8081/apis/ccompat/v7")]
    pub registry: String,
    /// The declaration of the topics.
    #[arg(long, env = "KONTOR_TOPICS", default_value = "topics.yaml")]
    pub topics: PathBuf,
    /// Put before every topic name, so that stacks can share a broker.
    #[arg(long, env = "KONTOR_PREFIX", default_value = "")]
    pub prefix: String,
}

impl ClusterArgs {
    /// The declaration of the topics, under their names here.
    pub fn topology(&self) -> anyhow::Result<Topology> {
        Ok(Topology::load(&self.topics)?.with_prefix(&self.prefix))
    }

    /// The cluster and the registry, for administration.
    pub fn target(&self) -> Target {
        Target::new(self.bootstrap.clone(), self.registry.clone())
    }

    /// Schemas from the registry; `file` keeps them for a start without one.
    pub fn schemas(&self, file: Option<PathBuf>) -> anyhow::Result<SchemaCache> {
        Ok(SchemaCache::start(CacheConfig { registry_url: self.registry.clone(), file })?)
    }
}

/// Settings of `processor run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Of the cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Directory of the local stores; may be deleted while stopped, the topics rebuild it.
    #[arg(long, env = "KONTOR_STATE_DIR", default_value = "state")]
    pub state_dir: PathBuf,
    /// Address of the query service (gRPC).
    #[arg(long, env = "KONTOR_GRPC_LISTEN", default_value = "127.0.0.1:8190")]
    pub grpc_listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "KONTOR_HTTP_LISTEN", default_value = "127.0.0.1:8191")]
    pub http_listen: SocketAddr,
    /// File with the secrets that make account tokens, one per line: the first signs, all verify. One may leave the list when no store was made under it.
    #[arg(long, env = "KONTOR_TOKEN_SECRET_FILE")]
    pub token_secret_file: PathBuf,
    /// Token of the company account, 20 digits; the default is known to everybody, so set it.
    #[arg(long, env = "KONTOR_COMPANY_TOKEN", default_value = Tokens::COMPANY_DEFAULT, hide_env_values = true)]
    pub company_token: String,
    /// Name of this instance, stable over restarts and unlike every other's; the default is taken from the address.
    #[arg(long, env = "KONTOR_INSTANCE", default_value = "")]
    pub instance: String,
    /// Address at which others reach the query service, http://host:port; the default is the listen address.
    #[arg(long, env = "KONTOR_ADVERTISE", default_value = "")]
    pub advertise: String,
    /// Failure domain of this instance: standbys are placed in other ones where there are any.
    #[arg(long, env = "KONTOR_RACK", default_value = "")]
    pub rack: String,
    /// Standbys of each shard instead of those that topics.yaml declares, as far as there are instances for them. The leader's setting counts.
    #[arg(long, env = "KONTOR_STANDBYS", value_parser = clap::value_parser!(u8).range(..=i64::from(MOST_STANDBYS)))]
    pub standbys: Option<u8>,
    /// Seconds for which this instance keeps its shards when it is stopped (a restart); 0: it gives them away at once.
    #[arg(long, env = "KONTOR_GRACE_SECONDS", default_value_t = 0)]
    pub grace_seconds: u16,
    /// Own every shard and ask nobody: no membership, no standbys. Never beside other instances.
    #[arg(long, env = "KONTOR_ALONE", default_value_t = false, action = clap::ArgAction::Set, default_missing_value = "true", num_args = 0..=1)]
    pub alone: bool,
    /// Ibans that an account creation tries; 0 makes every one fail (for tests).
    #[arg(long, env = "KONTOR_IBAN_DRAWS_MAX", default_value_t = IBAN_DRAWS_MAX)]
    pub iban_draws_max: u32,
    /// Hours of record time after which final outcomes leave, and with them the memory of command ids.
    #[arg(long, env = "KONTOR_OUTCOME_RETENTION_HOURS", default_value_t = 168.0)]
    pub outcome_retention_hours: f64,
    /// Records of one transaction.
    #[arg(long, env = "KONTOR_TRANSACTION_RECORDS_MAX", default_value_t = 2000)]
    pub transaction_records_max: usize,
    /// Deadline of one commit in milliseconds; afterwards its outcome is read from the log.
    #[arg(long, env = "KONTOR_COMMIT_DEADLINE_MS", default_value_t = 5000)]
    pub commit_deadline_ms: u64,
    /// Block cache of all stores together, MiB; write buffers come on top.
    #[arg(long, env = "KONTOR_BLOCK_CACHE_MIB", default_value_t = 8)]
    pub block_cache_mib: usize,
    /// Write buffers of all stores together, MiB.
    #[arg(long, env = "KONTOR_WRITE_BUFFERS_MIB", default_value_t = 24)]
    pub write_buffers_mib: usize,
    /// Records read ahead by each shard, KiB.
    #[arg(long, env = "KONTOR_PREFETCH_KIB", default_value_t = 256)]
    pub prefetch_kib: usize,
    /// MiB per second that copies of stores may take which this instance gives to others; 0: it gives none and takes none.
    #[arg(long, env = "KONTOR_COPY_MIB_PER_SECOND", default_value_t = 64, value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    pub copy_mib_per_second: u64,
    /// Records that a partition without state must lack before it is copied from another instance.
    #[arg(long, env = "KONTOR_COPY_RECORDS_MIN", default_value_t = 50_000)]
    pub copy_records_min: u64,
    /// File of further librdkafka settings of the shards, `name=value` per line; gateway and tools do not read it.
    #[arg(long, env = "KONTOR_KAFKA_CONFIG_FILE")]
    pub kafka_config_file: Option<PathBuf>,
}

impl RunArgs {
    /// Secrets and tokens.
    pub fn tokens(&self) -> anyhow::Result<Tokens> {
        read_tokens(&self.token_secret_file, &self.company_token)
    }

    /// Further settings of librdkafka.
    pub fn kafka_settings(&self) -> anyhow::Result<Vec<(String, String)>> {
        self.kafka_config_file.as_deref().map_or(Ok(Vec::new()), read_settings)
    }

    /// Name of the instance; by default from where others reach it, which no two instances share.
    pub fn instance_name(&self) -> String {
        let reached = || self.advertise.rsplit('/').next().filter(|host| !host.is_empty()).map(str::to_owned);
        if self.instance.is_empty() {
            format!("processor-{}", reached().unwrap_or_else(|| self.grpc_listen.to_string()))
        } else {
            self.instance.clone()
        }
    }

    /// Where others reach the query service.
    pub fn endpoint(&self) -> anyhow::Result<String> {
        if !self.advertise.is_empty() {
            let given = &self.advertise;
            anyhow::ensure!(
                given.starts_with("http://") || given.starts_with("https://"),
                "--advertise {given}: give http://host:port"
            );
            return Ok(given.clone());
        }
        let listen = self.grpc_listen;
        let reachable = !listen.ip().is_unspecified() && listen.port() != 0;
        anyhow::ensure!(
            reachable,
            "nobody can reach {listen}: say with --advertise (KONTOR_ADVERTISE) where others reach it"
        );
        Ok(format!("http://{listen}"))
    }

    /// Retention of final outcomes in milliseconds.
    pub fn outcome_retention_ms(&self) -> anyhow::Result<i64> {
        let hours = self.outcome_retention_hours;
        anyhow::ensure!(hours.is_finite() && hours > 0.0, "outcome retention is {hours} hours; give a positive number");
        Ok((hours * 3_600_000.0) as i64)
    }
}

/// Reads the secrets that make tokens, one per line.
pub fn read_tokens(path: &Path, company_token: &str) -> anyhow::Result<Tokens> {
    let text = std::fs::read_to_string(path).with_context(|| {
        let bytes = TokenSecret::BYTES_MIN;
        format!("token secret file {}; create it with at least {bytes} random bytes in one line", path.display())
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets = lines.map(TokenSecret::new).collect::<Result<Vec<_>, _>>();
    let secrets = secrets.with_context(|| format!("token secret file {}", path.display()))?;
    Ok(Tokens::new(secrets, company_token)?)
}

fn read_settings(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("Kafka settings file {}", path.display()))?;
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, value) =
                line.split_once('=').with_context(|| format!("{}: {line:?} is not name=value", path.display()))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// The settings as a Markdown table, for the docs.
pub fn markdown<A: clap::Args>() -> String {
    let command = A::augment_args(clap::Command::new("run"));
    let mut table = String::from("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n");
    for arg in command.get_arguments() {
        let flag = arg.get_long().unwrap_or_default();
        let env = arg.get_env().map(|env| env.to_string_lossy().into_owned()).unwrap_or_default();
        let default: Vec<_> =
            arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        table.push_str(&format!("| `--{flag}` | `{env}` | `{}` | {help} |\n", default.join(",")));
    }
    table.replace("| `` |", "| |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_in_the_table_with_its_variable() {
        let table = markdown::<RunArgs>();
        for line in table.lines().skip(2) {
            assert!(line.contains("`KONTOR_"), "{line}");
        }
        assert!(table.contains("| `--block-cache-mib` | `KONTOR_BLOCK_CACHE_MIB` | `8` |"), "{table}");
    }

    #[test]
    fn the_docs_hold_the_table() {
        let docs = include_str!("../../docs/configuration.md");
        assert!(
            docs.contains(&markdown::<RunArgs>()),
            "put the output of `processor config` into docs/configuration.md"
        );
    }

    #[test]
    fn settings_files_are_read_and_their_faults_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\nsecurity.protocol = ssl\n\n").unwrap();
        assert_eq!(read_settings(file.path()).unwrap(), [("security.protocol".to_owned(), "ssl".to_owned())]);
        std::fs::write(file.path(), "nonsense").unwrap();
        assert!(read_settings(file.path()).unwrap_err().to_string().contains("nonsense"));
    }
}
