//! The cache of what was downloaded: `${XDG_CACHE_HOME:-$HOME/.cache}/kontor/<kind>/<version>`, shared by every clone.
//!
//! An entry appears by one rename after its checksums were verified and its bytes were synced, under a lock, so it is
//! either whole or absent, whoever runs beside us and wherever we were killed. Its manifest (sizes) is compared on
//! every use: an entry that lost something since is filled again. The whole cache may be deleted at any time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::console::Console;
use crate::disk::check_room;
use crate::error::{Error, Result};

const MANIFEST: &str = ".files";
/// The registry: its archive, once more in the repository of Maven, and what it unpacks to.
const NEEDED_MB: u64 = 500;
/// Between two words about a download.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// `KONTOR_CACHE`, else the user's cache directory.
pub fn root() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("KONTOR_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("kontor")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/kontor")))
        .ok_or_else(|| Error::Usage("no cache directory: set HOME or KONTOR_CACHE".into()))
}

/// Gives the directory of `kind`/`version` under `root`. If it is absent or damaged, `fill` is called with an empty
/// directory beside it, which becomes the entry once `fill` returned Ok.
pub fn entry(
    root: &Path,
    kind: &str,
    version: &str,
    console: &Console,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let parent = root.join(kind);
    let path = parent.join(version);
    if is_whole(&path) {
        return Ok(path);
    }
    fs::create_dir_all(&parent).map_err(Error::io("create", &parent))?;
    let _lock = lock(&parent.join(format!(".{version}.lock")), kind, console)?;
    if is_whole(&path) {
        return Ok(path);
    }
    let part = parent.join(format!("{version}.part"));
    for stale in [&part, &path] {
        remove(stale)?;
    }
    fs::create_dir_all(&part).map_err(Error::io("create", &part))?;
    check_room(&part, NEEDED_MB, "choose another place for downloads with KONTOR_CACHE")?;
    while_it_grows(&part, console, || fill(&part))?;
    seal(&part)?;
    fs::rename(&part, &path).map_err(Error::io("rename", &part))?;
    Ok(path)
}

/// Does the work, and says now and then how much lies in `dir` by now.
fn while_it_grows<T>(dir: &Path, console: &Console, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        // Hung up when the work is done, also by a panic.
        let (done, waiting) = mpsc::channel::<()>();
        scope.spawn(move || {
            while waiting.recv_timeout(PROGRESS_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let bytes: u64 = sizes(dir).unwrap_or_default().values().sum();
                console.say(format!("  {} MB so far", bytes >> 20));
            }
        });
        let outcome = work();
        drop(done);
        outcome
    })
}

/// Held until the file is dropped, or its process is gone.
fn lock(path: &Path, kind: &str, console: &Console) -> Result<File> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    if file.try_lock().is_err() {
        console.say(format!("waiting for another download of {kind}"));
        file.lock().map_err(Error::io("lock", path))?;
    }
    Ok(file)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Syncs every file and writes the manifest.
fn seal(dir: &Path) -> Result<()> {
    let mut lines = String::new();
    for (name, size) in sizes(dir)? {
        let path = dir.join(&name);
        File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("sync", &path))?;
        lines.push_str(&format!("{size} {name}\n"));
    }
    let path = dir.join(MANIFEST);
    fs::write(&path, lines).and_then(|()| File::open(&path)?.sync_all()).map_err(Error::io("write", &path))
}

/// Whether every file of the manifest is there with its size.
fn is_whole(dir: &Path) -> bool {
    let Ok(manifest) = fs::read_to_string(dir.join(MANIFEST)) else {
        return false;
    };
    !manifest.is_empty()
        && manifest.lines().all(|line| {
            line.split_once(' ').is_some_and(|(size, name)| {
                fs::metadata(dir.join(name)).is_ok_and(|found| found.len().to_string() == size)
            })
        })
}

/// Every regular file below `dir` with its size in bytes.
pub(crate) fn sizes(dir: &Path) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).map_err(Error::io("read", &next))?.flatten() {
            let path = entry.path();
            let meta = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_file()
                && let Ok(name) = path.strip_prefix(dir)
            {
                found.insert(name.to_string_lossy().into_owned(), meta.len());
            }
        }
    }
    Ok(found)
}

/// Compares the files of `dir` with a list in the form of `sha256sum`: each listed one must be there and agree, and
/// nothing else may be there.
pub fn verify_sums(dir: &Path, list: &str) -> Result<()> {
    let listed: BTreeMap<&str, &str> =
        list.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect();
    for name in sizes(dir)?.keys() {
        if !listed.contains_key(name.as_str()) {
            return Err(Error::Checksum { file: name.clone() });
        }
    }
    for (name, wanted) in listed {
        if sha256(&dir.join(name))? != wanted {
            return Err(Error::Checksum { file: name.into() });
        }
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        hash.update(&buffer[..read]);
    }
}

