//! The types of the schema, and how rows become them.

use crate::live::cursor::Cursor;
pub use crate::live::filter::Direction;
use crate::money::{Cents, euro, euro_absolute};
use crate::rows;
use crate::time_text::iso;
use async_graphql::{Enum, SimpleObject};

/// One change of the balance of one account.
#[derive(SimpleObject, Clone)]
#[graphql(rename_fields = "snake_case")]
pub struct Transaction {
    /// Identifier, unique in the bank; rises within an account.
    pub id: i64,
    /// The account that changed.
    pub iban: Option<String>,
    /// Balance after the change, as Dutch text: `€ 1.234,56`.
    pub new_balance: Option<String>,
    /// Amount of the change without sign, as Dutch text; `direction` says the sign.
    pub changed_by: Option<String>,
    /// The other party: an iban, `cash`, a shop.
    pub from_to: Option<String>,
    /// Description that came with the transfer.
    pub descr: Option<String>,
    /// Whether money left the account or came to it.
    pub direction: Option<Direction>,
    /// Amount of the change in cents, negative when money left.
    pub amount_cents: Cents,
    /// Balance after the change in cents.
    pub balance_cents: Cents,
    /// When the bank decided, ISO 8601 in UTC.
    pub time: String,
    /// Identifier of the transfer that made this change, if one did.
    pub transfer_id: Option<String>,
    /// Where this transaction stands: for `after`. Opaque.
    pub cursor: String,
}

impl Transaction {
    /// A row with the cursor that goes on after it in its own account.
    #[must_use]
    pub fn of(row: &rows::Transaction) -> Self {
        Self::with_cursor(row, &own_cursor(row))
    }

    /// A row with the cursor of the stream that it came in.
    #[must_use]
    pub fn with_cursor(row: &rows::Transaction, cursor: &Cursor) -> Self {
        Self {
            id: row.transaction_id,
            iban: Some(row.iban.clone()),
            new_balance: Some(euro(row.new_balance)),
            changed_by: Some(euro_absolute(row.changed_by)),
            from_to: Some(row.from_to.clone()),
            descr: Some(row.description.clone()),
            direction: Some(Direction::of(row.changed_by)),
            amount_cents: Cents(row.changed_by),
            balance_cents: Cents(row.new_balance),
            time: iso(row.time_ms),
            transfer_id: row.transfer_id.as_deref().and_then(uuid_text),
            cursor: cursor.encode(),
        }
    }
}

/// The cursor after a transaction within its own account.
#[must_use]
pub fn own_cursor(row: &rows::Transaction) -> Cursor {
    Cursor::Account { transaction_id: row.transaction_id, sequence: row.sequence }
}

fn uuid_text(bytes: &[u8]) -> Option<String> {
    uuid::Uuid::from_slice(bytes).ok().map(|id| id.to_string())
}

/// What logging in or opening an account gave: an account, or the reason why not.
#[derive(SimpleObject, Clone, Default)]
#[graphql(rename_fields = "snake_case")]
pub struct AccountResult {
    /// Number of the account.
    pub iban: Option<String>,
    /// Token of the account: whoever has it can move its money.
    pub token: Option<String>,
    /// Why there is no account, for example `incorrect password`.
    pub reason: Option<String>,
    /// Always null for now: reads are open to whoever reaches a gateway, so there is nothing yet that a session would
    /// open. It becomes the proof of a log-in when there is access control.
    pub session: Option<String>,
}

/// What became of a transfer.
#[derive(SimpleObject, Clone)]
#[graphql(rename_fields = "snake_case")]
pub struct MoneyTransferResult {
    /// The identifier that the client gave.
    pub uuid: String,
    /// Whether the money moved.
    pub success: bool,
    /// Why it did not, for example `insufficient funds`.
    pub reason: Option<String>,
    /// For `at_least` of a query, which then sees this result, in whichever gateway it is asked. Opaque.
    pub read_token: String,
}

