//! The bank's tables and messages, in memory: what the processor does around the rules, as small as it can be.

use bank::{
    Account, BalanceChanged, Cents, CommandId, Config, Context, Decision, Event, Fingerprint, IBAN_DRAWS_MAX, Iban,
    Input, Outcome, OutcomeState, Row, State, TokenSecret, Tokens, Transfer, User, Verdict, decide, keys_of, seeds,
};
use proptest::sample::Index;
use std::collections::{BTreeMap, VecDeque};

/// The tables and the position of one partition.
#[derive(Default)]
struct Partition {
    accounts: BTreeMap<Iban, Account>,
    users: BTreeMap<String, User>,
    outcomes: BTreeMap<CommandId, Outcome>,
    commit_sequence: i64,
    last_transaction: i64,
}

/// What became of a delivered message.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    Decided,
    Dropped,
    Nothing,
}

/// All partitions, and the messages under way between them: one queue per (sender, receiver), as a log keeps the
/// order of one producer in one partition and no other.
pub struct Bank {
    partitions: Vec<Partition>,
    under_way: BTreeMap<(i32, i32), VecDeque<Input>>,
    config: Config,
    history: Vec<BalanceChanged>,
    /// What came in as cash, less what left the bank.
    pub cash_flow: i128,
    time_ms: i64,
}

impl Bank {
    pub fn new(partitions: i32) -> Bank {
        let secret = TokenSecret::new("0123456789abcdef0123456789abcdef").unwrap();
        let config = Config {
            tokens: Tokens::new(vec![secret], Tokens::COMPANY_DEFAULT).unwrap(),
            iban_draws_max: IBAN_DRAWS_MAX,
        };
        let mut bank = Bank {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            under_way: BTreeMap::new(),
            config,
            history: vec![],
            cash_flow: 0,
            time_ms: 1_000,
        };
        for partition in 0..partitions {
            let rows = bank.with_context(partition, seeds);
            bank.write(partition, rows);
        }
        bank
    }

    pub fn tokens(&self) -> &Tokens {
        &self.config.tokens
    }

    /// A command arrives in the partition of its key.
    pub fn command(&mut self, input: &Input) -> Decision {
        self.step(self.partition_of_input(input), input)
    }

    /// The first message of a queue between two partitions arrives.
    pub fn deliver(&mut self, which: &Index) -> Delivery {
        let routes: Vec<_> = self.under_way.keys().copied().collect();
        match routes.is_empty() {
            true => Delivery::Nothing,
            false => self.deliver_on(*which.get(&routes)),
        }
    }

    pub fn deliver_first(&mut self) -> Delivery {
        self.under_way.keys().next().copied().map_or(Delivery::Nothing, |route| self.deliver_on(route))
    }

    fn deliver_on(&mut self, route: (i32, i32)) -> Delivery {
        let queue = self.under_way.get_mut(&route).unwrap();
        let input = queue.pop_front().unwrap();
        if queue.is_empty() {
            self.under_way.remove(&route);
        }
        self.receive(&input)
    }

    /// A message between partitions is decided.
    pub fn receive(&mut self, input: &Input) -> Delivery {
        match self.step(self.partition_of_input(input), input).verdict {
            Verdict::Dropped => Delivery::Dropped,
            _ => Delivery::Decided,
        }
    }

    /// One commit: load, decide, write, send.
    fn step(&mut self, partition: i32, input: &Input) -> Decision {
        self.time_ms += 1;
        let keys = self.with_context(partition, |ctx| keys_of(input, ctx));
        let task = &self.partitions[partition as usize];
        let state = State {
            outcome: keys.outcome.and_then(|id| task.outcomes.get(&id)).cloned(),
            user: keys.user.and_then(|name| task.users.get(&name).cloned()),
            accounts: keys.accounts.iter().filter_map(|iban| task.accounts.get(iban)).cloned().collect(),
        };
        let decision = self.with_context(partition, |ctx| decide(&state, input, ctx)).unwrap();
        self.write(partition, decision.rows.clone());
        self.send(partition, &decision);
        self.count_cash(input, &decision);
        let task = &mut self.partitions[partition as usize];
        task.commit_sequence += 1;
        task.last_transaction = decision.last_transaction().unwrap_or(task.last_transaction);
        decision
    }

    fn with_context<T>(&self, partition: i32, act: impl FnOnce(&Context<'_>) -> T) -> T {
        let count = self.partitions.len() as i32;
        let task = &self.partitions[partition as usize];
        act(&Context {
            partition,
            partitions: count,
            partition_of: &|key| partition_of(key, count),
            config: &self.config,
            time_ms: self.time_ms,
            commit_sequence: task.commit_sequence + 1,
            last_transaction: task.last_transaction,
        })
    }

    fn write(&mut self, partition: i32, rows: Vec<Row>) {
        let task = &mut self.partitions[partition as usize];
        for row in rows {
            match row {
                Row::Account(account) => drop(task.accounts.insert(account.iban, account)),
                Row::User(user) => drop(task.users.insert(user.username.clone(), user)),
                Row::Outcome(outcome) => drop(task.outcomes.insert(outcome.id, outcome)),
            }
        }
    }

    fn send(&mut self, partition: i32, decision: &Decision) {
        for event in &decision.events {
            let message = match event {
                Event::CreditRequested(request) => Input::CreditRequested(request.clone()),
                Event::CreditSettled(answer) => Input::CreditSettled(answer.clone()),
                Event::BalanceChanged(change) => {
                    self.history.push(change.clone());
                    continue;
                }
                _ => continue,
            };
            let receiver = self.partition_of_input(&message);
            self.under_way.entry((partition, receiver)).or_default().push_back(message);
        }
    }

    fn count_cash(&mut self, input: &Input, decision: &Decision) {
        let Some(transfer) = as_transfer(input).filter(|_| decision.verdict == Verdict::Accepted) else {
            return;
        };
        if transfer.from == "cash" {
            self.cash_flow += i128::from(transfer.amount.0);
        }
        if Iban::parse(&transfer.to).is_none() {
            self.cash_flow -= i128::from(transfer.amount.0);
        }
    }

    fn partition_of_input(&self, input: &Input) -> i32 {
        let key = match input {
            Input::AccountCreation(command) => &command.key,
            Input::Transfer(command) => &command.key,
            Input::CreditRequested(request) => request.to.as_str(),
            Input::CreditSettled(answer) => answer.from.as_str(),
        };
        partition_of(key, self.partitions.len() as i32)
    }

    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.partitions.iter().flat_map(|task| task.accounts.values())
    }

