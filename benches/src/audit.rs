//! The money check that ends every run: `processor audit` as its own process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::Value;

use crate::stack::Stack;

/// What the audit said.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// 0 clean, 1 breach, 2 undecided; -1 when it could not be run.
    pub exit_code: i32,
    /// Its own report, or why there is none.
    pub report: Value,
}

impl Audit {
    /// Runs it on a stack, and lets it wait for work in flight.
    pub fn run(stack: &Stack, processor: Option<&Path>, topics: &Path) -> Audit {
        let program = processor.map_or_else(beside_this_program, Path::to_owned);
        let mut command = Command::new(&program);
        command.arg("audit").arg("--json").args(["--wait-s", "60"]).args(["--bootstrap", &stack.bootstrap]);
        command.args(["--registry", &stack.registry]).arg("--prefix").arg(&stack.prefix).arg("--topics").arg(topics);
        match command.stdin(Stdio::null()).stderr(Stdio::inherit()).output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                let report = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.trim().to_owned()));
                Audit { exit_code: output.status.code().unwrap_or(-1), report }
            }
            Err(error) => {
                let why = format!("cannot run {}: {error}; build it or name it with --processor", program.display());
                Audit { exit_code: -1, report: Value::String(why) }
            }
        }
    }

    /// `clean`, or what is wrong, in a line.
    pub fn line(&self) -> String {
        let first = &self.report["first_breach"];
        match self.exit_code {
            0 => "clean".to_owned(),
            1 => format!("BREACH: {} {} {}", text(&first["invariant"]), text(&first["at"]), text(&first["what"])),
            2 => format!("undecided: {} {}", self.report["pending"], self.report["undecided"]),
            _ => format!("not done: {}", self.report),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Both programs are built into one directory.
fn beside_this_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("processor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_breach_is_named() {
        let report =
            serde_json::json!({"first_breach": {"invariant": "I4", "at": "balance_changed-1@3", "what": "torn"}});
        assert_eq!(Audit { exit_code: 1, report }.line(), "BREACH: I4 balance_changed-1@3 torn");
    }

    #[test]
    fn an_audit_that_cannot_run_says_how_to_get_it() {
        let stack: Stack = serde_json::from_str(r#"{"bootstrap":"x","registry":"y"}"#).unwrap();
        let audit = Audit::run(&stack, Some(Path::new("/nowhere/processor")), Path::new("topics.yaml"));
        assert_eq!(audit.exit_code, -1);
        assert!(audit.line().contains("--processor"), "{}", audit.line());
    }
}
