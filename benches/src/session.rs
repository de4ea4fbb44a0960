//! One run from the command line to the report: connect, open accounts, warm up, rounds in turns, audit.

use std::collections::BTreeMap;

use anyhow::Context;
use schemas::topics::Topology;

use crate::audit::Audit;
use crate::commands::Bank;
use crate::control::Control;
use crate::graphql::Gateways;
use crate::kafka;
use crate::metrics::{self, Counters};
use crate::options::RunArgs;
use crate::probe::Outcome;
use crate::report::{Part, Report, add_usage, today};
use crate::schedule::Schedule;
use crate::stack::Stack;
use crate::usage::{Sampler, Usage, Watched, per_1000};

/// What is loaded.
pub enum Level {
    /// Commands in Kafka: a mix by name, and the producer's linger.
    Commands(String, u32),
    /// GraphQL.
    Graphql,
    /// The bare loop alone.
    Loop,
}

/// Runs, writes the report, prints its table. Says whether all is good.
pub fn run(level: &Level, args: &RunArgs) -> anyhow::Result<bool> {
    let stack = Stack::load(&args.stack)?;
    let topics = args.topics.clone().or_else(|| stack.topics.clone()).unwrap_or_else(|| "topics.yaml".into());
    let topology = Topology::load(&topics)?.with_prefix(&stack.prefix);
    let session = Session { args, stack, topology };
    let (parts, audit) = audited(session.measure(level), || {
        let has_money = !matches!(level, Level::Loop);
        has_money.then(|| {
            eprintln!("audit");
            Audit::run(&session.stack, args.processor.as_deref(), &topics)
        })
    })?;
    let report = session.report(level, parts, audit);
    let files = report.write(&args.out).with_context(|| format!("cannot write into {}", args.out.display()))?;
    println!("{}\n{}\n{}", report.to_table(), files[0].display(), files[1].display());
    Ok(report.is_good())
}

/// The audit ends every run: one that failed left its work in the bank too. What it found is said then, and the error
/// of the run stays the result.
fn audited<T>(
    measured: anyhow::Result<T>,
    audit: impl FnOnce() -> Option<Audit>,
) -> anyhow::Result<(T, Option<Audit>)> {
    let audit = audit();
    if let (Err(_), Some(audit)) = (&measured, &audit) {
        eprintln!("audit: {} (exit code {})", audit.line(), audit.exit_code);
    }
    measured.map(|measured| (measured, audit))
}

struct Session<'a> {
    args: &'a RunArgs,
    stack: Stack,
    topology: Topology,
}

/// All rounds of one subject so far.
struct Rounds {
    outcome: Outcome,
    usage: Vec<Usage>,
    offsets: BTreeMap<String, i64>,
    counters: Counters,
}

impl Rounds {
    fn new() -> Rounds {
        Rounds { outcome: Outcome::empty(), usage: vec![], offsets: BTreeMap::new(), counters: Counters::new() }
    }

    fn part(mut self, subject: &str) -> Part {
        for usage in &mut self.usage {
            usage.cpu_ms_per_1000 = per_1000(usage.cpu_s, self.outcome.tally.answered());
        }
        Part::new(subject, &self.outcome, self.usage, &self.offsets, &self.counters)
    }
}

/// Something that takes load by a schedule.
type Subject<'a> = dyn FnMut(Schedule) -> anyhow::Result<Outcome> + 'a;

