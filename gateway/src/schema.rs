//! The GraphQL schema: names, arguments, descriptions. A library without HTTP, so that tests execute it directly.
//!
//! The names of the systems that this one succeeds are kept, snake_case included, because their clients must go on
//! working; new names follow the same style. What an operation does is in `command`, `query` and `live`; here it is
//! only named, bounded and described. `schema.graphql` beside the sources is this schema as text.

pub mod mutation;
pub mod query;
pub mod subscription;
pub mod types;

use crate::command::Commands;
use crate::command::passwords::Passwords;
use crate::live::Live;
use crate::processors::Processors;
use async_graphql::{Context, Schema, SchemaBuilder};
use mutation::Mutation;
use query::Query;
use std::sync::Arc;
use std::time::Duration;
use subscription::Subscription;
use tokio::time::Instant;

/// The schema with its resolvers.
pub type BankSchema = Schema<Query, Mutation, Subscription>;

/// Everything that resolvers use.
pub struct Bank {
    /// To send commands.
    pub commands: Arc<dyn Commands>,
    /// To read and to wait for answers.
    pub processors: Processors,
    /// To log in.
    pub passwords: Passwords,
    /// To follow transactions.
    pub live: Arc<Live>,
    /// How long a command may take before the client is told "timed out".
    pub command_timeout: Duration,
    /// How long a query may take.
    pub query_timeout: Duration,
}

impl Bank {
    fn command_deadline(&self) -> Instant {
        Instant::now() + self.command_timeout
    }

    fn query_deadline(&self) -> Instant {
        Instant::now() + self.query_timeout
    }
}

/// Most cost of a document; a field costs one, ten rows of a list cost as much as one row's fields.
pub const MOST_COMPLEXITY: usize = 500;
/// Most rows of a page.
pub const MOST_PAGE: usize = 100;
/// Most rows of `transactions_by_iban`, the most that the web page of the predecessors asked for.
pub const MOST_ITEMS: usize = 250;

/// The schema over a bank. Introspection is for development.
#[must_use]
pub fn build(bank: Bank, introspection: bool) -> BankSchema {
    let builder = builder().data(Arc::new(bank)).limit_complexity(MOST_COMPLEXITY);
    // Suggestions in error messages would tell what introspection hides.
    if introspection { builder.finish() } else { builder.disable_introspection().disable_suggestions().finish() }
}

/// The schema as text.
#[must_use]
pub fn sdl() -> String {
    let mut sdl = builder().finish().sdl();
    sdl.truncate(sdl.trim_end().len());
    sdl.push('\n');
    sdl
}

fn builder() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query, Mutation, Subscription)
}

fn bank<'a>(context: &Context<'a>) -> async_graphql::Result<&'a Arc<Bank>> {
    context.data::<Arc<Bank>>()
}

/// Cost of a list: rows are read in pages, so ten of them cost as much as one that is fetched alone.
fn rows_cost(rows: i64, cost_of_row: usize) -> usize {
    let rows = usize::try_from(rows.clamp(0, 100_000)).unwrap_or(0);
    1 + cost_of_row.saturating_mul(rows.div_ceil(10).max(1))
}
