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
        self.run_audit(wait_s, None).await
    }

    /// The same, and whether the stores of a stopped processor are the fold of the topics, byte for byte.
    ///
    /// # Errors
    /// As [`Namespace::audit`].
    pub async fn audit_with_stores(&self, wait_s: u32, state_dir: &Path) -> Result<(i32, String)> {
        self.run_audit(wait_s, Some(state_dir)).await
    }

    async fn run_audit(&self, wait_s: u32, state_dir: Option<&Path>) -> Result<(i32, String)> {
        let program = self.program("processor");
        let mut command = Command::new(&program);
        command.args(["audit", "--wait-s", &wait_s.to_string(), "--bootstrap", self.bootstrap()]);
        if let Some(state_dir) = state_dir {
            command.arg("--store").arg(state_dir).arg("--token-secret-file").arg(self.secret_file());
        }
        command.args(["--registry", self.registry(), "--prefix", &self.prefix]);
        command.arg("--topics").arg(&self.topics_file).stdin(Stdio::null());
        let output = blocking(move || command.output().map_err(Error::io("run", &program))).await?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }
}
