//! A processor or a gateway as a child of a test: killed, stopped, continued, restarted at will, and gone with the
//! test. Its log is kept by the name space.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::{Error, Result};
use crate::health;
use crate::ports::free_port;
use crate::process::{LOOK_INTERVAL, MARK_DIR, MARK_NAME, Process};
use crate::services::{self, Surroundings};
use crate::testing::GraphQl;

/// How often another process may take a port in the moment between its choice and its use.
const PORT_ATTEMPTS: u32 = 3;

/// What kind of service it is.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// Needs the path of the token secret.
    Processor { secret: PathBuf },
    /// Is told these processors; empty: none.
    Gateway { processors: String },
}

/// Choices before a service starts.
#[derive(Debug, Clone)]
pub struct ServiceBuilder {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) program: PathBuf,
    pub(super) around: Surroundings,
    /// Directory of this service.
    pub(super) dir: PathBuf,
    pub(super) log: PathBuf,
    /// Directory of the suite's stack: the mark by which `stack down` finds what a killed test left.
    pub(super) mark: PathBuf,
    pub(super) env: Vec<(String, OsString)>,
}

impl ServiceBuilder {
    /// Sets a variable of its environment, also one that the name space would set.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.env.push((key.to_string(), value.into()));
        self
    }

    /// Runs another program of the same directory, such as one with crash points.
    #[must_use]
    pub fn program(mut self, name: &str) -> Self {
        self.program.set_file_name(name);
        self
    }

    /// Keeps its state elsewhere, such as in the directory of an instance before it.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = dir.to_path_buf();
        self
    }

    /// Starts it; it is not ready yet.
    pub fn start(self) -> Result<Service> {
        if !self.program.exists() {
            return Err(Error::MissingTool {
                tool: self.program.display().to_string(),
                way_out: "build it first (compose/test does), or set KONTOR_BIN_DIR".into(),
            });
        }
        fs::create_dir_all(&self.dir).map_err(Error::io("create", &self.dir))?;
        let mut service = Service { http: free_port()?, grpc: free_port()?, chosen: self, child: None, ended: None };
        service.start()?;
        Ok(service)
    }
}

/// A running service, or one that was killed and may be started again. Ends with its owner.
#[derive(Debug)]
pub struct Service {
    chosen: ServiceBuilder,
    http: u16,
    grpc: u16,
    child: Option<(Child, Process)>,
    ended: Option<ExitStatus>,
}

