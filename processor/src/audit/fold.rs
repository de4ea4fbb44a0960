//! What the topics add up to: one pass over facts, in the order of each partition, topics in any interleaving.
//!
//! Pure. What is wrong in every prefix of the log (a chain that does not fit, an account in a foreign partition) is
//! noted here with the place; what can only be said about a drained system is left to checks.rs.
//! Positions and dead letters have to be folded before commands: a command that is not processed yet is left for
//! later, and one that was dead-lettered counts as never sent.
//!
//! Dead letters are deleted by their age. The letters of a partition come in the order of its commands, so a command
//! behind one whose letter is there cannot have lost its own; one before it can. With no letter left, time decides.

use std::collections::{HashMap, HashSet};

use super::breach::{Findings, Invariant};
use super::entries::{AccountFold, Answers, Chain, Counts, First, IdFold, Leg, OutcomeRow, PartitionFold, Row};
use super::facts::{At, Fact, Iban, Id, Topic};

/// The state of the bank as its topics tell it.
#[derive(Debug)]
pub struct Fold {
    /// By partition number.
    pub partitions: Vec<PartitionFold>,
    /// By iban.
    pub accounts: HashMap<Iban, AccountFold>,
    /// By id and its partition.
    pub ids: HashMap<Id, IdFold>,
    /// What is wrong whatever comes later.
    pub findings: Findings,
    /// Commands that cannot be read and have no dead letter: breaches once the system is drained.
    pub unread_commands: HashMap<At, String>,
    /// Numbers for the report.
    pub counts: Counts,
    /// Cents that came in less cents that went out.
    pub inflow: i128,
    /// Time of the latest record, milliseconds since 1970.
    pub newest_ms: i64,
    /// No letter of a command from then on can have been deleted yet, milliseconds since 1970.
    letters_kept_from_ms: i64,
    dead: HashSet<At>,
}

impl Fold {
    /// Of topics with so many partitions each.
    pub fn new(partitions: i32) -> Fold {
        Fold {
            partitions: vec![PartitionFold::default(); usize::try_from(partitions).unwrap_or(0)],
            accounts: HashMap::new(),
            ids: HashMap::new(),
            findings: Findings::default(),
            unread_commands: HashMap::new(),
            counts: Counts::default(),
            inflow: 0,
            newest_ms: 0,
            letters_kept_from_ms: i64::MAX,
            dead: HashSet::new(),
        }
    }

    /// Dead letters of these partitions were deleted, none of a command from `kept_from_ms` on. To be told before their
    /// commands.
    pub fn lost_letters(&mut self, partitions: impl IntoIterator<Item = i32>, kept_from_ms: i64) {
        self.letters_kept_from_ms = kept_from_ms;
        for number in partitions {
            if let Some(partition) = self.partition(number) {
                partition.lost_letters = true;
            }
        }
    }

    /// One more record, of this time in milliseconds since 1970. Records of one partition of a topic come in the order
    /// of their offsets. A command at or beyond the position of its partition only shows that something is pending; it
    /// is to be given again later.
    pub fn apply(&mut self, at: At, at_ms: i64, fact: Fact) {
        self.advance_input(at);
        if at.topic == Topic::Commands && at.offset >= self.commands_done(at.partition) {
            return;
        }
        self.counts.records += 1;
        self.newest_ms = self.newest_ms.max(at_ms);
        match fact {
            Fact::DeadLetter { source } => {
                self.counts.dead_letters += 1;
                self.on_letter(source);
            }
            _ if self.dead.contains(&at) => {}
            Fact::Command { id, kind, body, amount, flow, parties } => {
                let letterless = self.may_have_lost_letter(at, at_ms);
                self.on_command(id, First { offset: at.offset, at_ms, body, kind, amount, flow, parties }, letterless);
            }
            Fact::Feedback { id, kind, conflict: true, .. } => {
                self.counts.feedbacks += 1;
                let conflicts = &mut self.id(id).conflicts[kind as usize];
                *conflicts = conflicts.saturating_add(1);
            }
            Fact::Feedback { id, kind, confirmed, answer, opened, conflict: false } => {
                self.counts.feedbacks += 1;
                let answers = Answers { count: 1, kind, confirmed, answer, offset: at.offset };
                self.on_answer(id, answers);
                if let Some(iban) = opened {
                    self.on_opened(at, id, iban);
                }
            }
            Fact::Balance { .. } => self.on_balance(at, fact),
            Fact::Account { iban, balance, reserved, limit, sequence } => {
                self.expect_home(at, &iban);
                self.account(iban).row = Some(Row { at, balance, reserved, limit, sequence });
            }
            Fact::Outcome { id, verdict, answer } => {
                self.id(id).outcome = OutcomeRow::Present(verdict, answer);
            }
            Fact::OutcomeGone { id } => {
                self.counts.expired += 1;
                let entry = self.id(id);
                entry.outcome = OutcomeRow::Expired;
                entry.expired = true;
            }
            Fact::Position { next_offset, commit_sequence } => self.on_position(at, next_offset, commit_sequence),
            Fact::Unreadable { why } => self.on_unreadable(at, at_ms, &why),
            Fact::Other => {}
        }
    }

