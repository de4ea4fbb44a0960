//! `/livez`, `/readyz`, `/metrics`: for whoever runs the gateway.
//!
//! Alive depends on nothing outside: a restart would mend nothing there. Ready means that every partition has an owner
//! that answers and takes commands, and that commands can be handed to Kafka.

use super::Web;
use crate::routing::PartitionState;
use serde::Serialize;
use warp::filters::BoxedFilter;
use warp::http::{StatusCode, header};
use warp::{Filter, Reply};

/// What a partition's owner says when it takes commands.
const RUNNING: &str = "running";

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// Whether everything has been read that says who owns what.
    routes: bool,
    /// Whether commands can be handed to Kafka.
    commands: bool,
    /// How many partitions are served.
    served: usize,
    active_subscriptions: usize,
    partitions: Vec<PartitionState>,
}

pub(super) fn routes(web: Web) -> BoxedFilter<(impl Reply + use<>,)> {
    let metrics = web.metrics.clone();
    let livez = warp::path!("livez").map(|| warp::reply::json(&serde_json::json!({ "alive": true })));
    let readyz = warp::path!("readyz").map(move || readyz(&web));
    let metrics = warp::path!("metrics").map(move || {
        warp::reply::with_header(metrics.render(), header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")
    });
    warp::get().and(livez.or(readyz).or(metrics)).boxed()
}

fn readyz(web: &Web) -> impl Reply + use<> {
    let partitions = web.routing.states();
    let served = partitions.iter().filter(|partition| partition.state == RUNNING).count();
    let commands = web.commands.is_up();
    let routes = web.routing.is_read();
    let ready = routes && commands && served == partitions.len() && !web.stop.is_cancelled();
    let active_subscriptions = web.api.active_subscriptions();
    let body = warp::reply::json(&Readiness { ready, routes, commands, served, active_subscriptions, partitions });
    warp::reply::with_status(body, if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}
