//! What exists before the first client: the company, its user and its account.

use crate::{Account, AccountType, Cents, CommandId, Context, Iban, OVERDRAFT_LIMIT, Row, User};

/// What the company starts with. All other money comes from here or in cash.
pub const COMPANY_BALANCE: Cents = Cents(100_000_000_000_000_000);

/// The rows that must exist in the context's partition before its first input; most partitions have none. The
/// processor writes those whose key is not there yet, and never overwrites. Nothing in them depends on the time.
pub fn seeds(ctx: &Context<'_>) -> Vec<Row> {
    if !ctx.owns(Iban::COMPANY.as_str()) {
        return vec![];
    }
    // The company's username is its iban, so both rows are in the same partition.
    let account = Account {
        iban: Iban::COMPANY,
        username: Iban::COMPANY.to_string(),
        balance: COMPANY_BALANCE,
        reserved: Cents::ZERO,
        limit: OVERDRAFT_LIMIT,
        sequence: 0,
        account_type: AccountType::Manual,
        opened_ms: 0,
    };
    let user = User {
        username: Iban::COMPANY.to_string(),
        password_hash: None,
        account_creation_id: CommandId([0; 16]),
        ibans: vec![Iban::COMPANY],
    };
    vec![Row::Account(account), Row::User(user)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Stage;

    #[test]
    fn c04_the_company_exists_in_exactly_one_partition() {
        let of = |partition| seeds(&Stage::of(partition, 12).context());
        let all: Vec<Row> = (0..12).flat_map(of).collect();
        let [Row::Account(account), Row::User(user)] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(account.iban.as_str(), "NL66OPEN0000000000");
        assert_eq!(account.balance, Cents(100_000_000_000_000_000));
        assert_eq!((account.limit, account.sequence, account.reserved), (Cents(-50_000), 0, Cents(0)));
        assert_eq!((user.username.as_str(), &user.password_hash), ("NL66OPEN0000000000", &None));
        assert_eq!(account.username, user.username);
    }
}