/// Runs a tool of a download to its end. Its last words become the error.
pub fn run_tool(command: &mut Command, what: &str, way_out: &str) -> Result<()> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::MissingTool { tool, way_out: way_out.into() });
        }
        Err(error) => return Err(Error::io("run", Path::new(&tool))(error)),
    };
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let said = |line: &&str| line.to_lowercase().contains("error") && line.len() > 12;
    let cause = text.lines().find(said).or_else(|| text.lines().last());
    Err(Error::Download { what: what.into(), cause: cause.unwrap_or("no output").trim().chars().take(400).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn fill_with(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |dir| {
            fs::create_dir(dir.join("sub")).unwrap();
            fs::write(dir.join("sub/a.jar"), text).unwrap();
            Ok(())
        }
    }

    #[test]
    fn an_entry_is_filled_once() {
        let root = tempfile::tempdir().unwrap();
        let console = Console::terminal();
        let path = entry(root.path(), "kafka", "1", &console, fill_with("abc")).unwrap();
        assert_eq!(fs::read_to_string(path.join("sub/a.jar")).unwrap(), "abc");
        let again = entry(root.path(), "kafka", "1", &console, |_| unreachable!()).unwrap();
        assert_eq!(again, path);
    }

    #[test]
    fn a_damaged_or_partial_entry_is_filled_again() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 4] = [
            ("cut", |path| fs::write(path.join("sub/a.jar"), "a").unwrap()),
            ("deleted", |path| fs::remove_file(path.join("sub/a.jar")).unwrap()),
            ("no manifest", |path| fs::remove_file(path.join(MANIFEST)).unwrap()),
            ("left .part", |path| {
                fs::rename(path, path.with_file_name("1.part")).unwrap();
            }),
        ];
        for (what, damage) in damages {
            let root = tempfile::tempdir().unwrap();
            let console = Console::terminal();
            let path = entry(root.path(), "kafka", "1", &console, fill_with("abc")).unwrap();
            damage(&path);
            let path = entry(root.path(), "kafka", "1", &console, fill_with("abc")).unwrap();
            assert_eq!(fs::read_to_string(path.join("sub/a.jar")).unwrap(), "abc", "{what}");
        }
    }

    #[test]
    fn a_failed_download_leaves_no_entry() {
        let root = tempfile::tempdir().unwrap();
        let console = Console::terminal();
        let failed = entry(root.path(), "kafka", "1", &console, |dir| {
            fs::write(dir.join("half.jar"), "ab").unwrap();
            Err(Error::Download { what: "kafka".into(), cause: "no route".into() })
        });
        assert!(failed.is_err());
        assert!(!root.path().join("kafka/1").exists());
        let path = entry(root.path(), "kafka", "1", &console, fill_with("abc")).unwrap();
        assert!(!path.join("half.jar").exists());
    }

    #[test]
    fn of_two_at_once_one_fills() {
        let root = tempfile::tempdir().unwrap();
        let fills = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    entry(root.path(), "kafka", "1", &Console::terminal(), |dir| {
                        fills.fetch_add(1, Ordering::SeqCst);
                        fs::write(dir.join("a.jar"), "abc").unwrap();
                        Ok(())
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(fills.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn sums_name_the_file_that_differs() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.jar"), "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify_sums(dir.path(), &format!("{abc}  a.jar\n")).unwrap();
        let cases = [
            (format!("{}  a.jar\n", abc.replace('b', "c")), "a.jar"),
            (format!("{abc}  b.jar\n"), "a.jar"),
            (format!("{abc}  a.jar\n{abc}  b.jar\n"), "b.jar"),
        ];
        for (list, named) in cases {
            let message = verify_sums(dir.path(), &list).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }

    #[test]
    fn a_tool_that_is_missing_or_fails_is_one_line() {
        let missing = run_tool(&mut Command::new("no-such-tool"), "kafka", "install it");
        assert_eq!(missing.unwrap_err().to_string(), "no-such-tool is missing: install it");
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo start; echo '[ERROR] no route to host'; exit 1"]);
        let message = run_tool(&mut failing, "kafka", "").unwrap_err().to_string();
        assert!(message.contains("[ERROR] no route to host"), "{message}");
        assert!(!message.contains('\n'));
    }
}
