//! A small bank written down record by record, and ways to spoil it.

use std::collections::BTreeMap;

use schemas::records::{
    Account, AccountCreationConfirmed, Atype, BalanceChanged, ConfirmAccountCreation, ConfirmMoneyTransfer,
    CreditRequested, CreditSettled, MoneyTransferConfirmed, MoneyTransferFailed, Outcome, OutcomeKind, OutcomeState,
    Position, Uuid,
};

use crate::audit::facts::{At, Fact, Topic};
use crate::audit::fold::Fold;
use crate::audit::scope::Scope;

const PARTITIONS: i32 = 4;
const COMPANY: &str = "NL66OPEN0000000000";

/// A record of any topic.
#[derive(Clone, Debug)]
pub enum Rec {
    Open(ConfirmAccountCreation),
    Opened(AccountCreationConfirmed),
    Transfer(ConfirmMoneyTransfer),
    Moved(MoneyTransferConfirmed),
    NotMoved(MoneyTransferFailed),
    Balance(BalanceChanged),
    Requested(CreditRequested),
    Settled(CreditSettled),
    Account(Account),
    Outcome(Outcome),
    OutcomeGone(Uuid),
    Poison,
    DeadLetter(At),
    /// No record: what follows is of this time, milliseconds since 1970.
    Now(i64),
}

/// Records in the order in which they were written.
pub struct History {
    log: Vec<(Topic, i32, Rec)>,
    rows: BTreeMap<String, Account>,
    transactions: BTreeMap<i32, i64>,
    ids: u8,
    beyond: Vec<(Topic, i32, Rec)>,
    stale_position: bool,
    letters_kept_from_ms: Option<i64>,
}

fn home(key: &str) -> i32 {
    schemas::partition_of(key.as_bytes(), PARTITIONS)
}

/// The `nth` iban of this bank that belongs to `partition`.
fn iban_in(partition: i32, nth: usize) -> String {
    let ibans = (1..).map(|number| format!("NL00OPEN0{number:09}"));
    ibans.filter(|iban| home(iban) == partition).nth(nth).unwrap()
}

impl History {
    pub const WITHIN: i64 = 100;
    pub const ACROSS: i64 = 200;

    /// Accounts, cash in and out, transfers within and across partitions, a refusal, a repeat and a conflict.
    pub fn sound() -> History {
        let mut h = History {
            log: vec![],
            rows: BTreeMap::new(),
            transactions: BTreeMap::new(),
            ids: 0,
            beyond: vec![],
            stale_position: false,
            letters_kept_from_ms: None,
        };
        h.seed_company();
        let alice = h.open("alice", iban_in(home("alice"), 0));
        let carol = h.open("alice", iban_in(home("alice"), 1));
        let bob = h.open("bob", iban_in((home("alice") + 1) % PARTITIONS, 0));
        h.transfer("cash", &alice, 1000);
        let within = h.transfer(&alice, &carol, History::WITHIN);
        let across = h.transfer(&alice, &bob, History::ACROSS);
        // Repeated while it was under way: both commands share one answer.
        h.say(home(&alice), Rec::Transfer(across));
        h.transfer(&alice, "a shop", 50);
        h.transfer(COMPANY, &bob, 250_000);
        h.refused(&alice, &bob, 9_999_999, "insufficient funds");
        h.say(home(&alice), Rec::Transfer(within.clone()));
        h.say(home(&alice), Rec::Moved(MoneyTransferConfirmed { id: within.id }));
        h.say(home(&alice), Rec::Transfer(ConfirmMoneyTransfer { amount: 1, ..within.clone() }));
        let reason = "id was used for another transfer".to_string();
        h.say(home(&alice), Rec::NotMoved(MoneyTransferFailed { id: within.id, reason }));
        h
    }

    fn seed_company(&mut self) {
        self.rows.insert(COMPANY.into(), account(COMPANY, COMPANY, 100_000_000_000_000_000));
        self.row(COMPANY);
    }

