//! What can go wrong between a client and the bank, sorted by what the client must do.
//!
//! A refusal of the bank (no money, wrong password) is no problem: it is data, in the result's `reason`. A problem
//! becomes a GraphQL error with `extensions.code`, so that a program need not read the text.

use async_graphql::{Error, ErrorExtensions};
use thiserror::Error as ThisError;
use uuid::Uuid;

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Problem {
    /// Correct the request: what is wrong, in words of the request.
    #[error("{0}")]
    BadInput(String),
    /// Nothing was sent and nothing will happen: try again.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The command was, or may have been, sent: ask again with the same id; repeating it has no second effect.
    #[error("timed out")]
    TimedOut {
        /// The id of the command.
        id: Uuid,
    },
    /// A query was not answered in time: try again.
    #[error("timed out: {0}")]
    QueryTimedOut(String),
    /// Nobody who could answer has reached the commit that the query asked for: try again.
    #[error("stale: partition {partition} has commit {have}, asked for was {want}")]
    Stale {
        /// Whose commits.
        partition: i32,
        /// The last one that was there.
        have: u64,
        /// The one that was asked for.
        want: u64,
    },
    /// Transactions would be missing after this cursor: begin without one.
    #[error("{0}")]
    CursorTooOld(&'static str),
    /// The client reads slower than the bank writes: subscribe again after this cursor.
    #[error("the subscription fell behind, subscribe again after the cursor")]
    SlowSubscriber {
        /// Where to resume.
        cursor: String,
    },
    /// The answer would have more rows than one answer may have: ask for it in parts, as the text says.
    #[error("{0}")]
    TooManyRows(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// A defect of ours: report it.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Problem {
    /// The value of `extensions.code`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadInput(_) => "BAD_INPUT",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::TimedOut { .. } | Self::QueryTimedOut(_) => "TIMED_OUT",
            Self::Stale { .. } => "STALE",
            Self::CursorTooOld(_) => "CURSOR_TOO_OLD",
            Self::SlowSubscriber { .. } => "SLOW_SUBSCRIBER",
            Self::TooManyRows(_) => "TOO_MANY_ROWS",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Internal(_) => "INTERNAL",
        }
    }
}

/// Not an `impl From`: async-graphql turns everything that can be displayed into an error without a code.
pub fn coded(problem: Problem) -> Error {
    let text = problem.to_string();
    Error::new(text).extend_with(|_, extensions| {
        extensions.set("code", problem.code());
        match &problem {
            Problem::TimedOut { id } => extensions.set("id", id.to_string()),
            Problem::Stale { partition, have, want } => {
                extensions.set("partition", *partition);
                extensions.set("have", *have);
                extensions.set("want", *want);
            }
            Problem::SlowSubscriber { cursor } => extensions.set("cursor", cursor.clone()),
            _ => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_partition_is_can_be_read_without_the_text() {
        let error = coded(Problem::Stale { partition: 3, have: 5, want: 7 }).into_server_error(Default::default());
        let said = serde_json::to_value(error).unwrap()["extensions"].clone();
        assert_eq!(said, serde_json::json!({ "code": "STALE", "partition": 3, "have": 5, "want": 7 }));
    }
}
