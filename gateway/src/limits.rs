//! What a document may cost, judged before it is executed.
//!
//! Three steps, each safe for what the one before let through: tokens and nesting of the text (so that the parser's
//! recursion is bounded), the shape of the parsed document with every fragment counted as often as it is used (so
//! that the library's own checks, which expand fragments, stay cheap), and the library's complexity limit. The
//! library has no limit for aliases, root fields, tokens or the size of an expansion; this has.

mod shape;
mod tokens;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{ErrorExtensionValues, Request, ServerError};

/// Most of each thing in one document.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the document.
    pub document_bytes: usize,
    /// Tokens of the document.
    pub tokens: usize,
    /// Nested fields.
    pub depth: usize,
    /// Fields with another name, fragments expanded.
    pub aliases: usize,
    /// Fields of an operation itself.
    pub root_fields: usize,
    /// Directives.
    pub directives: usize,
    /// Fields and spreads, fragments expanded.
    pub fields: usize,
    /// Log-ins: each costs a password hash, and several would guess passwords behind one request.
    pub log_ins: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 8 * 1024,
            tokens: 1000,
            depth: 10,
            aliases: 15,
            root_fields: 10,
            directives: 10,
            fields: 500,
            log_ins: 1,
        }
    }
}

/// Introspection nests deeper than any question about a bank; only documents of nothing else may.
const INTROSPECTION_DEPTH: usize = 20;
/// Brackets within brackets: above any sensible document, far below what the parser's stack bears.
const NESTING: usize = 40;

impl Limits {
    /// The parsed document, or why it is refused.
    pub fn admit(&self, request: &Request) -> Result<ExecutableDocument, ServerError> {
        let refused = |reason: String| coded("QUERY_TOO_EXPENSIVE", reason);
        if request.query.len() > self.document_bytes {
            return Err(refused(format!("the document has more than {} bytes", self.document_bytes)));
        }
        tokens::check(&request.query, self.tokens, NESTING).map_err(refused)?;
        let document = parse_query(&request.query).map_err(|error| {
            let mut error = ServerError::from(error);
            set_code(&mut error, "GRAPHQL_PARSE_FAILED");
            error
        })?;
        shape::check(&document, self, INTROSPECTION_DEPTH).map_err(refused)?;
        Ok(document)
    }
}

fn coded(code: &str, message: String) -> ServerError {
    let mut error = ServerError::new(message, None);
    set_code(&mut error, code);
    error
}

/// Gives an error a code unless it has one.
pub fn set_code(error: &mut ServerError, code: &str) {
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    if extensions.get("code").is_none() {
        extensions.set("code", code);
    }
}
