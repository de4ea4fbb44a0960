//! Services that are shell scripts: they show the handling of processes without a broker.

use super::*;
use crate::process::children_of;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn service(&self, script: &str) -> Service {
        let secret = self.dir.path().join("secret");
        self.service_as("p1", Role::Processor { secret }, script)
    }

    fn service_as(&self, name: &str, role: Role, script: &str) -> Service {
        use std::os::unix::fs::PermissionsExt;
        let dir = self.dir.path();
        let program = dir.join(format!("program-of-{name}"));
        fs::write(&program, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let builder = ServiceBuilder {
            name: name.into(),
            role,
            program,
            around: Surroundings {
                bootstrap: "127.0.0.1:1".into(),
                registry: "http://127.0.0.1:2".into(),
                topics: dir.join("topics.yaml"),
                prefix: "t1.".into(),
            },
            dir: dir.join(name),
            log: dir.join(format!("{name}.log")),
            mark: dir.to_path_buf(),
            env: Vec::new(),
        };
        builder.env("EXTRA", "more").start().unwrap()
    }
}

async fn said(service: &Service, word: &str) {
    let deadline = Duration::from_secs(20);
    crate::eventually(deadline, word, || async { service.log_text().contains(word) }).await.unwrap();
}

#[tokio::test]
async fn it_is_told_its_surroundings() {
    let fixture = Fixture::new();
    let mut service = fixture.service("echo args=$*; env | grep -E '^(KONTOR|EXTRA)' | sort");
    assert!(service.wait_end(Duration::from_secs(20)).await.unwrap().success());
    let log = service.log_text();
    for line in ["args=run", "EXTRA=more", "KONTOR_BOOTSTRAP=127.0.0.1:1", "KONTOR_PREFIX=t1."] {
        assert!(log.lines().any(|l| l == line), "{line} in {log}");
    }
    let grpc = service.grpc().replace("http://", "KONTOR_GRPC_LISTEN=");
    assert!(log.contains(&grpc), "{log}");
}

#[tokio::test]
async fn a_gateway_is_told_processors_only_if_there_are_any() {
    let fixture = Fixture::new();
    for (name, processors, told) in [("g1", "", false), ("g2", "http://127.0.0.1:3", true)] {
        let role = Role::Gateway { processors: processors.into() };
        let mut service = fixture.service_as(name, role, "env");
        assert!(service.wait_end(Duration::from_secs(20)).await.unwrap().success());
        assert_eq!(service.name(), name);
        let log = service.log_text();
        assert_eq!(log.contains("KONTOR_PROCESSORS="), told, "{log}");
        assert_eq!(log.contains("KONTOR_PROCESSORS=http://127.0.0.1:3\n"), told, "{log}");
    }
}

/// Answers every request on this port with success.
fn answer_on(port: u16) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
}

#[tokio::test]
async fn all_are_ready_when_the_last_one_is() {
    let fixture = Fixture::new();
    let instance = |name| {
        let role = Role::Processor { secret: fixture.dir.path().join("secret") };
        fixture.service_as(name, role, "exec sleep 600")
    };
    let mut all = [instance("a"), instance("b")];
    answer_on(all[0].http);
    let error = all_ready(&mut all, Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(error.starts_with("b was not ready"), "{error}");
    answer_on(all[1].http);
    all_ready(&mut all, Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn it_is_killed_and_started_again() {
    let fixture = Fixture::new();
    let mut service = fixture.service("echo life; exec sleep 600");
    said(&service, "life").await;
    let first = service.pid().unwrap();
    service.kill9();
    assert_eq!(service.try_wait().unwrap().signal(), Some(9));
    assert_eq!(service.pid(), None);
    service.start().unwrap();
    assert_ne!(service.pid().unwrap(), first);
    drop(service);
    assert!(children_of(fixture.dir.path()).is_empty(), "gone with its owner");
}

#[tokio::test]
async fn it_is_asked_to_end_and_gives_its_status() {
    let fixture = Fixture::new();
    let mut service = fixture.service("trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done");
    said(&service, "up").await;
    assert_eq!(service.sigterm(Duration::from_secs(20)).await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn while_stopped_it_does_nothing_and_dies_all_the_same() {
    let fixture = Fixture::new();
    let mut service = fixture.service("trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done");
    said(&service, "up").await;
    service.sigstop();
    let asked = service.sigterm(Duration::from_millis(300)).await;
    assert!(asked.is_err(), "a stopped process does not end");
    service.sigcont();
    assert!(service.wait_end(Duration::from_secs(20)).await.unwrap().success());
    service.start().unwrap();
    service.sigstop();
    service.kill9();
    assert_eq!(service.try_wait().unwrap().signal(), Some(9));
}

#[tokio::test]
async fn an_early_end_is_an_error_with_its_last_words() {
    let fixture = Fixture::new();
    let mut service = fixture.service("echo no such topic >&2; exit 2");
    let error = service.wait_ready(Duration::from_secs(20)).await.unwrap_err().to_string();
    assert!(error.contains("exit code 2") && error.contains("no such topic"), "{error}");
}

#[tokio::test]
async fn a_lost_port_is_chosen_again() {
    let fixture = Fixture::new();
    let script = "echo $KONTOR_HTTP_LISTEN; echo 'Address already in use'; exit 1";
    let mut service = fixture.service(script);
    assert!(service.wait_ready(Duration::from_secs(20)).await.is_err());
    let log = service.log_text();
    let ports: std::collections::BTreeSet<&str> = log.lines().filter(|l| l.starts_with("127")).collect();
    assert_eq!(ports.len(), 3, "{log}");
}
