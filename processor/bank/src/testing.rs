//! Given, when, then: what the tests of the rules are written in.
//!
//! Keys belong to the partition that their last character says, modulo N: with two partitions ALICE and BOB are in
//! partition 0, CAROL is in partition 1.

use crate::*;

pub(crate) const ALICE: Iban = Iban::literal(*b"NL12OPEN0000000002");
pub(crate) const BOB: Iban = Iban::literal(*b"NL55OPEN0000000004");
pub(crate) const CAROL: Iban = Iban::literal(*b"NL82OPEN0000000003");
/// Valid, and in partition 0, but nobody's.
pub(crate) const NOBODY: Iban = Iban::literal(*b"NL98OPEN0000000006");
pub(crate) const ID: CommandId = CommandId([9; 16]);
pub(crate) const COMMIT_SEQUENCE: i64 = 77;
pub(crate) const NOW_MS: i64 = 1_000_000;

/// Owns what a context borrows.
pub(crate) struct Stage {
    pub partition: i32,
    pub partitions: i32,
    pub last_transaction: i64,
    pub config: Config,
    partition_of: Box<dyn Fn(&str) -> i32>,
}

impl Stage {
    pub fn of(partition: i32, partitions: i32) -> Stage {
        let secret = TokenSecret::new("0123456789abcdef0123456789abcdef").unwrap();
        Stage {
            partition,
            partitions,
            last_transaction: 0,
            config: Config {
                tokens: Tokens::new(vec![secret], Tokens::COMPANY_DEFAULT).unwrap(),
                iban_draws_max: IBAN_DRAWS_MAX,
            },
            partition_of: Box::new(move |key| key.bytes().last().map_or(0, |byte| i32::from(byte - b'0') % partitions)),
        }
    }

    pub fn context(&self) -> Context<'_> {
        Context {
            partition: self.partition,
            partitions: self.partitions,
            partition_of: &self.partition_of,
            config: &self.config,
            time_ms: NOW_MS,
            commit_sequence: COMMIT_SEQUENCE,
            last_transaction: self.last_transaction,
        }
    }
}

/// The rows before the decision, and the place where it is made: partition 0 of 2 unless said otherwise.
pub(crate) struct Given {
    pub stage: Stage,
    pub state: State,
}

pub(crate) fn given(accounts: impl Into<Vec<Account>>) -> Given {
    let state = State { accounts: accounts.into(), ..State::default() };
    Given { stage: Stage::of(0, 2), state }
}

impl Given {
    pub fn outcome(mut self, outcome: Outcome) -> Given {
        self.state.outcome = Some(outcome);
        self
    }

    pub fn user(mut self, user: User) -> Given {
        self.state.user = Some(user);
        self
    }

    pub fn iban_draws_max(mut self, draws: u32) -> Given {
        self.stage.config.iban_draws_max = draws;
        self
    }

    /// Decides, twice: a replay over the same rows has to decide the same.
    pub fn when(self, input: impl Into<Input>) -> Then {
        let input = input.into();
        let decision = decide(&self.state, &input, &self.stage.context());
        assert_eq!(decision, decide(&self.state, &input, &self.stage.context()));
        Then { decision }
    }
}

/// What was decided.
pub(crate) struct Then {
    pub decision: Result<Decision, BrokenState>,
}

impl Then {
    #[track_caller]
    pub fn then(self, verdict: Verdict, events: impl Into<Vec<Event>>) -> Then {
        let decision = self.decision.as_ref().unwrap();
        assert_eq!(decision.events, events.into());
        assert_eq!(decision.verdict, verdict);
        self
    }

    #[track_caller]
    pub fn rows(self, rows: impl Into<Vec<Row>>) {
        assert_eq!(self.decision.unwrap().rows, rows.into());
    }

    #[track_caller]
    pub fn broken(self, broken: BrokenState) {
        assert_eq!(self.decision, Err(broken));
    }
}

/// An account as opened, with money in it.
pub(crate) fn account(iban: Iban, username: &str, balance: i64) -> Account {
    Account { balance: Cents(balance), ..Account::opened(iban, username, AccountType::Manual, 0) }
}

/// A transfer by the owner of the account, with the right token.
pub(crate) fn transfer(username: &str, from: Iban, to: &str, amount: i64) -> Transfer {
    Transfer {
        key: username.into(),
        id: ID,
        token: Stage::of(0, 2).config.tokens.token(&from),
        amount: Cents(amount),
        from: from.to_string(),
        to: to.into(),
        description: "rent".into(),
    }
}

pub(crate) fn cash_deposit(to: &str, amount: i64) -> Transfer {
    Transfer {
        key: to.into(),
        id: ID,
        token: Token::new(CASH),
        amount: Cents(amount),
        from: CASH.into(),
        to: to.into(),
        description: "rent".into(),
    }
}

/// The event of the nth transaction (from 0) of a decision about the transfers above, made in partition 0 of 2.
pub(crate) fn balance_changed(iban: Iban, new_balance: i64, by: i64, from_to: &str, sequence: i64, nth: i64) -> Event {
    Event::BalanceChanged(BalanceChanged {
        iban,
        new_balance: Cents(new_balance),
        changed_by: Cents(by),
        from_to: from_to.into(),
        description: "rent".into(),
        transfer_id: ID,
        sequence,
        transaction_id: 2 + 2 * nth,
        time_ms: NOW_MS,
    })
}

pub(crate) fn outcome_of(command: &Transfer, state: OutcomeState) -> Outcome {
    Outcome {
        id: command.id,
        fingerprint: Fingerprint::of_transfer(command),
        key: command.key.clone(),
        kind: OutcomeKind::Transfer,
        state,
        time_ms: NOW_MS,
    }
}

pub(crate) fn confirmed() -> OutcomeState {
    OutcomeState::Confirmed { iban: None, credit: None }
}

pub(crate) fn refused(reason: &str) -> OutcomeState {
    OutcomeState::Failed { reason: reason.into() }
}

pub(crate) fn transfer_confirmed(key: &str) -> Event {
    Event::MoneyTransferConfirmed { key: key.into(), id: ID }
}

pub(crate) fn transfer_failed(key: &str, reason: &str) -> Event {
    Event::MoneyTransferFailed { key: key.into(), id: ID, reason: reason.into() }
}
