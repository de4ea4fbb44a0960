//! What callers of the query service see of the bank's rows: messages of `kontor.bank.v1`.

use bank::{Rejection, Tokens};
use processor::topology::{Answer, ProcessError, RowFilter};
use prost::Message;
use schemas::TransactionPredicate;
use schemas::bank_view as view;
use schemas::records::{self, OutcomeKind, OutcomeState};
use serde::de::DeserializeOwned;
use state_store::{StoreError, TableId};

use super::{ACCOUNT, HISTORY, OUTCOME, TRANSACTION, USER, codec};

type Lookup<'a> = &'a dyn Fn(TableId, &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

pub fn present(tokens: &Tokens, table: TableId, row: &[u8], lookup: Lookup<'_>) -> Result<Vec<u8>, ProcessError> {
    Ok(match table {
        ACCOUNT => account(decode(row)?).encode_to_vec(),
        USER => user(tokens, decode(row)?)?.encode_to_vec(),
        OUTCOME => outcome(tokens, &decode(row)?)?.encode_to_vec(),
        HISTORY => transaction(decode(row)?).encode_to_vec(),
        TRANSACTION => match lookup(HISTORY, row)? {
            Some(row) => transaction(decode(&row)?).encode_to_vec(),
            None => return Err(corrupt("a transaction whose balance change is missing")),
        },
        _ => return Err(ProcessError::Poison("this table is not for callers".to_owned())),
    })
}

/// Balance changes may be asked for by their conditions, whichever table names them.
pub fn filter(table: TableId, filter: &[u8]) -> Result<RowFilter, String> {
    if !matches!(table, HISTORY | TRANSACTION) {
        return Err("only the tables history and transaction know a filter".to_owned());
    }
    let wanted = TransactionPredicate::decode(filter)?;
    // What was presented a moment ago can be read: a row that could not is let through, for the caller to stumble on.
    Ok(Box::new(move |value| view::Transaction::decode(value).map_or(true, |row| wanted.accepts(&row))))
}

/// Only final outcomes answer. A caller with another body for the same id is told so at once: whatever becomes of the
/// first command, the second will be refused.
pub fn answer(tokens: &Tokens, row: &[u8], fingerprint: &[u8]) -> Result<Option<Answer>, ProcessError> {
    let row: records::Outcome = decode(row)?;
    let mut message = outcome(tokens, &row)?;
    if row.fingerprint != fingerprint {
        message = view::Outcome {
            id: row.id.0.to_vec(),
            state: view::outcome::State::Failed as i32,
            reason: conflict(row.kind).to_string(),
            ..view::Outcome::default()
        };
    } else if row.state == OutcomeState::Pending {
        return Ok(None);
    }
    let credited = (row.credit_partition >= 0).then_some((row.credit_partition, row.credit_sequence as u64));
    Ok(Some(Answer { value: message.encode_to_vec(), depends_on: credited.into_iter().collect() }))
}

/// The words of the feedback to a second command of the same kind. Of another kind nobody is known here: a fingerprint
/// does not tell what it is of.
fn conflict(kind: OutcomeKind) -> Rejection {
    match kind {
        OutcomeKind::Account => Rejection::IdUsedForAnotherCommand,
        OutcomeKind::Transfer => Rejection::IdUsedForAnotherTransfer,
    }
}

fn account(row: records::Account) -> view::Account {
    view::Account {
        iban: row.iban,
        username: row.username,
        balance: row.balance,
        reserved: row.reserved,
        limit: row.limit,
        sequence: row.sequence,
        manual: row.a_type == records::Atype::Manual,
        opened_ms: row.opened,
    }
}

fn user(tokens: &Tokens, row: records::User) -> Result<view::User, ProcessError> {
    let with_token = |iban: String| Ok(view::IbanToken { token: token(tokens, &iban)?, iban });
    Ok(view::User {
        username: row.username,
        password_hash: row.password_hash,
        ibans: row.ibans.into_iter().map(with_token).collect::<Result<_, ProcessError>>()?,
    })
}

fn transaction(row: records::BalanceChanged) -> view::Transaction {
    view::Transaction {
        transaction_id: row.transaction_id,
        iban: row.iban,
        sequence: row.sequence,
        new_balance: row.new_balance,
        changed_by: row.changed_by,
        from_to: row.from_to,
        description: row.description,
        transfer_id: row.transfer_id.map(|id| id.0.to_vec()),
        time_ms: row.time,
    }
}

fn outcome(tokens: &Tokens, row: &records::Outcome) -> Result<view::Outcome, ProcessError> {
    let state = match row.state {
        OutcomeState::Pending => view::outcome::State::Pending,
        OutcomeState::Confirmed => view::outcome::State::Confirmed,
        OutcomeState::Failed => view::outcome::State::Failed,
    };
    let iban = row.iban.clone().unwrap_or_default();
    Ok(view::Outcome {
        id: row.id.0.to_vec(),
        state: state as i32,
        reason: row.reason.clone().unwrap_or_default(),
        token: if iban.is_empty() { String::new() } else { token(tokens, &iban)? },
        iban,
    })
}

fn token(tokens: &Tokens, iban: &str) -> Result<String, ProcessError> {
    let iban = codec::iban(iban).map_err(|error| corrupt(&error.to_string()))?;
    Ok(tokens.token(&iban).as_str().to_owned())
}

fn decode<T: DeserializeOwned>(row: &[u8]) -> Result<T, ProcessError> {
    state_store::rows::decode(row).map_err(|error| corrupt(&error.to_string()))
}

fn corrupt(detail: &str) -> ProcessError {
    ProcessError::Store(StoreError::Corrupt { what: "row".to_owned(), detail: detail.to_owned() })
}

#[cfg(test)]
mod tests {
    use bank::TokenSecret;
    use schemas::records::Uuid;

    use super::*;
    use crate::bank_app::USER as NOT_FILTERED;

    const FINGERPRINT: [u8; 16] = [1; 16];

    fn outcome_row(kind: OutcomeKind, state: OutcomeState) -> Vec<u8> {
        let text = String::new;
        let row = records::Outcome {
            id: Uuid([7; 16]),
            fingerprint: FINGERPRINT,
            state,
            kind,
            reason: None,
            from: text(),
            to: text(),
            amount: 0,
            description: text(),
            iban: None,
            username: text(),
            key: text(),
            credit_partition: -1,
            credit_sequence: 0,
            time: 0,
        };
        let mut bytes = Vec::new();
        state_store::rows::encode(&row, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_conflict_is_told_in_the_words_of_the_feedback() {
        let secret = TokenSecret::new([7; TokenSecret::BYTES_MIN]).unwrap();
        let tokens = Tokens::new(vec![secret], Tokens::COMPANY_DEFAULT).unwrap();
        for (kind, words) in [
            (OutcomeKind::Account, "id was used for another command"),
            (OutcomeKind::Transfer, "id was used for another transfer"),
        ] {
            // Also while the first command is under way.
            for state in [OutcomeState::Pending, OutcomeState::Confirmed] {
                let row = outcome_row(kind, state);
                let told = answer(&tokens, &row, &[2; 16]).unwrap().unwrap();
                let told = view::Outcome::decode(told.value.as_slice()).unwrap();
                assert_eq!((told.state(), told.reason.as_str()), (view::outcome::State::Failed, words));
                let own = answer(&tokens, &row, &FINGERPRINT).unwrap();
                assert_eq!(own.is_some(), state == OutcomeState::Confirmed);
            }
        }
    }

    #[test]
    fn balance_changes_are_filtered_by_what_callers_see_of_them() {
        let wanted = view::TransactionFilter {
            amount_min: Some(100),
            description_includes: "HUUR".to_owned(),
            ..view::TransactionFilter::default()
        };
        for table in [HISTORY, TRANSACTION] {
            let wants = filter(table, &wanted.encode_to_vec()).unwrap();
            for (changed_by, description, expected) in
                [(-100, "huur mei", true), (99, "huur mei", false), (100, "brood", false)]
            {
                let row =
                    view::Transaction { changed_by, description: description.into(), ..view::Transaction::default() };
                assert_eq!(wants(&row.encode_to_vec()), expected, "{changed_by} {description}");
            }
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_reason() {
        let refused = |table, bytes: &[u8]| filter(table, bytes).err().unwrap();
        assert!(refused(HISTORY, &[0xff]).starts_with("no TransactionFilter: "));
        assert_eq!(refused(NOT_FILTERED, b""), "only the tables history and transaction know a filter");
    }
}
