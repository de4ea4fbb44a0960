//! The bank itself in simulations: whatever dies, whatever fails, the money adds up and every command has one outcome.
//!
//! The judge is the audit, which shares no rule with the bank; the rules of the engine are checked beside it.

use processor::log::memory::Chance;
use processor::log::{TopicId, TopicPartition};
use processor::testing::{Breach, Conditions, Simulation, codecs, for_each_seed};
use processor::topology::Application;
use schemas::records::{AccountCreationConfirmed, ConfirmAccountCreation, ConfirmMoneyTransfer, RECORD_TYPES, Uuid};
use schemas::topics::Topology;
use schemas::{AvroRecord, Encoder, Lookup, SchemaCache};

use crate::audit::in_memory;
use crate::bank_app::{Bank, BankOptions, Encoders, definition};

const PARTITIONS: i32 = 4;
const SHARDS: i32 = 2;
const USERS: usize = 6;
const TRANSFERS: u64 = 60;
/// Steps between two commands at most.
const STEPS_MAX: u64 = 12;
/// Between two commands, time of the log.
const STEP_MS: i64 = 1000;
/// How long ids are remembered where they are all remembered.
const FOR_EVER_MS: i64 = i64::MAX / 4;
/// How long where outcomes leave all the time and clients use their ids again: a few commands.
const SHORT_MS: i64 = 5 * STEP_MS;
/// How far what the processors write is ahead of the commands that they read, where those had to wait for them.
const AHEAD_MS: i64 = 3 * SHORT_MS;
/// The first ids are the engine's own.
const FIRST_SCHEMA: u32 = 10;

fn encoder<T: AvroRecord>() -> Encoder<T> {
    let index = RECORD_TYPES.iter().position(|record| record.full_name == T::full_name()).unwrap();
    Encoder::new(FIRST_SCHEMA + index as u32)
}

fn encoders() -> Encoders {
    Encoders {
        account: encoder(),
        user: encoder(),
        outcome: encoder(),
        position: encoder(),
        owner: encoder(),
        member: encoder(),
        assignment: encoder(),
        balance_changed: encoder(),
        credit_requested: encoder(),
        credit_settled: encoder(),
        account_creation_confirmed: encoder(),
        account_creation_failed: encoder(),
        money_transfer_confirmed: encoder(),
        money_transfer_failed: encoder(),
    }
}

#[derive(Clone)]
struct Holder {
    username: String,
    iban: String,
    token: String,
}

struct World {
    simulation: Simulation<Bank>,
    outcome_retention_ms: i64,
    ahead_ms: i64,
    schemas: SchemaCache,
    chance: Chance,
    commands: TopicId,
    confirmed: TopicId,
    holders: Vec<Holder>,
    /// Keys and values, to be sent again.
    sent: Vec<(String, Vec<u8>)>,
    ids: u64,
}

impl World {
    fn new(seed: u64, conditions: Conditions, (outcome_retention_ms, ahead_ms): (i64, i64)) -> World {
        let ids = FIRST_SCHEMA..;
        let writers: Vec<_> = ids.zip(RECORD_TYPES.iter().map(|record| record.schema_json)).collect();
        let codecs = codecs(&writers).unwrap();
        let topics = "../topics.yaml";
        let topology = Topology { partitions: PARTITIONS, shards: SHARDS, ..Topology::load(topics).unwrap() };
        let schemas = codecs.schemas.clone();
        let (definition, roles) = definition(&topology, &schemas, &encoders()).unwrap();
        let secret = bank::TokenSecret::new(vec![7; 32]).unwrap();
        let tokens = bank::Tokens::new(vec![secret], bank::Tokens::COMPANY_DEFAULT).unwrap();
        let options = BankOptions { config: bank::Config { tokens, iban_draws_max: 1000 }, outcome_retention_ms };
        let application = Bank::new(definition, roles, encoders(), schemas.clone(), options);
        World {
            simulation: Simulation::new(seed, conditions, application, codecs),
            outcome_retention_ms,
            ahead_ms,
            schemas,
            chance: Chance::new(!seed),
            commands: roles.commands,
            confirmed: roles.account_creation_feedback,
            holders: Vec::new(),
            sent: Vec::new(),
            ids: 0,
        }
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        let (high, low) = (self.chance.draw().to_be_bytes(), self.ids.to_be_bytes());
        Uuid(std::array::from_fn(|index| if index < 8 { high[index] } else { low[index - 8] }))
    }

    fn send<T: AvroRecord>(&mut self, key: &str, record: &T) {
        let mut value = Vec::new();
        encoder::<T>().encode(record, &mut value).unwrap();
        self.append(key, &value);
        self.sent.push((key.to_owned(), value));
    }

    fn append(&self, key: &str, value: &[u8]) {
        let partition = schemas::partition_of(key.as_bytes(), PARTITIONS);
        let time = STEP_MS * (self.sent.len() as i64 + 1);
        let log = self.simulation.log();
        log.set_time(Some(time + self.ahead_ms));
        let at = TopicPartition { topic: self.commands, partition };
        log.append(at, Some(key.as_bytes()), Some(value), Some(time)).unwrap();
    }

    fn some_steps(&mut self) -> Result<(), Breach> {
        for _ in 0..self.chance.below(STEPS_MAX) {
            self.simulation.step()?;
        }
        Ok(())
    }

