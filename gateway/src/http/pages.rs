//! The pages: an index that says where things are, and GraphiQL in development.

use warp::filters::BoxedFilter;
use warp::http::header;
use warp::{Filter, Reply};

const INDEX: &str = include_str!("../../web/index.html");
const GRAPHIQL: &str = include_str!("../../web/graphiql.html");
const SDL: &str = include_str!("../../schema.graphql");

pub(super) fn routes(dev: bool) -> BoxedFilter<(impl Reply + use<>,)> {
    let index = warp::path::end().map(|| warp::reply::html(INDEX));
    let graphiql = warp::path!("graphiql")
        .and_then(move || async move { if dev { Ok(warp::reply::html(GRAPHIQL)) } else { Err(warp::reject()) } });
    let sdl = warp::path!("schema.graphql").and_then(move || async move {
        let reply = warp::reply::with_header(SDL, header::CONTENT_TYPE, "text/plain; charset=utf-8");
        if dev { Ok(reply) } else { Err(warp::reject()) }
    });
    warp::get()
        .and(index.or(graphiql).or(sdl))
        .with(warp::reply::with::header(header::CACHE_CONTROL, "no-store"))
        .boxed()
}
