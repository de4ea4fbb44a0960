//! A topology for the simulation: amounts that move between accounts of the same and of other partitions.
//!
//! Commands are text: `<id> deposit <amount>` and `<id> pay <amount> <to>`, keyed by account. Some of them wait for a
//! schema at first (`later`), some make it panic. A payment to another
//! partition is reserved, credited there and settled here, over an internal topic. One result record per command (again
//! when the command comes again), one move per changed account, in a topic that is the changelog of its own table.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use state_store::TableId;

use crate::context::TaskContext;
use crate::layout::Layout;
use crate::log::{Record, TopicId, Topics};
use crate::topology::{
    Answer, Application, BadRecord, Definition, EventTopic, FormatError, Input, ProcessError, RowFormat, RowSink, Table,
};

/// How long the changelog keeps tombstones: far longer than any simulation lasts.
pub const TOMBSTONE_RETENTION: Duration = Duration::from_secs(86_400);
pub const ACCOUNTS: TableId = TableId(1);
pub const OUTCOMES: TableId = TableId(2);
pub const BY_TIME: TableId = TableId(3);
pub const MOVES: TableId = TableId(4);

/// One that the codecs of the simulation know, so that who waits for it waits for a moment.
const KNOWN_SCHEMA: u32 = 1;
/// Outcomes leave this long after their command, log time.
pub const KEPT_MS: i64 = 1_000_000;
/// Outcomes that leave in one transaction of a partition.
const EXPIRED_MAX: usize = 3;
/// Payments of more than this are never covered.
pub const MOST: i64 = 1_000_000;

/// Balance and what is reserved of it.
pub type Account = (i64, i64);
/// State (pending, ok, refused), amount, account, time.
pub type Outcome = (String, i64, String, i64);

pub struct Ledger {
    definition: Definition,
    pub commands: TopicId,
    pub transfers: TopicId,
    pub results: TopicId,
    pub moves: TopicId,
    /// Records that have waited for their schema.
    waited: Mutex<BTreeSet<(i32, i64)>>,
}

/// The partition of an account.
pub fn home(account: &str, partitions: i32) -> i32 {
    schemas::partition_of(account.as_bytes(), partitions)
}

impl Ledger {
    pub fn new(partitions: i32, shards: i32) -> Ledger {
        Ledger::of_layout(partitions, Layout { number: 1, shards })
    }

    pub fn of_layout(partitions: i32, layout: Layout) -> Ledger {
        let mut topics = Topics::new(partitions);
        let [commands, transfers, results, moves, changelog, dead_letters] =
            ["commands", "transfers", "results", "moves", "changelog", "dead_letters"].map(|name| topics.add(name));
        let inputs = vec![
            Input { topic: commands, bad_record: BadRecord::DeadLetter, prune: false },
            Input { topic: transfers, bad_record: BadRecord::Stop, prune: true },
        ];
        let table = |name, id, index| Table { name, id, format: Box::new(SameBytes), index, awaited: false };
        let tables = vec![
            table("account", ACCOUNTS, None),
            Table { format: Box::new(OutcomeRows), ..table("outcome", OUTCOMES, Some(BY_TIME)) },
        ];
        let events = vec![EventTopic { topic: moves, tables: vec![("move", MOVES)] }];
        let application = "ledger".to_owned();
        let definition = Definition {
            application,
            layout: layout.number,
            shards: layout.shards,
            standbys: 1,
            topics,
            inputs,
            changelog,
            tombstone_retention: TOMBSTONE_RETENTION,
            dead_letters,
            tables,
            events,
        };
        Ledger { definition, commands, transfers, results, moves, waited: Mutex::default() }
    }

