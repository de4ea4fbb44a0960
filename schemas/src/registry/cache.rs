//! The handle that services hold: look-ups from memory, questions handed to the worker.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::mpsc;

use super::client::RegistryClient;
use super::file::{self, Saved};
use super::worker::{self, Request, Want};
use crate::codec::Writer;
use crate::topics::Topology;

/// Where to ask and where to remember.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Base address of the registry's Confluent API.
    pub registry_url: String,
    /// Kept beside the state; without it a start needs the registry.
    pub file: Option<PathBuf>,
}

/// What is known of a schema id.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// The schema that wrote the record.
    Known(&'static Writer),
    /// Being asked. Only what is written with this id has to wait.
    Pending,
    /// The registry said clearly that there is no such Avro schema; why, for people. Asked again after
    /// 30 s.
    Absent(String),
}

/// The cache could not even start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is no URL that a client can be built for.
    #[error("cannot ask a schema registry at \"{url}\": {why}")]
    Client {
        /// As configured.
        url: String,
        /// What the HTTP client says.
        why: String,
    },
    /// No thread.
    #[error("cannot start the thread that asks the schema registry")]
    Thread(#[source] std::io::Error),
}

/// The ids of this build's schemas are not known, so it cannot write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The registry clearly lacks schemas. Retrying does not help.
    #[error("schemas are not registered: {}; run `topics apply`", .0.join("; "))]
    Missing(Vec<String>),
    /// Neither the registry nor the file could tell in time. Worth a retry.
    #[error("the schema registry at {url} does not answer and the schema file does not say: {why}")]
    Unreachable {
        /// As configured.
        url: String,
        /// The last attempt.
        why: String,
    },
}

/// How long a clear no is believed.
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// How long [`SchemaCache::resolve`] tries.
const RESOLVE_FOR: Duration = Duration::from_secs(15);
/// A flood of invented ids must not fill the memory: beyond so many, the oldest answers are forgotten.
const MOST_ABSENT: usize = 4096;
/// Nor must it start that many questions at a time; further ids wait for a later look-up.
const MOST_PENDING: usize = 64;

/// Schema look-up of a process. Clones share everything; the last one to go ends the worker.
#[derive(Clone)]
pub struct SchemaCache {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Request>,
}

impl SchemaCache {
    /// Reads the file and starts the worker; asks nothing yet.
    pub fn start(config: CacheConfig) -> Result<Self, StartError> {
        Self::start_believing(config, ABSENT_FOR)
    }

    /// The same with another time for which a clear no is believed.
    pub(super) fn start_believing(config: CacheConfig, absent_for: Duration) -> Result<Self, StartError> {
        let client = RegistryClient::new(&config.registry_url)
            .map_err(|why| StartError::Client { url: config.registry_url.clone(), why })?;
        let shared = Arc::new(Shared::new(config, absent_for));
        let (requests, inbox) = mpsc::unbounded_channel();
        worker::start(Arc::clone(&shared), client, inbox).map_err(StartError::Thread)?;
        Ok(Self { shared, requests })
    }

    /// A cache that knows these schemas, as (id, schema in JSON), and asks nobody: any other id stays
    /// [`Lookup::Pending`]. For tests and simulations. An error says which text is no schema of a record.
    pub fn fixed(schemas: &[(u32, &str)]) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(CacheConfig { registry_url: String::new(), file: None }, ABSENT_FOR));
        for (id, schema_json) in schemas {
            let writer = Writer::leak(*id, schema_json).map_err(|why| format!("schema {id} is {why}"))?;
            shared.state.write().known.insert(*id, writer);
        }
        // Nobody listens at the other end, so questions go nowhere.
        let (requests, _) = mpsc::unbounded_channel();
        Ok(Self { shared, requests })
    }

    /// What `id` means, from memory. Never blocks on the registry.
    pub fn writer(&self, id: u32) -> Lookup {
        if let Some(found) = self.shared.state.read().lookup(id, self.shared.absent_for) {
            return found;
        }
        if self.shared.state.write().begin(id) {
            // Without a worker there is nobody left to answer either: the process is on its way out.
            let _ = self.requests.send(Request::Schema(id));
        }
        Lookup::Pending
    }

    /// The id of this build's schema of a record in a topic (its full name in the cluster). Known after
    /// [`resolve`](Self::resolve).
    pub fn id_of(&self, topic: &str, record_full_name: &str) -> Option<u32> {
        self.shared.state.read().ids.get(topic)?.get(record_full_name).copied()
    }

    /// Learns the id of every record of every topic. Blocks for up to 15 s; call it at start, not on a thread that
    /// drives a runtime. With the registry down, the file of an earlier start is enough.
    pub fn resolve(&self, topology: &Topology) -> Result<(), ResolveError> {
        self.resolve_within(topology, RESOLVE_FOR)
    }

    /// The same with a deadline of the caller's.
    pub fn resolve_within(&self, topology: &Topology, limit: Duration) -> Result<(), ResolveError> {
        let wants = topology
            .subjects()
            .map(|(topic, record, subject)| Want { topic: topic.name.clone(), record, subject })
            .collect();
        let (reply, answer) = std_mpsc::sync_channel(1);
        let until = Instant::now() + limit;
        let gone = || ResolveError::Unreachable {
            url: self.shared.config.registry_url.clone(),
            why: "no answer in time".to_owned(),
        };
        self.requests.send(Request::Resolve { wants, until, reply }).map_err(|_| gone())?;
        // The worker keeps the deadline itself; the rest is for one call that is under way.
        answer.recv_timeout(limit + Duration::from_secs(5)).map_err(|_| gone())?
    }
}

