//! `scale`: more or fewer processors while the stack is up. Both halves: who asks, and the supervisor who does it.
//!
//! The wanted number is a file in the stack's directory, and the supervisor looks at it a few times a second. A signal
//! carries no number, so it would need the file all the same, and would end a supervisor that does not know it; a
//! socket has an owner and a protocol, and outlives a supervisor that was killed. With the file the last wish wins
//! whoever was interrupted, and a person can read it. What became of a wish stands in `stack.json`, how in the
//! supervisor's log.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::banner;
use crate::console::Console;
use crate::error::{Error, Result};
use crate::health;
use crate::ports::{MAX_INSTANCES, Ports, check_free};
use crate::process::LOOK_INTERVAL;
use crate::spec::Spec;
use crate::stackfile::{Part, Phase, StackFile};
use crate::supervisor::Supervisor;
use crate::up;

/// Name of the file within the directory of the stack.
const NAME: &str = "instances";
/// How often the supervisor looks for another wish.
const WISH_INTERVAL: Duration = Duration::from_millis(200);
/// Time for a processor to become ready, or for five to leave one after the other.
const PATIENCE: Duration = Duration::from_secs(150);

/// Says how many processors the stack of `dir` is to have. An earlier wish is forgotten.
pub fn write_wish(dir: &Path, number: u16) -> Result<()> {
    let path = dir.join(NAME);
    // One digit: no reader sees half of it.
    fs::write(&path, format!("{number}\n")).map_err(Error::io("write", &path))
}

/// None when there is no wish that can be met.
fn read_wish(dir: &Path) -> Option<u16> {
    let number = fs::read_to_string(dir.join(NAME)).ok()?.trim().parse().ok()?;
    (1..=MAX_INSTANCES).contains(&number).then_some(number)
}

/// Watches a stack that is up until it is told to stop, and meanwhile sees to it that it has as many processors as are
/// wanted. `make` says where a further one will be and how it is started.
pub fn attend(
    supervisor: &mut Supervisor<'_>,
    console: &Console,
    make: impl Fn(u16) -> Result<(Part, Spec)>,
) -> Result<()> {
    let dir = supervisor.file().dir.clone();
    // A stack without processors has nothing that they would need.
    let has_processors = !supervisor.file().processors.is_empty();
    // Said to be impossible, and the file still says it: as on a full disk.
    let mut refused = false;
    while supervisor.watch(WISH_INTERVAL) {
        if refused {
            refused = write_wish(&dir, number_of(supervisor.file())).is_err();
            continue;
        }
        let Some(wanted) = read_wish(&dir).filter(|_| has_processors) else {
            continue;
        };
        if let Err(error) = approach(supervisor, wanted, &make) {
            // The processors that run are worth more than the wish: it is given up, and who waits for it reads why.
            console.say(format!("cannot have {wanted} processors: {error}"));
            refused = write_wish(&dir, number_of(supervisor.file())).is_err();
        }
    }
    Ok(())
}

/// One step towards the wanted number. Further processors come all at once. Of those that leave, the highest number
/// goes first, and the next one when it is gone, so that the shards of one at a time look for another owner.
fn approach(supervisor: &mut Supervisor<'_>, wanted: u16, make: impl Fn(u16) -> Result<(Part, Spec)>) -> Result<()> {
    // Names are places in the list: nobody comes behind one that is about to leave it.
    if supervisor.is_one_leaving() {
        return Ok(());
    }
    let number = number_of(supervisor.file());
    if number > wanted {
        supervisor.dismiss(&format!("processor-{number}"));
        return Ok(());
    }
    for further in number + 1..=wanted {
        let (part, spec) = make(further)?;
        supervisor.file().processors.push(part);
        if let Err(error) = supervisor.start(spec) {
            supervisor.file().processors.pop();
            return Err(error);
        }
    }
    Ok(())
}

fn number_of(file: &StackFile) -> u16 {
    u16::try_from(file.processors.len()).unwrap_or(MAX_INSTANCES)
}

/// Asks for `number` processors, shows what the supervisor does about it, and returns when it is so.
pub fn scale(dir: &Path, number: u16, console: &Console) -> Result<()> {
    let not_running = || Error::NotRunning { dir: dir.to_path_buf() };
    let before = up::running(dir)?.ok_or_else(not_running)?;
    check(&before, number)?;
    let log = before.supervisor.log.clone();
    let mut shown = up::length(&log);
    write_wish(dir, number)?;
    let began = Instant::now();
    loop {
        // Read before the log is shown: what led to it was said earlier.
        let (file, wish) = (up::running(dir)?.ok_or_else(not_running)?, read_wish(dir));
        shown = up::show(&log, shown, console);
        if is_so(&file, number) {
            let already = if is_so(&before, number) { " already" } else { "" };
            console.say(format!("the stack in {} has {}{already}", dir.display(), processors(number)));
            return Ok(());
        }
        if let Some(other) = wish.filter(|wish| *wish != number) {
            return Err(Error::Running(format!(
                "the stack in {} goes on with {}: somebody else asked for that, or it said above why",
                dir.display(),
                processors(other)
            )));
        }
        if began.elapsed() >= PATIENCE {
            return Err(too_late(&file, number));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Refuses what the supervisor would have to refuse, before anything is changed.
fn check(file: &StackFile, number: u16) -> Result<()> {
    if file.phase != Phase::Ready {
        return Err(Error::Running(format!("{}: wait until it is up", banner::headline(file))));
    }
    if file.processors.is_empty() {
        return Err(Error::Usage(format!(
            "the stack in {} has no processor: end it with compose/down, and start one without --only",
            file.dir.display()
        )));
    }
    let ports = Ports::new(file.port_base)?;
    for further in number_of(file) + 1..=number {
        check_free(ports.processor_http(further), &format!("processor-{further} (http)"))?;
        check_free(ports.processor_grpc(further), &format!("processor-{further} (grpc)"))?;
    }
    Ok(())
}

/// Whether there are as many as wanted, and all are ready.
fn is_so(file: &StackFile, number: u16) -> bool {
    number_of(file) == number && file.processors.iter().all(|part| part.ready)
}

fn too_late(file: &StackFile, number: u16) -> Error {
    let waited_s = PATIENCE.as_secs();
    let waiting = file.parts().into_iter().find(|(name, part)| name.starts_with("processor-") && !part.ready);
    match waiting {
        Some((name, part)) => {
            Error::NotReady { name, waited_s, log: part.log.clone(), tail: health::tail(&part.log, 5) }
        }
        None => Error::Deadline {
            what: format!("the stack in {} has {}", file.dir.display(), processors(number)),
            waited_ms: PATIENCE.as_millis(),
        },
    }
}

fn processors(number: u16) -> String {
    format!("{number} processor{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
