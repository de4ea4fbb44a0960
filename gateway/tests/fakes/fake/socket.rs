//! A GraphQL client over a real WebSocket.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What the server said.
#[derive(Debug, PartialEq)]
pub enum Heard {
    Message(Value),
    Closed(u16),
    /// The connection ended without a word.
    Gone,
}

impl Client {
    /// A handshake with these headers.
    pub async fn handshake(address: SocketAddr, headers: &[(&'static str, &str)]) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{address}/graphql-ws").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = connect_async(request).await?;
        Ok(Self { socket })
    }

    /// Connected with a subprotocol, not introduced.
    pub async fn connect(address: SocketAddr, protocol: &'static str) -> Self {
        Self::handshake(address, &[("sec-websocket-protocol", protocol)]).await.unwrap()
    }

    /// Connected and introduced.
    pub async fn introduced(address: SocketAddr, protocol: &'static str) -> Self {
        let mut client = Self::connect(address, protocol).await;
        client.say(json!({ "type": "connection_init", "payload": {} })).await;
        client.expect("connection_ack").await;
        client
    }

    pub async fn say(&mut self, message: Value) {
        self.raw(message.to_string()).await;
    }

    pub async fn raw(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// In the words of `graphql-transport-ws`.
    pub async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "subscribe", "id": id, "payload": { "query": query } })).await;
    }

    /// In the words of the older `graphql-ws`.
    pub async fn start(&mut self, id: &str, query: &str) {
        self.say(json!({ "type": "start", "id": id, "payload": { "query": query, "variables": null } })).await;
    }

    /// The next message; keep-alives are skipped, and do not count as an answer.
    pub async fn hear(&mut self) -> Heard {
        tokio::time::timeout(PATIENCE, self.next()).await.expect("the server says nothing")
    }

    async fn next(&mut self) -> Heard {
        loop {
            match self.socket.next().await {
                None | Some(Err(_)) => return Heard::Gone,
                Some(Ok(Message::Close(frame))) => return Heard::Closed(frame.map_or(1005, |f| f.code.into())),
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] != "ka" {
                        return Heard::Message(message);
                    }
                }
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next message, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        match self.hear().await {
            Heard::Message(message) if message["type"] == kind => message,
            other => panic!("expected {kind}, heard {other:?}"),
        }
    }

    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    /// As a client that vanishes: no close frame.
    pub fn vanish(self) {
        drop(self);
    }
}