    fn command(&self, task: &mut TaskContext<'_>, record: &Record<'_>) -> Result<(), ProcessError> {
        let (account, words) = (text(record.key)?, text(record.value)?.split(' ').collect::<Vec<_>>());
        let [id, kind, amount, to @ ..] = words.as_slice() else { return Err(poison("too few words")) };
        if *kind == "panic" {
            panic_quietly();
        }
        if id.starts_with("later") && self.waited.lock().insert((record.partition, record.offset)) {
            return Err(ProcessError::WaitForSchema(KNOWN_SCHEMA));
        }
        let amount: i64 = amount.parse().map_err(|_| poison("no amount"))?;
        if let Some((state, ..)) = task.get::<Outcome>(OUTCOMES, id.as_bytes())? {
            return if state == "pending" { Ok(()) } else { self.result(task, account, id, &state) };
        }
        match (*kind, to) {
            ("deposit", []) => {
                self.change(task, account, id, amount)?;
                self.finish(task, account, id, (amount, record.timestamp_ms), "ok")
            }
            ("pay", [to]) => self.pay(task, (account, to), id, (amount, record.timestamp_ms)),
            _ => Err(poison("unknown command")),
        }
    }

    fn pay(
        &self,
        task: &mut TaskContext<'_>,
        (from, to): (&str, &str),
        id: &str,
        (amount, time): (i64, i64),
    ) -> Result<(), ProcessError> {
        let (balance, reserved) = task.get::<Account>(ACCOUNTS, from.as_bytes())?.unwrap_or_default();
        let to_home = home(to, task.partitions());
        if balance - reserved < amount {
            self.finish(task, from, id, (amount, time), "refused")
        } else if to_home == task.partition() {
            if is_closed(to) {
                return self.finish(task, from, id, (amount, time), "refused");
            }
            self.change(task, from, id, -amount)?;
            self.change(task, to, id, amount)?;
            self.finish(task, from, id, (amount, time), "ok")
        } else {
            task.put(ACCOUNTS, from.as_bytes(), &(balance, reserved + amount))?;
            task.put(OUTCOMES, id.as_bytes(), &("pending".to_owned(), amount, from.to_owned(), time))?;
            emit(task, self.transfers, to_home, to, format!("{id} credit {amount} {from}"));
            Ok(())
        }
    }

    fn transfer(&self, task: &mut TaskContext<'_>, record: &Record<'_>) -> Result<(), ProcessError> {
        let (account, words) = (text(record.key)?, text(record.value)?.split(' ').collect::<Vec<_>>());
        match words.as_slice() {
            ["panic", ..] => panic_quietly(),
            [id, "credit", amount, from] => {
                let amount: i64 = amount.parse().map_err(|_| poison("no amount"))?;
                let state = if is_closed(account) { "refused" } else { "ok" };
                if state == "ok" {
                    self.change(task, account, id, amount)?;
                }
                let from_home = home(from, task.partitions());
                emit(task, self.transfers, from_home, from, format!("{id} settle {state}"));
                Ok(())
            }
            [id, "settle", state] => {
                let outcome = task.get::<Outcome>(OUTCOMES, id.as_bytes())?;
                let Some((_, amount, from, time)) = outcome.filter(|(state, ..)| state == "pending") else {
                    return Err(ProcessError::Stop(format!("{id} is settled but was not pending")));
                };
                let (balance, reserved) = task.get::<Account>(ACCOUNTS, from.as_bytes())?.unwrap_or_default();
                task.put(ACCOUNTS, from.as_bytes(), &(balance, reserved - amount))?;
                if *state == "ok" {
                    self.change(task, &from, id, -amount)?;
                }
                self.finish(task, &from, id, (amount, time), state)
            }
            _ => Err(poison("unknown transfer")),
        }
    }

    fn change(&self, task: &mut TaskContext<'_>, account: &str, id: &str, by: i64) -> Result<(), ProcessError> {
        let (balance, reserved) = task.get::<Account>(ACCOUNTS, account.as_bytes())?.unwrap_or_default();
        task.put(ACCOUNTS, account.as_bytes(), &(balance + by, reserved))?;
        let number = task.last_transaction() + 1;
        task.set_last_transaction(number);
        let home = task.partition();
        emit(task, self.moves, home, account, format!("{number} {id} {by} {}", balance + by));
        Ok(())
    }

    fn finish(
        &self,
        task: &mut TaskContext<'_>,
        account: &str,
        id: &str,
        (amount, time): (i64, i64),
        state: &str,
    ) -> Result<(), ProcessError> {
        task.put(OUTCOMES, id.as_bytes(), &(state.to_owned(), amount, account.to_owned(), time))?;
        self.result(task, account, id, state)
    }

