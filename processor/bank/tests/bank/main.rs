//! A whole bank in memory: many partitions, messages between them under way, delivered in any order. Whatever the
//! order, no money appears or vanishes, no balance passes its limit, each id has one outcome, and replays of commands
//! change nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod memory;

use bank::{
    AccountCreation, AccountType, COMPANY_BALANCE, Cents, CommandId, Event, Iban, Input, OutcomeState, Row, Transfer,
    Verdict,
};
use memory::{Bank, Delivery};
use proptest::prelude::*;
use proptest::sample::Index;

const PARTITIONS: i32 = 4;
const USERS: usize = 6;

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    /// A transfer between accounts, chosen by index; with the right or a wrong token.
    Pay { from: Index, to: Index, amount: i64, honest: bool },
    /// To an account number of which there is no account.
    PayNobody { from: Index, number: u32, amount: i64 },
    /// To a shop.
    Spend { from: Index, amount: i64 },
    /// Cash comes in.
    Deposit { to: Index, amount: i64 },
    /// A command that was sent before, once more.
    SendAgain(Index),
    /// The body of one earlier transfer under the id of another.
    Mix(Index, Index),
    /// Any one of the messages under way between partitions arrives.
    Deliver(Index),
}

fn amounts() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 1_i64..30_000, 1 => Just(50_000), 1 => -5_i64..1, 1 => Just(i64::MAX), 1 => Just(i64::MAX / 2)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<Index>;
    let step = prop_oneof![
        6 => (index(), index(), amounts(), prop::bool::weighted(0.9))
            .prop_map(|(from, to, amount, honest)| Step::Pay { from, to, amount, honest }),
        1 => (index(), 0_u32..1_000, amounts())
            .prop_map(|(from, number, amount)| Step::PayNobody { from, number, amount }),
        1 => (index(), amounts()).prop_map(|(from, amount)| Step::Spend { from, amount }),
        1 => (index(), amounts()).prop_map(|(to, amount)| Step::Deposit { to, amount }),
        2 => index().prop_map(Step::SendAgain),
        1 => (index(), index()).prop_map(|(id, body)| Step::Mix(id, body)),
        6 => index().prop_map(Step::Deliver),
    ];
    prop::collection::vec(step, 1..120)
}

/// A bank with its users, and the commands sent to it.
struct World {
    bank: Bank,
    ibans: Vec<Iban>,
    sent: Vec<Input>,
    next_id: u64,
}

impl World {
    fn new() -> World {
        let mut world = World { bank: Bank::new(PARTITIONS), ibans: vec![Iban::COMPANY], sent: vec![], next_id: 1 };
        for user in 0..USERS {
            let id = world.id();
            let decision = world.send(creation(id, &format!("username{user}")));
            let Some(Row::Account(account)) = decision.rows.first() else { panic!("{decision:?}") };
            let iban = account.iban;
            world.ibans.push(iban);
        }
        world
    }

    fn id(&mut self) -> CommandId {
        self.next_id += 1;
        CommandId(u128::from(self.next_id).to_be_bytes())
    }

    fn send(&mut self, input: Input) -> bank::Decision {
        self.sent.push(input.clone());
        self.bank.command(&input)
    }

    fn transfer(&mut self, from: Iban, to: &str, amount: i64) -> Transfer {
        let owner = self.bank.account(&from).username.clone();
        Transfer {
            key: owner,
            id: self.id(),
            token: self.bank.tokens().token(&from),
            amount: Cents(amount),
            from: from.to_string(),
            to: to.to_owned(),
            description: "rent".into(),
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Pay { from, to, amount, honest } => {
                let (from, to) = (*from.get(&self.ibans), *to.get(&self.ibans));
                let mut command = self.transfer(from, to.as_str(), *amount);
                if !honest {
                    command.token = bank::Token::new("wrong");
                }
                self.send(command.into());
            }
            Step::PayNobody { from, number, amount } => {
                let to = memory::valid_iban(*number);
                let command = self.transfer(*from.get(&self.ibans), to.as_str(), *amount);
                self.send(command.into());
            }
            Step::Spend { from, amount } => {
                let command = self.transfer(*from.get(&self.ibans), "a shop", *amount);
                self.send(command.into());
            }
            Step::Deposit { to, amount } => {
                let to = to.get(&self.ibans).to_string();
                let command =
                    Transfer { key: to.clone(), from: "cash".into(), ..self.transfer(Iban::COMPANY, &to, *amount) };
                self.send(command.into());
            }
            Step::SendAgain(which) => self.send_again(which.get(&self.sent).clone()),
            Step::Mix(id, body) => self.mix(id, body),
            Step::Deliver(which) => {
                self.bank.deliver(which);
            }
        }
    }

    /// A replay gives the feedback of the outcome, as it is now, and writes no row.
    fn send_again(&mut self, input: Input) {
        let before = self.bank.outcome_of(&input);
        let decision = self.bank.command(&input);
        assert!(decision.rows.is_empty(), "{decision:?}");
        let known = before.fingerprint == memory::fingerprint(&input);
        assert_eq!(decision.verdict, if known { Verdict::Repeated } else { Verdict::Refused });
        let pending = matches!(before.state, OutcomeState::Pending(_));
        assert_eq!(decision.events.len(), usize::from(!known || !pending), "{decision:?}");
    }

