//! `/graphql-ws`: GraphQL over WebSocket, in both protocols.
//!
//! This file is the handshake (origin, subprotocol, sizes); `session` is one connection; `protocol` is what the two
//! protocols call things. A handshake without a known subprotocol is refused: guessing one would answer in words that
//! the client does not read.

mod protocol;
mod session;

use super::{MOST_BYTES, Web};
use protocol::Protocol;
use session::Session;
use std::sync::Arc;
use std::time::Duration;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;
use warp::{Filter, Reply};

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// The client must introduce itself within this time.
    pub init_timeout: Duration,
    /// How often the connection is probed; twice this without a sign of the client ends it.
    pub ping_interval: Duration,
    /// A message that the client does not take within this time ends the connection.
    pub send_timeout: Duration,
    /// Operations under way at once; one is until its last answer has been taken.
    pub most_operations: usize,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            init_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_secs(20),
            send_timeout: Duration::from_secs(10),
            most_operations: 20,
        }
    }
}

/// The route.
pub(super) fn route(web: Web) -> BoxedFilter<(impl Reply + use<>,)> {
    let web = Arc::new(web);
    warp::path!("graphql-ws")
        .and(warp::ws())
        .and(warp::header::headers_cloned())
        .map(move |ws, headers| handshake(&web, ws, &headers))
        .boxed()
}

fn handshake(web: &Arc<Web>, ws: warp::ws::Ws, headers: &HeaderMap) -> Response {
    let origin = headers.get(header::ORIGIN);
    if !origin.is_none_or(|origin| origin.to_str().is_ok_and(|origin| web.origins.allow(Some(origin)))) {
        return refuse(StatusCode::FORBIDDEN, "this origin is not allowed: see KONTOR_ALLOWED_ORIGINS");
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> = offered.iter().filter_map(|value| value.to_str().ok()).collect();
    let Some(protocol) = Protocol::choose(&offered) else {
        return refuse(StatusCode::BAD_REQUEST, "offer the subprotocol graphql-transport-ws or graphql-ws");
    };
    if web.stop.is_cancelled() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the gateway is closing");
    }
    let connections = web.connections.clone();
    let session = Session::new(web.api.clone(), protocol, web.sockets, web.stop.clone(), connections.clone());
    let most = usize::try_from(MOST_BYTES).unwrap_or(usize::MAX);
    let upgraded = ws
        .max_message_size(most)
        .max_frame_size(most)
        .on_upgrade(move |socket| connections.track_future(session.run(socket)));
    let mut reply = upgraded.into_response();
    reply.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.name()));
    reply
}

fn refuse(code: StatusCode, text: &'static str) -> Response {
    warp::reply::with_status(text, code).into_response()
}
