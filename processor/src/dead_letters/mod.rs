//! `processor dead-letters`: what could not be processed, and bringing it back once the cause is gone.
//!
//! Replay sends the raw bytes again to the topic and partition that they came from. Commands are idempotent by id for
//! as long as outcomes are kept, and letters are kept for longer. So a letter that is replayed twice has one effect
//! only while it is younger than outcomes are kept for; older ones are not sent unless the operator insists (age.rs).
//! It refuses letters of topics that hold work in flight, and letters that were cut.

mod age;
mod read;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use processor::clock::SystemClock;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use schemas::topics::Topology;

pub use age::RetentionArgs;
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
    ///
    /// Exit codes: 0 letters were sent (those that were left out are named), 1 it failed, or every letter that matches
    /// was left out, 2 no letter matches.
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
        #[command(flatten)]
        retention: RetentionArgs,
        /// Send letters that are too old too. A command that was carried out meanwhile, by an earlier replay or because
        /// its client sent it again, may be forgotten: then it is carried out again, and money moves twice.
        #[arg(long)]
        forgotten: bool,
    },
}

/// Runs the command. The code is that of the process.
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
        Action::Replay { from, partition, offset, reason, retention, forgotten } => {
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
            let (clock, retention_ms) = (SystemClock::shared(), retention.ms()?);
            let may_go =
                |letter: &Letter| *forgotten || age::is_remembered(letter.written_at_ms, clock.wall_ms(), retention_ms);
            let letters: Vec<_> = read::letters(&args.bootstrap, spec)?.into_iter().filter(wanted).collect();
            replay(&args, &letters, &may_go)
        }
    }
}

/// `may_go` is asked right before a letter is sent: it may get too old while others are.
fn replay(args: &DeadLettersArgs, letters: &[Letter], may_go: &dyn Fn(&Letter) -> bool) -> anyhow::Result<ExitCode> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &args.bootstrap).set("enable.idempotence", "true").set("acks", "all");
    let failed = Arc::new(AtomicUsize::new(0));
    let producer = BaseProducer::from_config_and_context(&config, Deliveries(Arc::clone(&failed)))?;
    let mut count = Count::default();
    for letter in letters {
        match refusal(letter, may_go) {
            Some(Refusal::Cut) => {
                count.cut += 1;
                eprintln!("{}: was cut, cannot be replayed", shown(letter, false));
            }
            Some(Refusal::Old) => {
                count.old += 1;
                eprintln!("{}: is older than command ids are remembered, not replayed", shown(letter, false));
            }
            None => {
                send(&producer, letter).with_context(|| shown(letter, false))?;
                anyhow::ensure!(failed.load(Ordering::Relaxed) == 0, "{}: was not delivered", shown(letter, false));
                println!("{}", shown(letter, args.json));
                count.sent += 1;
            }
        }
    }
    eprintln!("{}", count.line(letters.len()));
    Ok(ExitCode::from(count.exit_code(letters.len())))
}

/// Why a letter stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    Cut,
    Old,
}

fn refusal(letter: &Letter, may_go: &dyn Fn(&Letter) -> bool) -> Option<Refusal> {
    if letter.is_cut {
        return Some(Refusal::Cut);
    }
    (!may_go(letter)).then_some(Refusal::Old)
}

fn send(producer: &BaseProducer<Deliveries>, letter: &Letter) -> anyhow::Result<()> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&letter.topic).partition(letter.partition);
    record.key = letter.key.as_deref();
    record.payload = letter.value.as_deref();
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(SEND_TIMEOUT)?;
    Ok(())
}

/// What became of the letters.
#[derive(Default)]
struct Count {
    sent: usize,
    cut: usize,
    old: usize,
}

impl Count {
    /// The closing line.
    fn line(&self, matching: usize) -> String {
        let mut line = format!("{} of {matching} matching letters replayed", self.sent);
        if self.cut > 0 {
            line.push_str(&format!("; {} left out because they were cut", self.cut));
        }
        if self.old > 0 {
            let old = self.old;
            line.push_str(&format!("; {old} left out because they are older than command ids are remembered"));
            line.push_str(" (--forgotten sends them; see its help for the risk)");
        }
        if matching > 0 && self.sent == 0 {
            line.push_str("; nothing was sent");
        }
        line
    }

    /// Whoever asked for letters to be sent must not be told that all is well when none was.
    fn exit_code(&self, matching: usize) -> u8 {
        match (matching, self.sent) {
            (0, _) => 2,
            (_, 0) => 1,
            _ => 0,
        }
    }
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
            "reason": letter.reason, "bytes": bytes, "cut": letter.is_cut, "written_at_ms": letter.written_at_ms,
        })
        .to_string();
    }
    format!("{}-{} offset {}: {} ({bytes} bytes)", letter.topic, letter.partition, letter.offset, letter.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(written_at_ms: Option<i64>, is_cut: bool) -> Letter {
        Letter {
            topic: "commands".to_owned(),
            partition: 1,
            offset: 7,
            reason: "schema 9".to_owned(),
            written_at_ms,
            key: None,
            value: None,
            is_cut,
        }
    }

    #[test]
    fn letters_that_are_cut_or_too_old_stay() {
        let may_go = |letter: &Letter| age::is_remembered(letter.written_at_ms, 10_000, 1_000);
        assert_eq!(refusal(&letter(Some(9_900), false), &may_go), None);
        assert_eq!(refusal(&letter(Some(9_900), true), &may_go), Some(Refusal::Cut));
        assert_eq!(refusal(&letter(Some(9_000), false), &may_go), Some(Refusal::Old));
        assert_eq!(refusal(&letter(None, false), &may_go), Some(Refusal::Old));
        assert_eq!(refusal(&letter(None, false), &|_| true), None);
    }

    #[test]
    fn the_closing_line_says_what_was_left_out() {
        let line = |sent, cut, old| Count { sent, cut, old }.line(5);
        assert_eq!(line(5, 0, 0), "5 of 5 matching letters replayed");
        assert_eq!(line(4, 1, 0), "4 of 5 matching letters replayed; 1 left out because they were cut");
        let old = line(3, 0, 2);
        assert!(old.contains("3 of 5") && old.contains("2 left out") && old.contains("--forgotten"), "{old}");
        assert!(!old.contains("nothing was sent"), "{old}");
        let none = line(0, 1, 4);
        assert!(none.contains("0 of 5") && none.ends_with("; nothing was sent"), "{none}");
    }

    #[test]
    fn a_replay_that_sends_nothing_is_no_success() {
        let code = |sent, cut, old, matching| Count { sent, cut, old }.exit_code(matching);
        assert_eq!(code(3, 0, 0, 3), 0);
        assert_eq!(code(1, 1, 1, 3), 0);
        assert_eq!(code(0, 0, 3, 3), 1);
        assert_eq!(code(0, 3, 0, 3), 1);
        assert_eq!(code(0, 0, 0, 0), 2);
    }
}
