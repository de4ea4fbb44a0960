//! Between records (wire and rows) and the types of the rules.

use bank::{
    Account, AccountCreation, AccountType, Cents, CommandId, CreditPoint, CreditRequested, CreditSettled, Fingerprint,
    Iban, Outcome, OutcomeKind, OutcomeState, PasswordHash, Reservation, Token, Transfer, User,
};
use schemas::records::{self, Atype, Uuid};

/// Bytes that decode, but say what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{0:?} is no iban of this bank")]
    Iban(String),
    #[error("outcome {0} contradicts itself")]
    Outcome(Uuid),
}

pub fn iban(text: &str) -> Result<Iban, CodecError> {
    Iban::parse(text).ok_or_else(|| CodecError::Iban(text.to_owned()))
}

fn account_type(a_type: Atype) -> AccountType {
    match a_type {
        Atype::Auto => AccountType::Auto,
        Atype::Manual => AccountType::Manual,
    }
}

pub fn a_type(account_type: AccountType) -> Atype {
    match account_type {
        AccountType::Auto => Atype::Auto,
        AccountType::Manual => Atype::Manual,
    }
}

pub fn account_creation(key: &str, record: records::ConfirmAccountCreation) -> AccountCreation {
    AccountCreation {
        key: key.to_owned(),
        id: CommandId(record.id.0),
        username: record.username,
        account_type: account_type(record.a_type),
        password_hash: record.password_hash.map(PasswordHash::new),
    }
}

pub fn transfer(key: &str, record: records::ConfirmMoneyTransfer) -> Transfer {
    Transfer {
        key: key.to_owned(),
        id: CommandId(record.id.0),
        token: Token::new(record.token),
        amount: Cents(record.amount),
        from: record.from,
        to: record.to,
        description: record.description,
    }
}

pub fn credit_requested(record: records::CreditRequested) -> Result<CreditRequested, CodecError> {
    Ok(CreditRequested {
        id: CommandId(record.id.0),
        from: iban(&record.from)?,
        to: iban(&record.to)?,
        amount: Cents(record.amount),
        description: record.description,
        time_ms: record.time,
    })
}

pub fn credit_settled(record: records::CreditSettled) -> Result<CreditSettled, CodecError> {
    Ok(CreditSettled {
        id: CommandId(record.id.0),
        from: iban(&record.from)?,
        to: iban(&record.to)?,
        refused: (!record.accepted).then(|| record.reason.unwrap_or_default()),
        partition: record.partition,
        commit_sequence: record.commit_sequence,
    })
}

pub fn credit_requested_record(event: &CreditRequested) -> records::CreditRequested {
    records::CreditRequested {
        id: Uuid(event.id.0),
        from: event.from.to_string(),
        to: event.to.to_string(),
        amount: event.amount.0,
        description: event.description.clone(),
        time: event.time_ms,
    }
}

pub fn credit_settled_record(event: &CreditSettled) -> records::CreditSettled {
    records::CreditSettled {
        id: Uuid(event.id.0),
        from: event.from.to_string(),
        to: event.to.to_string(),
        accepted: event.refused.is_none(),
        reason: event.refused.clone(),
        partition: event.partition,
        commit_sequence: event.commit_sequence,
    }
}

pub fn balance_changed_record(event: &bank::BalanceChanged) -> records::BalanceChanged {
    records::BalanceChanged {
        iban: event.iban.to_string(),
        new_balance: event.new_balance.0,
        changed_by: event.changed_by.0,
        from_to: event.from_to.clone(),
        description: event.description.clone(),
        transfer_id: Some(Uuid(event.transfer_id.0)),
        sequence: event.sequence,
        transaction_id: event.transaction_id,
        time: event.time_ms,
    }
}

