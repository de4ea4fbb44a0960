//! The bank at the level of its topics: commands in, feedback out, by the contract alone.

use std::sync::mpsc::{Receiver, Sender as Outlet, channel};

use anyhow::{Context, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::BorrowedMessage;
use schemas::records::{
    AccountCreationConfirmed, AccountCreationFailed, Atype, ConfirmAccountCreation, ConfirmMoneyTransfer,
    MoneyTransferConfirmed, MoneyTransferFailed, Uuid,
};
use schemas::topics::Topology;
use schemas::{AvroRecord, CacheConfig, Encoder, Lookup, SchemaCache};

use crate::accounts::{Account, Accounts, username_in};
use crate::kafka::{Sender, reader_at_end};
use crate::mix::{Class, Mix, Plan, Transfer, deposit, salary};
use crate::probe::{self, Outcome, Outgoing, Replies, Reply, Tag, Traffic};
use crate::schedule::Schedule;
use crate::stack::Stack;

/// Cents paid into every account before transfers-only runs, so that nothing fails for want of money.
const FUNDS_CENTS: i64 = 1_000_000_000;

/// The bank behind a stack, with accounts of this run.
pub struct Bank {
    topology: Topology,
    cache: SchemaCache,
    sender: Sender,
    consumer: BaseConsumer,
    opening: Encoder<ConfirmAccountCreation>,
    moving: Encoder<ConfirmMoneyTransfer>,
    run: String,
    phase: u32,
    accounts: Accounts,
    names: u64,
}

impl Bank {
    /// Connects. `linger_ms` of the driver's producer: 0 for latency.
    pub fn connect(stack: &Stack, topology: Topology, linger_ms: u32) -> anyhow::Result<Bank> {
        let cache = SchemaCache::start(CacheConfig { registry_url: stack.registry.clone(), file: None })?;
        cache.resolve(&topology).context("the registry does not know the bank's schemas")?;
        let commands = name_of(&topology, "commands")?;
        let answers =
            [name_of(&topology, "account_creation_feedback")?, name_of(&topology, "money_transfer_feedback")?];
        let answers = answers.each_ref().map(String::as_str);
        let run: u32 = rand::random();
        Ok(Bank {
            opening: encoder(&cache, &commands)?,
            moving: encoder(&cache, &commands)?,
            sender: Sender::new(&stack.bootstrap, linger_ms)?,
            consumer: reader_at_end(&stack.bootstrap, &answers, topology.partitions)?,
            accounts: Accounts::new(topology.partitions),
            run: format!("{run:08x}"),
            // Phases of this run, told apart from those of every other run by chance.
            phase: run & 0x00ff_ff00,
            names: 0,
            topology,
            cache,
        })
    }

    /// Opens accounts, the same number in every partition, and pays cash into each.
    pub fn open_accounts(&mut self, count: u64) -> anyhow::Result<()> {
        let (opened, accounts) = channel();
        let mut traffic = self.traffic(Mix::Seeds);
        let mut openings = Openings(&mut traffic);
        let mut replies = self.replies(opened);
        let phase = self.next_phase();
        let outcome = self.probe(phase, Schedule::Backlog(count), &mut openings, &mut replies)?;
        drop(replies);
        self.names += count;
        accounts.try_iter().for_each(|account| self.accounts.add(account));
        ensure!(
            outcome.tally.confirmed() == count,
            "{} of {count} accounts were opened; refused: {:?}, lost: {}",
            outcome.tally.confirmed(),
            outcome.tally.refused(),
            outcome.lost()
        );
        let (unused, _none) = channel();
        let mut traffic = self.traffic(Mix::Seeds);
        let mut deposits = Deposits { list: self.accounts.iter().cloned().collect(), traffic: &mut traffic };
        let mut replies = self.replies(unused);
        let phase = self.next_phase();
        let outcome = self.probe(phase, Schedule::Backlog(count), &mut deposits, &mut replies)?;
        ensure!(outcome.tally.confirmed() == count, "deposits were refused: {:?}", outcome.tally.refused());
        Ok(())
    }

    /// Sends a mix by a schedule.
    pub fn run(&mut self, mix: Mix, schedule: Schedule) -> anyhow::Result<Outcome> {
        let (opened, accounts) = channel();
        let mut traffic = self.traffic(mix);
        traffic.opened = Some(accounts);
        let mut replies = self.replies(opened);
        let phase = self.next_phase();
        let outcome = self.probe(phase, schedule, &mut traffic, &mut replies)?;
        (self.names, self.accounts) = (traffic.names, traffic.accounts);
        Ok(outcome)
    }

    fn probe(
        &self,
        phase: u32,
        schedule: Schedule,
        traffic: &mut dyn Traffic,
        replies: &mut dyn Replies,
    ) -> anyhow::Result<Outcome> {
        probe::run(phase, schedule, &self.sender, traffic, &self.consumer, replies)
    }

    fn next_phase(&mut self) -> u32 {
        self.phase += 1;
        self.phase
    }

    fn traffic(&self, mix: Mix) -> BankTraffic {
        BankTraffic {
            mix,
            topic: self.topology.topic("commands").map(|spec| spec.name.clone()).unwrap_or_default(),
            partitions: self.topology.partitions,
            company: Account::company(self.topology.partitions),
            accounts: self.accounts.clone(),
            opened: None,
            rng: StdRng::seed_from_u64(u64::from(self.phase)),
            opening: self.opening,
            moving: self.moving,
            run: self.run.clone(),
            names: self.names,
        }
    }

    fn replies(&self, opened: Outlet<Account>) -> BankReplies {
        BankReplies { cache: self.cache.clone(), opened, partitions: self.topology.partitions }
    }
}

/// Full name of a topic of the bank.
pub fn name_of(topology: &Topology, base: &str) -> anyhow::Result<String> {
    let spec = topology.topic(base).with_context(|| format!("topics.yaml declares no topic `{base}`"))?;
    Ok(spec.name.clone())
}

fn encoder<T: AvroRecord>(cache: &SchemaCache, topic: &str) -> anyhow::Result<Encoder<T>> {
    let id = cache.id_of(topic, T::full_name());
    Ok(Encoder::new(id.with_context(|| format!("no schema of {} for {topic}; run `topics apply`", T::NAME))?))
}

struct BankTraffic {
    mix: Mix,
    topic: String,
    partitions: i32,
    company: Account,
    accounts: Accounts,
    opened: Option<Receiver<Account>>,
    rng: StdRng,
    opening: Encoder<ConfirmAccountCreation>,
    moving: Encoder<ConfirmMoneyTransfer>,
    run: String,
    names: u64,
}

impl BankTraffic {
    fn open(&mut self, tag: Tag, out: &mut Outgoing) -> anyhow::Result<()> {
        let partition = i32::try_from(self.names % self.partitions.unsigned_abs() as u64)?;
        let username = username_in(&self.run, self.names, partition, self.partitions);
        self.names += 1;
        let id = Uuid(tag.id(Class::Account));
        let command =
            ConfirmAccountCreation { id, username: username.clone(), a_type: Atype::Auto, password_hash: None };
        self.address(username, out);
        Ok(self.opening.encode(&command, &mut out.payload)?)
    }

    fn transfer(&self, transfer: Transfer, tag: Tag, out: &mut Outgoing) -> anyhow::Result<()> {
        let Transfer { key, token, from, to, amount, description, class } = transfer;
        let description = description.to_owned();
        let command = ConfirmMoneyTransfer { id: Uuid(tag.id(class)), token, amount, from, to, description };
        self.address(key, out);
        Ok(self.moving.encode(&command, &mut out.payload)?)
    }

    fn address(&self, key: String, out: &mut Outgoing) {
        out.topic.clone_from(&self.topic);
        out.partition = schemas::partition_of(key.as_bytes(), self.partitions);
        out.key = key;
        out.payload.clear();
    }
}

impl Traffic for BankTraffic {
    fn beat(&mut self, tag: Tag, out: &mut Outgoing) -> anyhow::Result<()> {
        match self.mix.plan(tag.n, &self.accounts, &self.company, &mut self.rng) {
            Plan::Open => self.open(tag, out),
            Plan::Move(transfer) => self.transfer(transfer, tag, out),
        }
    }

    /// A new account gets its salary at once.
    fn follow_up(&mut self, tag: Tag, out: &mut Outgoing) -> anyhow::Result<bool> {
        let Some(account) = self.opened.as_ref().and_then(|opened| opened.try_recv().ok()) else { return Ok(false) };
        let transfer = salary(&account, &self.company, &mut self.rng);
        self.accounts.add(account);
        self.transfer(transfer, tag, out)?;
        Ok(true)
    }
}

struct Openings<'a>(&'a mut BankTraffic);

