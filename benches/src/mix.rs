//! What the next command of a run is. Pure: seeded randomness in, a plan out.
//!
//! `Seeds` is the mix of the older seed: the first 20 beats and every 200th open an account that gets a salary at
//! once; of 70 other beats 1 pays a salary, 3 deposit cash, 10 withdraw cash, 40 pay in a shop and 16 transfer
//! to another account. Only accounts that the run opened itself (AUTO) and the company ever pay.
//! `Transfers` moves money between accounts only, a given share of it between partitions.

use rand::Rng;

use crate::accounts::{Account, Accounts};

/// The party outside of the bank that cash comes from and goes to.
pub const CASH: &str = "cash";
const SHOP: &str = "corner shop";
const CASH_CENTS: [i64; 8] = [2_000, 2_000, 2_000, 3_000, 5_000, 5_000, 10_000, 20_000];

/// Which commands are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// As the seeds' generator.
    Seeds,
    /// Transfers between accounts, this share of them (0 to 1) between partitions.
    Transfers {
        /// Share of transfers whose accounts live in different partitions.
        across: f64,
    },
}

/// How a command travels, which decides what its latency is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Both accounts in one partition: one transaction.
    Within = 0,
    /// Two partitions: reserve, credit, settle.
    Across = 1,
    /// One account and the world outside: one transaction.
    OneSided = 2,
    /// An account is opened: one transaction.
    Account = 3,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [Class::Within, Class::Across, Class::OneSided, Class::Account];

    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Within => "within a partition",
            Class::Across => "across partitions",
            Class::OneSided => "in or out",
            Class::Account => "account opened",
        }
    }

    /// Back from its number.
    pub fn from_number(number: u8) -> Option<Class> {
        Class::ALL.into_iter().find(|class| *class as u8 == number)
    }
}

/// The next command.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Open an AUTO account.
    Open,
    /// Move money.
    Move(Transfer),
}

/// A transfer, without its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// Key of the command.
    pub key: String,
    /// Who may.
    pub token: String,
    /// Payer.
    pub from: String,
    /// Payee.
    pub to: String,
    /// Cents.
    pub amount: i64,
    /// Text.
    pub description: &'static str,
    /// How it travels.
    pub class: Class,
}

impl Mix {
    /// The plan of beat `n`.
    pub fn plan(&self, n: u64, accounts: &Accounts, company: &Account, rng: &mut impl Rng) -> Plan {
        match self {
            Mix::Seeds if n < 20 || n.is_multiple_of(200) => Plan::Open,
            Mix::Seeds => Plan::Move(seeds_transfer(accounts, company, rng)),
            Mix::Transfers { across } => Plan::Move(plain_transfer(*across, accounts, company, rng)),
        }
    }
}

/// The salary that a new account gets at once.
pub fn salary(to: &Account, company: &Account, rng: &mut impl Rng) -> Transfer {
    between(company, to, rng.random_range(220_000..270_000), "salary")
}

/// Cash for an account, keyed by the account so that it is one step.
pub fn deposit(to: &Account, amount: i64) -> Transfer {
    Transfer {
        key: to.iban.clone(),
        token: CASH.to_owned(),
        from: CASH.to_owned(),
        to: to.iban.clone(),
        amount,
        description: "deposit",
        class: Class::OneSided,
    }
}

fn seeds_transfer(accounts: &Accounts, company: &Account, rng: &mut impl Rng) -> Transfer {
    let draw = rng.random_range(0..70);
    let one = accounts.any(rng).unwrap_or(company).clone();
    let cash = CASH_CENTS[rng.random_range(0..CASH_CENTS.len())];
    let purchase = rng.random_range(1_000..11_000);
    match draw {
        0 => salary(&one, company, rng),
        1..4 => deposit(&one, cash),
        4..14 => outward(&one, CASH, cash, "withdraw"),
        14..54 => outward(&one, SHOP, purchase, "card payment"),
        // The seeds may draw the payer as payee; the bank refuses that, and so is asked to here too.
        _ => between(&one, accounts.any(rng).unwrap_or(company), purchase, "transfer"),
    }
}

