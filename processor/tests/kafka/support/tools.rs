//! What an operator does beside a bank that runs: its tools, and new versions of a schema.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use kontor_compose::console::Console;
use kontor_compose::{java, kafka};
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

    /// The lag of this consumer group by topic and partition, as Kafka's own command shows it to anybody. Empty for a group
    /// that the broker has not heard of yet.
    pub async fn lag(&self, group: &str) -> BTreeMap<(String, i32), i64> {
        let console = Console::terminal();
        let (java, jars) = (java::find_or_fetch(&console).unwrap(), kafka::fetch(&console).unwrap());
        let mut command = Command::new(java);
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(jars.join("*"));
        command.arg("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
        command.args(["--bootstrap-server", self.space.bootstrap(), "--describe", "--group", group]);
        let output = output_of(command).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
        let Some(head) = rows.iter().find(|row| row.contains(&"LAG")) else { return BTreeMap::new() };
        let column = |name| head.iter().position(|one| *one == name).unwrap();
        let (topic, partition, lag) = (column("TOPIC"), column("PARTITION"), column("LAG"));
        let of_group = rows.iter().filter(|row| row.first() == Some(&group));
        // A dash stands for the lag of a partition without an offset.
        let lag_of =
            |row: &Vec<&str>| Some(((row[topic].to_owned(), row[partition].parse().ok()?), row[lag].parse().ok()?));
        of_group.filter_map(lag_of).collect()
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
