//! Chromium's driver as a child of a test. It starts a browser for each session that is opened with it, and all of them
//! end with their owner.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::health;
use crate::process::{MARK_DIR, MARK_NAME, Process, children_of};
use crate::testing::wait::eventually_some;

/// How long it may take to start, and a browser to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// What it says before its port once it takes sessions.
const LISTENS: &str = "started successfully on port ";

/// The arguments of a browser that draws on no screen and asks nobody for anything.
pub const BROWSER_ARGUMENTS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// See the module.
#[derive(Debug)]
pub struct ChromiumDriver {
    /// `http://127.0.0.1:port` of the WebDriver protocol.
    pub url: String,
    child: Child,
    /// Of the browsers' profiles. Not in the directory of the test: a browser makes sockets there, whose paths have at
    /// most 107 bytes, and does not start when they are longer.
    _profiles: TempDir,
    /// Its mark, which the browsers inherit: the stack's directory and a name that no other child has.
    mark: (PathBuf, String),
}

impl ChromiumDriver {
    /// Starts one that keeps its log in `dir` and belongs to the stack of `stack_dir`.
    pub(super) async fn start(dir: &Path, stack_dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let log = dir.join("chromedriver.log");
        let said = File::create(&log).map_err(Error::io("create", &log))?;
        let errors = said.try_clone().map_err(Error::io("open", &log))?;
        let profiles = tempfile::Builder::new().prefix("kontor-").tempdir();
        let profiles = profiles.map_err(Error::io("make a directory in", &std::env::temp_dir()))?;
        let name = format!("chromedriver of {}", dir.display());
        let child = Command::new("chromedriver")
            .arg("--port=0")
            .env(MARK_DIR, stack_dir)
            .env(MARK_NAME, &name)
            .env("TMPDIR", profiles.path())
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Error::MissingTool { tool: "chromedriver".into(), way_out: "run compose/install --tests".into() }
                }
                _ => Error::io("run", Path::new("chromedriver"))(error),
            })?;
        let mark = (stack_dir.to_path_buf(), name);
        let mut driver = Self { url: String::new(), child, _profiles: profiles, mark };
        let port = eventually_some(PATIENCE, "chromedriver listens", || std::future::ready(port_in(&log))).await;
        let port = port.map_err(|_| Error::NotReady {
            name: "chromedriver".into(),
            waited_s: PATIENCE.as_secs(),
            tail: health::tail(&log, 8),
            log: log.clone(),
        })?;
        driver.url = format!("http://127.0.0.1:{port}");
        Ok(driver)
    }
}

fn port_in(log: &Path) -> Option<u16> {
    let text = fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once(LISTENS)?;
    // With what ends it, so that no digit is missing.
    rest.split_once(|end: char| !end.is_ascii_digit())?.0.parse().ok()
}

impl Drop for ChromiumDriver {
    fn drop(&mut self) {
        let (stack_dir, name) = &self.mark;
        let mine = || children_of(stack_dir).into_iter().filter(|(child, _)| child == name).map(|(_, process)| process);
        // The driver takes its browsers along. One that was killed by hand left them.
        if let Some(driver) = i32::try_from(self.child.id()).ok().and_then(Process::of_pid) {
            driver.end(PATIENCE);
        }
        let _ = self.child.wait();
        mine().for_each(|browser| {
            browser.end(PATIENCE);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_when_it_is_there_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("chromedriver.log");
        for (text, port) in [
            ("", None),
            ("Starting ChromeDriver on port 0\n", None),
            ("ChromeDriver was started successfully on port 330", None),
            ("ChromeDriver was started successfully on port 33037.\n", Some(33037)),
        ] {
            fs::write(&log, text).unwrap();
            assert_eq!(port_in(&log), port, "{text:?}");
        }
    }
}