fn plain_transfer(across: f64, accounts: &Accounts, company: &Account, rng: &mut impl Rng) -> Transfer {
    let from = accounts.any(rng).unwrap_or(company);
    let same_partition = !rng.random_bool(across.clamp(0.0, 1.0));
    let to = accounts.other(from, same_partition, rng).unwrap_or(company);
    between(from, to, rng.random_range(1..1_000), "transfer")
}

fn between(from: &Account, to: &Account, amount: i64, description: &'static str) -> Transfer {
    let class = if from.partition == to.partition { Class::Within } else { Class::Across };
    Transfer { class, ..outward(from, &to.iban, amount, description) }
}

fn outward(from: &Account, to: &str, amount: i64, description: &'static str) -> Transfer {
    Transfer {
        key: from.username.clone(),
        token: from.token.clone(),
        from: from.iban.clone(),
        to: to.to_owned(),
        amount,
        description,
        class: Class::OneSided,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn some_accounts(count: i32) -> Accounts {
        let mut accounts = Accounts::new(12);
        for n in 0..count {
            let (username, iban) = (format!("user {n}"), format!("NL00OPEN0{n:09}"));
            accounts.add(Account { username, iban, token: format!("{n:020}"), partition: n % 12 });
        }
        accounts
    }

    fn plans(mix: Mix, accounts: &Accounts, beats: std::ops::Range<u64>) -> Vec<Plan> {
        let (company, mut rng) = (Account::company(12), StdRng::seed_from_u64(7));
        beats.map(|n| mix.plan(n, accounts, &company, &mut rng)).collect()
    }

    #[test]
    fn l02_first_20_beats_and_every_200th_open_accounts() {
        let opened: Vec<u64> = plans(Mix::Seeds, &some_accounts(5), 0..1000)
            .iter()
            .zip(0..)
            .filter_map(|(plan, n)| (*plan == Plan::Open).then_some(n))
            .collect();
        assert_eq!(opened, (0..20).chain([200, 400, 600, 800]).collect::<Vec<_>>());
    }

    #[test]
    fn l02_the_seeds_mix_has_its_shares() {
        let plans = plans(Mix::Seeds, &some_accounts(50), 1_000_001..1_071_000);
        let moves: Vec<&Transfer> = plans
            .iter()
            .filter_map(|plan| if let Plan::Move(transfer) = plan { Some(transfer) } else { None })
            .collect();
        for (description, of_70) in
            [("salary", 1), ("deposit", 3), ("withdraw", 10), ("card payment", 40), ("transfer", 16)]
        {
            let found = moves.iter().filter(|transfer| transfer.description == description).count();
            let expected = moves.len() * of_70 / 70;
            assert!(found.abs_diff(expected) * 10 < expected + 200, "{description}: {found} for {expected}");
        }
        for transfer in moves {
            let cash = transfer.from == CASH;
            assert_eq!(transfer.key == transfer.to, cash, "a deposit is keyed by the account that it credits");
            assert!(cash || transfer.key.starts_with("user") || transfer.from == crate::accounts::COMPANY_IBAN);
            assert!(transfer.amount > 0);
        }
    }

    #[test]
    fn transfers_cross_partitions_by_their_share() {
        for (across, expected) in [(0.0, 0), (1.0, 2000), (0.75, 1500)] {
            let plans = plans(Mix::Transfers { across }, &some_accounts(48), 0..2000);
            let crossing =
                plans.iter().filter(|plan| matches!(plan, Plan::Move(t) if t.class == Class::Across)).count();
            assert!(crossing.abs_diff(expected) < 100, "{across}: {crossing}");
            assert!(
                plans.iter().all(|plan| matches!(plan, Plan::Move(t) if t.class != Class::OneSided && t.from != t.to))
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let accounts = some_accounts(10);
        assert_eq!(plans(Mix::Seeds, &accounts, 0..500), plans(Mix::Seeds, &accounts, 0..500));
    }

    #[test]
    fn without_accounts_the_company_pays() {
        let plans = plans(Mix::Seeds, &Accounts::new(12), 21..199);
        let payers =
            plans.iter().filter_map(|plan| if let Plan::Move(t) = plan { Some(t.from.as_str()) } else { None });
        assert!(payers.into_iter().all(|from| from == CASH || from == crate::accounts::COMPANY_IBAN));
    }
}
