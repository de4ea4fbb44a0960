//! Health and metrics for operators, and the upkeep of what the metrics are collected in.
//!
//! `/livez` says that the process turns, and depends on nothing else: a restore must not get it killed. `/readyz` says
//! that the membership is current and that the commands of all its partitions run; how far the history is, it tells
//! beside.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use warp::http::StatusCode;
use warp::{Filter, Reply};

use super::view::{Life, PartitionView};
use crate::membership::{Role, Roles};

/// Routes `/livez`, `/readyz`, `/metrics`. `observe` sets gauges that somebody has to look at first.
pub fn routes(
    views: Vec<Arc<PartitionView>>,
    roles: Arc<dyn Roles>,
    metrics: PrometheusHandle,
    observe: Arc<dyn Fn() + Send + Sync>,
) -> impl Filter<Extract = (impl Reply,), Error = warp::Rejection> + Clone {
    let alive = warp::path!("livez").map(|| warp::reply::json(&json!({ "alive": true })));
    let ready = warp::path!("readyz").map(move || {
        let (ready, body) = readiness(&views, &*roles);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        warp::reply::with_status(warp::reply::json(&body), status)
    });
    let metrics = warp::path!("metrics").map(move || {
        observe();
        warp::reply::with_header(metrics.render(), "content-type", "text/plain; version=0.0.4")
    });
    warp::get().and(alive.or(ready).or(metrics))
}

/// Between two rounds of [`upkeep`].
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the recorder small until `ended`: it holds every single value of a histogram (16 bytes for each commit) until it
/// folds them into a summary, which by itself happens only when somebody asks for `/metrics`.
pub async fn upkeep(metrics: PrometheusHandle, interval: Duration, ended: CancellationToken) {
    let mut rounds = tokio::time::interval(interval);
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = rounds.tick() => metrics.run_upkeep(),
        }
    }
}

/// Whether every partition runs that this instance is to own, and the state of each. One that stopped here needs an
/// operator, also when another instance goes on with it.
pub fn readiness(views: &[Arc<PartitionView>], roles: &dyn Roles) -> (bool, Value) {
    let partitions: Vec<Value> = views.iter().map(|view| describe(view)).collect();
    let is_ready = |view: &Arc<PartitionView>| match (roles.role(view.shard), view.life()) {
        (Role::Ended, _) | (_, Life::Stopped(_)) => false,
        (Role::Active, life) => matches!(life, Life::Running(_)),
        (Role::Standby | Role::Nothing, _) => true,
    };
    let ready = roles.is_current() && views.iter().all(is_ready);
    (ready, json!({ "ready": ready, "partitions": partitions }))
}

fn describe(view: &PartitionView) -> Value {
    let life = view.life();
    json!({
        "partition": view.partition,
        "shard": view.shard,
        "state": life.name(),
        "reason": life.reason(),
        "commit_sequence": *view.committed().borrow(),
        "changelog_remaining": view.changelog_remaining.load(Ordering::Relaxed),
        "history_complete": view.is_history_complete(),
        "history_remaining": view.history_remaining.load(Ordering::Relaxed),
    })
}
