//! The words of the two protocols.
//!
//! `graphql-transport-ws` is the current one. `graphql-ws` is the older one of subscriptions-transport-ws, which the
//! clients of the predecessors speak; its clients may start operations without waiting for the acknowledgement.

use async_graphql::{Request, Response, ServerError, Value};
use serde::Deserialize;
use serde_json::json;

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `graphql-transport-ws`
    Transport,
    /// `graphql-ws`
    Legacy,
}

/// What a client says.
#[derive(Debug)]
pub(super) enum Said {
    Init,
    Start { id: String, request: Box<Request> },
    Stop { id: String },
    Ping,
    Pong,
    Terminate,
}

#[derive(Deserialize)]
struct Message {
    r#type: String,
    id: Option<String>,
    payload: Option<serde_json::Value>,
}

impl Protocol {
    /// The best of those that the client offers, in its headers' values.
    pub(super) fn choose(offered: &[&str]) -> Option<Self> {
        let has = |name: &str| {
            offered.iter().flat_map(|value| value.split(',')).any(|offer| offer.trim().eq_ignore_ascii_case(name))
        };
        [Self::Transport, Self::Legacy].into_iter().find(|protocol| has(protocol.name()))
    }

    /// As in the handshake.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Transport => "graphql-transport-ws",
            Self::Legacy => "graphql-ws",
        }
    }

    /// Reads a message; the error says what is wrong with it.
    pub(super) fn read(self, bytes: &[u8]) -> Result<Said, String> {
        let message: Message = serde_json::from_slice(bytes).map_err(|error| format!("no message: {error}"))?;
        let id = || message.id.clone().filter(|id| !id.is_empty()).ok_or_else(|| "the message has no id".to_owned());
        match (message.r#type.as_str(), self) {
            ("connection_init", _) => Ok(Said::Init),
            ("subscribe", Self::Transport) | ("start", Self::Legacy) => {
                let payload = message.payload.clone().unwrap_or_default();
                let request = serde_json::from_value(payload).map_err(|error| format!("no operation: {error}"))?;
                Ok(Said::Start { id: id()?, request: Box::new(request) })
            }
            ("complete", Self::Transport) | ("stop", Self::Legacy) => Ok(Said::Stop { id: id()? }),
            ("ping", Self::Transport) => Ok(Said::Ping),
            ("pong", Self::Transport) => Ok(Said::Pong),
            ("connection_terminate", Self::Legacy) => Ok(Said::Terminate),
            (other, _) => Err(format!("unknown message type {other}")),
        }
    }

    /// The client may begin.
    pub(super) fn acknowledge(self) -> String {
        json!({ "type": "connection_ack" }).to_string()
    }

    /// Answer to the client's ping.
    pub(super) fn pong(self) -> String {
        json!({ "type": "pong" }).to_string()
    }

    /// A sign of life in the protocol's own words, where it has one.
    pub(super) fn keep_alive(self) -> Option<String> {
        (self == Self::Legacy).then(|| json!({ "type": "ka" }).to_string())
    }

    /// One result of an operation.
    pub(super) fn next(self, id: &str, response: &Response) -> String {
        let kind = match self {
            Self::Transport => "next",
            Self::Legacy => "data",
        };
        json!({ "type": kind, "id": id, "payload": response }).to_string()
    }

    /// The operation was refused before it began; it is over.
    pub(super) fn error(self, id: &str, errors: &[ServerError]) -> String {
        let payload = match self {
            Self::Transport => json!(errors),
            Self::Legacy => errors.first().map_or_else(|| json!({ "message": "refused" }), |error| json!(error)),
        };
        json!({ "type": "error", "id": id, "payload": payload }).to_string()
    }

    /// The operation is over.
    pub(super) fn complete(self, id: &str) -> String {
        json!({ "type": "complete", "id": id }).to_string()
    }
}

/// Whether the response says that the operation never began: errors without a place in the data.
pub(super) fn is_refusal(response: &Response) -> bool {
    response.data == Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_protocol_is_preferred() {
        let cases: [(&[&str], Option<Protocol>); 5] = [
            (&["graphql-ws"], Some(Protocol::Legacy)),
            (&["graphql-ws, graphql-transport-ws"], Some(Protocol::Transport)),
            (&["soap", "GraphQL-WS"], Some(Protocol::Legacy)),
            (&["soap"], None),
            (&[], None),
        ];
        for (offered, chosen) in cases {
            assert_eq!(Protocol::choose(offered), chosen);
        }
    }

    #[test]
    fn each_protocol_has_its_own_words() {
        let start = br#"{"type":"start","id":"1","payload":{"query":"{a}"}}"#;
        let subscribe = br#"{"type":"subscribe","id":"1","payload":{"query":"{a}"}}"#;
        assert!(matches!(Protocol::Legacy.read(start), Ok(Said::Start { .. })));
        assert!(Protocol::Transport.read(start).is_err());
        assert!(matches!(Protocol::Transport.read(subscribe), Ok(Said::Start { .. })));
        assert!(Protocol::Legacy.read(subscribe).is_err());
        for bad in ["", "[]", "{}", r#"{"type":"subscribe","payload":{"query":"{a}"}}"#, r#"{"type":"complete"}"#] {
            assert!(Protocol::Transport.read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
