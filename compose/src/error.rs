//! What can go wrong with a stack, sorted by what the caller must do. Every message is one line: cause, then way out.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the stack.
#[expect(missing_docs, reason = "each field is a word of its variant's message")]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The caller chooses other arguments.
    /// An argument that cannot be used.
    #[error("{0}")]
    Usage(String),
    /// A port that somebody else listens on.
    #[error("port {port} for {part} is taken by {by}: stop that program, or choose other ports with --port-base")]
    PortTaken { port: u16, part: String, by: String },
    /// The stack is up, or coming up.
    #[error("{0}")]
    Running(String),
    /// Nothing runs in this directory.
    #[error("no stack runs in {}: start one with compose/up --dir {}", dir.display(), dir.display())]
    NotRunning { dir: PathBuf },

    /// Data that this version of the broker cannot read.
    #[error("the broker's data in {} was written by Kafka {written}, and this stack runs {ours}, which cannot read it: choose another place with --dir, or begin anew with --fresh, which forgets all earlier data", dir.display())]
    NewerData { dir: PathBuf, written: String, ours: String },

    // The caller repairs the machine.
    /// A program that is not there.
    #[error("{tool} is missing: {way_out}")]
    MissingTool { tool: String, way_out: String },
    /// Too little room.
    #[error("disk full: {} has {free_mb} MB free, of {needed_mb} MB that are needed: make room, or {way_out}", path.display())]
    DiskFull { path: PathBuf, free_mb: u64, needed_mb: u64, way_out: &'static str },
    /// A download that failed; the cache is as before.
    #[error("cannot download {what}: {cause}: check the network and run it again")]
    Download { what: String, cause: String },
    /// A file that is not the one on our list.
    #[error(
        "{file} has another SHA-256 than the list in compose/ says: it was not put into the cache; run it again, and if it stays so somebody changed it"
    )]
    Checksum { file: String },

    // The caller reads a log.
    /// A child that ended before it was ready.
    #[error("{name} died at its start ({how}): see {}{tail}", log.display())]
    ChildDied { name: String, how: String, log: PathBuf, tail: String },
    /// A child that lives and does not answer.
    #[error("{name} was not ready after {waited_s} s: see {}{tail}", log.display())]
    NotReady { name: String, waited_s: u64, log: PathBuf, tail: String },
    /// A step that failed, such as the creation of topics.
    #[error("{what} failed: see {}{tail}", log.display())]
    Step { what: String, log: PathBuf, tail: String },
    /// The user stopped it.
    #[error("stopped while starting")]
    Stopped,

    // The caller looks at the machine.
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// A file of ours that cannot be read.
    #[error("{} is no {what}: {cause}: {way_out}", path.display())]
    Broken { what: &'static str, path: PathBuf, cause: String, way_out: &'static str },
    /// Kafka refused a request of ours.
    #[error("kafka at {bootstrap}: cannot {doing}: {cause}")]
    Kafka { bootstrap: String, doing: String, cause: String },
    /// An HTTP request of ours failed.
    #[error("{url}: {cause}")]
    Http { url: String, cause: String },
    /// A condition that did not become true.
    #[error("not within {waited_ms} ms: {what}")]
    Deadline { what: String, waited_ms: u128 },
}

impl Error {
    /// For `map_err`: `fs::read(path).map_err(Error::io("read", path))`.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { doing, path, source }
    }
}
