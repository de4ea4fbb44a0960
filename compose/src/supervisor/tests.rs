//! The supervisor's promises, shown with shells as children.

use super::*;
use crate::health::Health;
use crate::process::children_of;
use crate::stackfile::tests::sample;
use std::fs;
use std::path::Path;

fn stand_in(dir: &Path, name: &str, script: &str) -> Spec {
    Spec {
        name: name.into(),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        dir: dir.to_path_buf(),
        log: dir.join(format!("{name}.log")),
        own_log: None,
        health: Health::Running,
        ready_within: Duration::from_secs(20),
        patience: Duration::from_secs(20),
        stop_rank: Spec::stop_rank_of(name),
    }
}

/// A child that ends when told to and notes that in `order`.
fn orderly(dir: &Path, name: &str) -> Spec {
    let order = dir.join("order").display().to_string();
    let script = format!("trap 'echo {name} >> {order}; exit 0' TERM; while :; do sleep 0.02; done");
    stand_in(dir, name, &script)
}

fn read_file(dir: &Path) -> StackFile {
    StackFile::read(&StackFile::path(dir)).unwrap().unwrap()
}

struct StopAtEnd(Sender<Event>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Stop);
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[test]
fn children_are_listed_while_they_run_and_stop_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::terminal();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    for name in ["kafka", "registry", "processor", "gateway-1"] {
        supervisor.start(orderly(dir.path(), name)).unwrap();
    }
    supervisor.wait_all_ready().unwrap();
    let mut listed: Vec<i32> = read_file(dir.path()).parts().iter().filter_map(|p| p.1.pid).collect();
    let mut marked: Vec<i32> = children_of(dir.path())
        .iter()
        // The shells' own children carry the mark too.
        .filter(|c| listed.contains(&c.1.pid))
        .map(|c| c.1.pid)
        .collect();
    listed.sort_unstable();
    marked.sort_unstable();
    assert_eq!(listed, marked);
    assert_eq!(listed.len(), 4);

    supervisor.stop_all();
    let order = fs::read_to_string(dir.path().join("order")).unwrap();
    assert_eq!(order, "gateway-1\nprocessor\nregistry\nkafka\n");
    eventually("nothing is left", || children_of(dir.path()).is_empty());
}

#[test]
fn a_child_that_dies_is_restarted_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stack.log");
    let console = Console::with_log(&log, false).unwrap();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    supervisor.start(stand_in(dir.path(), "processor", "echo last words; exec sleep 600")).unwrap();
    supervisor.wait_all_ready().unwrap();
    let own_log = dir.path().join("processor.log");
    eventually("it spoke", || fs::read_to_string(&own_log).unwrap().contains("last words"));
    let stop = StopAtEnd(supervisor.sender());
    std::thread::scope(|scope| {
        // Also when an assertion fails: the scope waits for the supervisor.
        let _stop = stop;
        scope.spawn(|| supervisor.watch().unwrap());
        let of = |file: StackFile| file.processor.unwrap();
        let first = of(read_file(dir.path())).process().unwrap();
        assert!(first.signal(Signal::KILL));
        eventually("it runs again", || {
            let now = of(read_file(dir.path()));
            now.restarts == 1 && now.process().is_some_and(|p| p != first && p.is_alive())
        });
        let said = || fs::read_to_string(&log).unwrap();
        eventually("it is ready again", || said().contains("processor is ready again"));
        assert!(said().contains("died: signal 9; starting it again in 0.1 s"), "{}", said());
        assert!(said().contains("last words"), "{}", said());
    });
    supervisor.stop_all();
    eventually("nothing is left", || children_of(dir.path()).is_empty());
}

#[test]
fn a_child_that_dies_at_its_start_is_an_error_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::terminal();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    let mut spec = stand_in(dir.path(), "kafka", "echo cannot open the disk >&2; exit 3");
    spec.health = Health::Http("http://127.0.0.1:1/".into());
    supervisor.start(spec).unwrap();
    let message = supervisor.wait_all_ready().unwrap_err().to_string();
    for part in ["kafka died", "exit code 3", "kafka.log", "cannot open the disk"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_child_that_never_answers_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::terminal();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    let mut spec = stand_in(dir.path(), "registry", "echo still thinking; exec sleep 600");
    spec.health = Health::Http("http://127.0.0.1:1/".into());
    spec.ready_within = Duration::from_millis(300);
    supervisor.start(spec).unwrap();
    let message = supervisor.wait_all_ready().unwrap_err().to_string();
    assert!(message.contains("registry was not ready") && message.contains("still thinking"), "{message}");
    supervisor.stop_all();
    eventually("nothing is left", || children_of(dir.path()).is_empty());
}

#[test]
fn a_child_that_ignores_the_request_is_killed() {
    for hurried in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::terminal();
        let mut supervisor = Supervisor::new(&console, sample(dir.path()));
        let script = "trap '' TERM; echo up; while :; do sleep 0.02; done";
        let mut spec = stand_in(dir.path(), "processor", script);
        // Impatience comes from the clock or from a second request.
        spec.patience = if hurried { Duration::from_secs(600) } else { Duration::from_millis(200) };
        let log = spec.log.clone();
        supervisor.start(spec).unwrap();
        eventually("the trap is set", || fs::read_to_string(&log).unwrap().contains("up"));
        if hurried {
            supervisor.sender().send(Event::Stop).unwrap();
        }
        supervisor.stop_all();
        eventually("nothing is left", || children_of(dir.path()).is_empty());
    }
}

#[test]
fn a_request_to_stop_ends_the_wait_for_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::terminal();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    let mut spec = stand_in(dir.path(), "kafka", "exec sleep 600");
    spec.health = Health::Http("http://127.0.0.1:1/".into());
    supervisor.start(spec).unwrap();
    supervisor.sender().send(Event::Stop).unwrap();
    assert!(matches!(supervisor.wait_all_ready(), Err(Error::Stopped)));
    supervisor.stop_all();
}

#[test]
fn back_off_doubles_up_to_a_limit() {
    let ms: Vec<u128> = (0..10).map(|deaths| back_off(deaths).as_millis()).collect();
    assert_eq!(ms, [100, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert_eq!(back_off(u32::MAX), LONGEST_BACK_OFF);
}

#[test]
fn a_long_log_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let spec = stand_in(dir.path(), "processor", "true");
    let long = File::create(&spec.log).unwrap();
    long.set_len(LONGEST_LOG_BYTES + 1).unwrap();
    open_log(&spec).unwrap();
    assert_eq!(fs::metadata(&spec.log).unwrap().len(), 0);
    assert!(dir.path().join("processor.old.log").exists());
}
