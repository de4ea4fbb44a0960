//! `processor dead-letters`: what could not be processed, and bringing it back once the cause is gone.
//!
//! Replay sends the raw bytes again to the topic and partition that they came from. Commands are idempotent by id, so a
//! letter that is replayed twice has one effect. It refuses letters of topics that hold work in flight, and letters
//! that were cut.

mod read;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use schemas::topics::Topology;

use read::Letter;

/// Time to deliver one record.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `dead-letters`.
#[derive(clap::Args, Clone, Debug)]
pub struct DeadLettersArgs {
    /// What to do.
    #[command(subcommand)]
    action: Action,
    /// Kafka brokers, host:port, separated by commas.
    #[arg(long, env = "KONTOR_BOOTSTRAP", default_value = "127.0.0.1:9092", global = true)]
    bootstrap: String,
    /// The declaration of the topics.
    #[arg(long, env = "KONTOR_TOPICS", default_value = "topics.yaml", global = true)]
    topics: PathBuf,
    /// What topic names start with.
    #[arg(long, env = "KONTOR_PREFIX", default_value = "", global = true)]
    prefix: String,
    /// Print JSON, a line per letter.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Show the letters: where from, why, how large.
    List,
    /// Send letters again to where they came from.
    ///
    /// Example: processor dead-letters replay --from commands --partition 3 --offset 1207
    Replay {
        /// Only letters of this topic (without prefix).
        #[arg(long, default_value = "commands")]
        from: String,
        /// Only letters that came from this partition.
        #[arg(long)]
        partition: Option<i32>,
        /// Only the letter that came from this offset.
        #[arg(long, requires = "partition")]
        offset: Option<i64>,
        /// Only letters whose reason contains this text.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Runs the command. Exit code: 0, or 2 when a replay matched nothing.
pub fn run(args: DeadLettersArgs) -> anyhow::Result<ExitCode> {
    let topology = Topology::load(&args.topics)?.with_prefix(&args.prefix);
    let spec = topology.topic("dead_letters").context("topics.yaml declares no topic dead_letters")?;
    match &args.action {
        Action::List => {
            let letters = read::letters(&args.bootstrap, spec)?;
            letters.iter().for_each(|letter| println!("{}", shown(letter, args.json)));
            eprintln!("{} dead letters", letters.len());
            Ok(ExitCode::SUCCESS)
        }
        Action::Replay { from, partition, offset, reason } => {
            let source = topology.topic(from).with_context(|| format!("topics.yaml declares no topic {from}"))?;
            anyhow::ensure!(
                !source.internal,
                "{from} holds work in flight: a letter of it is no client's, nothing there may be sent twice"
            );
            let wanted = |letter: &Letter| {
                letter.topic == source.name
                    && partition.is_none_or(|partition| letter.partition == partition)
                    && offset.is_none_or(|offset| letter.offset == offset)
                    && reason.as_ref().is_none_or(|text| letter.reason.contains(text.as_str()))
            };
            let letters: Vec<_> = read::letters(&args.bootstrap, spec)?.into_iter().filter(wanted).collect();
            replay(&args, &letters)
        }
    }
}

fn replay(args: &DeadLettersArgs, letters: &[Letter]) -> anyhow::Result<ExitCode> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &args.bootstrap).set("enable.idempotence", "true").set("acks", "all");
    let failed = Arc::new(AtomicUsize::new(0));
    let producer = BaseProducer::from_config_and_context(&config, Deliveries(Arc::clone(&failed)))?;
    let mut sent = 0;
    for letter in letters {
        if letter.is_cut {
            eprintln!("{}: was cut, cannot be replayed", shown(letter, false));
            continue;
        }
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&letter.topic).partition(letter.partition);
        record.key = letter.key.as_deref();
        record.payload = letter.value.as_deref();
        producer.send(record).map_err(|(error, _)| error).with_context(|| shown(letter, false))?;
        producer.flush(SEND_TIMEOUT).with_context(|| shown(letter, false))?;
        anyhow::ensure!(failed.load(Ordering::Relaxed) == 0, "{}: was not delivered", shown(letter, false));
        println!("{}", shown(letter, args.json));
        sent += 1;
    }
    eprintln!("{sent} of {} matching letters replayed", letters.len());
    Ok(if letters.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Counts what was not delivered.
struct Deliveries(Arc<AtomicUsize>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn shown(letter: &Letter, json: bool) -> String {
    let bytes = letter.value.as_ref().map_or(0, Vec::len);
    if json {
        return serde_json::json!({
            "topic": letter.topic, "partition": letter.partition, "offset": letter.offset,
            "reason": letter.reason, "bytes": bytes, "cut": letter.is_cut,
        })
        .to_string();
    }
    format!("{}-{} offset {}: {} ({bytes} bytes)", letter.topic, letter.partition, letter.offset, letter.reason)
}