    pub fn account(&self, iban: &Iban) -> &Account {
        self.accounts().find(|account| account.iban == *iban).unwrap()
    }

    fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.partitions.iter().flat_map(|task| task.outcomes.values())
    }

    /// The one outcome of a command.
    pub fn outcome_of(&self, input: &Input) -> Outcome {
        let id = match input {
            Input::AccountCreation(command) => command.id,
            Input::Transfer(command) => command.id,
            other => panic!("not a command: {other:?}"),
        };
        let found: Vec<_> = self.outcomes().filter(|outcome| outcome.id == id).collect();
        assert_eq!(found.len(), 1, "outcomes of {id}");
        found[0].clone()
    }

    fn reservations(&self) -> impl Iterator<Item = (&Outcome, &bank::Reservation)> {
        self.outcomes().filter_map(|outcome| match &outcome.state {
            OutcomeState::Pending(reservation) => Some((outcome, reservation)),
            _ => None,
        })
    }

    pub fn reserved_by_outcomes(&self, iban: &Iban) -> i128 {
        self.reservations().filter(|(_, held)| held.from == *iban).map(|(_, held)| i128::from(held.amount.0)).sum()
    }

    /// Credits that exist already while their debits wait for the answer.
    pub fn credits_not_settled(&self) -> i128 {
        let credited = |id| self.history.iter().any(|change| change.transfer_id == id && change.changed_by.0 > 0);
        self.reservations().filter(|(outcome, _)| credited(outcome.id)).map(|(_, held)| i128::from(held.amount.0)).sum()
    }

    pub fn under_way(&self) -> usize {
        self.under_way.values().map(VecDeque::len).sum()
    }

    pub fn first_under_way(&self) -> &Input {
        &self.under_way.values().next().unwrap()[0]
    }

    /// Whether two accounts are in different partitions.
    pub fn apart(&self, one: &Iban, other: &Iban) -> bool {
        let count = self.partitions.len() as i32;
        partition_of(one.as_str(), count) != partition_of(other.as_str(), count)
    }

    /// The changes of a transfer: account and amount, debit first.
    pub fn changes_of(&self, id: CommandId) -> Vec<(String, i64)> {
        let of_transfer = self.history.iter().filter(|change| change.transfer_id == id);
        let mut changes: Vec<_> = of_transfer.map(|change| (change.iban.to_string(), change.changed_by.0)).collect();
        changes.sort_by_key(|(_, by)| *by);
        changes
    }

    /// The events of each account form a chain that ends in its row, and transaction ids rise within a partition.
    pub fn check_histories(&self) {
        let count = self.partitions.len() as i64;
        let mut last = BTreeMap::new();
        let mut chains: BTreeMap<Iban, (i64, Cents)> = BTreeMap::new();
        for change in &self.history {
            let partition = change.transaction_id % count;
            assert_eq!(partition, i64::from(partition_of(change.iban.as_str(), count as i32)));
            let before = last.insert(partition, change.transaction_id).unwrap_or(0);
            assert!(before < change.transaction_id, "{change:?}");
            let start = if change.iban == Iban::COMPANY { bank::COMPANY_BALANCE } else { Cents::ZERO };
            let (sequence, balance) = chains.entry(change.iban).or_insert((0, start));
            *sequence += 1;
            *balance = balance.checked_add(change.changed_by).unwrap();
            assert_eq!((change.sequence, change.new_balance), (*sequence, *balance), "{change:?}");
        }
        for (iban, chain) in chains {
            let account = self.account(&iban);
            assert_eq!((account.sequence, account.balance), chain, "{account:?}");
        }
    }
}

/// Any function of the key does; the rules only ask it.
fn partition_of(key: &str, partitions: i32) -> i32 {
    let hash = key.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash % partitions as u32) as i32
}

pub fn as_transfer(input: &Input) -> Option<&Transfer> {
    match input {
        Input::Transfer(transfer) => Some(transfer),
        _ => None,
    }
}

pub fn fingerprint(input: &Input) -> Fingerprint {
    match input {
        Input::AccountCreation(command) => Fingerprint::of_account_creation(command),
        Input::Transfer(command) => Fingerprint::of_transfer(command),
        other => panic!("not a command: {other:?}"),
    }
}

/// The changes that a confirmed transfer must have made, debit first.
pub fn legs(transfer: &Transfer) -> Vec<(String, i64)> {
    let debit = (transfer.from.clone(), -transfer.amount.0);
    let credit = (transfer.to.clone(), transfer.amount.0);
    [debit, credit].into_iter().filter(|(account, _)| Iban::parse(account).is_some()).collect()
}

/// The valid iban that ends in a number, by trying all check digits.
pub fn valid_iban(number: u32) -> Iban {
    (0..100).find_map(|check| Iban::parse(&format!("NL{check:02}OPEN{number:010}"))).unwrap()
}