impl Session<'_> {
    fn measure(&self, level: &Level) -> anyhow::Result<Vec<Part>> {
        let linger_ms = match level {
            Level::Commands(_, linger_ms) => *linger_ms,
            _ => self.args.linger_ms(),
        };
        let mut control = match level {
            Level::Loop => Some(self.start_control(linger_ms)?),
            _ if self.args.control => Some(self.start_control(linger_ms)?),
            _ => None,
        };
        let parts = match level {
            Level::Commands(mix, linger_ms) => {
                let mix = self.args.mix(mix);
                let mut bank = Bank::connect(&self.stack, self.topology.clone(), *linger_ms)?;
                if mix != crate::mix::Mix::Seeds {
                    eprintln!("opening {} accounts", self.args.accounts);
                    bank.open_accounts(self.args.accounts)?;
                }
                self.rounds(Some(&mut |schedule| bank.run(mix, schedule)), control.as_mut())
            }
            Level::Graphql => {
                let mut gateways = Gateways::connect(&self.stack.gateway_addresses()?, self.topology.partitions)?;
                eprintln!("opening {} accounts", self.args.accounts);
                gateways.open_accounts(self.args.accounts)?;
                self.rounds(Some(&mut |schedule| gateways.run(self.args.across, schedule)), control.as_mut())
            }
            Level::Loop => self.rounds(None, control.as_mut()),
        };
        let stopped = control.map_or(Ok(()), Control::stop);
        let parts = parts?;
        stopped?;
        Ok(parts)
    }

    fn start_control(&self, linger_ms: u32) -> anyhow::Result<Control> {
        let Topology { partitions, shards, .. } = self.topology;
        Control::start(&self.stack.bootstrap, &self.stack.prefix, partitions, shards, linger_ms)
    }

    /// Warm-up of each, then rounds of the bank and of the loop in turns.
    fn rounds(
        &self,
        mut bank: Option<&mut Subject<'_>>,
        mut control: Option<&mut Control>,
    ) -> anyhow::Result<Vec<Part>> {
        let bank_topics: Vec<String> = self.topology.topics.iter().map(|spec| spec.name.clone()).collect();
        let bank_processes = self.stack.processes();
        if let Some(warm_up) = self.args.warm_up() {
            eprintln!("warming up");
            if let Some(bank) = bank.as_deref_mut() {
                bank(warm_up)?;
            }
            if let Some(control) = control.as_deref_mut() {
                control.run(self.args.across, warm_up)?;
            }
        }
        let (mut ours, mut bare) = (Rounds::new(), Rounds::new());
        for round in 1..=self.args.rounds {
            if let Some(bank) = bank.as_deref_mut() {
                eprintln!("round {round} of {}, bank", self.args.rounds);
                self.round(&mut ours, bank, &bank_topics, &self.stack.prefix, bank_processes.clone())?;
            }
            if let Some(control) = control.as_deref_mut() {
                eprintln!("round {round} of {}, loop", self.args.rounds);
                let (topics, prefix) = (control.topics(), format!("{}-", control.name()));
                let mut processes = bank_processes.clone();
                processes.retain(|watched| watched.name == "broker" || watched.name == "driver");
                processes.extend(control.pid().map(|pid| Watched::one("loop", pid)));
                let run = &mut |schedule| control.run(self.args.across, schedule);
                self.round(&mut bare, run, &topics, &prefix, processes)?;
            }
        }
        let mut parts = vec![];
        parts.extend(bank.map(|_| ours.part("bank")));
        parts.extend(control.map(|_| bare.part("loop")));
        Ok(parts)
    }

    fn round(
        &self,
        rounds: &mut Rounds,
        subject: &mut Subject<'_>,
        topics: &[String],
        prefix: &str,
        processes: Vec<Watched>,
    ) -> anyhow::Result<()> {
        let ends = || kafka::ends(&self.stack.bootstrap, topics, &self.topology);
        let (ends_before, counters_before) = (ends()?, self.counters()?);
        let sampler = Sampler::start(processes);
        let outcome = subject(self.args.schedule())?;
        add_usage(&mut rounds.usage, sampler.stop(outcome.tally.answered()));
        let (ends_after, counters_after) = (ends()?, self.counters()?);
        for (topic, end) in ends_after {
            let grown = end - ends_before.get(&topic).unwrap_or(&0);
            if grown > 0 {
                let role = topic.strip_prefix(prefix).unwrap_or(&topic).to_owned();
                *rounds.offsets.entry(role).or_default() += grown;
            }
        }
        for (name, gain) in metrics::gained(&counters_before, &counters_after) {
            *rounds.counters.entry(name).or_default() += gain;
        }
        rounds.outcome.add(outcome);
        Ok(())
    }

    /// Counters of all processors, added up; none where they serve no metrics.
    fn counters(&self) -> anyhow::Result<Counters> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut all = Counters::new();
        for base in self.stack.processor_addresses() {
            metrics::add(&mut all, runtime.block_on(metrics::scrape(base)));
        }
        Ok(all)
    }

    fn report(&self, level: &Level, parts: Vec<Part>, audit: Option<Audit>) -> Report {
        let (name, mix) = match level {
            Level::Commands(mix, _) => ("commands", mix.as_str()),
            Level::Graphql => ("graphql", "transfers"),
            Level::Loop => ("loop", "transfers"),
        };
        let pace = match self.args.schedule() {
            Schedule::Backlog(count) => format!("backlog of {count}"),
            Schedule::Rate { per_s, duration } => format!("{per_s}/s for {} s", duration.as_secs_f64()),
        };
        let RunArgs { rounds, accounts, across, .. } = self.args;
        let shape = match mix {
            // Opens its own accounts, and pays whom chance says.
            "seeds" => String::new(),
            _ => format!(", {accounts} accounts, {:.0} % across partitions", across * 100.0),
        };
        let load = format!("{mix}, {pace}, {rounds} rounds{shape}");
        Report {
            name: self.args.name.clone(),
            date: today(),
            level: name.to_owned(),
            load,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            parts,
            ratios: BTreeMap::new(),
            audit,
        }
        .with_ratios()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_fails_is_audited_too_and_its_error_is_the_result() {
        let mut audits = 0;
        let mut audit = || {
            audits += 1;
            Some(Audit { exit_code: 1, report: serde_json::Value::Null })
        };
        let failed: anyhow::Result<Vec<Part>> = Err(anyhow::anyhow!("the second round took too long"));
        let error = audited(failed, &mut audit).err().unwrap();
        assert_eq!(error.to_string(), "the second round took too long");
        let (measured, found) = audited(Ok(7), &mut audit).unwrap();
        assert_eq!((measured, found.map(|audit| audit.exit_code)), (7, Some(1)));
        assert_eq!(audits, 2);
    }
}