    /// Offset of the first command of a partition that is not processed; 0 before the first position.
    pub fn commands_done(&self, partition: i32) -> i64 {
        let partition = usize::try_from(partition).ok().and_then(|number| self.partitions.get(number));
        partition.and_then(|partition| partition.next_offset?[0]).unwrap_or(0)
    }

    fn id(&mut self, id: Id) -> &mut IdFold {
        self.ids.entry(id).or_default()
    }

    fn account(&mut self, iban: Iban) -> &mut AccountFold {
        self.accounts.entry(iban).or_default()
    }

    fn partition(&mut self, number: i32) -> Option<&mut PartitionFold> {
        self.partitions.get_mut(usize::try_from(number).ok()?)
    }

    fn advance_input(&mut self, at: At) {
        let input = match at.topic {
            Topic::Commands => 0,
            Topic::Transfers => 1,
            _ => return,
        };
        if let Some(partition) = self.partition(at.partition) {
            partition.input_end[input] = at.offset + 1;
        }
    }

    /// A letter lies in the partition of its command.
    fn on_letter(&mut self, source: Option<At>) {
        self.dead.extend(source);
        let of_command = source.filter(|source| source.topic == Topic::Commands);
        if let Some(source) = of_command
            && let Some(partition) = self.partition(source.partition)
        {
            let first = partition.first_letter.map_or(source.offset, |first| first.min(source.offset));
            partition.first_letter = Some(first);
        }
    }

    /// Whether a command without a dead letter may have had one.
    fn may_have_lost_letter(&self, at: At, at_ms: i64) -> bool {
        let partition = usize::try_from(at.partition).ok().and_then(|number| self.partitions.get(number));
        partition.is_some_and(|partition| {
            let before_the_first = match partition.first_letter {
                Some(first) => at.offset < first,
                None => at_ms < self.letters_kept_from_ms,
            };
            partition.lost_letters && before_the_first
        })
    }

    fn on_command(&mut self, id: Id, command: First, letterless: bool) {
        self.counts.commands += 1;
        let entry = self.id(id);
        entry.latest_ms = entry.latest_ms.max(command.at_ms);
        entry.letterless = entry.letterless.saturating_add(u16::from(letterless));
        let first = *entry.first.get_or_insert(command);
        if first.body == command.body {
            entry.same += 1;
        } else {
            let other = &mut entry.other[command.kind as usize];
            *other = other.saturating_add(1);
        }
    }

    fn on_answer(&mut self, id: Id, answer: Answers) {
        let entry = self.id(id);
        let Some(answers) = &mut entry.answers else {
            entry.answers = Some(answer);
            return;
        };
        answers.count += 1;
        if (answers.kind, answers.confirmed, answers.answer) != (answer.kind, answer.confirmed, answer.answer) {
            entry.disagrees = true;
        }
    }

    fn on_opened(&mut self, at: At, id: Id, iban: Iban) {
        self.expect_home(at, &iban);
        let before = self.account(iban).opened_by.replace(id);
        if let Some(other) = before.filter(|other| *other != id) {
            self.findings.add(
                Invariant::I3,
                Some(at),
                format!("account {iban} was opened for {id} and before that for {other}"),
            );
        }
    }

