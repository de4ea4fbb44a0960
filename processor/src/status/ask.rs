//! What the members say of their partitions, asked twice.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::control::Directory;
use schemas::query::query_client::QueryClient;
use schemas::query::{StatusRequest, StatusResponse};
use tonic::transport::{Channel, Endpoint};

/// A member that does not answer within this time is shown as silent.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Between the two questions.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Both answers of one member.
pub struct Answer {
    /// The first.
    pub before: StatusResponse,
    /// The second, [`INTERVAL`] later.
    pub after: StatusResponse,
}

/// The answers by name; who does not answer is not in it.
pub async fn all(directory: &Directory) -> BTreeMap<String, Answer> {
    let asked = directory.members.iter().map(|(name, member)| async move {
        let answer = ask(&member.endpoint).await;
        answer.map(|answer| (name.clone(), answer))
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

#[expect(clippy::disallowed_methods, reason = "a tool's pause, outside of the engine")]
async fn ask(endpoint: &str) -> Option<Answer> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).ok()?.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    let mut client = QueryClient::new(endpoint.connect().await.ok()?);
    let before = status(&mut client).await?;
    // There is nothing to wait for but time: a rate is a difference over it.
    tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL).tick().await;
    let after = status(&mut client).await?;
    Some(Answer { before, after })
}

async fn status(client: &mut QueryClient<Channel>) -> Option<StatusResponse> {
    client.status(StatusRequest {}).await.ok().map(tonic::Response::into_inner)
}