    fn result(&self, task: &mut TaskContext<'_>, account: &str, id: &str, state: &str) -> Result<(), ProcessError> {
        let home = task.partition();
        emit(task, self.results, home, account, format!("{id} {state}"));
        Ok(())
    }
}

impl Application for Ledger {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn open(&self, task: &mut TaskContext<'_>) -> Result<(), ProcessError> {
        let name = format!("house-{}", task.partition());
        match task.get::<Account>(ACCOUNTS, name.as_bytes())? {
            None => self.change(task, &name, "opening", 0),
            Some(_) => Ok(()),
        }
    }

    fn process(&self, task: &mut TaskContext<'_>, record: &Record<'_>) -> Result<(), ProcessError> {
        if record.topic == self.commands { self.command(task, record) } else { self.transfer(task, record) }
    }

    fn housekeep(&self, task: &mut TaskContext<'_>, latest_ms: &[Option<i64>]) -> Result<(), ProcessError> {
        let commands = self.definition.input_index(self.commands);
        let Some(now_ms) = commands.and_then(|input| latest_ms[input]) else { return Ok(()) };
        for (index_key, id) in task.first_committed(BY_TIME, EXPIRED_MAX)? {
            let Some(time) = index_key.first_chunk::<8>().map(|time| i64::from_be_bytes(*time)) else { continue };
            // What this transaction has touched is not to be judged by its committed row.
            if time + KEPT_MS < now_ms {
                task.delete(OUTCOMES, &id);
            }
        }
        Ok(())
    }

    fn fold(&self, _topic: TopicId, key: &[u8], value: &[u8], rows: RowSink<'_>) -> Result<(), FormatError> {
        let text = std::str::from_utf8(value).map_err(|error| FormatError::Bad(error.to_string()))?;
        let number = text.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        let number = number.ok_or_else(|| FormatError::Bad("no number".to_owned()))?;
        rows(MOVES, &[key, b"/", &number.to_be_bytes()].concat(), value);
        Ok(())
    }

    fn present(
        &self,
        _table: TableId,
        _key: &[u8],
        row: &[u8],
        _lookup: &dyn Fn(TableId, &[u8]) -> Result<Option<Vec<u8>>, state_store::StoreError>,
    ) -> Result<Vec<u8>, ProcessError> {
        Ok(row.to_vec())
    }

    fn answer(&self, _table: TableId, _row: &[u8], _context: &[u8]) -> Result<Option<Answer>, ProcessError> {
        Ok(None)
    }
}

/// Rows are the same in the store and in the changelog.
struct SameBytes;

impl RowFormat for SameBytes {
    fn write_changelog(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.extend_from_slice(row);
        Ok(())
    }

    fn read_changelog(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        out.extend_from_slice(value);
        Ok(())
    }
}

/// The same, with an index of final outcomes by time.
struct OutcomeRows;

impl RowFormat for OutcomeRows {
    fn write_changelog(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        SameBytes.write_changelog(row, out)
    }

    fn read_changelog(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), FormatError> {
        SameBytes.read_changelog(value, out)
    }

    fn index_key(&self, key: &[u8], row: &[u8]) -> Option<Vec<u8>> {
        let (state, _, _, time) = state_store::rows::decode::<Outcome>(row).ok()?;
        (state != "pending").then(|| [&time.to_be_bytes(), key].concat())
    }
}

/// A panic that nobody has to read about.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("asked to".to_owned()))
}

fn is_closed(account: &str) -> bool {
    account.starts_with("closed")
}

fn text(bytes: Option<&[u8]>) -> Result<&str, ProcessError> {
    std::str::from_utf8(bytes.ok_or_else(|| poison("nothing"))?).map_err(|_| poison("no text"))
}

fn poison(reason: &str) -> ProcessError {
    ProcessError::Poison(reason.to_owned())
}

fn emit(task: &mut TaskContext<'_>, topic: TopicId, partition: i32, key: &str, value: String) {
    let write = |out: &mut Vec<u8>| {
        out.extend_from_slice(value.as_bytes());
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(()) = task.emit(topic, partition, key.as_bytes(), write);
}
