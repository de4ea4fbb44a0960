//! Commands: handing one to Kafka, and waiting for its answer.
//!
//! [`Commands`] is the seam to Kafka, so that tests need none. What it must keep apart is said by [`SendError`]: a
//! command that was never handed over, and one that may be on its way. The answer does not come over Kafka but from
//! the processor that decides (`Await` on the outcome), after its commit.

pub mod kafka;
pub mod link;
pub mod login;
pub mod passwords;
pub mod transfer;

use crate::problem::Problem;
use crate::processors::Processors;
use crate::rows::{self, Outcome};
use futures_util::future::BoxFuture;
use prost::Message;
use schemas::fingerprint::{self, Fingerprint};
use schemas::query::Token;
use schemas::records::{ConfirmAccountCreation, ConfirmMoneyTransfer};
use tokio::time::Instant;
use uuid::Uuid;

/// A command of the topic `commands`.
#[derive(Debug, Clone)]
pub enum Command {
    /// Open an account.
    AccountCreation(ConfirmAccountCreation),
    /// Move money.
    Transfer(ConfirmMoneyTransfer),
}

impl Command {
    /// The id, under which the outcome is found.
    #[must_use]
    pub fn id(&self) -> Uuid {
        match self {
            Self::AccountCreation(command) => command.id.into(),
            Self::Transfer(command) => command.id.into(),
        }
    }

    /// What tells this command from another one with the same id.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::AccountCreation(command) => fingerprint::account_creation(command),
            Self::Transfer(command) => fingerprint::transfer(command),
        }
    }
}

/// Why a command was not, or perhaps not, delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Certainly not handed to Kafka: nothing will come of it.
    #[error("{0}")]
    NotSent(String),
    /// Handed over, and nobody knows: it may take effect now or later.
    #[error("{0}")]
    Unknown(String),
}

/// Hands commands to the topic `commands`.
pub trait Commands: Send + Sync + 'static {
    /// Resolves when the broker has the command, or with what is known otherwise. Dropping the future takes nothing
    /// back.
    fn send(&self, key: String, partition: i32, command: Command) -> BoxFuture<'_, Result<(), SendError>>;

    /// Whether commands can be handed over right now, for readiness.
    fn is_up(&self) -> bool;
}

/// The answer to a command and the commits that it stands on.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Final: confirmed or failed.
    pub outcome: Outcome,
    /// A read that carries these sees everything that the command did.
    pub tokens: Vec<Token>,
}

/// Sends a command and waits for its answer until the deadline. Waiting starts before sending: the answer may be
/// there at once, when the id was used before.
pub async fn ask(
    commands: &dyn Commands,
    processors: &Processors,
    key: &str,
    command: Command,
    deadline: Instant,
) -> Result<Answer, Problem> {
    let (id, fingerprint) = (command.id(), command.fingerprint());
    let partition = processors.partition_of(key);
    let answer = processors.await_final(partition, rows::OUTCOME, id.as_bytes(), &fingerprint, deadline);
    let sent = commands.send(key.to_owned(), partition, command);
    tokio::pin!(answer, sent);

    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        delivery = &mut sent => {
            match delivery {
                Err(SendError::NotSent(reason)) => return Err(Problem::Unavailable(reason)),
                Err(SendError::Unknown(reason)) => tracing::warn!(%id, reason, "a command may not have arrived"),
                Ok(()) => {}
            }
            answer.await
        }
    };
    // From here on the command may have been sent, so no error but "timed out" is true.
    let (value, tokens) = match answered {
        Ok(Some(found)) => found,
        Ok(None) => return Err(Problem::TimedOut { id }),
        Err(problem) => {
            tracing::error!(%id, %problem, "the answer to a command cannot be had");
            return Err(Problem::TimedOut { id });
        }
    };
    let outcome = Outcome::decode(value.as_slice()).map_err(|error| {
        tracing::error!(%id, %error, "the answer to a command cannot be read");
        Problem::TimedOut { id }
    })?;
    Ok(Answer { outcome, tokens })
}
