//! The queries.

use super::types::{Account, AccountsPage, CommandOutcome, PageInfo, Transaction, TransactionsPage, own_cursor};
use super::{Bank, MOST_ITEMS, MOST_PAGE, bank, rows_cost};
use crate::command::transfer::parse_id;
use crate::live::cursor::Cursor;
use crate::live::filter::{Direction, Filter};
use crate::problem::{Problem, coded};
use crate::processors::{Processors, Reading};
use crate::query::{self, accounts, history, read_token};
use crate::rows;
use async_graphql::{Context, Object, Result};

/// What can be asked. Answers are committed facts.
pub struct Query;

/// What can be asked. Answers are committed facts, and fresh ones unless the caller takes old ones.
#[Object(name = "Query", rename_fields = "snake_case", rename_args = "snake_case")]
impl Query {
    /// The transaction with this id, or null.
    async fn transaction_by_id(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Identifier of the transaction.")] id: i64,
    ) -> Result<Option<Transaction>> {
        let bank = bank(context)?;
        let found = query::transaction_by_id(&bank.processors, id, bank.query_deadline()).await;
        Ok(found.map_err(coded)?.as_ref().map(Transaction::of))
    }

    /// Transactions of an account, newest first.
    #[graphql(complexity = "rows_cost(max_items.min(250), child_complexity)")]
    async fn transactions_by_iban(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The account.")] iban: String,
        #[graphql(desc = "At most so many; more than 250 counts as 250.")] max_items: i64,
    ) -> Result<Vec<Transaction>> {
        let bank = bank(context)?;
        let limit = usize::try_from(max_items).unwrap_or(0).min(MOST_ITEMS);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let reading = Reading::fresh(bank.query_deadline());
        let page = history::page(&bank.processors, &iban, &Filter::default(), limit, None, &reading).await;
        Ok(page.map_err(coded)?.transactions.iter().map(Transaction::of).collect())
    }

    /// The last transaction of each account that has one, ordered by iban. When more than 10,000 accounts have one it is
    /// the error `TOO_MANY_ROWS`: then ask `accounts` and `transactions` page by page, or follow `stream_transactions`.
    #[graphql(complexity = "rows_cost(200, child_complexity)")]
    async fn all_last_transactions(&self, context: &Context<'_>) -> Result<Vec<Transaction>> {
        let bank = bank(context)?;
        let last = accounts::last_transactions(&bank.processors, bank.query_deadline()).await;
        Ok(last.map_err(coded)?.iter().map(Transaction::of).collect())
    }

    /// The account with this iban, or null, which is only said when it is fresh.
    async fn account(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Number of the account.")] iban: String,
        #[graphql(desc = "How old rows may be when no owner answers in time; without it only fresh ones.")]
        max_staleness_ms: Option<i32>,
        #[graphql(desc = "`read_token` of a result that the answer has to hold; `STALE` when it cannot.")]
        at_least: Option<String>,
    ) -> Result<Option<Account>> {
        let bank = bank(context)?;
        let reading = reading(bank, max_staleness_ms, at_least.as_deref()).map_err(coded)?;
        let found = accounts::one(&bank.processors, &iban, &reading).await.map_err(coded)?;
        Ok(found.map(|row| Account { stale: reading.is_stale(), ..Account::of(&row) }))
    }

    /// All accounts, ordered by iban, a page at a time.
    #[graphql(complexity = "rows_cost(first.into(), child_complexity)")]
    async fn accounts(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Size of the page, 1 to 100.", default = 20)] first: i32,
        #[graphql(desc = "`end_cursor` of the page before.")] after: Option<String>,
        #[graphql(desc = "How old rows may be when no owner answers in time; without it only fresh ones.")]
        max_staleness_ms: Option<i32>,
        #[graphql(desc = "`read_token` of a result that the answer has to hold; `STALE` when it cannot.")]
        at_least: Option<String>,
    ) -> Result<AccountsPage> {
        let bank = bank(context)?;
        let limit = page_size(first).map_err(coded)?;
        let after = after.unwrap_or_default();
        let reading = reading(bank, max_staleness_ms, at_least.as_deref()).map_err(coded)?;
        let page = accounts::page(&bank.processors, &after, limit, &reading).await;
        let (accounts, has_next_page) = page.map_err(coded)?;
        let end_cursor = accounts.last().map(|account| account.iban.clone());
        let stale = reading.is_stale();
        let nodes = accounts.iter().map(|row| Account { stale, ..Account::of(row) }).collect();
        Ok(AccountsPage { nodes, page_info: PageInfo { has_next_page, end_cursor }, stale })
    }

