//! Connections to one processor.

use crate::problem::Problem;
use schemas::query::query_client::QueryClient;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// A page of a thousand rows is far below this.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Connections to one processor. Long-lived streams have their own, so that they never take the places of calls.
#[derive(Clone)]
pub struct Processor {
    /// Where it is, http://host:port.
    pub endpoint: Arc<str>,
    /// For calls that end.
    pub calls: QueryClient<Channel>,
    /// For watches.
    pub watches: QueryClient<Channel>,
}

impl Processor {
    /// Connects at the first call and again whenever the connection is lost. Needs a runtime around it.
    pub fn connect_lazy(endpoint: &str) -> Result<Self, Problem> {
        let parsed = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|error| Problem::BadInput(format!("processor address `{endpoint}`: {error}")))?;
        let connecting = parsed
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            // A processor that vanished without a word (power, cable) is noticed within this time.
            .http2_keep_alive_interval(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(3))
            .keep_alive_while_idle(true);
        let client = |channel| QueryClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Ok(Self {
            endpoint: endpoint.into(),
            calls: client(connecting.connect_lazy()),
            watches: client(connecting.connect_lazy()),
        })
    }
}