impl Service {
    /// Starts it again after its end, with the same directory and the same ports.
    pub fn start(&mut self) -> Result<()> {
        self.kill9();
        let chosen = &self.chosen;
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).open(&chosen.log);
        let log = log.map_err(Error::io("open", &chosen.log))?;
        let errors = log.try_clone().map_err(Error::io("open", &chosen.log))?;
        let mut command = Command::new(&chosen.program);
        if matches!(chosen.role, Role::Processor { .. }) {
            command.arg("run");
        }
        let child = command
            .envs(self.environment())
            .envs(chosen.env.iter().map(|(key, value)| (key, value)))
            .env(MARK_DIR, &chosen.mark)
            .env(MARK_NAME, &chosen.name)
            .current_dir(&chosen.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::io("start", &chosen.program))?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        // Until it is waited for, even a child that ended keeps its number.
        let process = Process::of_pid(pid).unwrap_or(Process { pid, started_ticks: 0 });
        self.child = Some((child, process));
        self.ended = None;
        Ok(())
    }

    fn environment(&self) -> Vec<(String, OsString)> {
        let chosen = &self.chosen;
        match &chosen.role {
            Role::Processor { secret } => {
                services::processor_environment(&chosen.around, &chosen.dir, self.grpc, self.http, secret)
            }
            Role::Gateway { processors } => {
                let mut all = services::gateway_environment(&chosen.around, &chosen.dir, self.http);
                let told = (!processors.is_empty()).then(|| ("KONTOR_PROCESSORS".to_string(), processors.into()));
                all.extend(told);
                all
            }
        }
    }

    /// Waits until `/readyz` answers with success.
    ///
    /// # Errors
    /// When it ends before, or is not ready within `deadline`; with the last lines of its log.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let began = Instant::now();
        let mut attempts = 1;
        loop {
            if let Some(status) = self.try_wait() {
                if attempts < PORT_ATTEMPTS && self.lost_its_port() {
                    attempts += 1;
                    (self.http, self.grpc) = (free_port()?, free_port()?);
                    self.start()?;
                    continue;
                }
                return Err(self.died(status));
            }
            if health::http_ok(&format!("{}/readyz", self.http())).await {
                return Ok(());
            }
            if began.elapsed() >= deadline {
                return Err(Error::NotReady {
                    name: self.chosen.name.clone(),
                    waited_s: deadline.as_secs(),
                    log: self.chosen.log.clone(),
                    tail: health::tail(&self.chosen.log, 8),
                });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn lost_its_port(&self) -> bool {
        health::tail(&self.chosen.log, 8).to_lowercase().contains("address already in use")
    }

    fn died(&self, status: ExitStatus) -> Error {
        Error::ChildDied {
            name: self.chosen.name.clone(),
            how: match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            },
            log: self.chosen.log.clone(),
            tail: health::tail(&self.chosen.log, 8),
        }
    }

    /// How it ended, if it did.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        if let Some((child, _)) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            self.ended = Some(status);
            self.child = None;
        }
        self.ended
    }

    /// Waits for its end, such as after a crash point or SIGTERM.
    pub async fn wait_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.try_wait() {
                return Ok(status);
            }
            if began.elapsed() >= deadline {
                return Err(Error::Deadline {
                    what: format!("{} has ended", self.chosen.name),
                    waited_ms: deadline.as_millis(),
                });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// SIGKILL, and waits until the kernel has taken it. Nothing when it has ended already.
    pub fn kill9(&mut self) {
        if let Some((mut child, process)) = self.child.take() {
            // A process that is stopped heeds SIGKILL too.
            process.signal(Signal::KILL);
            self.ended = child.wait().ok();
        }
    }

    /// SIGTERM, and waits for the end: how it ended within `deadline`.
    pub async fn sigterm(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait_end(deadline).await
    }

    /// SIGSTOP: it lives and does nothing.
    pub fn sigstop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on as if no time had passed.
    pub fn sigcont(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some((_, process)) = &self.child {
            process.signal(signal);
        }
    }

    /// Its name within its name space; an instance's is the same.
    pub fn name(&self) -> &str {
        &self.chosen.name
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|(_, process)| process.pid)
    }

    /// `http://127.0.0.1:port`: health and metrics, and for a gateway GraphQL.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// `http://127.0.0.1:port` of a processor's queries.
    pub fn grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// A client of this gateway.
    pub fn graphql(&self) -> GraphQl {
        GraphQl::new(&self.http())
    }

    /// Its directory; a processor's state is under `state`.
    pub fn dir(&self) -> &Path {
        &self.chosen.dir
    }

    /// Where a processor keeps its stores.
    pub fn state_dir(&self) -> PathBuf {
        self.chosen.dir.join("state")
    }

    /// Everything it has said so far, over all its lives.
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.chosen.log).unwrap_or_default()
    }

    /// The body of a GET on its HTTP port, such as `/metrics`, with the status.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let url = format!("{}{path}", self.http());
        health::get(&url).await.map_err(|error| Error::Http { url, cause: error.without_url().to_string() })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Waits until each of several services is ready, such as all instances of a topology.
///
/// # Errors
/// That of the first that is not, within `deadline` for all together.
pub async fn all_ready(services: &mut [Service], deadline: Duration) -> Result<()> {
    let began = Instant::now();
    for service in services {
        service.wait_ready(deadline.saturating_sub(began.elapsed())).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
