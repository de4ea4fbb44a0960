//! The pages: an index that says where things are, and GraphiQL in development.
//!
//! They load nothing from elsewhere. GraphiQL's scripts are files beside the gateway; where there are none, the page that
//! asks for them stays the plain console that it is at first.

use std::path::PathBuf;
use warp::filters::BoxedFilter;
use warp::http::header;
use warp::{Filter, Reply};

const INDEX: &str = include_str!("../../web/index.html");
const GRAPHIQL: &str = include_str!("../../web/graphiql.html");
const SDL: &str = include_str!("../../schema.graphql");

/// `scripts`: the directory with those of GraphiQL.
pub(super) fn routes(dev: bool, scripts: Option<PathBuf>) -> BoxedFilter<(impl Reply + use<>,)> {
    let index = warp::path::end().map(|| warp::reply::html(INDEX));
    let graphiql = warp::path!("graphiql")
        .and_then(move || async move { if dev { Ok(warp::reply::html(GRAPHIQL)) } else { Err(warp::reject()) } });
    let sdl = warp::path!("schema.graphql").and_then(move || async move {
        let reply = warp::reply::with_header(SDL, header::CONTENT_TYPE, "text/plain; charset=utf-8");
        if dev { Ok(reply) } else { Err(warp::reject()) }
    });
    let pages = index.or(graphiql).or(sdl).with(warp::reply::with::header(header::CACHE_CONTROL, "no-store"));
    warp::get().and(pages.or(files(scripts.filter(|_| dev)))).boxed()
}

/// `/graphiql/lib/NAME` of a file in the directory.
fn files(dir: Option<PathBuf>) -> BoxedFilter<(impl Reply + use<>,)> {
    let is_served = dir.is_some();
    warp::path!("graphiql" / "lib" / ..)
        .and_then(move || async move { if is_served { Ok(()) } else { Err(warp::reject()) } })
        .untuple_one()
        .and(warp::fs::dir(dir.unwrap_or_default()))
        .boxed()
}
