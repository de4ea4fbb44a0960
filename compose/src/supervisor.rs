//! Starts children, waits until they are ready, restarts those that die, lets one leave, stops all in order.
//!
//! One thread waits for each child's end and one probes each child that is not ready yet; both only send events. The
//! decisions are taken in one place, one event after the other. Every child is written into `stack.json` right after
//! its start and carries the stack's mark in its environment from before it, so that a `down` finds it even if this
//! process is killed in between.

mod leaving;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::console::Console;
use crate::error::{Error, Result};
use crate::health;
use crate::process::{LOOK_INTERVAL, MARK_DIR, MARK_NAME, Process};
use crate::spec::Spec;
use crate::stackfile::StackFile;

const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);
/// A child that lived this long starts again without having its earlier deaths held against it.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);
/// A log larger than this is put aside when its child starts.
const LONGEST_LOG_BYTES: u64 = 20 * 1024 * 1024;

/// What the supervisor hears.
#[expect(missing_docs, reason = "name and pid are the child's")]
#[derive(Debug)]
pub enum Event {
    /// A child answered its probe for the first time.
    Ready { name: String, pid: i32 },
    /// A child ended.
    Ended { name: String, pid: i32, status: ExitStatus },
    /// Somebody wants the stack to stop; a second time, at once.
    Stop,
}

/// The children and what is known of them.
pub struct Supervisor<'a> {
    console: &'a Console,
    file: StackFile,
    children: BTreeMap<String, Supervised>,
    /// The last attempt to write the file failed.
    unwritten: bool,
    events: (Sender<Event>, Receiver<Event>),
}

struct Supervised {
    spec: Spec,
    /// None between a death and the restart.
    running: Option<Running>,
    restart_at: Option<Instant>,
    deaths: u32,
    /// Set once it was dismissed.
    leaving: Option<Leaving>,
}

/// Of a child that was told to end while the others go on.
struct Leaving {
    since: Instant,
    /// When its patience is over; None once it was killed.
    kill_at: Option<Instant>,
}

struct Running {
    process: Process,
    since: Instant,
    ready: bool,
    /// Tells the probing thread that its answer is no longer wanted.
    over: Arc<AtomicBool>,
}

impl<'a> Supervisor<'a> {
    /// Nothing runs yet. `file` says where the parts will be; their pids are filled in here.
    pub fn new(console: &'a Console, file: StackFile) -> Self {
        Self { console, file, children: BTreeMap::new(), unwritten: false, events: channel() }
    }

    /// For signal handlers.
    pub fn sender(&self) -> Sender<Event> {
        self.events.0.clone()
    }

    /// What `stack.json` says now.
    pub fn file(&mut self) -> &mut StackFile {
        &mut self.file
    }

    /// Writes `stack.json`. That it cannot be written, as on a full disk, is said once and ends nothing: the children go
    /// on, and `watch` tries again.
    fn note(&mut self) {
        match self.file.write() {
            Ok(()) => self.unwritten = false,
            Err(error) if !self.unwritten => {
                self.unwritten = true;
                self.console.say(format!("{error}: everything goes on, and it is tried again"));
            }
            Err(_) => {}
        }
    }

    /// Starts a child; it is not ready yet.
    pub fn start(&mut self, spec: Spec) -> Result<()> {
        let name = spec.name.clone();
        let running = self.spawn(&spec)?;
        let supervised = Supervised { spec, running: Some(running), restart_at: None, deaths: 0, leaving: None };
        self.children.insert(name, supervised);
        Ok(())
    }

    fn spawn(&mut self, spec: &Spec) -> Result<Running> {
        let child = launch(spec, &self.file)?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        // A child that is gone already has no start time; its end arrives as an event.
        let process = Process::of_pid(pid).unwrap_or(Process { pid, started_ticks: 0 });
        if let Some(part) = self.file.part_mut(&spec.name) {
            part.pid = Some(pid);
            part.started_ticks = Some(process.started_ticks);
            part.ready = false;
        }
        let over = Arc::new(AtomicBool::new(false));
        self.wait_for_end(spec.name.clone(), child, Arc::clone(&over));
        self.probe_until_ready(spec, pid, Arc::clone(&over));
        self.note();
        Ok(Running { process, since: Instant::now(), ready: false, over })
    }

    fn wait_for_end(&self, name: String, mut child: Child, over: Arc<AtomicBool>) {
        let events = self.sender();
        std::thread::spawn(move || {
            let pid = i32::try_from(child.id()).unwrap_or_default();
            let status = child.wait().unwrap_or_default();
            over.store(true, Ordering::Release);
            let _ = events.send(Event::Ended { name, pid, status });
        });
    }

