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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Whether a command may be on its way. Until it is set, dropping the future of [`Commands::send`] takes the command back.
#[derive(Debug, Clone, Default)]
pub struct Begun(Arc<AtomicBool>);

impl Begun {
    /// Right before the command is handed over.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was, or is being, handed over.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Hands commands to the topic `commands`.
pub trait Commands: Send + Sync + 'static {
    /// Resolves when the broker has the command, or with what is known otherwise. Once it has begun, dropping the future
    /// takes nothing back.
    fn send(&self, key: String, partition: i32, command: Command, begun: Begun)
    -> BoxFuture<'_, Result<(), SendError>>;

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
    let begun = Begun::default();
    let sent = commands.send(key.to_owned(), partition, command, begun.clone());
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
    // Of a command that may have been sent no error but "timed out" is true; one that was not never will be.
    let unanswered = || match begun.is_set() {
        true => Problem::TimedOut { id },
        false => Problem::Unavailable("the command could not be sent in time".into()),
    };
    let (value, tokens) = match answered {
        Ok(Some(found)) => found,
        Ok(None) => return Err(unanswered()),
        Err(problem) => {
            tracing::error!(%id, %problem, "the answer to a command cannot be had");
            return Err(unanswered());
        }
    };
    let outcome = Outcome::decode(value.as_slice()).map_err(|error| {
        tracing::error!(%id, %error, "the answer to a command cannot be read");
        Problem::TimedOut { id }
    })?;
    Ok(Answer { outcome, tokens })
}
