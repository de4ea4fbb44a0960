//! The subscriptions.

use super::mutation::{get_account, money_transfer};
use super::types::{Account, AccountResult, MoneyTransferResult, Transaction};
use super::{Bank, bank};
use crate::command::transfer::Order;
use crate::live::cursor::Cursor;
use crate::live::filter::{Direction, Filter};
use crate::live::follower;
use crate::problem::{Problem, coded};
use crate::processors::Watch;
use crate::routing::Changes;
use crate::rows;
use async_graphql::{Context, Result, Subscription};
use futures_util::{Stream, StreamExt, stream};
use schemas::query::WatchRequest;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Pause before a lost watch of an account is opened again where it was.
const RECONNECT: Duration = Duration::from_millis(200);
/// States of an account that wait for a client; one that is further behind misses the oldest of them.
const STATES: usize = 16;

/// What can be followed.
pub struct Subscription;

/// What can be followed.
#[Subscription(name = "Subscription", rename_fields = "snake_case", rename_args = "snake_case")]
impl Subscription {
    /// Transactions as they are committed; filters must all hold. With `after`, first those since the cursor, without
    /// gap or duplicate; `CURSOR_TOO_OLD` when some of them are not kept any more, or the cursor is of another bank. A
    /// subscriber that falls behind ends with `SLOW_SUBSCRIBER` and the cursor to resume at.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the GraphQL field")]
    async fn stream_transactions(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only this account.")] iban: Option<String>,
        #[graphql(desc = "Least absolute amount in cents, for debits and credits alike.")] min_amount: Option<i64>,
        #[graphql(desc = "Most absolute amount in cents, for debits and credits alike.")] max_amount: Option<i64>,
        #[graphql(desc = "Only debits or only credits.")] direction: Option<Direction>,
        #[graphql(desc = "Text that the description contains; case does not matter.")] descr_includes: Option<String>,
        #[graphql(desc = "`cursor` of the last transaction that was seen.")] after: Option<String>,
    ) -> Result<impl Stream<Item = Result<Transaction>> + use<>> {
        let bank = bank(context)?;
        let after = after.as_deref().map(Cursor::decode).transpose().map_err(coded)?;
        let filter = Filter::new(iban, min_amount, max_amount, direction, descr_includes);
        let followed = follower::follow(Arc::clone(&bank.live), filter, after).await.map_err(coded)?;
        Ok(followed.map(|next| match next {
            Ok(next) => {
                record_delay(next.transaction.time_ms);
                Ok(Transaction::with_cursor(&next.transaction, &next.cursor))
            }
            Err(problem) => Err(coded(problem)),
        }))
    }

    /// Log in; a free username becomes a new account with this password. One result, then the end.
    async fn get_account(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "At least 8 characters.")] username: String,
        #[graphql(desc = "At least 8 characters, at most 128 bytes.", secret)] password: String,
    ) -> Result<impl Stream<Item = Result<AccountResult>> + use<>> {
        let bank = Arc::clone(bank(context)?);
        Ok(stream::once(async move { get_account(&bank, &username, &password).await.map_err(coded) }))
    }

    /// Move money. Repeating it with the same uuid gives the same answer and has no second effect. After `TIMED_OUT`
    /// either repeat it as it was, or ask `transfer` with its uuid, the iban that pays (of a deposit the one that is
    /// credited) and the username, if it had one. One result, then the end.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the GraphQL field")]
    async fn money_transfer(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Identifier of the transfer, drawn by the client.")] uuid: String,
        #[graphql(desc = "Token of the account that pays; `cash` for a deposit.", secret)] token: String,
        #[graphql(desc = "Amount in cents.")] amount: i64,
        #[graphql(desc = "The account that pays, or `cash`.")] from: String,
        #[graphql(desc = "Who is paid: an account here, a foreign iban, a shop, or `cash`.")] to: String,
        #[graphql(desc = "Description, at most 140 characters.")] descr: String,
        #[graphql(desc = "Whose account pays; keeps all commands of a user in order.")] username: Option<String>,
    ) -> Result<impl Stream<Item = Result<MoneyTransferResult>> + use<>> {
        let bank = Arc::clone(bank(context)?);
        let order = Order { uuid, token, amount, from, to, description: descr, username };
        Ok(stream::once(async move { money_transfer(&bank, order).await.map_err(coded) }))
    }

    /// An account as it is, then as it becomes. A client that reads slowly misses states, never the last one.
    async fn account_changes(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The account.")] iban: String,
    ) -> Result<impl Stream<Item = Result<Account>> + use<>> {
        let bank = Arc::clone(bank(context)?);
        let deadline = bank.query_deadline();
        Ok(account_changes(bank, iban, deadline))
    }
}

