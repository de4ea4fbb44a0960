//! Downloads of packages through Maven, into a directory of the cache.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cache;
use crate::error::{Error, Result};

const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// Runs one goal of Maven's dependency plugin with `arguments`, over the list of packages `pom` if there is one. It works
/// in a directory below `part`, which is gone afterwards.
///
/// Maven gets a repository of its own there: one that was damaged elsewhere would be copied for ever.
///
/// # Errors
/// Maven is missing or failed; `what` says for whom it ran.
pub fn run(part: &Path, what: &str, pom: Option<&str>, goal: &str, arguments: &[String]) -> Result<()> {
    let work = part.join("maven");
    fs::create_dir_all(&work).map_err(Error::io("create", &work))?;
    let mut mvn = Command::new("mvn");
    mvn.current_dir(&work).args(["--quiet", "--batch-mode", "--strict-checksums", "-Dstyle.color=never"]);
    mvn.arg(format!("-Dmaven.repo.local={}", work.join("repository").display()));
    if let Some(pom) = pom {
        let path = work.join("pom.xml");
        fs::write(&path, pom).map_err(Error::io("write", &path))?;
        mvn.arg("-f").arg(path);
    }
    mvn.arg(format!("{PLUGIN}:{goal}")).args(arguments);
    cache::run_tool(&mut mvn, what, "install Maven (apt-get install maven)")?;
    fs::remove_dir_all(&work).map_err(Error::io("remove", &work))
}
