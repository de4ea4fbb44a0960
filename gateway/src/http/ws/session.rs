//! One WebSocket connection: reads what the client says, runs its operations, writes what comes of them.
//!
//! One loop over everything that can happen. Each operation is a task of its own, whose answers come through a channel
//! in a map; dropping that ends the task, so the end of the connection ends them all. Writing waits for the client, and
//! while it waits nothing else is taken from it. The operations go on meanwhile, until each has an answer that waits to
//! be taken: what a processor has sent is always read, or it would fill the connection to the processor, which everybody
//! shares. So a client that does not read costs two answers for each operation that it may have, and a timer.

use super::SocketLimits;
use super::protocol::{Protocol, Said, is_refusal};
use crate::api::Api;
use async_graphql::{Request, Response};
use futures_util::stream::BoxStream;
use futures_util::{SinkExt, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use warp::ws::{Message, WebSocket};

/// Why a connection ends, as the protocols number it.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The client went, or said that it goes.
    Gone,
    /// We end it: code and reason.
    Close(u16, String),
}

type Outcome = Result<(), End>;

/// What an operation brings: responses, then its end.
enum Brought {
    Response(Box<Response>),
    Done,
    /// It ended without a word: its task panicked.
    Broken,
}

pub(super) struct Session {
    api: Api,
    protocol: Protocol,
    limits: SocketLimits,
    stop: CancellationToken,
    /// Whoever waits for the connections waits for their operations as well.
    tasks: TaskTracker,
    introduced: bool,
    heard: Instant,
    operations: StreamMap<String, BoxStream<'static, Brought>>,
}

impl Session {
    pub(super) fn new(
        api: Api,
        protocol: Protocol,
        limits: SocketLimits,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let operations = StreamMap::new();
        Self { api, protocol, limits, stop, tasks, introduced: false, heard: Instant::now(), operations }
    }

