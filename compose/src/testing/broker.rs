//! A broker of one test's own, beside the suite's: for restarts, kills and cuts that the other tests must not feel.
//!
//! It has its own ports and directory and shares the suite's registry, whose subjects have the prefix of the name space.
//! It carries the mark of the suite's stack, so that `stack down` ends it too when the test was killed. A link is one
//! more way in: a listener whose advertised address is a relay, so that a client that was given the relay stays on it.

use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::process::Signal;

use crate::config::{Config, Selection};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::health;
use crate::ports::{Ports, free_port};
use crate::process::{LOOK_INTERVAL, MARK_DIR, MARK_NAME, Process};
use crate::spec::Spec;
use crate::testing::{Proxy, TestStack};
use crate::{java, kafka};

/// See the module. Ends with its owner; drop the name spaces on it first.
pub struct Broker {
    /// Ways in through relays; the address of one is the bootstrap address of whoever is to use it.
    pub links: Vec<Proxy>,
    stack: TestStack,
    spec: Spec,
    dir: PathBuf,
    child: Option<(Child, Process)>,
}

impl Broker {
    /// Starts one and waits until it takes requests. It has `links` ways in through relays beside its own address.
    pub async fn start(suite: &TestStack, name: &str, links: usize) -> Result<Self> {
        let (suite, name) = (suite.clone(), name.to_string());
        let prepared = tokio::task::spawn_blocking(move || Self::prepare(&suite, &name, links)).await;
        let mut broker =
            prepared.unwrap_or_else(|error| Err(Error::Usage(format!("preparing a broker failed: {error}"))))?;
        broker.start_again().await?;
        Ok(broker)
    }

    fn prepare(suite: &TestStack, name: &str, links: usize) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = suite.dir.join("tests").join(format!("broker-{}-{number}-{name}", std::process::id()));
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).map_err(Error::io("create", &logs))?;
        let console = Console::terminal();
        let (java, libs) = (java::find_or_fetch(&console)?, kafka::fetch(&console)?);
        let config = Config {
            dir: dir.clone(),
            ports: Ports::free()?,
            gateways: 1,
            instances: 1,
            parts: Selection::only(&["kafka".to_string()])?,
            prefix: String::new(),
            for_tests: true,
        };
        kafka::prepare(&config, &java, &libs)?;
        let links = add_links(&config, links)?;
        let stack = TestStack { bootstrap: config.bootstrap(), ..suite.clone() };
        let spec = Spec { name: format!("kafka-{name}"), ..kafka::spec(&config, &java, &libs) };
        Ok(Self { links, stack, spec, dir, child: None })
    }

    /// The suite's stack with this broker instead of the suite's, for name spaces on it.
    pub fn stack(&self) -> &TestStack {
        &self.stack
    }

    /// Where it keeps its topics, a directory for each partition.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("kafka/data")
    }

    /// Starts it after its end, with its data, and waits until it takes requests.
    pub async fn start_again(&mut self) -> Result<()> {
        self.kill9();
        self.launch()?;
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Err(self.died(status));
            }
            let health = self.spec.health.clone();
            if tokio::task::spawn_blocking(move || health.probe()).await.unwrap_or(false) {
                return Ok(());
            }
            if began.elapsed() >= self.spec.ready_within {
                let (name, log) = (self.spec.name.clone(), self.spec.log.clone());
                let waited_s = self.spec.ready_within.as_secs();
                return Err(Error::NotReady { name, waited_s, tail: health::tail(&log, 8), log });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn launch(&mut self) -> Result<()> {
        let spec = &self.spec;
        let log = OpenOptions::new().create(true).append(true).open(&spec.log);
        let log = log.map_err(Error::io("open", &spec.log))?;
        let errors = log.try_clone().map_err(Error::io("open", &spec.log))?;
        let child = Command::new(&spec.program)
            .args(&spec.args)
            .env(MARK_DIR, &self.stack.dir)
            .env(MARK_NAME, &spec.name)
            .current_dir(&spec.dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(Error::io("start", &spec.program))?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let process = Process::of_pid(pid).unwrap_or(Process { pid, started_ticks: 0 });
        self.child = Some((child, process));
        Ok(())
    }

    fn died(&self, status: ExitStatus) -> Error {
        let how = format!("exit code {:?}, signal {:?}", status.code(), status.signal());
        let (name, log) = (self.spec.name.clone(), self.spec.log.clone());
        Error::ChildDied { name, how, tail: health::tail(&log, 8), log }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let (child, _) = self.child.as_mut()?;
        child.try_wait().ok().flatten()
    }

    /// SIGTERM, and waits until it has shut down by itself.
    pub async fn stop(&mut self) -> Result<()> {
        let Some((_, process)) = self.child.as_ref() else { return Ok(()) };
        process.signal(Signal::TERM);
        let began = Instant::now();
        loop {
            match self.ended() {
                // What a Java machine ends with that was asked to.
                Some(status) if status.code() == Some(128 + Signal::TERM.as_raw()) => break,
                Some(status) => return Err(self.died(status)),
                None if began.elapsed() >= self.spec.patience => {
                    let what = format!("{} ends after SIGTERM", self.spec.name);
                    return Err(Error::Deadline { what, waited_ms: began.elapsed().as_millis() });
                }
                None => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
        self.child = None;
        Ok(())
    }

    /// Whether one of its logs says this.
    pub fn has_said(&self, text: &str) -> bool {
        let logs = fs::read_dir(self.dir.join("logs")).into_iter().flatten().flatten();
        let mut texts = logs.filter_map(|log| fs::read(log.path()).ok());
        texts.any(|log| String::from_utf8_lossy(&log).contains(text))
    }

    /// SIGKILL, and waits until the kernel has taken it. Nothing when it has ended already.
    pub fn kill9(&mut self) {
        if let Some((mut child, process)) = self.child.take() {
            process.signal(Signal::KILL);
            let _ = child.wait();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("logs of a broker: {}", self.dir.join("logs").display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// One more listener for each link, told under the address of its relay. Of two lines with the same key the later counts.
fn add_links(config: &Config, links: usize) -> Result<Vec<Proxy>> {
    let (broker, controller) = (config.ports.kafka(), config.ports.controller());
    let mut listeners = format!("listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}");
    let mut advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{broker}");
    let mut protocols = "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_string();
    let mut proxies = Vec::new();
    for link in 0..links {
        let port = free_port()?;
        let proxy = Proxy::start(&format!("127.0.0.1:{port}"))?;
        listeners.push_str(&format!(",LINK{link}://127.0.0.1:{port}"));
        advertised.push_str(&format!(",LINK{link}://{}", proxy.address));
        protocols.push_str(&format!(",LINK{link}:PLAINTEXT"));
        proxies.push(proxy);
    }
    if links > 0 {
        let path = config.dir.join("kafka/server.properties");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let text = format!("{text}{listeners}\n{advertised}\n{protocols}\ninter.broker.listener.name=PLAINTEXT\n");
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    Ok(proxies)
}
