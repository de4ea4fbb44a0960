//! The way into the schema for every transport: limits first, then execution, counted and timed.
//!
//! HTTP and WebSocket both come through here, so no limit can be walked around by choosing another door.

use crate::limits::{Limits, set_code};
use crate::schema::BankSchema;
use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Request, Response, ServerError};
use futures_util::{Stream, StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    schema: BankSchema,
    limits: Limits,
    /// Net under the deadline that each root field has itself.
    longest: Duration,
    active: Arc<AtomicUsize>,
}

impl Api {
    /// `longest` is for queries and mutations; subscriptions last.
    #[must_use]
    pub fn new(schema: BankSchema, limits: Limits, longest: Duration) -> Self {
        Self { schema, limits, longest, active: Arc::default() }
    }

    /// Subscriptions that are open in this gateway.
    #[must_use]
    pub fn active_subscriptions(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// A query or mutation, to its end.
    pub async fn execute(&self, mut request: Request) -> Response {
        let started = Instant::now();
        let document = match self.limits.admit(&request) {
            Ok(document) => document,
            Err(error) => return refused(error, started),
        };
        let kind = kind(&document, request.operation_name.as_deref());
        request.set_parsed_query(document);
        // Fields of a mutation run one after the other, each with a deadline of its own.
        let one_by_one = if kind == "mutation" { self.limits.root_fields } else { 1 };
        let net = self.longest * u32::try_from(one_by_one).unwrap_or(1);
        let executed = tokio::time::timeout(net, self.schema.execute(request)).await;
        let mut response = executed.unwrap_or_else(|_| {
            let mut error = ServerError::new("timed out", None);
            set_code(&mut error, "TIMED_OUT");
            Response::from_errors(vec![error])
        });
        give_codes(&mut response);
        count(kind, &response, started);
        response
    }

    /// Any operation as a stream of responses: one for queries and mutations.
    pub fn subscribe(&self, mut request: Request) -> impl Stream<Item = Response> + Send + use<> {
        let started = Instant::now();
        let document = match self.limits.admit(&request) {
            Ok(document) => document,
            Err(error) => return stream::iter([refused(error, started)]).boxed(),
        };
        let kind = kind(&document, request.operation_name.as_deref());
        if kind != "subscription" {
            let api = self.clone();
            return stream::once(async move { api.execute(request).await }).boxed();
        }
        request.set_parsed_query(document);
        let open = Open::new(Arc::clone(&self.active));
        let responses = self.schema.execute_stream(request);
        let mut first = true;
        let counted = responses.map(move |mut response| {
            let _held = &open;
            give_codes(&mut response);
            if std::mem::take(&mut first) {
                count(kind, &response, started);
            }
            response
        });
        counted.boxed()
    }
}

/// One open subscription, for as long as its stream lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(active: Arc<AtomicUsize>) -> Self {
        active.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!("kontor_subscriptions_active").increment(1);
        Self(active)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("kontor_subscriptions_active").decrement(1);
    }
}

fn refused(error: ServerError, started: Instant) -> Response {
    let response = Response::from_errors(vec![error]);
    count("refused", &response, started);
    response
}

fn kind(document: &ExecutableDocument, operation_name: Option<&str>) -> &'static str {
    let mut operations = document.operations.iter();
    let chosen = match operation_name {
        Some(wanted) => operations.find(|(name, _)| name.is_some_and(|name| name == wanted)),
        None => operations.next(),
    };
    match chosen.map(|(_, operation)| operation.node.ty) {
        Some(OperationType::Mutation) => "mutation",
        Some(OperationType::Subscription) => "subscription",
        Some(OperationType::Query) | None => "query",
    }
}

/// Errors of the library itself (unknown field, missing argument) get a code as well.
fn give_codes(response: &mut Response) {
    for error in &mut response.errors {
        set_code(error, if error.path.is_empty() { "GRAPHQL_VALIDATION_FAILED" } else { "BAD_INPUT" });
    }
}

fn count(kind: &'static str, response: &Response, started: Instant) {
    let outcome = if response.is_ok() { "ok" } else { "error" };
    metrics::counter!("kontor_graphql_operations_total", "type" => kind, "outcome" => outcome).increment(1);
    if kind != "subscription" {
        metrics::histogram!("kontor_graphql_operation_duration_seconds", "type" => kind)
            .record(started.elapsed().as_secs_f64());
    }
}
