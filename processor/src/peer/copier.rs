//! The taking side: the files of a peer's checkpoint, piece by piece, into a directory beside the stores.
//!
//! Called on a shard's thread, which waits here for the network as it waits elsewhere for Kafka: for a short while, and
//! looking again and again whether its role is still the same. A piece that came damaged, or a stream that was cut, is
//! asked for again from there. It judges no contents (the store does, when it is opened) and keeps nothing of a copy that
//! did not come to its end.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use schemas::peer::peer_client::PeerClient;
use schemas::peer::{Chunk, File, FilesRequest, FilesResponse, ReadRequest};
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

use super::checksum;
use super::pace::time_of;
use crate::clock::SharedClock;

/// Between two looks whether to go on.
const LOOK: Duration = Duration::from_millis(50);
/// Before a file is asked for again.
const RESUME_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that may be under way: at a millisecond of distance enough for any rate.
const WINDOW_BYTES: u32 = 2 << 20;

/// Copies stores from peers. See the module.
pub struct Copier {
    runtime: Handle,
    clock: SharedClock,
    directory: PathBuf,
    pub(super) records_min: u64,
}

/// A copy that is wanted.
pub(super) struct Wish<'w> {
    pub partition: i32,
    /// Address of a peer, `http://host:port`.
    pub from: &'w str,
    /// Commands wait for it.
    pub urgent: bool,
    /// Whether it is worth so many bytes at so many per second; why not.
    pub judge: &'w dyn Fn(u64, u64) -> Result<(), String>,
    /// False: it is not wanted any more.
    pub go_on: &'w dyn Fn() -> bool,
}

/// A copy that came to its end; nobody has looked into it yet.
#[derive(Debug)]
pub(super) struct Copied {
    pub directory: PathBuf,
    pub files: usize,
    pub bytes: u64,
    pub took: Duration,
}

/// Why there is no copy.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is not wanted any more.
    Released,
    /// The changelog is quicker.
    NotWorth(String),
    /// Another peer may do better.
    Peer(String),
    /// No copy can be made here.
    Here(String),
}

/// How long to put up with what.
struct Patience {
    /// Without a word from the peer.
    silence: Duration,
    /// Times that a file is asked for again.
    resumes: u32,
    /// The whole may take so many times what it takes at the peer's rate, …
    factor: u32,
    /// … and so much more.
    slack: Duration,
}

const PATIENT: Patience =
    Patience { silence: Duration::from_secs(5), resumes: 5, factor: 4, slack: Duration::from_secs(15) };
const URGENT: Patience =
    Patience { silence: Duration::from_secs(1), resumes: 1, factor: 2, slack: Duration::from_secs(2) };

impl Copier {
    pub(super) fn new(runtime: Handle, clock: SharedClock, directory: PathBuf, records_min: u64) -> Copier {
        Copier { runtime, clock, directory, records_min }
    }

    /// Copies the files of a checkpoint of the partition. Not for async threads.
    pub(super) fn copy(&self, wish: &Wish<'_>) -> Result<Copied, Failure> {
        let directory = self.directory.join(format!("partition-{}", wish.partition));
        let began = self.clock.monotonic();
        let patience = if wish.urgent { URGENT } else { PATIENT };
        let until = began + patience.slack;
        let resumes_left = patience.resumes;
        let mut copying = Copying { copier: self, wish, patience, until, resumes_left, directory };
        let copied = copying.run();
        let directory = copying.directory;
        match copied {
            Ok((files, bytes)) => {
                Ok(Copied { directory, files, bytes, took: self.clock.monotonic().saturating_sub(began) })
            }
            Err(failure) => {
                discard(&directory);
                Err(failure)
            }
        }
    }
}

/// Removes a copy that is worth nothing.
pub(super) fn discard(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        let directory = directory.display();
        tracing::warn!(%directory, %error, "what was copied is not removed; the next start removes it");
    }
}

/// What comes up while the peer is asked.
enum Trouble {
    /// As many copies as it allows are being made.
    Busy,
    /// Ask again from there.
    Cut(String),
    Failed(Failure),
}

/// One copy under way.
struct Copying<'c> {
    copier: &'c Copier,
    wish: &'c Wish<'c>,
    patience: Patience,
    /// Monotonic time at which it is given up.
    until: Duration,
    resumes_left: u32,
    directory: PathBuf,
}