impl Traffic for Openings<'_> {
    fn beat(&mut self, tag: Tag, out: &mut Outgoing) -> anyhow::Result<()> {
        self.0.open(tag, out)
    }
}

struct Deposits<'a> {
    list: Vec<Account>,
    traffic: &'a mut BankTraffic,
}

impl Traffic for Deposits<'_> {
    fn beat(&mut self, tag: Tag, out: &mut Outgoing) -> anyhow::Result<()> {
        let account =
            usize::try_from(tag.n).ok().and_then(|n| self.list.get(n)).context("more deposits than accounts")?;
        self.traffic.transfer(deposit(account, FUNDS_CENTS), tag, out)
    }
}

struct BankReplies {
    cache: SchemaCache,
    opened: Outlet<Account>,
    partitions: i32,
}

impl Replies for BankReplies {
    fn read(&mut self, message: &BorrowedMessage<'_>) -> anyhow::Result<Option<Reply>> {
        let Some(value) = message.payload() else { return Ok(None) };
        let (schema, datum) = schemas::unframe(value)?;
        let Lookup::Known(writer) = self.cache.writer(schema) else {
            anyhow::bail!("schema {schema} of an answer is not known, though all of this build's are")
        };
        let reply = |id: Uuid, refusal: Option<String>| Ok(Some(Reply { id: id.0, refusal }));
        if writer.is::<MoneyTransferConfirmed>() {
            return reply(writer.decode::<MoneyTransferConfirmed>(datum)?.id, None);
        }
        if writer.is::<MoneyTransferFailed>() {
            let failed: MoneyTransferFailed = writer.decode(datum)?;
            return reply(failed.id, Some(failed.reason));
        }
        if writer.is::<AccountCreationFailed>() {
            let failed: AccountCreationFailed = writer.decode(datum)?;
            return reply(failed.id, Some(failed.reason));
        }
        let confirmed: AccountCreationConfirmed = writer.decode(datum)?;
        let id = confirmed.id;
        // The key of an answer is the key of its command: the username.
        let username = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let partition = schemas::partition_of(confirmed.iban.as_bytes(), self.partitions);
        // Nobody waits for it in phases that open no accounts.
        let _ = self.opened.send(Account { username, iban: confirmed.iban, token: confirmed.token, partition });
        reply(id, None)
    }
}
