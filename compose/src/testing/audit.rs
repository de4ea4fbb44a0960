//! The audit of a name space: `processor audit`, as an operator would run it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::testing::Namespace;
use crate::testing::namespace::blocking;

impl Namespace {
    /// Its exit code and what it said. It waits up to `wait_s` seconds for work in flight; 0 is for a drained system.
    ///
    /// # Errors
    /// When the program cannot be run. Money that does not add up is no error here, but an exit code.
    pub async fn audit(&self, wait_s: u32) -> Result<(i32, String)> {
        self.run_audit(wait_s, |_| {}).await
    }

    /// The same for processors that remember ids for so many hours.
    ///
    /// # Errors
    /// As [`Namespace::audit`].
    pub async fn audit_remembering(&self, wait_s: u32, outcome_retention_hours: &str) -> Result<(i32, String)> {
        let told = |command: &mut Command| {
            command.args(["--outcome-retention-hours", outcome_retention_hours]);
        };
        self.run_audit(wait_s, told).await
    }

    /// The same, and whether the stores of a stopped processor are the fold of the topics, byte for byte.
    ///
    /// # Errors
    /// As [`Namespace::audit`].
    pub async fn audit_with_stores(&self, wait_s: u32, state_dir: &Path) -> Result<(i32, String)> {
        let secret = self.secret_file();
        let told = |command: &mut Command| {
            command.arg("--store").arg(state_dir).arg("--token-secret-file").arg(secret);
        };
        self.run_audit(wait_s, told).await
    }

    async fn run_audit(&self, wait_s: u32, tell: impl FnOnce(&mut Command)) -> Result<(i32, String)> {
        let program = self.program("processor");
        let mut command = Command::new(&program);
        command.args(["audit", "--wait-s", &wait_s.to_string(), "--bootstrap", self.bootstrap()]);
        tell(&mut command);
        command.args(["--registry", self.registry(), "--prefix", &self.prefix]);
        command.arg("--topics").arg(&self.topics_file).stdin(Stdio::null());
        let output = blocking(move || command.output().map_err(Error::io("run", &program))).await?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }
}