    fn probe_until_ready(&self, spec: &Spec, pid: i32, over: Arc<AtomicBool>) {
        let (events, name, health) = (self.sender(), spec.name.clone(), spec.health.clone());
        std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                if health.probe() {
                    let _ = events.send(Event::Ready { name, pid });
                    return;
                }
                std::thread::sleep(LOOK_INTERVAL);
            }
        });
    }

    /// Waits until every child is ready. The first that dies or is too late is the error.
    pub fn wait_all_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let waiting = self.children.values().filter(|c| !c.is_ready());
            let Some(late) = waiting.min_by_key(|c| c.spec.ready_within) else {
                return Ok(());
            };
            let left = late.spec.ready_within.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(late.spec.not_ready());
            }
            match self.events.1.recv_timeout(left) {
                Ok(Event::Ready { name, pid }) => self.note_ready(&name, pid),
                Ok(Event::Ended { name, pid, status }) => {
                    if let Some(spec) = self.note_end(&name, pid) {
                        return Err(spec.died(status));
                    }
                }
                Ok(Event::Stop) => return Err(Error::Stopped),
                Err(_) => {}
            }
        }
    }

    fn note_ready(&mut self, name: &str, pid: i32) {
        let Some(running) = self.running_mut(name, pid) else {
            return;
        };
        running.ready = true;
        let seconds = running.since.elapsed().as_secs_f64();
        let again = if self.children.get(name).is_some_and(|c| c.deaths > 0) { " again" } else { "" };
        // Said before it is written: who waits for it in the file finds it in the log.
        self.console.say(format!("{name} is ready{again} after {seconds:.1} s (pid {pid})"));
        if let Some(part) = self.file.part_mut(name) {
            part.ready = true;
        }
        self.note();
    }

    fn running_mut(&mut self, name: &str, pid: i32) -> Option<&mut Running> {
        let running = self.children.get_mut(name)?.running.as_mut()?;
        (running.process.pid == pid).then_some(running)
    }

    /// Forgets the process of a child that ended; gives the child, unless the news is old.
    fn note_end(&mut self, name: &str, pid: i32) -> Option<Spec> {
        self.running_mut(name, pid)?;
        let child = self.children.get_mut(name)?;
        let lived = child.running.take()?.since.elapsed();
        child.deaths = if lived >= FORGIVEN_AFTER { 1 } else { child.deaths + 1 };
        if let Some(part) = self.file.part_mut(name) {
            part.forget_process();
        }
        Some(child.spec.clone())
    }

    /// Watches for `span`, restarts what dies and lets go what was dismissed. False once somebody wants it to stop.
    pub fn watch(&mut self, span: Duration) -> bool {
        if self.unwritten {
            self.note();
        }
        let until = Instant::now() + span;
        while Instant::now() < until {
            let next = self.children.values().filter_map(Supervised::next_deed).min();
            let wait = next.unwrap_or(until).min(until).saturating_duration_since(Instant::now());
            match self.events.1.recv_timeout(wait) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Event::Ready { name, pid }) => self.note_ready(&name, pid),
                Ok(Event::Ended { name, pid, status }) => self.after_end(&name, pid, status),
                Err(RecvTimeoutError::Timeout) => {
                    self.kill_overdue();
                    self.restart_due();
                }
            }
        }
        true
    }

    fn after_end(&mut self, name: &str, pid: i32, status: ExitStatus) {
        let Some(spec) = self.note_end(name, pid) else {
            return;
        };
        match self.children.get(name).and_then(|c| c.leaving.as_ref()) {
            Some(leaving) => {
                self.say_stopped(name, pid, leaving.since, status);
                self.let_go(name)
            }
            None => self.plan_restart(&spec, pid, status),
        }
    }

    fn plan_restart(&mut self, spec: &Spec, pid: i32, status: ExitStatus) {
        let name = &spec.name;
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        let pause = back_off(child.deaths);
        child.restart_at = Some(Instant::now() + pause);
        self.console.say(format!(
            "{name} (pid {pid}) died: {}; starting it again in {:.1} s; see {}{}",
            how(status),
            pause.as_secs_f64(),
            spec.shown_log().display(),
            health::tail(spec.shown_log(), 1),
        ));
        self.note();
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        let due = |c: &&Supervised| c.restart_at.is_some_and(|at| at <= now);
        let specs: Vec<Spec> = self.children.values().filter(due).map(|c| c.spec.clone()).collect();
        for spec in specs {
            if let Some(part) = self.file.part_mut(&spec.name) {
                part.restarts += 1;
            }
            let started = self.spawn(&spec);
            let Some(child) = self.children.get_mut(&spec.name) else {
                continue;
            };
            match started {
                Ok(running) => {
                    child.running = Some(running);
                    child.restart_at = None;
                }
                // Such as a machine out of memory or processes: it may pass.
                Err(error) => {
                    child.deaths += 1;
                    child.restart_at = Some(now + back_off(child.deaths));
                    self.console.say(format!("{}: {error}", spec.name));
                }
            }
        }
    }

    /// Stops every child, who depends on others first: SIGTERM, then SIGKILL when its patience is over or when
    /// somebody wants the stack to stop a second time.
    pub fn stop_all(&mut self) {
        let mut ranks: Vec<u8> = self.children.values().map(|c| c.spec.stop_rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        for child in self.children.values_mut() {
            child.restart_at = None;
        }
        let mut hurry = false;
        for rank in ranks {
            self.stop_rank(rank, &mut hurry);
        }
    }

    fn stop_rank(&mut self, rank: u8, hurry: &mut bool) {
        let began = Instant::now();
        let mut patience = Duration::ZERO;
        for child in self.children.values().filter(|c| c.spec.stop_rank == rank) {
            if let Some(running) = &child.running {
                running.process.signal(if *hurry { Signal::KILL } else { Signal::TERM });
                patience = patience.max(child.spec.patience);
            }
        }
        let mut killed = *hurry;
        while self.children.values().any(|c| c.spec.stop_rank == rank && c.running.is_some()) {
            let left = patience.saturating_sub(began.elapsed());
            if (left.is_zero() || *hurry) && !killed {
                self.kill_rank(rank);
                killed = true;
            }
            let wait = if killed { Duration::from_secs(5) } else { left };
            match self.events.1.recv_timeout(wait) {
                Ok(Event::Ended { name, pid, status }) => {
                    if self.note_end(&name, pid).is_some() {
                        self.say_stopped(&name, pid, began, status);
                    }
                }
                Ok(Event::Stop) => *hurry = true,
                Ok(Event::Ready { .. }) => {}
                // Not even SIGKILL ended it: it hangs in the kernel; `down` will find it again.
                Err(_) if killed => return,
                Err(_) => {}
            }
        }
    }

    fn say_stopped(&self, name: &str, pid: i32, began: Instant, status: ExitStatus) {
        let seconds = began.elapsed().as_secs_f64();
        self.console.say(format!("stopped {name} (pid {pid}) in {seconds:.1} s: {}", how(status)));
    }

    fn kill_rank(&self, rank: u8) {
        for child in self.children.values().filter(|c| c.spec.stop_rank == rank) {
            self.kill(child);
        }
    }

    fn kill(&self, child: &Supervised) {
        if let Some(running) = &child.running {
            let (name, pid) = (&child.spec.name, running.process.pid);
            self.console.say(format!("{name} (pid {pid}) does not end: killing it"));
            running.process.signal(Signal::KILL);
        }
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        for child in self.children.values() {
            if let Some(running) = &child.running {
                running.over.store(true, Ordering::Release);
            }
        }
    }
}

