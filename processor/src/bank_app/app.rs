//! The bank's logic as the engine calls it: decode, load the rows that the record names, decide, stage.

use std::sync::atomic::{AtomicI64, Ordering};

use bank::{Context, Event, Input, Keys, Row, State};
use processor::context::TaskContext;
use processor::formats::decode_with;
use processor::log::{Record, TopicId};
use processor::topology::{Answer, Application, Definition, FormatError, ProcessError, RowFilter, RowSink};
use schemas::{AvroRecord, EncodeError, Lookup, SchemaCache, records};
use state_store::{StoreError, TableId};

use super::outcome_rows::{index_key_of, index_time_ms};
use super::{ACCOUNT, BankOptions, BankTopics, Encoders, HISTORY, OUTCOME, OUTCOME_BY_TIME, TRANSACTION, USER};
use super::{codec, history_key, present};

/// Outcomes that one transaction removes at most.
const EXPIRED_MAX: usize = 200;
/// Record time between two looks for expired outcomes.
const EXPIRY_INTERVAL_MS: i64 = 1000;

/// The bank. One value for all partitions.
pub struct Bank {
    definition: Definition,
    topics: BankTopics,
    encoders: Encoders,
    schemas: SchemaCache,
    options: BankOptions,
    /// By partition: record time of the last look for expired outcomes. Housekeeping only, decides nothing else.
    expiry_looked_ms: Vec<AtomicI64>,
}

impl Bank {
    pub(super) fn new(
        definition: Definition,
        topics: BankTopics,
        encoders: Encoders,
        schemas: SchemaCache,
        options: BankOptions,
    ) -> Bank {
        let expiry_looked_ms = (0..definition.topics.partitions).map(|_| AtomicI64::new(i64::MIN)).collect();
        Bank { definition, topics, encoders, schemas, options, expiry_looked_ms }
    }

    /// The topics by role.
    pub fn topics(&self) -> BankTopics {
        self.topics
    }

    /// Encoders of the engine's own records.
    pub fn encoders(&self) -> &Encoders {
        &self.encoders
    }

    /// The record as an input of the rules. Everything that can be wrong with a client's record is found here, before
    /// any state is touched.
    fn input(&self, record: &Record<'_>) -> Result<Input, ProcessError> {
        let poison = |reason: &str| ProcessError::Poison(reason.to_owned());
        let key = record.key.ok_or_else(|| poison("the key is null"))?;
        let key = std::str::from_utf8(key).map_err(|_| poison("the key is not UTF-8"))?;
        let expected = self.partition_of(key);
        if expected != record.partition {
            return Err(ProcessError::Poison(format!("wrong partition: the key belongs to {expected}")));
        }
        let value = record.value.ok_or_else(|| poison("the value is null"))?;
        let (id, datum) = schemas::unframe(value).map_err(|error| ProcessError::Poison(error.to_string()))?;
        let writer = match self.schemas.writer(id) {
            Lookup::Known(writer) => writer,
            Lookup::Pending => return Err(ProcessError::WaitForSchema(id)),
            Lookup::Absent(reason) => return Err(ProcessError::Poison(format!("schema {id}: {reason}"))),
        };
        let name = writer.full_name.as_str();
        let unreadable = |error: schemas::DecodeError| ProcessError::Poison(error.to_string());
        let contradictory = |error: codec::CodecError| ProcessError::Poison(error.to_string());
        if record.topic == self.topics.commands {
            if name == records::ConfirmMoneyTransfer::full_name() {
                return Ok(codec::transfer(key, writer.decode(datum).map_err(unreadable)?).into());
            }
            if name == records::ConfirmAccountCreation::full_name() {
                return Ok(codec::account_creation(key, writer.decode(datum).map_err(unreadable)?).into());
            }
        } else {
            if name == records::CreditRequested::full_name() {
                let request = codec::credit_requested(writer.decode(datum).map_err(unreadable)?);
                return Ok(request.map_err(contradictory)?.into());
            }
            if name == records::CreditSettled::full_name() {
                let answer = codec::credit_settled(writer.decode(datum).map_err(unreadable)?);
                return Ok(answer.map_err(contradictory)?.into());
            }
        }
        Err(ProcessError::Poison(format!("a {name} does not belong here")))
    }

    fn partition_of(&self, key: &str) -> i32 {
        schemas::partition_of(key.as_bytes(), self.definition.topics.partitions)
    }

