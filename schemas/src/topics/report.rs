//! Plans in words, for people, and as JSON, for scripts.

use serde::Serialize;

use super::compare::{Action, Plan};

/// One line for one action.
pub fn describe(action: &Action) -> String {
    match action {
        Action::CreateTopic { topic, partitions, replication, config } => {
            let settings: Vec<String> = config.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let settings = settings.join(" ");
            format!("create topic {topic}: partitions={partitions} replication={replication} {settings}")
        }
        Action::AlterConfig { topic, changes } => {
            let changes: Vec<String> = changes
                .iter()
                .map(|change| {
                    format!("{} from {} to {}", change.key, change.from.as_deref().unwrap_or("nothing"), change.to)
                })
                .collect();
            format!("change topic {topic}: {}", changes.join(", "))
        }
        Action::SetCompatibility { subject, to, from: None } => format!("set compatibility of {subject} to {to}"),
        Action::SetCompatibility { subject, to, from: Some(from) } => {
            format!("set compatibility of {subject} from {from} to {to}")
        }
        Action::RegisterSchema { subject, .. } => format!("register the schema of {subject}"),
        Action::DeleteTopic { topic } => format!("delete topic {topic} with all its records"),
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for action in &self.actions {
            writeln!(f, "will {}", describe(action))?;
        }
        for refusal in &self.refusals {
            writeln!(f, "REFUSED: {refusal}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for topic in &self.unknown {
            writeln!(f, "unknown topic: {topic}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.is_empty() { writeln!(f, "the cluster is as declared") } else { Ok(()) }
    }
}

/// One JSON document.
pub fn to_json(value: &impl Serialize) -> String {
    // Maps have text keys and every value serializes; should that ever change, the script gets the reason.
    serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

#[cfg(test)]
mod tests {
    use super::super::compare::{ConfigChange, Refusal};
    use super::*;

    fn plan() -> Plan {
        Plan {
            actions: vec![
                Action::CreateTopic {
                    topic: "a".to_owned(),
                    partitions: 2,
                    replication: 1,
                    config: [("retention.ms".to_owned(), "-1".to_owned())].into(),
                },
                Action::AlterConfig {
                    topic: "b".to_owned(),
                    changes: vec![ConfigChange { key: "k".to_owned(), from: None, to: "2".to_owned() }],
                },
                Action::DeleteTopic { topic: "c".to_owned() },
            ],
            refusals: vec![Refusal::Partitions { topic: "d".to_owned(), from: 3, to: 12 }],
            ..Plan::default()
        }
    }

    #[test]
    fn lines_say_what_and_on_what() {
        let text = plan().to_string();
        let expected = [
            "will create topic a: partitions=2 replication=1 retention.ms=-1\n",
            "will change topic b: k from nothing to 2\n",
            "will delete topic c with all its records\n",
            "REFUSED: topic d has 3 partitions, declared are 12",
        ];
        for line in expected {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(Plan::default().to_string(), "the cluster is as declared\n");
    }

    #[test]
    fn json_names_each_action() {
        let json: serde_json::Value = serde_json::from_str(&to_json(&plan())).unwrap();
        assert_eq!(json["actions"][0]["action"], "create_topic");
        assert_eq!(json["actions"][0]["config"]["retention.ms"], "-1");
        assert_eq!(json["actions"][1]["changes"][0]["to"], "2");
        assert_eq!(json["refusals"][0]["refusal"], "partitions");
        assert_eq!(json["refusals"][0]["from"], 3);
    }
}