/// From the bank's decision to the client's socket; transactions that are caught up with count with their age.
fn record_delay(time_ms: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let decided = Duration::from_millis(u64::try_from(time_ms).unwrap_or_default());
    metrics::histogram!("kontor_subscription_push_delay_seconds").record(now.saturating_sub(decided).as_secs_f64());
}

/// Follows one row. After a lost connection, or at another owner, the row is read anew, and shown when it differs.
struct AccountWatch {
    bank: Arc<Bank>,
    iban: String,
    watch: Option<Watch>,
    /// Of owners, since the watch was opened.
    changes: Changes,
    shown: Option<Account>,
    /// Until when the first row must have come.
    deadline: Instant,
}

/// The watch is read on a task of its own, whether or not the client takes what comes: rows that lie unread would fill
/// the connection that the watches of everybody share.
fn account_changes(bank: Arc<Bank>, iban: String, deadline: Instant) -> impl Stream<Item = Result<Account>> + use<> {
    let changes = bank.processors.changes();
    let account = AccountWatch { bank, iban, watch: None, changes, shown: None, deadline };
    let (sender, receiver) = broadcast::channel(STATES);
    let reading = AbortOnDropHandle::new(tokio::spawn(account.read(sender)));
    stream::unfold((receiver, reading), |(mut receiver, reading)| async move {
        let next = loop {
            match receiver.recv().await {
                Ok(next) => break next,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        };
        Some((next.map_err(coded), (receiver, reading)))
    })
}

impl AccountWatch {
    /// Until a problem, which is the last that is told.
    async fn read(mut self, states: broadcast::Sender<Result<Account, Problem>>) {
        loop {
            let next = self.next().await;
            let ended = next.is_err();
            if states.send(next).is_err() || ended {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Account, Problem> {
        loop {
            let mut watch = match self.watch.take() {
                Some(watch) => watch,
                None => self.open().await?,
            };
            let Ok(response) = watch.next().await else {
                // The processor went away or fell back: a new watch begins with the row as it is now.
                self.pause().await?;
                continue;
            };
            let newest = response.entries.iter().rfind(|entry| !entry.deleted && entry.key == self.iban.as_bytes());
            let account = newest.map(|entry| rows::decode::<rows::Account>(rows::ACCOUNT, entry)).transpose()?;
            // Of all keys that begin with it, the iban itself is the first: a page without it says enough.
            let is_told = response.live || !response.entries.is_empty();
            if account.is_none() && is_told && self.shown.is_none() {
                return Err(Problem::NotFound(format!("there is no account {}", self.iban)));
            }
            self.watch = Some(watch);
            if let Some(account) = account.as_ref().map(Account::of).filter(|a| self.shown.as_ref() != Some(a)) {
                self.shown = Some(account.clone());
                return Ok(account);
            }
        }
    }

    async fn open(&mut self) -> Result<Watch, Problem> {
        loop {
            self.changes.seen();
            let request = WatchRequest {
                partition: self.bank.processors.partition_of(&self.iban),
                table: rows::ACCOUNT.to_owned(),
                prefix: self.iban.as_bytes().to_vec(),
                after: None,
                snapshot: true,
                filter: Vec::new(),
            };
            match self.bank.processors.watch(request).await {
                Ok(watch) => return Ok(watch),
                Err(status) => {
                    tracing::debug!(%status, "an account cannot be watched");
                    self.pause().await?;
                }
            }
        }
    }

    /// Before the first row the client waits for a limited time; later an outage is simply waited out.
    async fn pause(&mut self) -> Result<(), Problem> {
        if self.shown.is_none() && Instant::now() >= self.deadline {
            return Err(Problem::Unavailable("the account cannot be watched".into()));
        }
        self.changes.next_within(RECONNECT).await;
        Ok(())
    }
}