    fn load(&self, task: &TaskContext<'_>, keys: &Keys) -> Result<State, ProcessError> {
        let mut state = State::default();
        if let Some(id) = keys.outcome
            && let Some(row) = task.get::<records::Outcome>(OUTCOME, &id.0)?
        {
            state.outcome = Some(codec::outcome(row).map_err(contradiction)?);
        }
        if let Some(username) = &keys.user
            && let Some(row) = task.get::<records::User>(USER, username.as_bytes())?
        {
            state.user = Some(codec::user(row).map_err(contradiction)?);
        }
        for iban in &keys.accounts {
            if let Some(row) = task.get::<records::Account>(ACCOUNT, iban.as_str().as_bytes())? {
                state.accounts.push(codec::account(row).map_err(contradiction)?);
            }
        }
        Ok(state)
    }

    fn write(task: &mut TaskContext<'_>, row: &Row) -> Result<(), ProcessError> {
        match row {
            Row::Account(account) => task.put(ACCOUNT, account.iban.as_str().as_bytes(), &codec::account_row(account)),
            Row::User(user) => task.put(USER, user.username.as_bytes(), &codec::user_row(user)),
            Row::Outcome(outcome) => task.put(OUTCOME, &outcome.id.0, &codec::outcome_row(outcome)),
        }
    }

    /// Stages the record that an event is, if it is one.
    fn emit(&self, task: &mut TaskContext<'_>, event: &Event) -> Result<(), EncodeError> {
        let (own, topics, encoders) = (task.partition(), &self.topics, &self.encoders);
        match event {
            Event::BalanceChanged(change) => {
                let record = codec::balance_changed_record(change);
                task.emit(topics.balance_changed, own, change.iban.as_str().as_bytes(), |out| {
                    encoders.balance_changed.encode(&record, out)
                })
            }
            Event::CreditRequested(request) => {
                let (key, record) = (request.to.as_str(), codec::credit_requested_record(request));
                let partition = self.partition_of(key);
                task.emit(topics.transfers, partition, key.as_bytes(), |out| {
                    encoders.credit_requested.encode(&record, out)
                })
            }
            Event::CreditSettled(answer) => {
                let (key, record) = (answer.from.as_str(), codec::credit_settled_record(answer));
                let partition = self.partition_of(key);
                task.emit(topics.transfers, partition, key.as_bytes(), |out| {
                    encoders.credit_settled.encode(&record, out)
                })
            }
            Event::AccountCreationConfirmed { key, id, iban, token, account_type } => {
                let record = records::AccountCreationConfirmed {
                    id: records::Uuid(id.0),
                    iban: iban.to_string(),
                    token: token.as_str().to_owned(),
                    a_type: codec::a_type(*account_type),
                };
                task.emit(topics.account_creation_feedback, own, key.as_bytes(), |out| {
                    encoders.account_creation_confirmed.encode(&record, out)
                })
            }
            Event::AccountCreationFailed { key, id, reason } => {
                let record = records::AccountCreationFailed { id: records::Uuid(id.0), reason: reason.clone() };
                task.emit(topics.account_creation_feedback, own, key.as_bytes(), |out| {
                    encoders.account_creation_failed.encode(&record, out)
                })
            }
            Event::MoneyTransferConfirmed { key, id } => {
                let record = records::MoneyTransferConfirmed { id: records::Uuid(id.0) };
                task.emit(topics.money_transfer_feedback, own, key.as_bytes(), |out| {
                    encoders.money_transfer_confirmed.encode(&record, out)
                })
            }
            Event::MoneyTransferFailed { key, id, reason } => {
                let record = records::MoneyTransferFailed { id: records::Uuid(id.0), reason: reason.clone() };
                task.emit(topics.money_transfer_feedback, own, key.as_bytes(), |out| {
                    encoders.money_transfer_failed.encode(&record, out)
                })
            }
            Event::AccountOpened(_)
            | Event::UserRegistered(_)
            | Event::Reserved { .. }
            | Event::Released { .. }
            | Event::OutcomeRecorded(_) => Ok(()),
        }
    }

    fn context<'a>(
        &'a self,
        task: &TaskContext<'_>,
        time_ms: i64,
        partition_of: &'a dyn Fn(&str) -> i32,
    ) -> Context<'a> {
        Context {
            partition: task.partition(),
            partitions: task.partitions(),
            partition_of,
            config: &self.options.config,
            time_ms,
            commit_sequence: task.commit_sequence() as i64,
            last_transaction: task.last_transaction(),
        }
    }
}

fn contradiction(error: codec::CodecError) -> ProcessError {
    ProcessError::Store(StoreError::Corrupt { what: "row".to_owned(), detail: error.to_string() })
}

