//! `down`: stops a stack, also one whose supervisor was killed, and says what it did.
//!
//! A process is only signalled while its start time is the one that was noted, or while it carries the stack's mark.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::console::Console;
use crate::error::{Error, Result};
use crate::process::{LOOK_INTERVAL, Process, children_of};
use crate::spec::Spec;
use crate::stackfile::{Phase, StackFile};

/// The supervisor gives each rank its own patience; together they stay below this.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(70);
const CHILD_PATIENCE: Duration = Duration::from_secs(20);

/// Stops the stack of `dir`. An error if there never was one.
pub fn down(dir: &Path, console: &Console) -> Result<()> {
    let file = StackFile::read(&StackFile::path(dir))?;
    let left = children_of(dir);
    if file.is_none() && left.is_empty() {
        return Err(Error::NotRunning { dir: dir.to_path_buf() });
    }
    let supervisor = file.as_ref().and_then(|f| f.supervisor.process());
    match supervisor.filter(|s| s.is_alive()) {
        Some(supervisor) => stop_by_supervisor(dir, file.as_ref(), supervisor, console),
        None if left.is_empty() => {
            console.say(format!("nothing runs in {}", dir.display()));
            return Ok(());
        }
        None => console.say("the supervisor is gone; ending what it left"),
    }
    sweep(dir, console)?;
    console.say(format!("the stack in {} is stopped; its data stays", dir.display()));
    Ok(())
}

fn stop_by_supervisor(dir: &Path, file: Option<&StackFile>, supervisor: Process, console: &Console) {
    let listed = file.map(listed).unwrap_or_default();
    supervisor.signal(Signal::TERM);
    let deadline = Instant::now() + SUPERVISOR_PATIENCE;
    let mut left = listed;
    while supervisor.is_alive() && Instant::now() < deadline {
        left.retain(|(name, process)| {
            let alive = process.is_alive();
            if !alive {
                console.say(format!("{name} (pid {}) has ended", process.pid));
            }
            alive
        });
        std::thread::sleep(LOOK_INTERVAL);
    }
    for (name, process) in left.iter().filter(|(_, p)| !p.is_alive()) {
        console.say(format!("{name} (pid {}) has ended", process.pid));
    }
    if supervisor.is_alive() {
        let pid = supervisor.pid;
        console.say(format!("the supervisor of {} (pid {pid}) does not end: killing it", dir.display()));
        supervisor.signal(Signal::KILL);
        supervisor.wait_gone(Instant::now() + Duration::from_secs(5));
    }
}

fn listed(file: &StackFile) -> Vec<(String, Process)> {
    let parts = file.parts().into_iter();
    parts.filter_map(|(name, part)| Some((name, part.process()?))).collect()
}

/// Ends every child of the stack that still runs, in order, and notes that nothing does. Without a supervisor only.
pub fn sweep(dir: &Path, console: &Console) -> Result<()> {
    let mut file = StackFile::read(&StackFile::path(dir))?;
    let mut left = file.as_ref().map(listed).unwrap_or_default();
    left.retain(|(_, process)| process.is_alive());
    for child in children_of(dir) {
        if !left.iter().any(|(_, process)| *process == child.1) {
            left.push(child);
        }
    }
    left.sort_by_key(|(name, _)| Spec::stop_rank_of(name));
    for (name, process) in left {
        let pid = process.pid;
        console.say(if process.end(CHILD_PATIENCE) {
            format!("ended {name} (pid {pid}), which had no supervisor")
        } else {
            format!("killed {name} (pid {pid}), which had no supervisor and did not end by itself")
        });
    }
    if let Some(file) = &mut file {
        forget_processes(file);
        // On a full disk: nothing runs, which the next look finds out by itself.
        if let Err(error) = file.write() {
            console.say(error.to_string());
        }
    }
    Ok(())
}

fn forget_processes(file: &mut StackFile) {
    file.phase = Phase::Stopped;
    let names: Vec<String> = file.parts().into_iter().map(|(name, _)| name).collect();
    for name in names {
        if let Some(part) = file.part_mut(&name) {
            part.forget_process();
        }
    }
    file.supervisor.forget_process();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{MARK_DIR, MARK_NAME};
    use crate::stackfile::tests::sample;
    use std::process::{Child, Command};

    fn child(dir: &Path, name: &str) -> (Child, Process) {
        let mut command = Command::new("sleep");
        command.arg("600").env(MARK_DIR, dir).env(MARK_NAME, name);
        let child = command.spawn().unwrap();
        let process = Process::of_pid(i32::try_from(child.id()).unwrap()).unwrap();
        // For a moment after its start a program's environment reads as empty, and the mark is in it.
        while !children_of(dir).iter().any(|(_, found)| *found == process) {
            assert!(process.is_alive());
        }
        (child, process)
    }

    #[test]
    fn children_of_a_killed_supervisor_are_found_with_and_without_the_file() {
        for listed in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (mut kafka, process) = child(dir.path(), "kafka");
            let mut file = sample(dir.path());
            let pids = listed.then_some(process);
            file.kafka.pid = pids.map(|p| p.pid);
            file.kafka.started_ticks = pids.map(|p| p.started_ticks);
            file.write().unwrap();
            down(dir.path(), &Console::terminal()).unwrap();
            kafka.wait().unwrap();
            let after = StackFile::read(&StackFile::path(dir.path())).unwrap().unwrap();
            assert_eq!((after.phase, after.kafka.pid), (Phase::Stopped, None));
        }
    }

    #[test]
    fn a_stranger_with_a_listed_pid_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::of_pid(i32::try_from(stranger.id()).unwrap()).unwrap();
        let mut file = sample(dir.path());
        file.supervisor.pid = Some(process.pid);
        file.supervisor.started_ticks = Some(process.started_ticks - 1);
        file.kafka.pid = Some(process.pid);
        file.kafka.started_ticks = Some(process.started_ticks - 1);
        file.write().unwrap();
        down(dir.path(), &Console::terminal()).unwrap();
        assert!(process.is_alive());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn without_a_stack_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let message = down(dir.path(), &Console::terminal()).unwrap_err().to_string();
        assert!(message.starts_with("no stack runs in"), "{message}");
    }
}
