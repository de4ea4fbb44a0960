//! Moving money: which partition decides, and what the client is told.
//!
//! Everything that the bank can refuse is left to the bank, so that the refusal is recorded; only what could not even
//! be sent (a malformed id) is answered here.

use crate::command::login::MOST_NAME_CHARS;
use crate::command::{Answer, Command, Commands, ask};
use crate::problem::Problem;
use crate::processors::Processors;
use crate::rows::outcome::State;
use schemas::query::Token;
use schemas::records::ConfirmMoneyTransfer;
use tokio::time::Instant;
use uuid::Uuid;

/// The pseudo account that deposits come from.
pub const CASH: &str = "cash";
/// Longest name of an account or user that is taken: that of a log-in, in the letters that take the most bytes. The bank
/// refuses longer ones too.
const LONGEST_NAME_BYTES: usize = 4 * MOST_NAME_CHARS;

/// A transfer as the client asks for it.
#[derive(Clone)]
pub struct Order {
    /// Identifier of the command, drawn by the client.
    pub uuid: String,
    /// Token of `from`.
    pub token: String,
    /// Cents.
    pub amount: i64,
    /// Account that pays, or `cash`.
    pub from: String,
    /// Account, shop or `cash` that is paid.
    pub to: String,
    /// Free text.
    pub description: String,
    /// Whose account `from` is; routes the command.
    pub username: Option<String>,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Whether the money moved.
    pub success: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The commits that made it so.
    pub tokens: Vec<Token>,
}

/// Sends the order and waits for what becomes of it.
pub async fn transfer(
    commands: &dyn Commands,
    processors: &Processors,
    order: &Order,
    deadline: Instant,
) -> Result<Settled, Problem> {
    let id = parse_id(&order.uuid)?;
    let key = routing_key(order).to_owned();
    for (name, value) in [("from", &order.from), ("to", &order.to), ("the key", &key)] {
        if value.is_empty() || value.len() > LONGEST_NAME_BYTES {
            return Err(Problem::BadInput(format!("{name} must have 1 to {LONGEST_NAME_BYTES} bytes")));
        }
    }
    let command = ConfirmMoneyTransfer {
        id: id.into(),
        token: order.token.clone(),
        amount: order.amount,
        from: order.from.clone(),
        to: order.to.clone(),
        description: order.description.clone(),
    };
    let Answer { outcome, tokens } = ask(commands, processors, &key, Command::Transfer(command), deadline).await?;
    let success = outcome.state() == State::Confirmed;
    Ok(Settled { success, reason: (!success).then_some(outcome.reason), tokens })
}

/// A malformed id is answered at once; a client that got no answer would wait for ever.
pub fn parse_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(text).map_err(|error| Problem::BadInput(format!("uuid `{text}` is malformed: {error}")))
}

/// The key of a transfer decides which partition decides: a deposit belongs to the account that it credits, whatever
/// username came with it; else the user, or the paying account when no user is named.
fn routing_key(order: &Order) -> &str {
    if order.from == CASH { &order.to } else { order.username.as_deref().unwrap_or(&order.from) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_the_rules_of_ownership() {
        let cases = [
            ("NL1", "NL2", Some("somebody"), "somebody"),
            ("NL1", "NL2", None, "NL1"),
            ("NL1", "cash", None, "NL1"),
            ("cash", "NL2", Some("somebody"), "NL2"),
            ("cash", "NL2", None, "NL2"),
        ];
        for (from, to, username, key) in cases {
            let order = Order {
                uuid: String::new(),
                token: String::new(),
                amount: 1,
                from: from.into(),
                to: to.into(),
                description: String::new(),
                username: username.map(Into::into),
            };
            assert_eq!(routing_key(&order), key);
        }
    }

    #[test]
    fn a_malformed_id_is_refused() {
        assert!(parse_id("0190163d-8694-739b-aea5-966c26f8ad90").is_ok());
        for text in ["", "x", "0190163d-8694-739b-aea5-966c26f8ad9", "0190163d-8694-739b-aea5-966c26f8ad90-"] {
            assert!(matches!(parse_id(text), Err(Problem::BadInput(_))), "{text}");
        }
    }
}
