//! Commands of a seed and what must come of them, whatever the schedule.
//!
//! Nobody ever runs short of funds but those who ask for far too much, so the result of a command does not depend on
//! the order between topics, and a plain loop over the commands knows it.

use std::collections::BTreeMap;

use super::ledger::{Ledger, MOST, home};
use crate::log::TopicPartition;
use crate::log::memory::{Chance, MemoryLog};

const ACCOUNTS: usize = 12;
/// Between two commands, log time.
const STEP_MS: i64 = 10;

pub struct Command {
    pub account: String,
    pub text: String,
}

/// What must come of all commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Balance by account; accounts that nothing ever touched are left out.
    pub balances: BTreeMap<String, i64>,
    /// `ok` or `refused` by command id.
    pub results: BTreeMap<String, String>,
    /// How often each id was sent.
    pub sent: BTreeMap<String, usize>,
    /// Commands that end as dead letters.
    pub dead: Vec<String>,
}

/// Commands of one seed: first a deposit for everyone, then a mix.
pub fn commands(chance: &mut Chance, count: usize) -> Vec<Command> {
    let name = |number: usize| format!("account-{number}");
    let deposit = |number: usize| {
        let (account, text) = (name(number), format!("open-{number} deposit {MOST}"));
        Command { account, text }
    };
    let mut all: Vec<Command> = (0..ACCOUNTS).map(deposit).collect();
    for number in 0..count {
        let account = name(chance.index(ACCOUNTS));
        let to = match chance.below(10) {
            0 => format!("closed-{}", chance.below(5)),
            1 => format!("new-{}", chance.below(5)),
            _ => name(chance.index(ACCOUNTS)),
        };
        let amount = 1 + chance.below(99);
        let text = match chance.below(100) {
            0..5 => "garbage".to_owned(),
            5..7 => format!("c{number} panic 1"),
            7..12 => format!("c{number} pay {} {to}", MOST * 1000),
            12..20 => format!("c{number} deposit {amount}"),
            20..30 => match all.last() {
                // The client asks again.
                Some(last) => {
                    all.push(Command { account: last.account.clone(), text: last.text.clone() });
                    continue;
                }
                None => continue,
            },
            30..35 => format!("later{number} deposit {amount}"),
            _ if to == account => format!("c{number} deposit {amount}"),
            _ => format!("c{number} pay {amount} {to}"),
        };
        all.push(Command { account, text });
    }
    all
}

/// Appends a command as a client does.
pub fn append(ledger: &Ledger, log: &MemoryLog, command: &Command, number: usize) {
    let partition = home(&command.account, log_partitions(ledger));
    let at = TopicPartition { topic: ledger.commands, partition };
    let time = time_of(number);
    log.set_time(Some(time));
    log.append(at, Some(command.account.as_bytes()), Some(command.text.as_bytes()), Some(time)).unwrap();
}

pub fn time_of(number: usize) -> i64 {
    STEP_MS * (number as i64 + 1)
}

pub fn log_partitions(ledger: &Ledger) -> i32 {
    use crate::topology::Application;
    ledger.definition().topics.partitions
}

pub fn expect(commands: &[Command]) -> Expectation {
    let mut expected = Expectation::default();
    for command in commands {
        let words: Vec<&str> = command.text.split(' ').collect();
        let [id, kind, amount, to @ ..] = words.as_slice() else {
            expected.dead.push(command.text.clone());
            continue;
        };
        if *kind == "panic" {
            expected.dead.push(command.text.clone());
            continue;
        }
        *expected.sent.entry((*id).to_owned()).or_default() += 1;
        if expected.results.contains_key(*id) {
            continue;
        }
        let amount: i64 = amount.parse().unwrap();
        let refused = amount > MOST || to.first().is_some_and(|to| to.starts_with("closed"));
        expected.results.insert((*id).to_owned(), if refused { "refused" } else { "ok" }.to_owned());
        if refused {
            continue;
        }
        let mut change = |account: &str, by: i64| *expected.balances.entry(account.to_owned()).or_default() += by;
        match to.first() {
            None => change(&command.account, amount),
            Some(to) => {
                change(&command.account, -amount);
                change(to, amount);
            }
        }
    }
    expected.dead.sort();
    expected
}
