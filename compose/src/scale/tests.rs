//! The whole way from the wish to its fulfilment, with shells as processors.

use super::*;
use crate::process::Process;
use crate::stackfile::tests::sample;
use crate::supervisor::tests::{StopAtEnd, eventually, read_file, stand_in};
use std::path::PathBuf;

/// A stack that is up, with one processor; this process is its supervisor.
fn stack_file(dir: &Path) -> StackFile {
    let me = Process::current().unwrap();
    let (pid, started_ticks) = (Some(me.pid), Some(me.started_ticks));
    let mut file = sample(dir);
    file.port_base = Ports::free().unwrap().base();
    file.supervisor = Part { pid, started_ticks, log: dir.join("stack.log"), ..Part::default() };
    file.processors.truncate(1);
    file
}

/// A processor that notes in `order` when it is told to leave.
fn leaver(dir: &Path, number: u16) -> (Part, Spec) {
    let (name, order) = (format!("processor-{number}"), dir.join("order").display().to_string());
    let script = format!("trap 'echo {name} >> {order}; exit 0' TERM; echo up; while :; do sleep 0.02; done");
    (Part::default(), stand_in(dir, &name, &script))
}

/// What an asking `scale` shows.
struct Asked {
    path: PathBuf,
    console: Console,
}

impl Asked {
    fn new(dir: &Path) -> Self {
        let path = dir.join("asked.log");
        Self { console: Console::with_log(&path, false).unwrap(), path }
    }

    /// The lines since the last time, without their time.
    fn said(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.path).unwrap();
        fs::write(&self.path, "").unwrap();
        text.lines().map(|line| line.split_once("Z ").unwrap().1.to_owned()).collect()
    }
}

/// Runs `asks` beside a supervisor whose further processors come from `make`.
fn beside(dir: &Path, make: impl Fn(u16) -> Result<(Part, Spec)> + Sync, asks: impl FnOnce(&Asked)) {
    let console = Console::with_log(&dir.join("stack.log"), false).unwrap();
    let mut supervisor = Supervisor::new(&console, stack_file(dir));
    supervisor.start(leaver(dir, 1).1).unwrap();
    supervisor.wait_all_ready().unwrap();
    let stop = StopAtEnd(supervisor.sender());
    std::thread::scope(|scope| {
        let _stop = stop;
        scope.spawn(|| attend(&mut supervisor, &console, &make).unwrap());
        asks(&Asked::new(dir));
    });
    supervisor.stop_all();
}

fn starts_with(lines: &[String], beginnings: &[&str]) {
    assert_eq!(lines.len(), beginnings.len(), "{lines:?}");
    for (line, beginning) in lines.iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{beginning} in {lines:?}");
    }
}

#[test]
fn processors_come_and_leave_and_each_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    beside(
        dir,
        |number| Ok(leaver(dir, number)),
        |asked| {
            scale(dir, 3, &asked.console).unwrap();
            let mut said = asked.said();
            said[..2].sort_unstable();
            starts_with(&said, &["processor-2 is ready after", "processor-3 is ready after", "the stack in"]);
            assert!(said[2].ends_with("has 3 processors"), "{said:?}");
            let file = read_file(dir);
            assert!(file.processors.iter().all(|part| part.ready && part.process().unwrap().is_alive()));

            scale(dir, 3, &asked.console).unwrap();
            let said = asked.said();
            assert!(said.len() == 1 && said[0].ends_with("has 3 processors already"), "{said:?}");

            let up = |n| fs::read_to_string(dir.join(format!("processor-{n}.log"))).unwrap().contains("up");
            eventually("their traps are set", || up(2) && up(3));
            scale(dir, 1, &asked.console).unwrap();
            starts_with(&asked.said(), &["stopped processor-3", "stopped processor-2", "the stack in"]);
            assert_eq!(fs::read_to_string(dir.join("order")).unwrap(), "processor-3\nprocessor-2\n");
            let first = &file.processors[0];
            assert_eq!(&read_file(dir).processors, std::slice::from_ref(first), "the first one went on");
        },
    );
}

#[test]
fn a_wish_that_cannot_be_met_is_given_up_and_what_runs_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    beside(
        dir,
        |number| if number == 2 { Ok(leaver(dir, 2)) } else { Err(Error::Usage("there is no room".into())) },
        |asked| {
            // The second time as the first: a wish that was given up is no wish.
            for _ in 0..2 {
                let message = scale(dir, 3, &asked.console).unwrap_err().to_string();
                assert!(message.contains("goes on with 2 processors"), "{message}");
                let said = asked.said();
                assert!(said.contains(&"cannot have 3 processors: there is no room".to_owned()), "{said:?}");
            }
            let file = read_file(dir);
            assert!(file.processors.len() == 2 && file.processors[0].process().unwrap().is_alive());
        },
    );
}

#[test]
fn what_cannot_be_is_refused_before_anything_changes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let refused = || {
        let message = scale(dir, 2, &Console::terminal()).unwrap_err().to_string();
        assert!(!message.contains('\n') && read_wish(dir).is_none(), "{message}");
        message
    };
    assert!(refused().starts_with("no stack runs in"), "{}", refused());
    let mut file = stack_file(dir);
    file.phase = Phase::Starting;
    file.write().unwrap();
    assert!(refused().contains("is starting") && refused().contains("wait until it is up"), "{}", refused());
    file.phase = Phase::Ready;
    let part = file.processors.pop().unwrap();
    file.write().unwrap();
    assert!(refused().contains("has no processor"), "{}", refused());
    file.processors.push(part);
    file.write().unwrap();
    let port = Ports::new(file.port_base).unwrap().processor_grpc(2);
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert!(refused().contains(&format!("port {port} for processor-2 (grpc) is taken by")), "{}", refused());
    file.supervisor.forget_process();
    file.write().unwrap();
    assert!(refused().starts_with("no stack runs in"), "{}", refused());
}

#[test]
fn only_a_number_of_processors_is_a_wish() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read_wish(dir.path()), None);
    write_wish(dir.path(), 3).unwrap();
    assert_eq!(read_wish(dir.path()), Some(3));
    for text in ["", "0", "7", "-1", "two", "3 4"] {
        fs::write(dir.path().join(NAME), text).unwrap();
        assert_eq!(read_wish(dir.path()), None, "{text:?}");
    }
}