    fn next_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid([self.ids; 16])
    }

    /// The topic follows from the record.
    fn say(&mut self, partition: i32, rec: Rec) {
        let topic = match &rec {
            Rec::Open(_) | Rec::Transfer(_) | Rec::Poison => Topic::Commands,
            Rec::Opened(_) => Topic::AccountFeedback,
            Rec::Moved(_) | Rec::NotMoved(_) => Topic::TransferFeedback,
            Rec::Balance(_) => Topic::BalanceChanged,
            Rec::Requested(_) | Rec::Settled(_) => Topic::Transfers,
            Rec::Account(_) | Rec::Outcome(_) | Rec::OutcomeGone(_) => Topic::Changelog,
            Rec::DeadLetter(_) => Topic::DeadLetters,
            Rec::Now(_) => Topic::Changelog,
        };
        self.push(topic, partition, rec);
    }

    pub fn push(&mut self, topic: Topic, partition: i32, rec: Rec) {
        self.log.push((topic, partition, rec));
    }

    pub fn push_beyond_position(&mut self, topic: Topic, partition: i32, rec: Rec) {
        self.beyond.push((topic, partition, rec));
    }

    fn row(&mut self, iban: &str) {
        let row = self.rows[iban].clone();
        self.say(home(iban), Rec::Account(row));
    }

    /// An account whose owner's name maps to the same partition in this history by choice of the key.
    fn open(&mut self, username: &str, iban: String) -> String {
        let (partition, id) = (home(&iban), self.next_id());
        let command =
            ConfirmAccountCreation { id, username: username.into(), a_type: Atype::Auto, password_hash: None };
        self.say(partition, Rec::Open(command));
        self.rows.insert(iban.clone(), account(&iban, username, 0));
        self.row(&iban);
        self.outcome(partition, id, OutcomeKind::Account, OutcomeState::Confirmed, None, Some(&iban));
        let token = "0".repeat(20);
        self.say(
            partition,
            Rec::Opened(AccountCreationConfirmed { id, iban: iban.clone(), token, a_type: Atype::Auto }),
        );
        iban
    }

    fn outcome(
        &mut self,
        partition: i32,
        id: Uuid,
        kind: OutcomeKind,
        state: OutcomeState,
        reason: Option<&str>,
        iban: Option<&str>,
    ) {
        self.say(
            partition,
            Rec::Outcome(Outcome {
                id,
                fingerprint: [0; 16],
                state,
                kind,
                reason: reason.map(Into::into),
                from: String::new(),
                to: String::new(),
                amount: 0,
                description: String::new(),
                iban: iban.map(Into::into),
                username: String::new(),
                key: String::new(),
                credit_partition: -1,
                credit_sequence: 0,
                time: 0,
            }),
        );
    }

    fn command(&mut self, from: &str, to: &str, amount: i64) -> ConfirmMoneyTransfer {
        let (id, token) = (self.next_id(), "0".repeat(20));
        ConfirmMoneyTransfer { id, token, amount, from: from.into(), to: to.into(), description: "a test".into() }
    }

    fn transfer(&mut self, from: &str, to: &str, amount: i64) -> ConfirmMoneyTransfer {
        let command = self.command(from, to, amount);
        self.carry_out(&command);
        command
    }

    /// The command and everything that comes of it.
    pub fn carry_out(&mut self, command: &ConfirmMoneyTransfer) {
        let (from, to, amount) = (command.from.as_str(), command.to.as_str(), command.amount);
        let (own_from, own_to) = (self.rows.contains_key(from), self.rows.contains_key(to));
        let partition = if own_from { home(from) } else { home(to) };
        let id = command.id;
        self.say(partition, Rec::Transfer(command.clone()));
        let across = own_from && own_to && home(from) != home(to);
        if across {
            self.outcome(partition, id, OutcomeKind::Transfer, OutcomeState::Pending, None, None);
            let (from, to, description) = (from.into(), to.into(), "a test".into());
            self.say(home(&command.to), Rec::Requested(CreditRequested { id, from, to, amount, description, time: 0 }));
        }
        if own_to {
            self.balance(to, from, amount, id);
        }
        if across {
            let (from, to) = (from.into(), to.into());
            let at = home(&command.to);
            let settled =
                CreditSettled { id, from, to, accepted: true, reason: None, partition: at, commit_sequence: 1 };
            self.say(partition, Rec::Settled(settled));
        }
        if own_from {
            self.balance(from, to, -amount, id);
        }
        self.outcome(partition, id, OutcomeKind::Transfer, OutcomeState::Confirmed, None, None);
        self.say(partition, Rec::Moved(MoneyTransferConfirmed { id }));
    }

    fn refused(&mut self, from: &str, to: &str, amount: i64, reason: &str) {
        let command = self.command(from, to, amount);
        let id = command.id;
        self.say(home(from), Rec::Transfer(command));
        self.outcome(home(from), id, OutcomeKind::Transfer, OutcomeState::Failed, Some(reason), None);
        self.say(home(from), Rec::NotMoved(MoneyTransferFailed { id, reason: reason.into() }));
    }

    fn balance(&mut self, iban: &str, from_to: &str, changed_by: i64, id: Uuid) {
        let row = self.rows.get_mut(iban).unwrap();
        row.balance += changed_by;
        row.sequence += 1;
        let (new_balance, sequence) = (row.balance, row.sequence);
        let count = self.transactions.entry(home(iban)).or_default();
        *count += 1;
        let transaction_id = *count * i64::from(PARTITIONS) + i64::from(home(iban));
        let changed = BalanceChanged {
            iban: iban.into(),
            new_balance,
            changed_by,
            from_to: from_to.into(),
            description: "a test".into(),
            transfer_id: Some(id),
            sequence,
            transaction_id,
            time: 0,
        };
        self.say(home(iban), Rec::Balance(changed));
        self.row(iban);
    }

    /// Facts of all records by topic, positions at the ends of the inputs, folded in the order of the auditor.
    pub fn fold(&self) -> Fold {
        let mut fold = Fold::new(PARTITIONS);
        let mut ends: BTreeMap<(Topic, i32), i64> = BTreeMap::new();
        let (mut facts, mut now_ms) = (vec![], 0);
        for (beyond, (topic, partition, rec)) in
            self.log.iter().map(|rec| (false, rec)).chain(self.beyond.iter().map(|rec| (true, rec)))
        {
            if let Rec::Now(ms) = rec {
                now_ms = *ms;
                continue;
            }
            let end = ends.entry((*topic, *partition)).or_default();
            let at = At { topic: *topic, partition: *partition, offset: *end };
            *end += 1;
            facts.push((beyond, at, now_ms, fact(rec, Scope { partition: *partition, partitions: PARTITIONS })));
        }
        for partition in 0..PARTITIONS {
            let done = |topic| {
                let of = |(beyond, at, _, _): &&(bool, At, i64, Fact)| {
                    !beyond && at.topic == topic && at.partition == partition
                };
                facts.iter().filter(of).count() as i64
            };
            let next_offset = [("t.commands", Topic::Commands), ("t.transfers", Topic::Transfers)];
            let next_offset = next_offset.map(|(name, topic)| (name.to_string(), done(topic))).into_iter().collect();
            let record = Position { next_offset, commit_sequence: 5, ..Position::default() };
            let scope = Scope { partition, partitions: PARTITIONS };
            for offset in 1000..1001 + i64::from(self.stale_position) {
                fold.apply(At { topic: Topic::Changelog, partition, offset }, 0, scope.position(&record));
            }
        }
        let order = |topic: Topic| match topic {
            Topic::Changelog => 0,
            Topic::DeadLetters => 1,
            _ => 2,
        };
        if let Some(kept_from_ms) = self.letters_kept_from_ms {
            fold.lost_letters(0..PARTITIONS, kept_from_ms);
        }
        facts.sort_by_key(|(_, at, _, _)| (order(at.topic), at.topic, at.partition, at.offset));
        for (_, at, at_ms, fact) in facts {
            fold.apply(at, at_ms, fact);
        }
        fold
    }

    pub fn last_of(&self, topic: Topic, partition: i32) -> At {
        let count = self.log.iter().filter(|(of, number, _)| (*of, *number) == (topic, partition)).count();
        At { topic, partition, offset: count as i64 - 1 }
    }

    /// Takes the first record that fits out of the log.
    pub fn remove(&mut self, fits: impl Fn(&Rec) -> bool) -> Option<Rec> {
        let index = self.log.iter().position(|(_, _, rec)| fits(rec))?;
        Some(self.log.remove(index).2)
    }

    pub fn duplicate(&mut self, fits: impl Fn(&Rec) -> bool) {
        let copy = self.log.iter().find(|(_, _, rec)| fits(rec)).cloned().unwrap();
        self.log.push(copy);
    }

    pub fn change(&mut self, mut with: impl FnMut(&mut Rec)) {
        self.log.iter_mut().for_each(|(_, _, rec)| with(rec));
    }

    fn debit_of(&self, amount: i64) -> BalanceChanged {
        let found = self.log.iter().find_map(|(_, _, rec)| match rec {
            Rec::Balance(changed) if changed.changed_by == -amount => Some(changed.clone()),
            _ => None,
        });
        found.unwrap()
    }

    pub fn debit_again(&mut self, amount: i64) {
        let debit = self.debit_of(amount);
        self.balance(&debit.iban, &debit.from_to, -amount, debit.transfer_id.unwrap());
    }

    /// As if the last step of the transfer across had not been taken.
    pub fn forget_settlement(&mut self) {
        let debit = self.debit_of(History::ACROSS);
        let id = debit.transfer_id.unwrap();
        self.remove(|rec| matches!(rec, Rec::Moved(moved) if moved.id == id));
        self.remove(|rec| matches!(rec, Rec::Outcome(row) if row.id == id && row.state == OutcomeState::Confirmed));
        let row = Account { reserved: History::ACROSS, ..self.rows[&debit.iban].clone() };
        self.say(home(&debit.iban), Rec::Account(row));
    }

    /// Within a partition nothing is ever under way, so every command has its own answer.
    pub fn forget_one_repeat(&mut self) {
        let id = self.debit_of(History::WITHIN).transfer_id.unwrap();
        self.remove(|rec| matches!(rec, Rec::Moved(moved) if moved.id == id));
    }

    pub fn refuse_after_the_fact(&mut self, amount: i64) {
        let debit = self.debit_of(amount);
        let id = debit.transfer_id.unwrap();
        self.change(|rec| {
            if matches!(rec, Rec::Moved(moved) if moved.id == id) {
                *rec = Rec::NotMoved(MoneyTransferFailed { id, reason: "to is not known at this bank".into() });
            }
        });
    }

    pub fn credit_elsewhere(&mut self, amount: i64) {
        self.change(|rec| match rec {
            Rec::Balance(changed) if changed.changed_by == amount => changed.from_to = COMPANY.into(),
            _ => {}
        });
    }

    pub fn overdraw(&mut self) {
        let alice = self.debit_of(50).iban;
        self.transfer(&alice, "a shop", 60_000);
        self.transfer("cash", &alice, 60_000);
    }

    pub fn swap_first_two_changes(&mut self) {
        let alice = self.debit_of(50).iban;
        let fits = |(_, _, rec): &(Topic, i32, Rec)| matches!(rec, Rec::Balance(changed) if changed.iban == alice);
        let places: Vec<usize> = self.log.iter().enumerate().filter(|(_, rec)| fits(rec)).map(|(at, _)| at).collect();
        self.log.swap(places[0], places[1]);
    }

    /// The command of another body under a used id was carried out instead of refused.
    pub fn answer_conflict_as_done(&mut self) {
        self.change(|rec| match rec {
            Rec::NotMoved(failed) if failed.reason.starts_with("id was") => {
                *rec = Rec::Moved(MoneyTransferConfirmed { id: failed.id });
            }
            _ => {}
        });
    }

    pub fn expire_all_outcomes(&mut self) {
        let final_rows = self.log.iter().filter_map(|(_, partition, rec)| match rec {
            Rec::Outcome(row) if row.state != OutcomeState::Pending => Some((*partition, row.id)),
            _ => None,
        });
        for (partition, id) in final_rows.collect::<Vec<_>>() {
            self.say(partition, Rec::OutcomeGone(id));
        }
    }

    /// What follows is of this time; all before is of 1970.
    pub fn now(&mut self, ms: i64) {
        self.push(Topic::Changelog, -1, Rec::Now(ms));
    }

    /// The transfer within a partition once more under its id, with all its effects.
    pub fn carry_out_again(&mut self) {
        let id = self.debit_of(History::WITHIN).transfer_id.unwrap();
        let found = self.log.iter().find_map(|(_, _, rec)| match rec {
            Rec::Transfer(command) if command.id == id => Some(command.clone()),
            _ => None,
        });
        self.carry_out(&found.unwrap());
    }

    /// Dead letters were deleted everywhere, those of commands of before this time at most.
    pub fn lose_letters(&mut self, kept_from_ms: i64) {
        self.letters_kept_from_ms = Some(kept_from_ms);
    }

    /// Without any trace but itself. Gives its place.
    pub fn forgotten_transfer(&mut self) -> (At, ConfirmMoneyTransfer) {
        let (partition, rec) = self.unanswered_transfer();
        let Rec::Transfer(command) = rec.clone() else { panic!("{rec:?}") };
        self.say(partition, rec);
        (self.last_of(Topic::Commands, partition), command)
    }

    pub fn unanswered_transfer(&mut self) -> (i32, Rec) {
        let alice = self.debit_of(50).iban;
        (home(&alice), Rec::Transfer(self.command(&alice, "a shop", 1)))
    }

    pub fn repeat_an_old_position(&mut self) {
        self.stale_position = true;
    }
}

fn account(iban: &str, username: &str, balance: i64) -> Account {
    Account {
        iban: iban.into(),
        username: username.into(),
        balance,
        reserved: 0,
        limit: -50_000,
        sequence: 0,
        a_type: Atype::Auto,
        opened: 0,
    }
}

fn fact(rec: &Rec, scope: Scope) -> Fact {
    match rec {
        Rec::Open(record) => scope.account_command(record),
        Rec::Opened(record) => scope.account_confirmed(record),
        Rec::Transfer(record) => scope.transfer_command(record),
        Rec::Moved(record) => scope.transfer_confirmed(record),
        Rec::NotMoved(record) => scope.transfer_failed(record),
        Rec::Balance(record) => scope.balance_changed(record),
        Rec::Requested(record) => scope.in_flight(record),
        Rec::Settled(record) => scope.in_flight(record),
        Rec::Account(record) => scope.account(record),
        Rec::Outcome(record) => scope.outcome(record),
        Rec::OutcomeGone(id) => scope.tombstone(&format!("outcome/{id}")),
        Rec::Poison => Fact::Unreadable { why: "not Avro".into() },
        Rec::DeadLetter(at) => Fact::DeadLetter { source: Some(*at) },
        Rec::Now(_) => Fact::Other,
    }
}
