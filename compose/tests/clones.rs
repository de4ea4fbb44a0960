//! Clones share one target directory: what compose/cargo tells cargo about their files, with a stand-in for cargo.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

const PLACES: [&str; 6] = ["schemas", "state-store", "processor", "gateway", "compose", "benches"];
const SHARED: &str = "processor/rule.rs";
const OWN: &str = "gateway/page.rs";

/// Makes an archive of RocksDB at once, and does what a test wants done during any other build.
const CARGO: &str = r#"#!/bin/sh
for last; do :; done
case "$*" in
  *librocksdb-sys*) mkdir -p "$last" && echo made >"$last/librocksdb.a" ;;
  *) eval "$DURING_THE_BUILD" ;;
esac
"#;

/// A directory for clones, their cache and the stand-in.
struct Machine {
    dir: tempfile::TempDir,
    /// A script cannot be run while a process that another thread starts still has a copy of the descriptor that wrote it.
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    fn new() -> Machine {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = Machine { dir: tempfile::tempdir().unwrap(), _alone: alone };
        machine.write("bin/cargo", CARGO);
        fs::set_permissions(machine.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A clone whose files are as old as `modified`, as no checkout makes them and as a copy may.
    fn clone(&self, name: &str, own: &str, modified: SystemTime) {
        for place in PLACES {
            fs::create_dir_all(self.path(name).join(place)).unwrap();
        }
        for file in ["Cargo.toml", "Cargo.lock", "topics.yaml", "compose/cargo"] {
            fs::copy(Path::new("..").join(file), self.path(name).join(file)).unwrap();
        }
        self.write(&format!("{name}/{SHARED}"), "the same in both");
        self.write(&format!("{name}/{OWN}"), own);
        for file in [SHARED, OWN] {
            File::open(self.path(name).join(file)).unwrap().set_modified(modified).unwrap();
        }
    }

    /// The exit code of compose/cargo, none if a signal ended it.
    fn build(&self, clone: &str, during: &str) -> Option<i32> {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut cargo = Command::new(self.path(clone).join("compose/cargo"));
        cargo.arg("build").env("PATH", path).env("DURING_THE_BUILD", during);
        cargo.env("KONTOR_CACHE", self.path("cache")).env_remove("CARGO_TARGET_DIR");
        cargo.status().unwrap().code()
    }

    fn modified(&self, clone: &str, file: &str) -> SystemTime {
        fs::metadata(self.path(clone).join(file)).unwrap().modified().unwrap()
    }
}

fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

#[test]
fn what_clones_share_keeps_its_time_and_what_differs_is_new() {
    let machine = Machine::new();
    machine.clone("one", "of one", ago(200));
    machine.clone("two", "of two", ago(300));
    assert_eq!(machine.build("one", "exit 7"), Some(7));
    // Whatever was built before the first record of times is nobody's.
    let first = machine.modified("one", SHARED);
    assert!(first > ago(100));
    assert_eq!(machine.build("two", ""), Some(0));
    assert_eq!(machine.modified("two", SHARED), first);
    assert!(machine.modified("two", OWN) > first);

    // In the same clone nothing is touched, and back in the other one its own file is new again.
    let own = machine.modified("two", OWN);
    assert_eq!(machine.build("two", ""), Some(0));
    assert_eq!(machine.modified("two", OWN), own);
    assert_eq!(machine.build("one", ""), Some(0));
    assert_eq!(machine.modified("one", SHARED), first);
    assert!(machine.modified("one", OWN) > own);
}

#[test]
fn a_clone_made_anew_in_its_place_is_another_one() {
    let machine = Machine::new();
    machine.clone("one", "of the first", ago(200));
    assert_eq!(machine.build("one", ""), Some(0));
    let (shared, own) = (machine.modified("one", SHARED), machine.modified("one", OWN));
    fs::remove_dir_all(machine.path("one")).unwrap();
    // Older than the build and yet not what was built.
    machine.clone("one", "of the second", ago(100));
    assert_eq!(machine.build("one", ""), Some(0));
    assert_eq!(machine.modified("one", SHARED), shared);
    assert!(machine.modified("one", OWN) > own);
}

#[test]
fn after_an_edit_during_a_build_or_a_killed_one_no_time_is_trusted() {
    let machine = Machine::new();
    machine.clone("one", "of one", ago(200));
    machine.clone("two", "of two", ago(300));
    assert_eq!(machine.build("one", &format!("echo '// more' >> {SHARED}")), Some(0));
    // Compiled was the text of two, perhaps, and perhaps the other.
    let edited = machine.modified("one", SHARED);
    assert_eq!(machine.build("two", ""), Some(0));
    assert!(machine.modified("two", SHARED) > edited);

    let before = machine.modified("two", "topics.yaml");
    assert_eq!(machine.build("two", "kill -9 $PPID"), None);
    assert_eq!(machine.build("one", ""), Some(0));
    assert!(machine.modified("one", "topics.yaml") > before);
}

#[test]
fn no_program_remembers_the_clone_that_built_it() {
    fn search(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                search(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // Split, or it would find itself.
                if text.contains(concat!("CARGO_MANIFEST", "_DIR")) {
                    found.push(path);
                }
            }
        }
    }
    let mut found = Vec::new();
    for place in PLACES {
        search(&Path::new("..").join(place), &mut found);
    }
    assert!(found.is_empty(), "cargo does not compile these again in another clone: {found:?}; use the package's path");
}
