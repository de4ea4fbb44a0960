//! Runs a workload on the ledger under given conditions and checks what came out.

use std::collections::BTreeMap;

use super::ledger::{ACCOUNTS, Account, BY_TIME, KEPT_MS, Ledger, OUTCOMES};
use super::workload::{self, Command, Expectation};
use crate::layout::Layout;
use crate::log::memory::{Chance, StoredRecord};
use crate::log::{TopicId, TopicPartition};
use crate::testing::{Breach, Conditions, Simulation, codecs};
use crate::topology::Application;

pub const PARTITIONS: i32 = 4;
pub const SHARDS: i32 = 2;
const COMMANDS: usize = 60;
const STEPS_PER_COMMAND: u64 = 6;

/// A finished run.
pub struct Run {
    pub simulation: Simulation<Ledger>,
    pub expected: Expectation,
}

/// Runs a seed to its end, without any check but those made on the way.
pub fn run(seed: u64, conditions: Conditions) -> Result<Run, Breach> {
    run_through(seed, conditions, &[])
}

/// The same; on the way the layout changes to each of these.
pub fn run_through(seed: u64, conditions: Conditions, layouts: &[Layout]) -> Result<Run, Breach> {
    let mut chance = Chance::new(!seed);
    let commands = workload::commands(&mut chance, COMMANDS);
    let expected = workload::expect(&commands);
    let ledger = Ledger::new(PARTITIONS, SHARDS);
    let mut simulation = Simulation::new(seed, conditions, ledger, codecs(&[]).unwrap());
    let numbered: Vec<_> = commands.iter().enumerate().collect();
    let mut parts = numbered.chunks(commands.len().div_ceil(layouts.len() + 1));
    feed(&mut simulation, &mut chance, parts.next().unwrap_or_default())?;
    for (layout, part) in layouts.iter().zip(parts) {
        simulation.change_layout(Ledger::of_layout(PARTITIONS, *layout))?;
        feed(&mut simulation, &mut chance, part)?;
    }
    simulation.drain()?;
    Ok(Run { simulation, expected })
}

fn feed(
    simulation: &mut Simulation<Ledger>,
    chance: &mut Chance,
    commands: &[(usize, &Command)],
) -> Result<(), Breach> {
    for (number, command) in commands {
        workload::append(simulation.application(), simulation.log(), command, *number);
        for _ in 0..chance.below(2 * STEPS_PER_COMMAND) {
            simulation.step()?;
        }
    }
    Ok(())
}

impl Run {
    /// Everything that must hold after any schedule.
    pub fn check(mut self) -> Result<(), Breach> {
        self.check_outcome();
        self.simulation.check_rules()?;
        // Restores and claims change nothing that anybody sees.
        self.check_outcome();
        self.check_expiry()
    }

    /// Long after, outcomes are gone from every store and from the changelog, index and all.
    fn check_expiry(&mut self) -> Result<(), Breach> {
        self.expire_outcomes()?;
        self.simulation.check_rules()
    }

    /// Moves record time until no outcome is left.
    pub fn expire_outcomes(&mut self) -> Result<(), Breach> {
        let outcomes = self.expected.results.len() as i64;
        let topic = self.simulation.application().commands;
        for number in 0..outcomes {
            for partition in 0..PARTITIONS {
                let at = TopicPartition { topic, partition };
                self.simulation.log().append(at, None, None, Some(2 * KEPT_MS + number)).unwrap();
            }
            // Few leave at a time.
            self.simulation.drain()?;
            if self.simulation.rows(OUTCOMES)?.is_empty() {
                assert!(self.simulation.rows(BY_TIME)?.is_empty());
                return Ok(());
            }
        }
        panic!("outcomes are still there");
    }

    fn check_outcome(&self) {
        assert_eq!(self.balances(), self.expected.balances);
        self.check_results();
        let mut dead: Vec<String> = self.records("dead_letters").iter().map(value).collect();
        dead.sort();
        assert_eq!(dead, self.expected.dead);
        self.check_moves();
    }

    /// Balances that the owners' stores hold; nothing may be reserved any more.
    fn balances(&self) -> BTreeMap<String, i64> {
        let mut balances = BTreeMap::new();
        for (key, row) in self.simulation.rows(ACCOUNTS).unwrap() {
            let (balance, reserved): Account = state_store::rows::decode(&row).unwrap();
            let name = String::from_utf8(key).unwrap();
            assert_eq!(reserved, 0, "{name}");
            if !name.starts_with("house") {
                balances.insert(name, balance);
            }
        }
        balances
    }

    /// One answer per command, at most one more each time it came again, all the same.
    fn check_results(&self) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for record in self.records("results") {
            let text = value(&record);
            let (id, state) = text.split_once(' ').unwrap();
            assert_eq!(self.expected.results.get(id).map(String::as_str), Some(state), "{id}");
            *counts.entry(id.to_owned()).or_default() += 1;
        }
        for (id, sent) in &self.expected.sent {
            let answered = counts.get(id).copied().unwrap_or(0);
            assert!((1..=*sent).contains(&answered), "{id} was sent {sent} times and answered {answered} times");
        }
    }

    /// Moves of an account add up to its balance, and their numbers rise.
    fn check_moves(&self) {
        let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for record in self.records("moves") {
            let account = String::from_utf8(record.key.clone().unwrap()).unwrap();
            let words: Vec<i64> = value(&record).split(' ').filter_map(|word| word.parse().ok()).collect();
            let [number, by, balance] = words[..] else { panic!("{}", value(&record)) };
            let (sum, last) = sums.entry(account).or_default();
            assert!(number > *last, "{number} after {last}");
            assert!(by != 0 || *last == 0, "opened twice");
            (*sum, *last) = (*sum + by, number);
            assert_eq!(*sum, balance);
        }
        let houses: Vec<String> = sums.keys().filter(|name| name.starts_with("house")).cloned().collect();
        assert_eq!(houses.len(), PARTITIONS as usize, "every partition was opened once");
        let sums = sums.into_iter().filter(|(name, _)| !name.starts_with("house"));
        let sums: BTreeMap<String, i64> = sums.map(|(account, (sum, _))| (account, sum)).collect();
        assert_eq!(sums, self.expected.balances);
    }

    fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let topics = &self.simulation.application().definition().topics;
        let topic: TopicId = topics.find(topic).unwrap();
        let read = |partition| self.simulation.log().read_committed(TopicPartition { topic, partition }).unwrap();
        (0..PARTITIONS).flat_map(read).collect()
    }
}

fn value(record: &StoredRecord) -> String {
    String::from_utf8(record.value.clone().unwrap_or_default()).unwrap()
}
