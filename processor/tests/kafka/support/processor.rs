//! A processor under test: started, killed and started again in its directory, with what its log and metrics say.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use kontor_compose::eventually;
use kontor_compose::testing::{Service, ServiceBuilder};
use serde_json::Value;

use super::{DEADLINE, PARTITIONS, Queries, READY, Stopwatch};

/// One processor of a [`super::Bank`]. Killed with its owner.
pub struct Processor {
    service: Service,
    /// Length of the log when this life began.
    log_from: usize,
}

/// What a shard says when its commands run.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Changelog records that its stores lacked.
    pub restored_records: u64,
    /// Time of the initialisation of its producer.
    pub init: Duration,
    /// Time from the initialisation to caught up.
    pub restore: Duration,
}

impl Processor {
    /// Starts it; it is not ready yet. Its log may hold the lives of others before it.
    pub fn launch(builder: ServiceBuilder, log: &Path) -> Processor {
        let log_from = std::fs::read_to_string(log).map_or(0, |text| text.len());
        Processor { service: builder.start().unwrap(), log_from }
    }

    /// Starts it again after its end.
    pub fn launch_again(&mut self) {
        self.log_from = self.service.log_text().len();
        self.service.start().unwrap();
    }

    /// Starts it again after its end, and waits until its commands run. Returns how long that took.
    pub async fn restart(&mut self) -> Duration {
        let watch = Stopwatch::start();
        self.launch_again();
        self.ready().await;
        watch.elapsed()
    }

    /// Waits until its commands run.
    pub async fn ready(&mut self) {
        self.service.wait_ready(READY).await.unwrap();
    }

    /// Waits until its commands run or it has ended. True: they run.
    pub async fn ready_or_ended(&mut self) -> bool {
        let watch = Stopwatch::start();
        loop {
            if self.status("/readyz").await == 200 {
                return true;
            }
            if self.ended().is_some() {
                return false;
            }
            assert!(watch.elapsed() < READY, "neither ready nor ended: {}", self.said());
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the history is complete too.
    pub async fn history_complete(&self) {
        let complete = || async {
            let (_, state) = self.readiness().await.unwrap_or_default();
            let partitions = state["partitions"].as_array().cloned().unwrap_or_default();
            !partitions.is_empty() && partitions.iter().all(|partition| partition["history_complete"] == true)
        };
        eventually(DEADLINE, "the history is complete", complete).await.unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.service.kill9();
    }

    /// SIGSTOP: it lives and does nothing.
    pub fn freeze(&self) {
        self.service.sigstop();
    }

    /// SIGCONT: it goes on where it was, and does not know that time passed.
    pub fn thaw(&self) {
        self.service.sigcont();
    }

    /// Waits until it has ended by itself, such as at a crash point.
    pub async fn end(&mut self) -> ExitStatus {
        self.service.wait_end(DEADLINE).await.unwrap()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.service.try_wait()
    }

    /// SIGTERM; how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.service.sigterm(DEADLINE).await.unwrap()
    }

    /// Whether it answers `/readyz` with success, and what it says there. `None` when it does not answer.
    pub async fn readiness(&self) -> Option<(bool, Value)> {
        let (status, body) = self.service.get("/readyz").await.ok()?;
        Some((status == 200, serde_json::from_str(&body).unwrap_or_default()))
    }

    /// The state of each partition by `/readyz`; empty when it does not answer.
    pub async fn states(&self) -> Vec<String> {
        let (_, state) = self.readiness().await.unwrap_or_default();
        let partitions = state["partitions"].as_array().cloned().unwrap_or_default();
        partitions.iter().map(|partition| partition["state"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Status of a GET on its HTTP address.
    pub async fn status(&self, path: &str) -> u16 {
        self.service.get(path).await.map_or(0, |(status, _)| status)
    }

    /// Sum over the labels of a counter; 0 when it was never counted.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.service.get("/metrics").await.unwrap();
        let of_line = |line: &str| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| line.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        };
        text.lines().filter_map(of_line).fold(0.0, |sum, value| sum + value)
    }

    /// What it has said in this life.
    pub fn said(&self) -> String {
        self.service.log_text().split_off(self.log_from)
    }

    /// Lines of this life that contain `part`.
    pub fn lines(&self, part: &str) -> Vec<String> {
        self.said().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    /// What each shard said when its commands began to run in this life.
    pub fn running(&self) -> Vec<Running> {
        let of_line = |line: String| {
            let number = |name: &str| {
                let (_, rest) = line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("{name} in {line}"));
                rest.split(' ').next().unwrap().parse::<u64>().unwrap()
            };
            Running {
                restored_records: number("restored_records"),
                init: Duration::from_millis(number("init_ms")),
                restore: Duration::from_millis(number("restore_ms")),
            }
        };
        self.lines(" running shard=").into_iter().map(of_line).collect()
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> i32 {
        self.service.pid().unwrap()
    }

    /// `host:port` of its query service.
    pub fn query_address(&self) -> String {
        self.service.grpc().trim_start_matches("http://").to_owned()
    }

    /// Where its stores are.
    pub fn state_dir(&self) -> PathBuf {
        self.service.state_dir()
    }

    /// Address of its services for gateways and other instances, `http://127.0.0.1:port`.
    pub fn grpc(&self) -> String {
        self.service.grpc()
    }

    /// A client of its query service.
    pub fn queries(&self) -> Queries {
        Queries::of(&self.service.grpc(), PARTITIONS)
    }
}