    fn on_balance(&mut self, at: At, fact: Fact) {
        let Fact::Balance { iban, transfer, new_balance, changed_by, sequence, transaction_id, outside, parties } =
            fact
        else {
            return;
        };
        self.counts.balance_changes += 1;
        self.expect_home(at, &iban);
        self.extend_chain(at, iban, new_balance, changed_by, sequence);
        self.expect_rising(at, transaction_id);
        if outside {
            self.inflow += i128::from(changed_by);
        }
        let Some(id) = transfer else {
            self.findings.add(Invariant::I4, Some(at), format!("a change of {iban} by {changed_by} names no transfer"));
            return;
        };
        let entry = self.id(id);
        let leg = if changed_by < 0 { &mut entry.debit } else { &mut entry.credit };
        *leg = Leg {
            count: leg.count.saturating_add(1),
            partition: u16::try_from(at.partition).unwrap_or(u16::MAX),
            offset: at.offset,
            sum: leg.sum.saturating_add(changed_by),
            parties,
        };
    }

    fn extend_chain(&mut self, at: At, iban: Iban, new_balance: i64, changed_by: i64, sequence: i64) {
        let before = self.account(iban).chain;
        let expected = before.map_or(1, |chain| chain.sequence + 1);
        if sequence != expected {
            let what = format!("account {iban}: change {sequence} comes where {expected} was due");
            self.findings.add(Invariant::I2, Some(at), what);
        }
        let opening = new_balance.saturating_sub(changed_by);
        if let Some(chain) = before.filter(|chain| chain.balance != opening) {
            let what = format!(
                "account {iban}: new balance {new_balance} is not {} changed by {changed_by} (change {sequence})",
                chain.balance
            );
            self.findings.add(Invariant::I2, Some(at), what);
        }
        let mut chain = before.unwrap_or(Chain { opening, lowest: i64::MAX, ..Chain::default() });
        if new_balance < chain.lowest {
            (chain.lowest, chain.lowest_offset) = (new_balance, at.offset);
        }
        (chain.balance, chain.sequence) = (new_balance, sequence);
        self.account(iban).chain = Some(chain);
    }

    fn expect_rising(&mut self, at: At, transaction_id: i64) {
        let partitions = i64::try_from(self.partitions.len()).unwrap_or(i64::MAX).max(1);
        if transaction_id.rem_euclid(partitions) != i64::from(at.partition) {
            let what = format!("transaction {transaction_id} does not belong to partition {}", at.partition);
            self.findings.add(Invariant::I2, Some(at), what);
        }
        let Some(partition) = self.partition(at.partition) else {
            return;
        };
        let before = partition.last_transaction_id.replace(transaction_id);
        if let Some(before) = before.filter(|before| *before >= transaction_id) {
            self.findings.add(Invariant::I2, Some(at), format!("transaction {transaction_id} comes after {before}"));
        }
    }

    fn expect_home(&mut self, at: At, iban: &Iban) {
        let home = iban.partition(i32::try_from(self.partitions.len()).unwrap_or(i32::MAX));
        if home != at.partition {
            self.findings.add(Invariant::I2, Some(at), format!("account {iban} belongs to partition {home}"));
        }
    }

    fn on_position(&mut self, at: At, next_offset: [Option<i64>; 2], commit_sequence: i64) {
        let Some(partition) = self.partition(at.partition) else {
            return;
        };
        let before = (partition.next_offset, partition.commit_sequence);
        partition.next_offset = Some(next_offset);
        partition.commit_sequence = commit_sequence;
        let (Some(offsets), sequence) = before else {
            return;
        };
        let back = offsets.iter().zip(&next_offset).any(|(before, now)| now < before);
        if back || commit_sequence <= sequence {
            let what = format!(
                "the position went back: commit {sequence} to {commit_sequence}, next offsets {offsets:?} to {next_offset:?}"
            );
            self.findings.add(Invariant::I3, Some(at), what);
        }
    }

    /// A command that cannot be read has a dead letter once it is processed, or had one; our own records must be
    /// readable.
    fn on_unreadable(&mut self, at: At, at_ms: i64, why: &str) {
        if at.topic == Topic::Commands {
            if !self.may_have_lost_letter(at, at_ms) {
                self.unread_commands.insert(at, why.to_string());
            }
        } else {
            self.findings.add(Invariant::I4, Some(at), format!("record cannot be read: {why}"));
        }
    }
}
