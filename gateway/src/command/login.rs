//! Logging in, or opening an account when the name is free.
//!
//! The gateway reads the user (iban, token, hash) from its owner and shows nothing before the password is verified.
//! A free name becomes an account with the password's hash. When two do that at once, the owner of the partition
//! lets one in; the other is told that the name exists and then logs in by the password, so both succeed.

use crate::command::passwords::{LEAST_CHARS, MOST_PASSWORD_BYTES, Passwords};
use crate::command::{Answer, Command, Commands, ask};
use crate::problem::Problem;
use crate::processors::{Processors, Reading};
use crate::rows::outcome::State;
use crate::rows::{self, User};
use schemas::query::Token;
use schemas::records::{Atype, ConfirmAccountCreation};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Most characters of a username.
pub const MOST_NAME_CHARS: usize = 100;
/// How long a user is looked up while no broker is there: longer than a takeover.
const LOOK_UP_MAX: Duration = Duration::from_millis(1_500);
/// The bank's words when another command has taken the name.
const NAME_EXISTS: &str = "username already exists";

/// What a log-in gives.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// The account, and the token that moves its money.
    Account {
        /// Its number.
        iban: String,
        /// Its token.
        token: String,
    },
    /// Why not.
    Refused(String),
}

/// How log-ins ended, for the metrics.
#[derive(Clone, Copy)]
enum Ending {
    Created,
    LoggedIn,
    WrongPassword,
    Refused,
}

/// Everything that a log-in asks.
pub struct Door<'a> {
    /// To open accounts.
    pub commands: &'a dyn Commands,
    /// To look users up.
    pub processors: &'a Processors,
    /// To hash and verify.
    pub passwords: &'a Passwords,
}

impl Door<'_> {
    /// Logs in, or opens an account. One result in any case.
    pub async fn get_account(&self, username: &str, password: &str, deadline: Instant) -> Result<Login, Problem> {
        if let Some(reason) = refuse(username, password) {
            return Ok(refused(Ending::Refused, reason));
        }
        // Without a broker owners give nothing as fresh for long, and no account can be opened.
        let known_by = if self.commands.is_up() { deadline } else { deadline.min(Instant::now() + LOOK_UP_MAX) };
        match self.user(username, Vec::new(), known_by).await.map_err(nothing_sent)? {
            Some(user) => self.log_in(&user, password, deadline).await,
            None => self.create(username, password, deadline).await,
        }
    }

    async fn create(&self, username: &str, password: &str, deadline: Instant) -> Result<Login, Problem> {
        let hash = self.passwords.hash(password, deadline).await?;
        let command = ConfirmAccountCreation {
            id: Uuid::now_v7().into(),
            username: username.to_owned(),
            a_type: Atype::Manual,
            password_hash: Some(hash),
        };
        let id = Uuid::from(command.id);
        let answer = ask(self.commands, self.processors, username, Command::AccountCreation(command), deadline).await;
        let Answer { outcome, tokens } = answer?;
        if outcome.state() == State::Confirmed {
            count(Ending::Created);
            return Ok(Login::Account { iban: outcome.iban, token: outcome.token });
        }
        if outcome.reason != NAME_EXISTS {
            return Ok(refused(Ending::Refused, outcome.reason));
        }
        // The tokens make this read see the winner's user, whichever replica answers.
        match self.user(username, tokens, deadline).await.map_err(nothing_sent)? {
            Some(user) => self.log_in(&user, password, deadline).await,
            None => Err(Problem::TimedOut { id }),
        }
    }

    async fn log_in(&self, user: &User, password: &str, deadline: Instant) -> Result<Login, Problem> {
        let right = self.passwords.verify(password, user.password_hash.as_deref(), deadline).await?;
        match user.ibans.first() {
            Some(account) if right => {
                count(Ending::LoggedIn);
                Ok(Login::Account { iban: account.iban.clone(), token: account.token.clone() })
            }
            _ => Ok(refused(Ending::WrongPassword, "incorrect password".into())),
        }
    }

    async fn user(&self, username: &str, tokens: Vec<Token>, deadline: Instant) -> Result<Option<User>, Problem> {
        let partition = self.processors.partition_of(username);
        let key = username.as_bytes().to_vec();
        let reading = Reading::fresh(deadline).at_least(tokens);
        let entry = self.processors.get_one(partition, rows::USER, key, &reading).await?;
        entry.map(|entry| rows::decode(rows::USER, &entry)).transpose()
    }
}

/// "Timed out" is for commands, and comes with the id to ask again. Here there is no command, or it was refused: nothing
/// will happen.
fn nothing_sent(problem: Problem) -> Problem {
    match problem {
        Problem::QueryTimedOut(_) | Problem::Stale { .. } => Problem::Unavailable(problem.to_string()),
        other => other,
    }
}

/// What needs no bank to be refused.
fn refuse(username: &str, password: &str) -> Option<String> {
    if username.chars().count() < LEAST_CHARS {
        return Some(format!("username must have at least {LEAST_CHARS} characters"));
    }
    if username.chars().count() > MOST_NAME_CHARS || username.chars().any(char::is_control) {
        return Some(format!("username must have at most {MOST_NAME_CHARS} printable characters"));
    }
    if password.chars().count() < LEAST_CHARS {
        return Some(format!("password must have at least {LEAST_CHARS} characters"));
    }
    (password.len() > MOST_PASSWORD_BYTES).then(|| format!("password must have at most {MOST_PASSWORD_BYTES} bytes"))
}

fn refused(ending: Ending, reason: String) -> Login {
    count(ending);
    Login::Refused(reason)
}

fn count(ending: Ending) {
    let outcome = match ending {
        Ending::Created => "created",
        Ending::LoggedIn => "ok",
        Ending::WrongPassword => "wrong_password",
        Ending::Refused => "refused",
    };
    metrics::counter!("kontor_logins_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::refuse;

    #[test]
    fn names_and_passwords_have_bounds() {
        let long = "p".repeat(129);
        let cases = [
            ("username", "password", None),
            ("ünicödes", "pässwörd", None),
            ("usernam", "password", Some("username must have at least 8 characters")),
            ("username", "passwor", Some("password must have at least 8 characters")),
            ("username", long.as_str(), Some("password must have at most 128 bytes")),
            ("user\nname", "password", Some("username must have at most 100 printable characters")),
        ];
        for (username, password, reason) in cases {
            assert_eq!(refuse(username, password).as_deref(), reason, "{username} {password}");
        }
    }
}