/// What handle and worker share.
pub(super) struct Shared {
    pub(super) config: CacheConfig,
    absent_for: Duration,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<u32, &'static Writer>,
    pending: HashSet<u32>,
    absent: HashMap<u32, (String, Instant)>,
    /// topic -> full name of the record -> id
    ids: HashMap<String, HashMap<&'static str, u32>>,
    saved: Saved,
}

impl State {
    fn lookup(&self, id: u32, absent_for: Duration) -> Option<Lookup> {
        if let Some(writer) = self.known.get(&id) {
            return Some(Lookup::Known(writer));
        }
        match self.absent.get(&id) {
            Some((why, since)) if since.elapsed() < absent_for => Some(Lookup::Absent(why.clone())),
            _ => None,
        }
    }

    /// Whether the question about `id` has to be asked now.
    fn begin(&mut self, id: u32) -> bool {
        !self.known.contains_key(&id) && self.pending.len() < MOST_PENDING && self.pending.insert(id)
    }

    fn forget_oldest_absent(&mut self) {
        if self.absent.len() > MOST_ABSENT
            && let Some(oldest) = self.absent.iter().min_by_key(|(_, (_, since))| *since).map(|(id, _)| *id)
        {
            self.absent.remove(&oldest);
        }
    }
}

impl Shared {
    fn new(config: CacheConfig, absent_for: Duration) -> Self {
        let mut state = State { saved: config.file.as_deref().map(file::load).unwrap_or_default(), ..State::default() };
        for (id, schema_json) in &state.saved.schemas {
            match Writer::leak(*id, schema_json) {
                Ok(writer) => drop(state.known.insert(*id, writer)),
                Err(why) => tracing::warn!(id, why, "schema file holds something else, asking the registry instead"),
            }
        }
        Self { config, absent_for, state: RwLock::new(state) }
    }

    /// The registry gave the text of `id`.
    pub(super) fn learned(&self, id: u32, schema_json: &str) {
        match Writer::leak(id, schema_json) {
            Ok(writer) => {
                let mut state = self.state.write();
                state.known.insert(id, writer);
                state.pending.remove(&id);
                state.absent.remove(&id);
                state.saved.schemas.insert(id, schema_json.to_owned());
                drop(state);
                self.save();
            }
            Err(why) => self.refused(id, format!("schema {id} is {why}")),
        }
    }

    /// The registry gave a clear no for `id`.
    pub(super) fn refused(&self, id: u32, why: String) {
        let mut state = self.state.write();
        state.pending.remove(&id);
        state.absent.insert(id, (why, Instant::now()));
        state.forget_oldest_absent();
    }

    /// The registry gave the ids of everything wanted.
    pub(super) fn resolved(&self, found: &[(Want, u32)]) {
        let mut state = self.state.write();
        let contradicted = found.iter().any(|(want, id)| {
            let other_id = state.saved.subjects.get(&want.subject).is_some_and(|saved| saved != id);
            // The same subject gets a new id with a new schema; the same schema never does.
            let same_schema = other_id && state.writes(want, state.saved.subjects[&want.subject]);
            let other_meaning = state.known.contains_key(id) && !state.writes(want, *id);
            same_schema || other_meaning
        });
        if contradicted {
            tracing::warn!(url = self.config.registry_url, "the schema file is of another registry, forgetting it");
            state.known.clear();
            state.saved = Saved::default();
        }
        for (want, id) in found {
            state.assign(want, *id);
            state.saved.subjects.insert(want.subject.clone(), *id);
            if !state.known.contains_key(id)
                && let Ok(writer) = Writer::leak(*id, want.record.schema_json)
            {
                state.known.insert(*id, writer);
                state.saved.schemas.insert(*id, want.record.schema_json.to_owned());
            }
            state.absent.remove(id);
        }
        drop(state);
        self.save();
    }

    /// Takes the ids from the file, if it has all of them for this build's schemas.
    pub(super) fn resolved_from_file(&self, wants: &[Want]) -> bool {
        let mut state = self.state.write();
        let found: Option<Vec<u32>> = wants
            .iter()
            .map(|want| state.saved.subjects.get(&want.subject).copied().filter(|id| state.writes(want, *id)))
            .collect();
        let Some(ids) = found else { return false };
        for (want, id) in wants.iter().zip(ids) {
            state.assign(want, id);
        }
        true
    }

    fn save(&self) {
        let Some(path) = self.config.file.as_deref() else { return };
        let saved = self.state.read().saved.clone();
        if let Err(error) = file::save(path, &saved) {
            tracing::warn!(file = %path.display(), %error, "schema file cannot be written, the next start needs the registry");
        }
    }
}

impl State {
    /// Whether data of this build's schema can be framed with `id`: the schema known under it is the same.
    fn writes(&self, want: &Want, id: u32) -> bool {
        self.known.get(&id).is_some_and(|writer| writer.schema == (want.record.schema)())
    }

    fn assign(&mut self, want: &Want, id: u32) {
        self.ids.entry(want.topic.clone()).or_default().insert(want.record.full_name, id);
    }
}
