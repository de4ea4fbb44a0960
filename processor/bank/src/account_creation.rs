//! Opening an account: a name that is free, an iban that is free, both in this partition.
//!
//! The partition of the username decides whether the name exists, so two gateways cannot both create it. A refusal
//! writes nothing but its outcome: the name is free again for the next command.

use crate::rejection::ensure;
use crate::{
    Account, AccountCreation, CASH, Context, Event, Fingerprint, Iban, NAME_BYTES_MAX, Outcome, OutcomeState,
    Rejection, State, User, Verdict, candidates,
};

pub(crate) fn decide(state: &State, command: &AccountCreation, ctx: &Context<'_>) -> (Verdict, Vec<Event>) {
    if let Some(earlier) = &state.outcome {
        return match earlier.fingerprint == Fingerprint::of_account_creation(command) {
            true => (Verdict::Repeated, feedback(command, &earlier.state, ctx).into_iter().collect()),
            // The outcome stays that of the first command with this id.
            false => (Verdict::Refused, vec![failed(command, Rejection::IdUsedForAnotherCommand.to_string())]),
        };
    }
    let (verdict, outcome, mut events) = match ladder(state, command, ctx) {
        Ok(iban) => {
            let confirmed = OutcomeState::Confirmed { iban: Some(iban), credit: None };
            (Verdict::Accepted, confirmed, opened(command, iban, ctx))
        }
        Err(rejection) => (Verdict::Refused, OutcomeState::Failed { reason: rejection.to_string() }, vec![]),
    };
    let answer = feedback(command, &outcome, ctx);
    events.push(Event::OutcomeRecorded(Outcome::of_account_creation(command, outcome, ctx)));
    events.extend(answer);
    (verdict, events)
}

/// All checks; what is left is the iban of the new account.
fn ladder(state: &State, command: &AccountCreation, ctx: &Context<'_>) -> Result<Iban, Rejection> {
    use Rejection::*;
    ensure(is_allowed(&command.username), UsernameNotAllowed)?;
    ensure(command.key == command.username, KeyIsNotTheUsername)?;
    ensure(state.user.is_none(), UsernameExists)?;
    candidates(command.id, ctx).find(|iban| state.account(iban).is_none()).ok_or(IbanExists)
}

/// Names share the keys of commands with ibans and `cash`: one that could be taken for either would let its owner
/// speak for an account that is not theirs. Nor may one be so long that a page of rows with it could not be sent.
fn is_allowed(username: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&username.len());
    fits && username != CASH && !Iban::resembles(username) && !looks_like_any_iban(username)
}

/// Two capitals, two digits, 11 to 30 capitals or digits: the shape of all countries' ibans.
fn looks_like_any_iban(text: &str) -> bool {
    let bytes = text.as_bytes();
    (15..=34).contains(&bytes.len())
        && bytes.iter().take(2).all(u8::is_ascii_uppercase)
        && bytes.iter().skip(2).take(2).all(u8::is_ascii_digit)
        && bytes.iter().skip(4).all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

fn opened(command: &AccountCreation, iban: Iban, ctx: &Context<'_>) -> Vec<Event> {
    let user = User {
        username: command.username.clone(),
        password_hash: command.password_hash.clone(),
        account_creation_id: command.id,
        ibans: vec![iban],
    };
    let account = Account::opened(iban, &command.username, command.account_type, ctx.time_ms);
    vec![Event::AccountOpened(account), Event::UserRegistered(user)]
}

/// What the client is told. The token is computed anew each time: it is stored nowhere.
fn feedback(command: &AccountCreation, outcome: &OutcomeState, ctx: &Context<'_>) -> Option<Event> {
    match outcome {
        OutcomeState::Confirmed { iban: Some(iban), .. } => Some(Event::AccountCreationConfirmed {
            key: command.key.clone(),
            id: command.id,
            iban: *iban,
            token: ctx.config.tokens.token(iban),
            account_type: command.account_type,
        }),
        OutcomeState::Failed { reason } => Some(failed(command, reason.clone())),
        // An outcome with an account creation's fingerprint is never one of these.
        OutcomeState::Confirmed { iban: None, .. } | OutcomeState::Pending(_) => None,
    }
}

fn failed(command: &AccountCreation, reason: String) -> Event {
    Event::AccountCreationFailed { key: command.key.clone(), id: command.id, reason }
}

#[cfg(test)]
mod tests;
