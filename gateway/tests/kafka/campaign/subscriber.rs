//! Many subscribers of transactions in one process: each a light task with a WebSocket of its own.
//!
//! A subscriber goes on for as long as the test does. When its connection ends, or the gateway ends its subscription
//! with an error, it subscribes again with the last cursor that it has; a roaming one also leaves by itself, to the next
//! gateway. It notes every transaction in the order of arrival and judges nothing: `truth` does.

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Before another attempt when nobody takes the connection.
const PAUSE: Duration = Duration::from_millis(20);

/// What one subscriber does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Only this account; `None`: everything.
    pub iban: Option<String>,
    /// Where to begin; `None`: with what comes.
    pub after: Option<String>,
    /// Which gateway first.
    pub gateway: usize,
    /// To the next gateway after so many transactions.
    pub roam_every: Option<usize>,
}

/// What one subscriber has heard.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Ids of transactions in the order of arrival.
    pub ids: Vec<i64>,
    /// The cursor that came with the first.
    pub first_cursor: Option<String>,
    /// Where to go on.
    cursor: Option<String>,
    /// To which gateway the last connection led.
    gateway: usize,
    /// When the subscription was asked for on this connection.
    connected_at: Option<Instant>,
    /// The first transaction on this connection.
    heard_at: Option<Instant>,
    /// How its subscriptions ended.
    pub ends: BTreeMap<String, usize>,
}

/// All subscribers of a test. They end when dropped.
pub struct Subscribers {
    /// What each was told to do.
    pub plans: Vec<Plan>,
    heard: Vec<Arc<Mutex<Heard>>>,
    tasks: JoinSet<()>,
}

impl Subscribers {
    /// Starts them all; they connect by themselves.
    pub fn start(addresses: &[SocketAddr], plans: Vec<Plan>) -> Self {
        let mut subscribers = Self { plans, heard: Vec::new(), tasks: JoinSet::new() };
        for plan in &subscribers.plans {
            let heard = Arc::new(Mutex::new(Heard { cursor: plan.after.clone(), ..Heard::default() }));
            subscribers.heard.push(Arc::clone(&heard));
            let one = Subscriber { addresses: addresses.to_vec(), plan: plan.clone(), heard };
            subscribers.tasks.spawn(one.run());
        }
        subscribers
    }

    /// What each has heard until now.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.iter().map(|heard| heard.lock().clone()).collect()
    }

    /// Transactions that each has heard until now.
    pub fn counts(&self) -> Vec<usize> {
        self.heard.iter().map(|heard| heard.lock().ids.len()).collect()
    }

    /// Whether each is connected to this gateway and has heard something there.
    pub fn all_heard_through(&self, gateway: usize) -> bool {
        self.heard.iter().map(|heard| heard.lock()).all(|heard| heard.gateway == gateway && heard.heard_at.is_some())
    }

    /// After this moment: how long until each was connected again, and until it heard something there.
    pub fn delays_since(&self, since: Instant) -> (Vec<Duration>, Vec<Duration>) {
        let delay = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(since)).unwrap_or_default();
        self.heard().iter().map(|heard| (delay(heard.connected_at), delay(heard.heard_at))).unzip()
    }

    /// How often subscriptions ended, by reason.
    pub fn ends(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for heard in &self.heard {
            heard.lock().ends.iter().for_each(|(end, count)| *all.entry(end.clone()).or_default() += count);
        }
        all
    }
}

struct Subscriber {
    addresses: Vec<SocketAddr>,
    plan: Plan,
    heard: Arc<Mutex<Heard>>,
}

/// How a subscription ended.
enum End {
    /// Nobody took the connection, or it broke.
    Gone(&'static str),
    /// The gateway said why.
    Told(String),
    /// The subscriber itself leaves.
    Roams,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Subscriber {
    async fn run(self) {
        let mut gateway = self.plan.gateway;
        loop {
            let end = self.subscribe(gateway % self.addresses.len()).await;
            let (elsewhere, name) = match end {
                End::Gone("refused") => {
                    tokio::time::sleep(PAUSE).await;
                    (true, "refused".to_owned())
                }
                End::Gone(how) => (true, how.to_owned()),
                End::Told(code) => (false, code),
                End::Roams => (true, "roamed".to_owned()),
            };
            gateway += usize::from(elsewhere);
            *self.heard.lock().ends.entry(name).or_default() += 1;
        }
    }

    /// One connection, until it ends.
    async fn subscribe(&self, gateway: usize) -> End {
        let Some(mut socket) = connect(self.addresses[gateway]).await else { return End::Gone("refused") };
        let query = "subscription ($i: String, $a: String) { stream_transactions(iban: $i, after: $a) { id cursor } }";
        let variables = json!({ "i": self.plan.iban, "a": self.heard.lock().cursor });
        let payload = json!({ "query": query, "variables": variables });
        if !say(&mut socket, json!({ "type": "subscribe", "id": "1", "payload": payload })).await {
            return End::Gone("broken");
        }
        {
            let mut heard = self.heard.lock();
            heard.gateway = gateway;
            heard.connected_at = Some(Instant::now());
            heard.heard_at = None;
        }
        let mut here = 0;
        loop {
            let message = match next(&mut socket).await {
                Ok(message) => message,
                Err(how) => return End::Gone(how),
            };
            let payload = &message["payload"];
            match message["type"].as_str() {
                Some("next") if payload["errors"].is_null() => self.note(&payload["data"]["stream_transactions"]),
                Some("next") => return self.told(&payload["errors"][0]),
                Some("error") => return self.told(&payload[0]),
                _ => return End::Gone("complete"),
            }
            here += 1;
            if self.plan.roam_every.is_some_and(|most| here >= most) {
                return End::Roams;
            }
        }
    }

    fn note(&self, transaction: &Value) {
        let mut heard = self.heard.lock();
        let cursor = transaction["cursor"].as_str().unwrap().to_owned();
        heard.ids.push(transaction["id"].as_i64().unwrap());
        heard.first_cursor.get_or_insert_with(|| cursor.clone());
        heard.cursor = Some(cursor);
        heard.heard_at.get_or_insert_with(Instant::now);
    }

    /// A subscriber that is told that it is too slow is told where to go on, too.
    fn told(&self, error: &Value) -> End {
        let extensions = &error["extensions"];
        if let Some(cursor) = extensions["cursor"].as_str() {
            self.heard.lock().cursor = Some(cursor.to_owned());
        }
        End::Told(extensions["code"].as_str().unwrap_or("no code").to_owned())
    }
}

/// Connected and introduced.
async fn connect(address: SocketAddr) -> Option<Socket> {
    let mut request = format!("ws://{address}/graphql-ws").into_client_request().ok()?;
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().ok()?);
    let (mut socket, _) = connect_async(request).await.ok()?;
    let introduced = say(&mut socket, json!({ "type": "connection_init", "payload": {} })).await;
    let acknowledged = introduced && next(&mut socket).await.is_ok_and(|said| said["type"] == "connection_ack");
    acknowledged.then_some(socket)
}

async fn say(socket: &mut Socket, message: Value) -> bool {
    socket.send(Message::text(message.to_string())).await.is_ok()
}

async fn next(socket: &mut Socket) -> Result<Value, &'static str> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(_))) => return Err("closed"),
            Some(Ok(_)) => {}
            None | Some(Err(_)) => return Err("broken"),
        }
    }
}
