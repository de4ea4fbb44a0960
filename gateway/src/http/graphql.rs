//! `POST /graphql`: one operation as JSON in, one response as JSON out.
//!
//! 400 for what is no request, 413 for too much, 415 for another content type, 403 for a foreign page; a request that
//! GraphQL refuses is answered with 200 and errors, as clients of `application/json` expect.

use super::{MOST_BYTES, Web};
use async_graphql::Request;
use std::convert::Infallible;
use std::sync::Arc;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::hyper::body::Bytes;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

/// The route, with preflight.
pub(super) fn route(web: Web) -> BoxedFilter<(impl Reply + use<>,)> {
    let web = Arc::new(web);
    let with_web = warp::any().map({
        let web = Arc::clone(&web);
        move || Arc::clone(&web)
    });
    let post = warp::post()
        .and(with_web.clone())
        .and(warp::header::headers_cloned())
        .and(warp::body::content_length_limit(MOST_BYTES))
        .and(warp::body::bytes())
        .then(answer);
    let preflight =
        warp::options().and(with_web).and(warp::header::headers_cloned()).map(|web: Arc<Web>, headers: HeaderMap| {
            let reply = status(StatusCode::NO_CONTENT, "");
            if allowed(&web, &headers) { cors(reply, &headers) } else { foreign() }
        });
    warp::path!("graphql").and(post.or(preflight).unify().recover(explain).unify()).boxed()
}

async fn answer(web: Arc<Web>, headers: HeaderMap, body: Bytes) -> Response {
    if !allowed(&web, &headers) {
        return foreign();
    }
    if !is_json(&headers) {
        return cors(status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"), &headers);
    }
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return cors(status(StatusCode::BAD_REQUEST, "batches are not taken: send one operation"), &headers);
    }
    let reply = match serde_json::from_slice::<Request>(&body) {
        Ok(request) => warp::reply::json(&web.api.execute(request).await).into_response(),
        Err(error) => status(StatusCode::BAD_REQUEST, &format!("the body is no GraphQL request: {error}")),
    };
    cors(reply, &headers)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn allowed(web: &Web, headers: &HeaderMap) -> bool {
    match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => origin.to_str().is_ok_and(|origin| web.origins.allow(Some(origin))),
    }
}

fn foreign() -> Response {
    status(StatusCode::FORBIDDEN, "this origin is not allowed: see KONTOR_ALLOWED_ORIGINS")
}

/// Lets the page of an allowed origin read the reply. Never `*`, never credentials.
fn cors(mut reply: Response, request: &HeaderMap) -> Response {
    let headers = reply.headers_mut();
    if let Some(origin) = request.get(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

fn status(code: StatusCode, text: &str) -> Response {
    let body = if text.is_empty() {
        String::new()
    } else {
        serde_json::json!({ "errors": [{ "message": text, "extensions": { "code": "BAD_REQUEST" } }] }).to_string()
    };
    let reply = warp::reply::with_header(body, header::CONTENT_TYPE, "application/json");
    warp::reply::with_status(reply, code).into_response()
}

/// The filters' own refusals, as JSON. Anything but POST and OPTIONS is 405.
async fn explain(rejection: Rejection) -> Result<Response, Infallible> {
    let (code, text) = if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KB")
    } else if rejection.find::<warp::reject::LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "send content-length")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "use POST")
    } else {
        (StatusCode::BAD_REQUEST, "the request cannot be read")
    };
    let mut reply = status(code, text);
    if code == StatusCode::METHOD_NOT_ALLOWED {
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    Ok(reply)
}