pub fn account(row: records::Account) -> Result<Account, CodecError> {
    Ok(Account {
        iban: iban(&row.iban)?,
        username: row.username,
        balance: Cents(row.balance),
        reserved: Cents(row.reserved),
        limit: Cents(row.limit),
        sequence: row.sequence,
        account_type: account_type(row.a_type),
        opened_ms: row.opened,
    })
}

pub fn account_row(account: &Account) -> records::Account {
    records::Account {
        iban: account.iban.to_string(),
        username: account.username.clone(),
        balance: account.balance.0,
        reserved: account.reserved.0,
        limit: account.limit.0,
        sequence: account.sequence,
        a_type: a_type(account.account_type),
        opened: account.opened_ms,
    }
}

pub fn user(row: records::User) -> Result<User, CodecError> {
    Ok(User {
        username: row.username,
        password_hash: row.password_hash.map(PasswordHash::new),
        account_creation_id: CommandId(row.account_creation_id.0),
        ibans: row.ibans.iter().map(|text| iban(text)).collect::<Result<_, _>>()?,
    })
}

pub fn user_row(user: &User) -> records::User {
    records::User {
        username: user.username.clone(),
        password_hash: user.password_hash.as_ref().map(|hash| hash.as_str().to_owned()),
        account_creation_id: Uuid(user.account_creation_id.0),
        ibans: user.ibans.iter().map(Iban::to_string).collect(),
    }
}

pub fn outcome(row: records::Outcome) -> Result<Outcome, CodecError> {
    let contradiction = || CodecError::Outcome(row.id);
    let state = match row.state {
        records::OutcomeState::Pending => OutcomeState::Pending(Reservation {
            from: iban(&row.from)?,
            to: iban(&row.to)?,
            amount: Cents(row.amount),
            description: row.description.clone(),
        }),
        records::OutcomeState::Confirmed => OutcomeState::Confirmed {
            iban: row.iban.as_deref().map(iban).transpose()?,
            credit: (row.credit_partition >= 0)
                .then_some(CreditPoint { partition: row.credit_partition, commit_sequence: row.credit_sequence }),
        },
        records::OutcomeState::Failed => OutcomeState::Failed { reason: row.reason.clone().ok_or_else(contradiction)? },
    };
    Ok(Outcome {
        id: CommandId(row.id.0),
        fingerprint: Fingerprint(row.fingerprint),
        kind: match row.kind {
            records::OutcomeKind::Account => OutcomeKind::Account,
            records::OutcomeKind::Transfer => OutcomeKind::Transfer,
        },
        key: row.key,
        state,
        time_ms: row.time,
    })
}

pub fn outcome_row(outcome: &Outcome) -> records::Outcome {
    let mut row = records::Outcome {
        id: Uuid(outcome.id.0),
        fingerprint: outcome.fingerprint.0,
        state: records::OutcomeState::Pending,
        kind: match outcome.kind {
            OutcomeKind::Account => records::OutcomeKind::Account,
            OutcomeKind::Transfer => records::OutcomeKind::Transfer,
        },
        reason: None,
        from: String::new(),
        to: String::new(),
        amount: 0,
        description: String::new(),
        iban: None,
        username: String::new(),
        key: outcome.key.clone(),
        credit_partition: -1,
        credit_sequence: 0,
        time: outcome.time_ms,
    };
    match &outcome.state {
        OutcomeState::Pending(reservation) => {
            row.from = reservation.from.to_string();
            row.to = reservation.to.to_string();
            row.amount = reservation.amount.0;
            row.description.clone_from(&reservation.description);
        }
        OutcomeState::Confirmed { iban, credit } => {
            row.state = records::OutcomeState::Confirmed;
            row.iban = iban.map(|iban| iban.to_string());
            if let Some(credit) = credit {
                row.credit_partition = credit.partition;
                row.credit_sequence = credit.commit_sequence;
            }
        }
        OutcomeState::Failed { reason } => {
            row.state = records::OutcomeState::Failed;
            row.reason = Some(reason.clone());
        }
    }
    row
}
