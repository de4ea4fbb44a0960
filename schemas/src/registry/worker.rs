//! The thread that asks. It has a runtime of its own, so no service thread ever waits for the registry, and every
//! unknown id is chased by itself: one that gets no answer holds up no other.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use super::cache::{ResolveError, Shared};
use super::client::{Answer, CALL_TIMEOUT, RegistryClient};
use crate::records::RecordType;

/// A schema whose id is wanted.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) topic: String,
    pub(super) record: &'static RecordType,
    pub(super) subject: String,
}

/// What the handle asks for.
pub(super) enum Request {
    /// The schema of an id.
    Schema(u32),
    /// The ids of these schemas, until then.
    Resolve { wants: Vec<Want>, until: Instant, reply: SyncSender<Result<(), ResolveError>> },
}

/// Ends when every handle is gone, with all questions under way.
pub(super) fn start(
    shared: Arc<Shared>,
    client: RegistryClient,
    mut inbox: UnboundedReceiver<Request>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("schema-registry".to_owned()).spawn(move || {
        runtime.block_on(async {
            while let Some(request) = inbox.recv().await {
                let (shared, client) = (Arc::clone(&shared), client.clone());
                match request {
                    Request::Schema(id) => drop(tokio::spawn(chase(shared, client, id))),
                    Request::Resolve { wants, until, reply } => {
                        tokio::spawn(async move {
                            // The caller may have given up meanwhile.
                            let _ = reply.send(resolve(&shared, &client, wants, until).await);
                        });
                    }
                }
            }
        });
    })?;
    Ok(())
}

/// Asks until there is an answer.
async fn chase(shared: Arc<Shared>, client: RegistryClient, id: u32) {
    let mut pause = Pause::default();
    loop {
        match client.schema(id).await {
            Answer::Is(schema_json) => return shared.learned(id, &schema_json),
            Answer::No(why) => {
                tracing::warn!(id, why, "schema is absent");
                return shared.refused(id, why);
            }
            Answer::Unclear(why) => {
                if pause.is_first() {
                    tracing::warn!(id, why, "schema registry does not answer, records with this schema wait");
                }
                pause.wait().await;
            }
        }
    }
}

async fn resolve(
    shared: &Shared,
    client: &RegistryClient,
    wants: Vec<Want>,
    until: Instant,
) -> Result<(), ResolveError> {
    let mut pause = Pause::default();
    loop {
        let why = match ask_all(client, &wants).await {
            Answer::Is(found) => {
                shared.resolved(&found);
                return Ok(());
            }
            Answer::No(missing) => return Err(ResolveError::Missing(missing.lines().map(str::to_owned).collect())),
            Answer::Unclear(why) => why,
        };
        if shared.resolved_from_file(&wants) {
            tracing::warn!(why, "schema registry does not answer, going on with the ids of the schema file");
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(ResolveError::Unreachable { url: shared.config.registry_url.clone(), why });
        }
        pause.wait().await;
    }
}

/// All ids, or every missing one (a line each), or the first thing that was not clear.
async fn ask_all(client: &RegistryClient, wants: &[Want]) -> Answer<Vec<(Want, u32)>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    // All at once: a start waits for this.
    let ask = async |want: &Want| client.id_of(&want.subject, want.record.schema_json).await;
    let answers = futures_util::future::join_all(wants.iter().map(ask)).await;
    for (want, answer) in wants.iter().zip(answers) {
        match answer {
            Answer::Is(id) => found.push((want.clone(), id)),
            Answer::No(why) => missing.push(why),
            Answer::Unclear(why) => return Answer::Unclear(why),
        }
    }
    if missing.is_empty() { Answer::Is(found) } else { Answer::No(missing.join("\n")) }
}

/// The longest pause between two attempts. A registry that is back must be heard of within five seconds, because until
/// then partitions stand still, and the attempt before the pause may have hung for as long as a call may take. A registry
/// that has just started bears it: of each process it is asked about a few dozen schemas in a second at the most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const _: () = assert!(LONGEST_PAUSE.as_millis() + CALL_TIMEOUT.as_millis() < 5_000);

/// Doubling pauses, from a tenth of a second.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn is_first(&self) -> bool {
        self.0 == 0
    }

    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(100 << self.0.min(6)).min(LONGEST_PAUSE);
        self.0 = self.0.saturating_add(1);
        pause
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_short_however_long_an_outage_is() {
        let mut pause = Pause::default();
        let pauses: Vec<u128> = (0..6).map(|_| pause.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000]);
        pause.0 = u32::MAX;
        assert_eq!(pause.next(), LONGEST_PAUSE);
    }
}