impl Copying<'_> {
    fn run(&mut self) -> Result<(usize, u64), Failure> {
        let mut client = self.connect().map_err(Trouble::into_failure)?;
        let (mut asked, request) = (client.clone(), FilesRequest { partition: self.wish.partition });
        let offered = self.wait(async move { asked.files(request).await.map(Response::into_inner) });
        let offer = offered.map_err(Trouble::into_failure)?;
        let bytes = total_bytes(&offer).map_err(Failure::Peer)?;
        (self.wish.judge)(bytes, offer.bytes_per_second).map_err(Failure::NotWorth)?;
        self.until += time_of(bytes, offer.bytes_per_second).saturating_mul(self.patience.factor);
        discard(&self.directory);
        fs::create_dir_all(&self.directory).map_err(|error| here(&self.directory, &error))?;
        for file in &offer.files {
            self.file(&mut client, &offer.checkpoint, file)?;
        }
        Ok((offer.files.len(), bytes))
    }

    fn connect(&self) -> Result<PeerClient<Channel>, Trouble> {
        let bad = |error: tonic::transport::Error| Trouble::Failed(Failure::Peer(error.to_string()));
        let endpoint = Endpoint::from_shared(self.wish.from.to_owned()).map_err(bad)?;
        let endpoint = endpoint
            .connect_timeout(self.patience.silence)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let connected = async move { endpoint.connect().await.map_err(|error| Status::unavailable(text_of(&error))) };
        self.wait(connected).map(PeerClient::new)
    }

    /// One file, from as many streams as it takes.
    fn file(&mut self, client: &mut PeerClient<Channel>, checkpoint: &str, file: &File) -> Result<(), Failure> {
        let path = self.directory.join(&file.name);
        let mut out = fs::File::create(&path).map_err(|error| here(&path, &error))?;
        let mut at = 0;
        while at < file.bytes {
            match self.stream(client, checkpoint, file, (&mut out, &mut at)) {
                Ok(()) => {}
                Err(Trouble::Failed(failure)) => return Err(failure),
                Err(Trouble::Busy) => {}
                Err(Trouble::Cut(reason)) if self.resumes_left == 0 => {
                    return Err(Failure::Peer(format!("{} at {at}: {reason}", file.name)));
                }
                Err(Trouble::Cut(reason)) => {
                    self.resumes_left -= 1;
                    tracing::debug!(file = file.name, at, reason, "a copy is resumed");
                }
            }
            if at < file.bytes {
                self.still_in_time()?;
                self.copier.clock.pause(RESUME_PAUSE);
            }
        }
        // The store trusts that its tables are on the disk.
        out.sync_data().map_err(|error| here(&path, &error))
    }

    /// The rest of a file, as far as it comes.
    fn stream(
        &self,
        client: &mut PeerClient<Channel>,
        checkpoint: &str,
        file: &File,
        (out, at): (&mut fs::File, &mut u64),
    ) -> Result<(), Trouble> {
        let request = ReadRequest { checkpoint: checkpoint.to_owned(), name: file.name.clone(), offset: *at };
        let mut chunks: Streaming<Chunk> =
            self.wait(async move { client.read(request).await.map(Response::into_inner) })?;
        while *at < file.bytes {
            let Some(chunk) = self.wait(chunks.message())? else {
                return Err(Trouble::Cut("the stream ended before the file".to_owned()));
            };
            if chunk.data.is_empty() || checksum(&file.name, *at, &chunk.data) != chunk.checksum {
                return Err(Trouble::Cut("a piece came damaged".to_owned()));
            }
            let bytes = chunk.data.len() as u64;
            if *at + bytes > file.bytes {
                let more = format!("{} holds more than its {} bytes", file.name, file.bytes);
                return Err(Trouble::Failed(Failure::Peer(more)));
            }
            out.write_all(&chunk.data)
                .map_err(|error| Trouble::Failed(here(&self.directory.join(&file.name), &error)))?;
            *at += bytes;
            metrics::counter!("kontor_peer_bytes_total", "direction" => "in").increment(bytes);
            self.still_in_time().map_err(Trouble::Failed)?;
        }
        Ok(())
    }

    fn still_in_time(&self) -> Result<(), Failure> {
        let late = self.copier.clock.monotonic() >= self.until;
        if late { Err(Failure::Peer("it takes too long".to_owned())) } else { Ok(()) }
    }

    /// The peer's answer, for as long as the copy is wanted and the peer is not silent for too long.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Trouble> {
        let mut answer = pin!(answer);
        let asked_at = self.copier.clock.monotonic();
        loop {
            if !(self.wish.go_on)() {
                return Err(Trouble::Failed(Failure::Released));
            }
            let looked = async { tokio::time::timeout(LOOK, answer.as_mut()).await };
            match self.copier.runtime.block_on(looked) {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => return Err(trouble_of(&status)),
                Err(_) => {}
            }
            if self.copier.clock.monotonic().saturating_sub(asked_at) >= self.patience.silence {
                return Err(Trouble::Cut("no word from the peer".to_owned()));
            }
        }
    }
}

impl Trouble {
    /// Where there is nothing to resume.
    fn into_failure(self) -> Failure {
        match self {
            Trouble::Busy => Failure::Peer("it is busy".to_owned()),
            Trouble::Cut(reason) => Failure::Peer(reason),
            Trouble::Failed(failure) => failure,
        }
    }
}

fn trouble_of(status: &Status) -> Trouble {
    let said = format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::ResourceExhausted => Trouble::Busy,
        // An older build, another checkpoint: to ask again is no use.
        Code::Unimplemented | Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition => {
            Trouble::Failed(Failure::Peer(said))
        }
        _ => Trouble::Cut(said),
    }
}

/// With its causes: the transport's own text only says that something failed.
fn text_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn here(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Here(format!("{}: {error}", path.display()))
}

/// Checks what is offered: plain names, each once, in a total that can be counted.
fn total_bytes(offer: &FilesResponse) -> Result<u64, String> {
    let mut names = BTreeSet::new();
    let mut total: u64 = 0;
    for File { name, bytes } in &offer.files {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) || !names.insert(name) {
            return Err(format!("it offers a file named {name:?}"));
        }
        total = total.checked_add(*bytes).ok_or("it offers more bytes than there are")?;
    }
    if offer.files.is_empty() { Err("it offers no files".to_owned()) } else { Ok(total) }
}