impl Application for Bank {
    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn open(&self, task: &mut TaskContext<'_>) -> Result<(), ProcessError> {
        let partition_of = |key: &str| self.partition_of(key);
        let context = self.context(task, 0, &partition_of);
        for row in bank::seeds(&context) {
            let exists = match &row {
                Row::Account(account) => task.get_bytes(ACCOUNT, account.iban.as_str().as_bytes())?,
                Row::User(user) => task.get_bytes(USER, user.username.as_bytes())?,
                Row::Outcome(outcome) => task.get_bytes(OUTCOME, &outcome.id.0)?,
            };
            if exists.is_none() {
                Bank::write(task, &row)?;
            }
        }
        Ok(())
    }

    fn process(&self, task: &mut TaskContext<'_>, record: &Record<'_>) -> Result<(), ProcessError> {
        let input = self.input(record)?;
        let partition_of = |key: &str| self.partition_of(key);
        let context = self.context(task, record.timestamp_ms, &partition_of);
        let state = self.load(task, &bank::keys_of(&input, &context))?;
        let decision = bank::decide(&state, &input, &context).map_err(|error| ProcessError::Stop(error.to_string()))?;
        metrics::counter!("kontor_decisions_total", "verdict" => decision.verdict.as_str()).increment(1);
        for row in &decision.rows {
            Bank::write(task, row)?;
        }
        if let Some(last) = decision.last_transaction() {
            task.set_last_transaction(last);
        }
        for event in &decision.events {
            self.emit(task, event).map_err(|error| ProcessError::Stop(error.to_string()))?;
        }
        Ok(())
    }

    fn housekeep(&self, task: &mut TaskContext<'_>, latest_ms: &[Option<i64>]) -> Result<(), ProcessError> {
        // By the time of commands alone: one that repeats an id may still wait while `transfers` is of today.
        let commands = self.definition.input_index(self.topics.commands);
        let Some(now_ms) = commands.and_then(|input| latest_ms[input]) else { return Ok(()) };
        let looked = &self.expiry_looked_ms[task.partition() as usize];
        if now_ms.saturating_sub(looked.load(Ordering::Relaxed)) < EXPIRY_INTERVAL_MS {
            return Ok(());
        }
        let oldest = task.first_committed(OUTCOME_BY_TIME, EXPIRED_MAX)?;
        let keep_from_ms = now_ms.saturating_sub(self.options.outcome_retention_ms);
        let mut expired = 0;
        for (key, id) in &oldest {
            if index_time_ms(key).is_none_or(|time_ms| time_ms >= keep_from_ms) {
                break;
            }
            // The id may have come anew since: only the row that this entry is of has expired.
            let row = task.get_bytes(OUTCOME, id)?;
            if row.and_then(|row| index_key_of(id, &row)).as_ref() == Some(key) {
                task.delete(OUTCOME, id);
            }
            expired += 1;
        }
        // With more to do the next transaction goes on.
        if expired < EXPIRED_MAX {
            looked.store(now_ms, Ordering::Relaxed);
        }
        Ok(())
    }

    fn fold(&self, _topic: TopicId, _key: &[u8], value: &[u8], rows: RowSink<'_>) -> Result<(), FormatError> {
        let event: records::BalanceChanged = decode_with(&self.schemas, value)?;
        let mut row = Vec::with_capacity(128);
        state_store::rows::encode(&event, &mut row).map_err(|error| FormatError::Bad(error.to_string()))?;
        let key = history_key(&event.iban, event.sequence);
        rows(HISTORY, &key, &row);
        rows(TRANSACTION, &(event.transaction_id as u64).to_be_bytes(), &key);
        Ok(())
    }

    fn present(
        &self,
        table: TableId,
        _key: &[u8],
        row: &[u8],
        lookup: &dyn Fn(TableId, &[u8]) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Vec<u8>, ProcessError> {
        present::present(&self.options.config.tokens, table, row, lookup)
    }

    fn filter(&self, table: TableId, filter: &[u8]) -> Result<RowFilter, String> {
        present::filter(table, filter)
    }

    fn identifier_step(&self, table: TableId) -> Option<i64> {
        (table == TRANSACTION).then(|| i64::from(self.definition.topics.partitions))
    }

    fn answer(&self, table: TableId, row: &[u8], context: &[u8]) -> Result<Option<Answer>, ProcessError> {
        if table != OUTCOME {
            return Err(ProcessError::Poison("only outcomes are waited for".to_owned()));
        }
        present::answer(&self.options.config.tokens, row, context)
    }
}