    /// Accounts for all, while everything goes wrong.
    fn open_accounts(&mut self) -> Result<(), Breach> {
        for number in 0..USERS {
            let command = ConfirmAccountCreation {
                id: self.id(),
                username: format!("username-{number}"),
                a_type: Default::default(),
                password_hash: None,
            };
            self.send(&command.username.clone(), &command);
            self.some_steps()?;
        }
        while self.holders.len() < USERS {
            self.simulation.step()?;
            self.holders = self.confirmed();
        }
        Ok(())
    }

    fn confirmed(&self) -> Vec<Holder> {
        let topic = self.confirmed;
        let read = |partition| self.simulation.log().read_committed(TopicPartition { topic, partition }).unwrap();
        let records = (0..PARTITIONS).flat_map(read);
        let mut holders: Vec<Holder> = records
            .map(|record| {
                let (id, datum) = schemas::unframe(record.value.as_deref().unwrap()).unwrap();
                let Lookup::Known(writer) = self.schemas.writer(id) else { panic!("schema {id}") };
                let answer: AccountCreationConfirmed = writer.decode(datum).unwrap();
                Holder {
                    username: String::from_utf8(record.key.unwrap()).unwrap(),
                    iban: answer.iban,
                    token: answer.token,
                }
            })
            .collect();
        holders.sort_by(|a, b| a.username.cmp(&b.username));
        holders.dedup_by(|a, b| a.username == b.username);
        holders
    }

    /// One of everything that clients do, and some that they should not.
    fn transfer(&mut self) {
        let from = self.holders[self.chance.index(USERS)].clone();
        let to = self.holders[self.chance.index(USERS)].clone();
        let mut command = ConfirmMoneyTransfer {
            id: self.id(),
            token: from.token.clone(),
            amount: 1 + self.chance.below(30_000) as i64,
            from: from.iban.clone(),
            to: to.iban.clone(),
            description: "a transfer".to_owned(),
        };
        let mut key = from.username.clone();
        match self.chance.below(100) {
            0..15 => {
                (command.from, command.token, key) = ("cash".to_owned(), "cash".to_owned(), to.iban.clone());
            }
            15..20 => command.token = "12345678901234567890".to_owned(),
            20..25 => command.to = "NL83OPEN0104642752".to_owned(),
            25..30 => command.to = "NL91ABNA0417164300".to_owned(),
            30..34 => command.amount = -(self.chance.below(3) as i64),
            34..37 => key = to.username.clone(),
            37..40 => return self.append(&key, b"no record at all"),
            40..55 => {
                // The client asks again, or uses an id again for something else.
                let (key, value) = self.sent[self.chance.index(self.sent.len())].clone();
                return self.append(&key, &value);
            }
            55..58 => {
                command.id = Uuid([9; 16]);
            }
            _ => {}
        }
        self.send(&key, &command);
    }

    fn audit(&self) {
        let wrong = in_memory::breaches(self.simulation.log(), &self.schemas, self.outcome_retention_ms);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// `times`: how long ids are remembered, and how far the processors are behind.
fn run(seed: u64, conditions: Conditions, times: (i64, i64)) -> Result<World, Breach> {
    let mut world = World::new(seed, conditions, times);
    world.open_accounts()?;
    for _ in 0..TRANSFERS {
        world.transfer();
        world.some_steps()?;
    }
    world.simulation.drain()?;
    world.audit();
    world.simulation.check_rules()?;
    world.audit();
    Ok(world)
}

#[test]
fn no_schedule_makes_or_loses_money() {
    for_each_seed(300, |seed| {
        run(seed, Conditions::ROUGH, (FOR_EVER_MS, 0)).unwrap_or_else(|breach| panic!("{breach}"));
    });
}

/// A store that was away sees an outcome leave and another come under the same id as one change; what it then takes for
/// expired must not be the later one.
#[test]
fn nor_does_one_in_which_outcomes_expire_and_their_ids_come_again() {
    for_each_seed(300, |seed| {
        run(seed, Conditions::ROUGH, (SHORT_MS, 0)).unwrap_or_else(|breach| panic!("{breach}"));
    });
}

/// After a time without processors commands are old, and what comes of them is of now: an id must not be forgotten by that
/// before a command is read that came soon after the first with it.
#[test]
fn nor_does_one_in_which_commands_waited_for_longer_than_ids_are_remembered() {
    for_each_seed(300, |seed| {
        run(seed, Conditions::ROUGH, (SHORT_MS, AHEAD_MS)).unwrap_or_else(|breach| panic!("{breach}"));
    });
}

/// The audit is not content with anything: an answer that is missing, and one that is told twice, are found.
#[test]
fn the_judge_of_the_simulation_can_say_no() {
    let world = run(1, Conditions::CALM, (FOR_EVER_MS, 0)).unwrap();
    let log = world.simulation.log();
    let topic = log_topic(&world, "money_transfer_feedback");
    let at = TopicPartition { topic, partition: schemas::partition_of(b"username-0", PARTITIONS) };
    let records = log.read_committed(at).unwrap();
    let balance = log_topic(&world, "balance_changed");
    let changes = log.read_committed(TopicPartition { topic: balance, ..at }).unwrap();
    assert!(!records.is_empty());
    let last = changes.last().unwrap();
    log.append(TopicPartition { topic: balance, ..at }, last.key.as_deref(), last.value.as_deref(), None).unwrap();
    assert!(!in_memory::breaches(log, &world.schemas, FOR_EVER_MS).is_empty());
}

fn log_topic(world: &World, name: &str) -> TopicId {
    world.simulation.application().definition().topics.find(name).unwrap()
}