impl Supervised {
    fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.ready)
    }

    /// When something is to be done to it that no event announces.
    fn next_deed(&self) -> Option<Instant> {
        self.restart_at.or(self.leaving.as_ref().and_then(|leaving| leaving.kill_at))
    }
}

impl Spec {
    /// The log that a person should read.
    fn shown_log(&self) -> &std::path::Path {
        self.own_log.as_deref().filter(|log| log.exists()).unwrap_or(&self.log)
    }

    fn not_ready(&self) -> Error {
        Error::NotReady {
            name: self.name.clone(),
            waited_s: self.ready_within.as_secs(),
            log: self.shown_log().to_path_buf(),
            tail: health::tail(self.shown_log(), 5),
        }
    }

    fn died(&self, status: ExitStatus) -> Error {
        // What went to standard error says more about a death at the start than a log of its own.
        let mut tail = health::tail(&self.log, 5);
        if tail.is_empty() {
            tail = health::tail(self.shown_log(), 5);
        }
        Error::ChildDied { name: self.name.clone(), how: how(status), log: self.shown_log().to_path_buf(), tail }
    }
}

/// 0.1 s, doubled at each further death, at most 10 s.
pub fn back_off(deaths: u32) -> Duration {
    let doublings = deaths.saturating_sub(1).min(16);
    (FIRST_BACK_OFF * (1 << doublings)).min(LONGEST_BACK_OFF)
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_string(),
    }
}

/// Starts the program in a process group of its own, so that a Ctrl-C reaches the supervisor only.
fn launch(spec: &Spec, file: &StackFile) -> Result<Child> {
    let log = open_log(spec)?;
    let errors = log.try_clone().map_err(Error::io("open", &spec.log))?;
    Command::new(&spec.program)
        .args(&spec.args)
        .envs(spec.env.iter().map(|(key, value)| (key, value)))
        .env(MARK_DIR, &file.dir)
        .env(MARK_NAME, &spec.name)
        .current_dir(&spec.dir)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::MissingTool {
                tool: spec.program.display().to_string(),
                way_out: "compose/up builds it; to start without it, say what to start with --only".into(),
            },
            _ => Error::io("start", &spec.program)(error),
        })
}

/// Renames a log that has grown long, in the place of the one before it. For logs that nobody has open.
pub fn put_aside_if_long(log: &Path) -> Result<()> {
    if std::fs::metadata(log).is_ok_and(|meta| meta.len() > LONGEST_LOG_BYTES) {
        let aside = log.with_extension("old.log");
        std::fs::rename(log, &aside).map_err(Error::io("rename", log))?;
    }
    Ok(())
}

fn open_log(spec: &Spec) -> Result<File> {
    put_aside_if_long(&spec.log)?;
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options.open(&spec.log).map_err(Error::io("open", &spec.log))
}

#[cfg(test)]
pub(crate) mod tests;
