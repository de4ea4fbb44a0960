//! One of each record, with every field away from its default, for the tests.

use std::collections::BTreeMap;

use super::*;

pub(crate) const TOKEN: &str = "49012345678901234567";
pub(crate) const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA";

pub(crate) const ID: Uuid = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255]);

fn text(text: &str) -> String {
    text.to_owned()
}

pub(crate) fn confirm_account_creation() -> ConfirmAccountCreation {
    ConfirmAccountCreation {
        id: ID,
        username: text("anna-björk"),
        a_type: Atype::Auto,
        password_hash: Some(text(HASH)),
    }
}

pub(crate) fn account_creation_confirmed() -> AccountCreationConfirmed {
    AccountCreationConfirmed { id: ID, iban: text("NL66OPEN0000000000"), token: text(TOKEN), a_type: Atype::Auto }
}

pub(crate) fn account_creation_failed() -> AccountCreationFailed {
    AccountCreationFailed { id: ID, reason: text("username already exists") }
}

pub(crate) fn confirm_money_transfer() -> ConfirmMoneyTransfer {
    ConfirmMoneyTransfer {
        id: ID,
        token: text(TOKEN),
        amount: i64::MAX,
        from: text("NL66OPEN0000000000"),
        to: text("cash"),
        description: text("rent – März"),
    }
}

pub(crate) fn balance_changed() -> BalanceChanged {
    BalanceChanged {
        iban: text("NL66OPEN0000000000"),
        new_balance: i64::MIN,
        changed_by: -1,
        from_to: text("cash"),
        description: String::new(),
        transfer_id: Some(ID),
        sequence: 1,
        transaction_id: 25,
        time: 1_700_000_000_123,
    }
}

pub(crate) fn credit_requested() -> CreditRequested {
    CreditRequested {
        id: ID,
        from: text("NL66OPEN0000000000"),
        to: text("NL83OPEN0000000001"),
        amount: 1,
        description: text("x"),
        time: 1_700_000_000_123,
    }
}

pub(crate) fn credit_settled() -> CreditSettled {
    CreditSettled {
        id: ID,
        from: text("a"),
        to: text("b"),
        accepted: true,
        reason: Some(text("to is not known at this bank")),
        partition: 11,
        commit_sequence: 1 << 40,
    }
}

pub(crate) fn account() -> Account {
    Account {
        iban: text("NL66OPEN0000000000"),
        username: text("anna"),
        balance: 5,
        reserved: 3,
        limit: -50_000,
        sequence: 7,
        a_type: Atype::Auto,
        opened: 1_700_000_000_123,
    }
}

pub(crate) fn user() -> User {
    User {
        username: text("anna"),
        password_hash: Some(text(HASH)),
        account_creation_id: ID,
        ibans: vec![text("NL66OPEN0000000000"), String::new()],
    }
}

pub(crate) fn outcome() -> Outcome {
    Outcome {
        id: ID,
        fingerprint: [7; 16],
        state: OutcomeState::Failed,
        kind: OutcomeKind::Transfer,
        reason: Some(text("insufficient funds")),
        from: text("a"),
        to: text("b"),
        amount: 42,
        description: text("d"),
        iban: Some(text("c")),
        username: text("u"),
        key: text("k"),
        credit_partition: 3,
        credit_sequence: 9,
        time: 1_700_000_000_123,
    }
}

pub(crate) fn position() -> Position {
    Position {
        next_offset: BTreeMap::from([(text("commands"), 12), (text("transfers"), i64::MAX)]),
        commit_sequence: 4,
        last_transaction: 3,
        layout: 1,
        shards: 6,
    }
}

pub(crate) fn owner() -> Owner {
    Owner { instance: text("p1"), incarnation: text("x"), epoch: 2, layout: 1, shards: 6 }
}

pub(crate) fn member() -> Member {
    let shard = |shard, role, lag| MemberShard { shard, role, lag };
    Member {
        instance: text("processor-0"),
        incarnation: text("5c1f"),
        endpoint: text("http://127.0.0.1:8190"),
        rack: text("a"),
        beat: 1 << 40,
        grace_beats: 40,
        seen: 77,
        shards: vec![
            shard(0, ShardRole::Active, 0),
            shard(4, ShardRole::Standby, 17),
            shard(5, ShardRole::Restoring, -1),
        ],
        stopped: vec![1, 3],
        layout: 2,
        epoch: 1 << 33,
    }
}

pub(crate) fn assignment() -> Assignment {
    let owners = |active: &str, standbys: &[&str], warming: &str| ShardOwners {
        active: text(active),
        standbys: standbys.iter().copied().map(text).collect(),
        warming: text(warming),
    };
    Assignment {
        epoch: 9,
        layout: 2,
        leader: text("processor-1"),
        leader_incarnation: text("77aa"),
        shards: vec![owners("processor-0", &["processor-1", "processor-2"], ""), owners("", &[], "processor-2")],
    }
}