/// An account as it is now.
#[derive(SimpleObject, Clone, PartialEq)]
#[graphql(rename_fields = "snake_case")]
pub struct Account {
    /// Number of the account.
    pub iban: String,
    /// Balance as Dutch text; money that is reserved is still in it.
    pub balance: String,
    /// What can be spent as Dutch text: balance less reservations, down to the limit.
    pub available: String,
    /// Lowest balance allowed, as Dutch text.
    pub limit: String,
    /// Balance in cents.
    pub balance_cents: Cents,
    /// What can be spent, in cents.
    pub available_cents: Cents,
    /// Lowest balance allowed, in cents: 0 or negative.
    pub limit_cents: Cents,
    /// Debits that are under way to accounts in other partitions, in cents.
    pub reserved_cents: Cents,
    /// Number of changes so far.
    pub changes: i64,
    /// When the account was opened, ISO 8601 in UTC.
    pub opened: String,
    /// Whether it may be old: only with `max_staleness_ms`, when nobody answered fresh in time.
    pub stale: bool,
}

impl Account {
    /// A row as the client sees it; whose account it is, is not shown.
    #[must_use]
    pub fn of(row: &rows::Account) -> Self {
        let available = row.balance.saturating_sub(row.reserved).saturating_sub(row.limit);
        Self {
            iban: row.iban.clone(),
            balance: euro(row.balance),
            available: euro(available),
            limit: euro(row.limit),
            balance_cents: Cents(row.balance),
            available_cents: Cents(available),
            limit_cents: Cents(row.limit),
            reserved_cents: Cents(row.reserved),
            changes: row.sequence,
            opened: iso(row.opened_ms),
            stale: false,
        }
    }
}

/// How far a command is.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "outcome_state")]
pub enum OutcomeState {
    /// Money is reserved and under way; the answer follows.
    Pending,
    /// Done.
    Confirmed,
    /// Refused; nothing moved.
    Failed,
}

/// What became of a command, as the bank remembers it.
#[derive(SimpleObject, Clone)]
#[graphql(rename_fields = "snake_case")]
pub struct CommandOutcome {
    /// Identifier of the command.
    pub uuid: String,
    /// How far it is.
    pub state: OutcomeState,
    /// Why it was refused.
    pub reason: Option<String>,
}

impl CommandOutcome {
    /// A row as the client sees it; tokens stay behind.
    #[must_use]
    pub fn of(uuid: uuid::Uuid, row: rows::Outcome) -> Self {
        let state = match row.state() {
            rows::outcome::State::Pending => OutcomeState::Pending,
            rows::outcome::State::Confirmed => OutcomeState::Confirmed,
            rows::outcome::State::Failed => OutcomeState::Failed,
        };
        let reason = (state == OutcomeState::Failed).then_some(row.reason);
        Self { uuid: uuid.to_string(), state, reason }
    }
}

/// Where a page ends.
#[derive(SimpleObject, Clone, Default)]
#[graphql(name = "page_info", rename_fields = "snake_case")]
pub struct PageInfo {
    /// Whether there may be more after this page.
    pub has_next_page: bool,
    /// Give it as `after` for the next page. Opaque.
    pub end_cursor: Option<String>,
}

/// A page of accounts.
#[derive(SimpleObject, Clone)]
#[graphql(name = "accounts_page", rename_fields = "snake_case")]
pub struct AccountsPage {
    /// The accounts, ordered by iban.
    pub nodes: Vec<Account>,
    /// Where the page ends.
    pub page_info: PageInfo,
    /// Whether some of it may be old: only with `max_staleness_ms`, when nobody answered fresh in time.
    pub stale: bool,
}

/// A page of transactions of one account.
#[derive(SimpleObject, Clone)]
#[graphql(name = "transactions_page", rename_fields = "snake_case")]
pub struct TransactionsPage {
    /// The transactions, newest first.
    pub nodes: Vec<Transaction>,
    /// Where the page ends. With filters a page may be short, even empty, and yet have a next one.
    pub page_info: PageInfo,
    /// Whether some of it may be old: only with `max_staleness_ms`, when nobody answered fresh in time.
    pub stale: bool,
}
