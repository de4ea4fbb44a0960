//! What a child is: a program with arguments and an environment, how one sees that it is ready, how long it may take.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::health::Health;

/// A child of the supervisor.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its name in `stack.json`: `kafka`, `registry`, `processor-1`, `gateway-1`.
    pub name: String,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to the environment of the supervisor.
    pub env: Vec<(String, OsString)>,
    /// Working directory; exists.
    pub dir: PathBuf,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// Another file that holds its last words, if it writes a log of its own.
    pub own_log: Option<PathBuf>,
    /// How one sees that it is ready.
    pub health: Health,
    /// How long it may take to become ready.
    pub ready_within: Duration,
    /// How long it may take to end after SIGTERM, before SIGKILL.
    pub patience: Duration,
    /// Children of a lower rank are stopped first; of one rank, together.
    pub stop_rank: u8,
}

impl Spec {
    /// The order in which a stack is stopped: who depends on others goes first.
    pub fn stop_rank_of(name: &str) -> u8 {
        match name {
            "kafka" => 3,
            "registry" => 2,
            name if name.starts_with("processor") => 1,
            _ => 0,
        }
    }
}
