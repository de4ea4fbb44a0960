//! The supervisor's promises, shown with shells as children.

use super::*;
use crate::health::Health;
use crate::process::children_of;
use crate::stackfile::tests::sample;
use std::fs;
use std::path::Path;

pub(crate) fn stand_in(dir: &Path, name: &str, script: &str) -> Spec {
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

/// A child that has to be killed.
const STUBBORN: &str = "trap '' TERM; echo up; while :; do sleep 0.02; done";

/// A child that ends when told to and notes that in `order`.
fn orderly(dir: &Path, name: &str) -> Spec {
    let order = dir.join("order").display().to_string();
    let script = format!("trap 'echo {name} >> {order}; exit 0' TERM; while :; do sleep 0.02; done");
    stand_in(dir, name, &script)
}

pub(crate) fn read_file(dir: &Path) -> StackFile {
    StackFile::read(&StackFile::path(dir)).unwrap().unwrap()
}

/// Ends the supervisor's watch, also when an assertion fails: a scope waits for its threads.
pub(crate) struct StopAtEnd(pub(crate) Sender<Event>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Stop);
    }
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
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
    for name in ["kafka", "registry", "processor-1", "processor-2", "gateway-1"] {
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
    assert_eq!(listed.len(), 5);

    supervisor.stop_all();
    let order = fs::read_to_string(dir.path().join("order")).unwrap();
    let order: Vec<&str> = order.lines().collect();
    assert_eq!([order[0], order[3], order[4]], ["gateway-1", "registry", "kafka"], "{order:?}");
    assert!(order[1..3].iter().all(|name| name.starts_with("processor-")), "together: {order:?}");
    eventually("nothing is left", || children_of(dir.path()).is_empty());
}

#[test]
fn a_child_that_dies_is_restarted_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stack.log");
    let console = Console::with_log(&log, false).unwrap();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    for name in ["processor-1", "processor-2"] {
        supervisor.start(stand_in(dir.path(), name, "echo last words; exec sleep 600")).unwrap();
    }
    supervisor.wait_all_ready().unwrap();
    let own_log = dir.path().join("processor-2.log");
    eventually("it spoke", || fs::read_to_string(&own_log).unwrap().contains("last words"));
    let stop = StopAtEnd(supervisor.sender());
    std::thread::scope(|scope| {
        let _stop = stop;
        scope.spawn(|| while supervisor.watch(LOOK_INTERVAL) {});
        let of = |file: StackFile| file.processors[1].clone();
        let first = of(read_file(dir.path())).process().unwrap();
        assert!(first.signal(Signal::KILL));
        eventually("it runs again", || {
            let now = of(read_file(dir.path()));
            now.restarts == 1 && now.ready && now.process().is_some_and(|p| p != first && p.is_alive())
        });
        let said = || fs::read_to_string(&log).unwrap();
        let died = format!("processor-2 (pid {}) died: signal 9; starting it again in 0.1 s", first.pid);
        for words in [died.as_str(), "last words", "processor-2 is ready again"] {
            assert!(said().contains(words), "{words} in {}", said());
        }
        assert_eq!(read_file(dir.path()).processors[0].restarts, 0, "the other went on");
    });
    supervisor.stop_all();
    eventually("nothing is left", || children_of(dir.path()).is_empty());
}

#[test]
fn a_full_disk_ends_nothing_and_what_is_so_is_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stack.log");
    let console = Console::with_log(&log, false).unwrap();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    supervisor.start(stand_in(dir.path(), "processor-1", "exec sleep 600")).unwrap();
    supervisor.wait_all_ready().unwrap();
    // Nothing can be written under the name of a directory.
    let part = dir.path().join("stack.json.part");
    fs::create_dir(&part).unwrap();
    let of = |file: &StackFile| file.processors[0].process();
    let first = of(&read_file(dir.path())).unwrap();
    assert!(first.signal(Signal::KILL));
    eventually("it runs again", || {
        assert!(supervisor.watch(LOOK_INTERVAL));
        of(supervisor.file()).is_some_and(|process| process != first && supervisor.file().processors[0].ready)
    });
    assert_eq!(of(&read_file(dir.path())), Some(first), "not written");
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("stack.json.part").count(), 1, "{said}");
    assert_eq!(children_of(dir.path()).len(), 1, "once");
    fs::remove_dir(&part).unwrap();
    assert!(supervisor.watch(LOOK_INTERVAL));
    assert_eq!(read_file(dir.path()), *supervisor.file());
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
        let mut spec = stand_in(dir.path(), "processor-1", STUBBORN);
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

/// Watches until nobody leaves any more.
fn let_leave(supervisor: &mut Supervisor<'_>) {
    eventually("it has left", || {
        assert!(supervisor.watch(LOOK_INTERVAL));
        !supervisor.is_one_leaving()
    });
}

#[test]
fn a_child_that_is_dismissed_does_not_come_back_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::terminal();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    for name in ["processor-1", "processor-2"] {
        supervisor.start(stand_in(dir.path(), name, "exec sleep 600")).unwrap();
    }
    supervisor.wait_all_ready().unwrap();
    supervisor.dismiss("processor-2");
    assert!(supervisor.is_one_leaving());
    assert_eq!(read_file(dir.path()).processors.len(), 2, "until it has ended");
    let_leave(&mut supervisor);
    let file = read_file(dir.path());
    assert_eq!((file.processors.len(), file.processors[0].restarts), (1, 0));
    assert!(file.processors[0].process().unwrap().is_alive());
    let running: Vec<String> = children_of(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(running, ["processor-1"]);
    supervisor.stop_all();
}

#[test]
fn a_child_that_is_dismissed_and_does_not_end_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("stack.log");
    let console = Console::with_log(&log, false).unwrap();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    let mut spec = stand_in(dir.path(), "processor-2", STUBBORN);
    spec.patience = Duration::from_millis(200);
    let own_log = spec.log.clone();
    supervisor.start(spec).unwrap();
    eventually("the trap is set", || fs::read_to_string(&own_log).unwrap().contains("up"));
    supervisor.dismiss("processor-2");
    let_leave(&mut supervisor);
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("does not end: killing it").count(), 1, "{said}");
    assert!(said.contains("stopped processor-2 (pid") && said.contains("signal 9"), "{said}");
}

#[test]
fn a_child_that_is_dismissed_while_it_is_dead_is_gone_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::terminal();
    let mut supervisor = Supervisor::new(&console, sample(dir.path()));
    let mut spec = stand_in(dir.path(), "processor-2", "exit 1");
    spec.health = Health::Http("http://127.0.0.1:1/".into());
    supervisor.start(spec).unwrap();
    // Further and further apart, so that it is found dead.
    eventually("it is between two lives", || {
        supervisor.watch(LOOK_INTERVAL);
        read_file(dir.path()).processors[1].restarts >= 3 && read_file(dir.path()).processors[1].pid.is_none()
    });
    supervisor.dismiss("processor-2");
    assert!(!supervisor.is_one_leaving());
    assert_eq!(read_file(dir.path()).processors.len(), 1);
    supervisor.watch(Duration::from_secs(1));
    assert!(children_of(dir.path()).is_empty(), "it is not started again");
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
    let spec = stand_in(dir.path(), "processor-1", "true");
    let long = File::create(&spec.log).unwrap();
    long.set_len(LONGEST_LOG_BYTES + 1).unwrap();
    open_log(&spec).unwrap();
    assert_eq!(fs::metadata(&spec.log).unwrap().len(), 0);
    assert!(dir.path().join("processor-1.old.log").exists());
}
