//! HTTP: warp filters and nothing else. What the routes do is decided elsewhere.
//!
//! `POST /graphql` takes `application/json` only and there is no GET for operations: a page of another origin cannot
//! send that content type without asking first (CORS), so it cannot act for its visitor. No cookies are used.

mod graphql;
mod health;
pub mod origin;
mod pages;
pub mod ws;

use crate::api::Api;
use crate::command::Commands;
use crate::routing::Routing;
use metrics_exporter_prometheus::PrometheusHandle;
use origin::Origins;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::filters::BoxedFilter;
use warp::http::header;
use warp::{Filter, Reply};

/// Bytes of a request body, and of a WebSocket message.
pub const MOST_BYTES: u64 = 64 * 1024;

/// Everything that the routes use.
#[derive(Clone)]
pub struct Web {
    /// The way into the schema.
    pub api: Api,
    /// For readiness.
    pub routing: Arc<dyn Routing>,
    /// For readiness.
    pub commands: Arc<dyn Commands>,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Who may call from a page.
    pub origins: Arc<Origins>,
    /// Bounds of WebSocket connections.
    pub sockets: ws::SocketLimits,
    /// Whether GraphiQL is served.
    pub dev: bool,
    /// Directory with GraphiQL's scripts.
    pub graphiql_dir: Option<PathBuf>,
    /// Ends every WebSocket connection.
    pub stop: CancellationToken,
    /// Counts the WebSocket connections, so that a stop can wait for them.
    pub connections: TaskTracker,
}

/// All routes.
pub fn routes(web: Web) -> BoxedFilter<(impl Reply + use<>,)> {
    let health = health::routes(web.clone());
    let pages = pages::routes(web.dev, web.graphiql_dir.clone());
    let socket = ws::route(web.clone());
    let graphql = graphql::route(web);
    health
        .or(socket)
        .or(graphql)
        .or(pages)
        .with(warp::reply::with::header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .with(warp::reply::with::header(header::REFERRER_POLICY, "no-referrer"))
        .with(warp::reply::with::header(header::X_FRAME_OPTIONS, "DENY"))
        .boxed()
}