    /// Until either side ends it.
    pub(super) async fn run(mut self, mut socket: WebSocket) {
        let connections = metrics::gauge!("kontor_websocket_connections");
        connections.increment(1);
        let end = match self.serve(&mut socket).await {
            Err(end) => end,
            Ok(()) => End::Gone,
        };
        self.operations.clear();
        if let End::Close(code, reason) = end {
            tracing::debug!(code, reason, "a WebSocket connection is closed");
            let farewell = socket.send(Message::close_with(code, reason));
            let _ = tokio::time::timeout(self.limits.send_timeout, farewell).await;
        }
        let _ = tokio::time::timeout(self.limits.send_timeout, socket.close()).await;
        connections.decrement(1);
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> Outcome {
        let introduction = tokio::time::sleep(self.limits.init_timeout);
        tokio::pin!(introduction);
        let mut pings = ticks(self.limits);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Err(End::Close(1001, "the gateway is closing".into())),
                () = &mut introduction, if !self.introduced => {
                    return Err(End::Close(4408, "connection initialisation timeout".into()));
                }
                _ = pings.tick() => self.probe(socket).await?,
                message = socket.next() => self.on_message(socket, message).await?,
                Some((id, brought)) = self.operations.next(), if !self.operations.is_empty() => {
                    self.on_brought(socket, &id, brought).await?;
                }
            }
        }
    }

    async fn on_message(&mut self, socket: &mut WebSocket, message: Option<Result<Message, warp::Error>>) -> Outcome {
        let message = match message {
            None => return Err(End::Gone),
            // Also a message above the size limit ends up here; the library has no way to say which.
            Some(Err(error)) => return Err(End::Close(1009, shortened(&error.to_string()))),
            Some(Ok(message)) => message,
        };
        self.heard = Instant::now();
        if message.is_close() {
            return Err(End::Gone);
        }
        if !message.is_text() && !message.is_binary() {
            return Ok(());
        }
        let said = self.protocol.read(message.as_bytes()).map_err(|what| End::Close(4400, shortened(&what)))?;
        self.on_said(socket, said).await
    }

    async fn on_said(&mut self, socket: &mut WebSocket, said: Said) -> Outcome {
        match said {
            Said::Init if self.introduced => Err(End::Close(4429, "too many initialisation requests".into())),
            Said::Init => self.introduce(socket).await,
            Said::Start { id, request } => {
                if !self.introduced {
                    match self.protocol {
                        Protocol::Transport => return Err(End::Close(4401, "unauthorized".into())),
                        // Its clients may leave the introduction out: starting is one.
                        Protocol::Legacy => self.introduce(socket).await?,
                    }
                }
                self.start(socket, id, *request).await
            }
            Said::Stop { id } => {
                let known = self.operations.remove(&id).is_some();
                // The older protocol confirms; in the newer one the client's word is the last.
                if known && self.protocol == Protocol::Legacy {
                    self.write(socket, self.protocol.complete(&id)).await?;
                }
                Ok(())
            }
            Said::Ping => self.write(socket, self.protocol.pong()).await,
            Said::Pong => Ok(()),
            Said::Terminate => Err(End::Close(1000, "terminated".into())),
        }
    }

    async fn introduce(&mut self, socket: &mut WebSocket) -> Outcome {
        self.introduced = true;
        self.write(socket, self.protocol.acknowledge()).await?;
        if let Some(alive) = self.protocol.keep_alive() {
            self.write(socket, alive).await?;
        }
        Ok(())
    }

    async fn start(&mut self, socket: &mut WebSocket, id: String, request: Request) -> Outcome {
        if self.operations.contains_key(&id) {
            return Err(End::Close(4409, shortened(&format!("subscriber for {id} already exists"))));
        }
        if self.operations.len() >= self.limits.most_operations {
            let mut error = async_graphql::ServerError::new("too many operations on this connection", None);
            crate::limits::set_code(&mut error, "TOO_MANY_OPERATIONS");
            return self.write(socket, self.protocol.error(&id, &[error])).await;
        }
        let operation = self.begin(request);
        self.operations.insert(id, operation);
        Ok(())
    }

    fn begin(&self, request: Request) -> BoxStream<'static, Brought> {
        let (sender, receiver) = mpsc::channel(1);
        let run = to_its_end(self.api.subscribe(request).boxed(), sender);
        let task = AbortOnDropHandle::new(self.tasks.spawn(run));
        let brought = stream::unfold((receiver, task), |(mut receiver, task)| async move {
            let brought = receiver.recv().await.unwrap_or(Brought::Broken);
            Some((brought, (receiver, task)))
        });
        brought.boxed()
    }

    async fn on_brought(&mut self, socket: &mut WebSocket, id: &str, brought: Brought) -> Outcome {
        match brought {
            Brought::Response(response) if is_refusal(&response) => {
                self.operations.remove(id);
                self.write(socket, self.protocol.error(id, &response.errors)).await
            }
            Brought::Response(response) => self.write(socket, self.protocol.next(id, &response)).await,
            Brought::Done => {
                self.operations.remove(id);
                self.write(socket, self.protocol.complete(id)).await
            }
            Brought::Broken => Err(End::Close(1011, "internal error".into())),
        }
    }

    async fn probe(&mut self, socket: &mut WebSocket) -> Outcome {
        if self.heard.elapsed() > self.limits.ping_interval * 2 {
            return Err(End::Gone);
        }
        if let (Some(alive), true) = (self.protocol.keep_alive(), self.introduced) {
            self.write(socket, alive).await?;
        }
        self.put(socket, Message::ping(Vec::new())).await
    }

    async fn write(&mut self, socket: &mut WebSocket, text: String) -> Outcome {
        self.put(socket, Message::text(text)).await
    }

    async fn put(&mut self, socket: &mut WebSocket, message: Message) -> Outcome {
        match tokio::time::timeout(self.limits.send_timeout, socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(1008, "the client does not read".into())),
        }
    }
}

/// Runs an operation. An answer that is not taken yet lets it pause between two of them, never within one.
async fn to_its_end(mut responses: BoxStream<'static, Response>, sender: mpsc::Sender<Brought>) {
    while let Some(response) = responses.next().await {
        if sender.send(Brought::Response(Box::new(response))).await.is_err() {
            return;
        }
    }
    // Nothing is held for a client that has yet to hear of the end.
    drop(responses);
    let _ = sender.send(Brought::Done).await;
}

fn ticks(limits: SocketLimits) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + limits.ping_interval, limits.ping_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The reason of a close frame has at most 123 bytes.
fn shortened(text: &str) -> String {
    let end = (0..=text.len().min(120)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn reasons_fit_into_a_close_frame() {
        assert_eq!(shortened("short"), "short");
        assert!(shortened(&"é".repeat(100)).len() <= 120);
        assert_eq!(shortened(""), "");
    }
}
