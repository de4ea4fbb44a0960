//! The accounts that a run uses: who they belong to, where they live, how one in another partition is drawn.

use rand::Rng;

/// The company: exists before the first client, pays salaries. Its username is its iban.
pub const COMPANY_IBAN: &str = "NL66OPEN0000000000";
/// The company's token unless configured otherwise.
pub const COMPANY_TOKEN: &str = "00000000000000000000";

/// An account that a command may debit.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its owner.
    pub username: String,
    /// Its number.
    pub iban: String,
    /// What allows a transfer from it.
    pub token: String,
    /// Where it and its owner live.
    pub partition: i32,
}

impl Account {
    /// The company's.
    pub fn company(partitions: i32) -> Account {
        Account {
            username: COMPANY_IBAN.to_owned(),
            iban: COMPANY_IBAN.to_owned(),
            token: COMPANY_TOKEN.to_owned(),
            partition: schemas::partition_of(COMPANY_IBAN.as_bytes(), partitions),
        }
    }
}

/// A username of this run that lives in `partition`: the `n`th wish, extended until it hashes there.
pub fn username_in(run: &str, n: u64, partition: i32, partitions: i32) -> String {
    let mut draw = 0u32;
    loop {
        let name = format!("load-{run}-{n}-{draw}");
        if schemas::partition_of(name.as_bytes(), partitions) == partition {
            return name;
        }
        draw += 1;
    }
}

/// Accounts by number and by partition.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    all: Vec<Account>,
    by_partition: Vec<Vec<usize>>,
}

impl Accounts {
    /// None yet.
    pub fn new(partitions: i32) -> Accounts {
        Accounts { all: Vec::new(), by_partition: vec![Vec::new(); usize::try_from(partitions).unwrap_or(0)] }
    }

    /// One more.
    pub fn add(&mut self, account: Account) {
        if let Some(here) = usize::try_from(account.partition).ok().and_then(|p| self.by_partition.get_mut(p)) {
            here.push(self.all.len());
        }
        self.all.push(account);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.all.iter()
    }

    /// Any of them.
    pub fn any(&self, rng: &mut impl Rng) -> Option<&Account> {
        (!self.is_empty()).then(|| &self.all[rng.random_range(0..self.all.len())])
    }

    /// Another account than `than`, in its partition or in any other one. `None` when there is no such.
    pub fn other(&self, than: &Account, same_partition: bool, rng: &mut impl Rng) -> Option<&Account> {
        // A few draws nearly always suffice; the fallback keeps it correct for tiny sets.
        for _ in 0..16 {
            let drawn = if same_partition {
                let here = self.by_partition.get(usize::try_from(than.partition).ok()?)?;
                &self.all[*here.get(rng.random_range(0..here.len().max(1)))?]
            } else {
                self.any(rng)?
            };
            if (drawn.partition == than.partition) == same_partition && drawn.iban != than.iban {
                return Some(drawn);
            }
        }
        let fits = |other: &&Account| (other.partition == than.partition) == same_partition && other.iban != than.iban;
        self.all.iter().find(fits)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn account(n: usize, partition: i32) -> Account {
        Account { username: format!("u{n}"), iban: format!("i{n}"), token: String::new(), partition }
    }

    #[test]
    fn names_live_where_they_are_wanted() {
        for partition in 0..12 {
            let name = username_in("x", 7, partition, 12);
            assert_eq!(schemas::partition_of(name.as_bytes(), 12), partition, "{name}");
        }
    }

    #[test]
    fn the_other_account_is_where_it_was_asked_for() {
        let mut accounts = Accounts::new(3);
        (0..9).for_each(|n| accounts.add(account(n, (n % 3) as i32)));
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..200 {
            let one = accounts.any(&mut rng).unwrap().clone();
            let near = accounts.other(&one, true, &mut rng).unwrap();
            assert!(near.partition == one.partition && near.iban != one.iban);
            assert!(accounts.other(&one, false, &mut rng).unwrap().partition != one.partition);
        }
    }

    #[test]
    fn there_may_be_no_other_account() {
        let mut accounts = Accounts::new(2);
        accounts.add(account(0, 0));
        let mut rng = StdRng::seed_from_u64(1);
        let one = accounts.any(&mut rng).unwrap().clone();
        assert_eq!(accounts.other(&one, true, &mut rng), None);
        assert_eq!(accounts.other(&one, false, &mut rng), None);
        assert_eq!(Accounts::new(2).any(&mut rng), None);
    }
}