    /// Transactions of an account, newest first, a page at a time; filters must all hold.
    #[graphql(complexity = "rows_cost(first.into(), child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the GraphQL field")]
    async fn transactions(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The account.")] iban: String,
        #[graphql(desc = "Size of the page, 1 to 100.", default = 20)] first: i32,
        #[graphql(desc = "Older than this: `end_cursor` of the page before, or `cursor` of a transaction.")]
        after: Option<String>,
        #[graphql(desc = "Least absolute amount in cents.")] min_amount: Option<i64>,
        #[graphql(desc = "Most absolute amount in cents.")] max_amount: Option<i64>,
        #[graphql(desc = "Only debits or only credits.")] direction: Option<Direction>,
        #[graphql(desc = "Text that the description contains; case does not matter.")] descr_includes: Option<String>,
        #[graphql(desc = "How old rows may be when no owner answers in time; without it only fresh ones.")]
        max_staleness_ms: Option<i32>,
        #[graphql(desc = "`read_token` of a result that the answer has to hold; `STALE` when it cannot.")]
        at_least: Option<String>,
    ) -> Result<TransactionsPage> {
        let bank = bank(context)?;
        let limit = page_size(first).map_err(coded)?;
        let sequence_of = |cursor: &str| sequence_of(cursor, &bank.processors, &iban);
        let before = after.as_deref().map(sequence_of).transpose().map_err(coded)?;
        let filter = Filter::new(None, min_amount, max_amount, direction, descr_includes);
        let reading = reading(bank, max_staleness_ms, at_least.as_deref()).map_err(coded)?;
        let page = history::page(&bank.processors, &iban, &filter, limit, before, &reading).await;
        let page = page.map_err(coded)?;
        let end_cursor = page.end.as_ref().map(|row| own_cursor(row).encode());
        Ok(TransactionsPage {
            nodes: page.transactions.iter().map(Transaction::of).collect(),
            page_info: PageInfo { has_next_page: page.more, end_cursor },
            stale: reading.is_stale(),
        })
    }

    /// What became of a transfer, or null when the bank does not know it (not yet, or not any more). The iban or the
    /// username says where to look; whoever has both gives both, and then it is found by either.
    async fn transfer(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Identifier of the transfer.")] uuid: String,
        #[graphql(
            desc = "The username that came with the transfer. A deposit is not found by it: give the iban as well."
        )]
        username: Option<String>,
        #[graphql(
            desc = "The account that paid, `from`; of a deposit the account that it credits, `to`, whatever username came with it."
        )]
        iban: Option<String>,
    ) -> Result<Option<CommandOutcome>> {
        let bank = bank(context)?;
        let id = parse_id(&uuid).map_err(coded)?;
        // The iban first: a deposit is decided where its receiver is, whatever username came with it.
        let keys: Vec<String> = [iban, username].into_iter().flatten().collect();
        if keys.is_empty() {
            return Err(coded(Problem::BadInput("give the iban, the username or both: they say where to look".into())));
        }
        let outcome = query::outcome(&bank.processors, id, &keys, bank.query_deadline()).await;
        Ok(outcome.map_err(coded)?.map(|row| CommandOutcome::of(id, row)))
    }
}

fn reading(bank: &Bank, max_staleness_ms: Option<i32>, at_least: Option<&str>) -> Result<Reading, Problem> {
    let within = u32::try_from(max_staleness_ms.unwrap_or(0))
        .map_err(|_| Problem::BadInput("max_staleness_ms must not be negative".into()))?;
    let tokens = at_least.map(|text| read_token::decode(text, bank.processors.partitions())).transpose()?;
    Ok(Reading::fresh(bank.query_deadline()).within(within).at_least(tokens.unwrap_or_default()))
}

fn page_size(first: i32) -> Result<usize, Problem> {
    match usize::try_from(first) {
        Ok(size) if (1..=MOST_PAGE).contains(&size) => Ok(size),
        _ => Err(Problem::BadInput(format!("first must be 1 to {MOST_PAGE}"))),
    }
}

/// Where the page before ended. A cursor of an account in another partition is told by its transaction.
fn sequence_of(cursor: &str, processors: &Processors, iban: &str) -> Result<i64, Problem> {
    let of_partition = |id| rows::partition_of_transaction(id, processors.partitions());
    match Cursor::decode(cursor)? {
        // A subscription that was ended tells where the partition was, not which transaction of the account was the last.
        Cursor::Account { sequence: ..=0, .. } => {
            Err(Problem::BadInput("the cursor is of a subscription: it goes on in `stream_transactions`".into()))
        }
        Cursor::Account { transaction_id, sequence }
            if of_partition(transaction_id) == Some(processors.partition_of(iban)) =>
        {
            Ok(sequence)
        }
        Cursor::Account { .. } => Err(Problem::BadInput("the cursor belongs to another account".into())),
        Cursor::All(_) => Err(Problem::BadInput("the cursor belongs to all accounts, not to one".into())),
    }
}