    /// The scope of an id is the partition of its command, so the key stays that of the id's first owner.
    fn mix(&mut self, id: &Index, body: &Index) {
        let transfers: Vec<_> = self.sent.iter().filter_map(memory::as_transfer).cloned().collect();
        if transfers.is_empty() {
            return;
        }
        let (first, body) = (id.get(&transfers), body.get(&transfers));
        let mixed = Transfer { id: first.id, key: first.key.clone(), ..body.clone() };
        self.send_again(mixed.into());
    }

    #[track_caller]
    fn check(&self) {
        let bank = &self.bank;
        for account in bank.accounts() {
            assert!(account.balance.0 - account.reserved.0 >= account.limit.0, "{account:?}");
            assert!(account.reserved.0 >= 0, "{account:?}");
            assert_eq!(bank.reserved_by_outcomes(&account.iban), account.reserved.0 as i128, "{account:?}");
        }
        let held: i128 = bank.accounts().map(|account| i128::from(account.balance.0)).sum();
        let expected = i128::from(COMPANY_BALANCE.0) + bank.cash_flow + bank.credits_not_settled();
        assert_eq!(held, expected, "money appeared or vanished");
        bank.check_histories();
    }

    /// After everything has arrived nothing is pending, each command has exactly one outcome and one final feedback,
    /// and a debit exists exactly if its credit does.
    fn check_drained(&self) {
        self.check();
        assert_eq!(self.bank.credits_not_settled(), 0);
        for input in &self.sent {
            let outcome = self.bank.outcome_of(input);
            let confirmed = matches!(outcome.state, OutcomeState::Confirmed { .. });
            assert!(!matches!(outcome.state, OutcomeState::Pending(_)), "{outcome:?}");
            let changes = self.bank.changes_of(outcome.id);
            let expected = match memory::as_transfer(input) {
                Some(transfer) if confirmed => memory::legs(transfer),
                _ => vec![],
            };
            assert_eq!(changes, expected, "{outcome:?}");
        }
    }
}

fn creation(id: CommandId, username: &str) -> Input {
    Input::AccountCreation(AccountCreation {
        key: username.into(),
        id,
        username: username.into(),
        account_type: AccountType::Auto,
        password_hash: None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c14_c16_money_is_conserved_in_every_order(steps in steps(), order: Vec<Index>) {
        let mut world = World::new();
        world.check();
        for step in &steps {
            world.run(step);
            world.check();
        }
        let mut order = order.iter().cycle();
        while world.bank.under_way() > 0 {
            let arrived = match order.next() {
                Some(which) => world.bank.deliver(which),
                None => world.bank.deliver_first(),
            };
            prop_assert_eq!(arrived, Delivery::Decided);
            world.check();
        }
        world.check_drained();
        // Once more, all of it: every answer is the one of before, and nothing changes.
        for input in world.sent.clone() {
            world.send_again(input);
        }
        world.check_drained();
    }

    /// Any command with any text is answered; nothing panics, nothing breaks.
    #[test]
    fn every_command_is_answered(key in text(), from in text(), to in text(), token in text(), amount: i64) {
        let mut world = World::new();
        let id = world.id();
        let transfer = Transfer {
            key, id, token: bank::Token::new(token), amount: Cents(amount), from, to, description: "rent".into(),
        };
        let decision = world.bank.command(&transfer.into());
        let feedback = decision.events.iter().filter(|event| {
            matches!(event, Event::MoneyTransferFailed { .. } | Event::MoneyTransferConfirmed { .. })
        });
        prop_assert_eq!(feedback.count(), usize::from(decision.verdict != Verdict::Pending), "{:?}", decision);
        world.check();
    }
}

/// Texts that mean something to the rules, and texts that do not.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("cash".to_owned()),
        Just("NL66OPEN0000000000".to_owned()),
        Just("username0".to_owned()),
        Just(bank::Tokens::COMPANY_DEFAULT.to_owned()),
        "NL[0-9]{2}OPEN0[0-9]{9}",
        "\\PC{0,30}",
    ]
}

#[test]
fn two_users_cannot_have_one_name_and_the_first_keeps_it() {
    let mut world = World::new();
    let id = world.id();
    let decision = world.send(creation(id, "username0"));
    let reason = "username already exists".to_owned();
    assert_eq!(decision.events.last(), Some(&Event::AccountCreationFailed { key: "username0".into(), id, reason }));
}

#[test]
fn an_answer_that_comes_twice_is_dropped() {
    let mut world = World::new();
    let (from, to) =
        (world.ibans[1], *world.ibans.iter().find(|iban| world.bank.apart(iban, &world.ibans[1])).unwrap());
    let command = world.transfer(from, to.as_str(), 100);
    world.send(command.into());
    world.bank.deliver_first();
    let answer = world.bank.first_under_way().clone();
    assert_eq!(world.bank.deliver_first(), Delivery::Decided);
    world.check_drained();
    assert_eq!(world.bank.receive(&answer), Delivery::Dropped);
    world.check_drained();
}
