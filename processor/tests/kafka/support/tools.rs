//! What an operator does beside a bank that runs: its tools, and new versions of a schema.

use std::process::{Command, Output, Stdio};

use schemas::AvroRecord;
use schemas::records::ConfirmMoneyTransfer;

use super::Bank;

impl Bank {
    /// Runs a command of the program `processor`, told of the broker and the topics of this bank: its exit code, what it
    /// printed, and what it told beside.
    pub async fn tool(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(self.space.program("processor"));
        command.args(args).args(["--bootstrap", self.space.bootstrap(), "--prefix", &self.space.prefix]);
        command.arg("--topics").arg(&self.space.topics_file).stdin(Stdio::null());
        let output = output_of(command).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Registers one more version of ConfirmMoneyTransfer behind the back of the processor, with a text of this name, and
    /// of this bank's own, as its last field. Gives its id.
    pub async fn register_transfer_with(&self, field: &str) -> u32 {
        let mut schema: serde_json::Value = serde_json::from_str(ConfirmMoneyTransfer::schema_json()).unwrap();
        let name = format!("{field}_{}", self.space.prefix.replace(['.', '-'], "_"));
        let field = serde_json::json!({ "name": name, "type": "string", "default": "", "doc": "added by a test" });
        schema["fields"].as_array_mut().unwrap().push(field);
        let subject = self.topology.topic("commands").unwrap().subject(ConfirmMoneyTransfer::full_name());
        let url = format!("{}/subjects/{subject}/versions", self.space.registry());
        let body = serde_json::json!({ "schema": schema.to_string() }).to_string();
        let mut command = Command::new("curl");
        command.args(["--silent", "--noproxy", "*", "--fail-with-body", "--data", &body]);
        command.args(["--header", "content-type: application/vnd.schemaregistry.v1+json", &url]);
        let output = output_of(command).await;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
    }
}

async fn output_of(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}
