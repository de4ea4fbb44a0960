//! What the registry holds after `apply`: the records in the shape that others know, under the names by which others
//! look for them, and later only what old and new readers can read.

use apache_avro::Schema;
use schemas::records::{AvroRecord, BalanceChanged, ConfirmAccountCreation, ConfirmMoneyTransfer, Heartbeat};
use schemas::topics::{Action, Target, plan, verify};
use serde_json::{Value, json};

use crate::support::{in_own_prefix, topology_with};
use crate::{applied, name};

/// A topic of one record, whose subject is named by the topic alone.
const BEATS: &str = "  beats: {key: none, cleanup: delete, subjects: topic, records: [Heartbeat]}\n";

/// Status and body of a GET below the registry's address.
async fn get(target: &Target, path: &str) -> (u16, Value) {
    let (status, body) = kontor_compose::health::get(&format!("{}/{path}", target.registry)).await.unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

/// The latest schema of a subject.
async fn latest(target: &Target, subject: &str) -> Option<String> {
    let (status, body) = get(target, &format!("subjects/{subject}/versions/latest")).await;
    assert!(status == 200 || (status == 404 && body["error_code"].is_u64()), "{subject}: {status} {body}");
    body["schema"].as_str().map(str::to_owned)
}

/// Registers one more version; the status.
async fn post(target: &Target, subject: &str, schema: &Value) -> u16 {
    let url = format!("{}/subjects/{subject}/versions", target.registry);
    let body = json!({ "schema": schema.to_string() }).to_string();
    let request = reqwest::Client::new().post(&url).header("content-type", "application/json").body(body);
    request.send().await.unwrap().status().as_u16()
}

/// Name of a record, name and type of each of its fields: what a reader needs, and nothing of what people read.
fn shape(schema_json: &str) -> (String, Vec<(String, String)>) {
    let Schema::Record(record) = Schema::parse_str(schema_json).unwrap() else { panic!("{schema_json}") };
    let fields = record.fields.iter().map(|field| (field.name.clone(), field.schema.canonical_form()));
    (record.name.to_string(), fields.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn b01_the_registry_holds_every_record_in_the_shape_that_others_know() {
    in_own_prefix("shapes", async |target, topology| {
        // Heartbeat is in no topic of ours.
        let topology = topology_with(&topology.prefix, BEATS);
        applied(&target, &topology).await;
        // One by one: the list of all subjects ends after a thousand, and a suite leaves more.
        let declared: Vec<_> = topology.subjects().collect();
        for (_, record, subject) in &declared {
            let schema = latest(&target, subject).await.unwrap_or_else(|| panic!("{subject} is missing"));
            assert_eq!(shape(&schema).0, record.full_name);
        }

        let first: Vec<Value> = serde_json::from_str(include_str!("../first_shapes.json")).unwrap();
        assert_eq!(first.len(), 8);
        for known in first {
            let (_, _, subject) = declared.iter().find(|(_, record, _)| known["name"] == record.name).unwrap();
            let schema = latest(&target, subject).await.unwrap();
            let ((name, fields), (known_name, known_fields)) = (shape(&schema), shape(&known.to_string()));
            assert_eq!(name, known_name);
            // What we added comes last, and may be left out.
            assert_eq!(fields[..known_fields.len()], known_fields, "{name}");
            let schema: Value = serde_json::from_str(&schema).unwrap();
            let added = &schema["fields"].as_array().unwrap()[known_fields.len()..];
            assert!(added.iter().all(|field| field.get("default").is_some()), "{name}: {added:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b03_subjects_are_of_topic_and_record_or_of_the_topic_alone() {
    in_own_prefix("subjects", async |target, topology| {
        let topology = topology_with(&topology.prefix, BEATS);
        applied(&target, &topology).await;
        let (commands, beats) = (name(&topology, "commands"), name(&topology, "beats"));
        for (subject, record) in [
            (format!("{commands}-nl.openweb.data.ConfirmAccountCreation"), Some(ConfirmAccountCreation::full_name())),
            (format!("{commands}-nl.openweb.data.ConfirmMoneyTransfer"), Some(ConfirmMoneyTransfer::full_name())),
            (format!("{commands}-value"), None),
            (format!("{beats}-value"), Some(Heartbeat::full_name())),
            (format!("{beats}-nl.openweb.data.Heartbeat"), None),
        ] {
            let schema = latest(&target, &subject).await;
            assert_eq!(schema.map(|schema| shape(&schema).0).as_deref(), record, "{subject}");
        }
        verify(&target, &topology).await.unwrap();
    })
    .await;
}

/// The registry enforces what `apply` set: an unreadable change never gets in.
#[tokio::test(flavor = "multi_thread")]
async fn b07_a_field_with_a_default_is_taken_and_a_lost_or_required_one_refused() {
    in_own_prefix("compat", async |target, topology| {
        applied(&target, &topology).await;
        let subject = topology.topic("balance_changed").unwrap().subject(BalanceChanged::full_name());
        let ours: Value = serde_json::from_str(BalanceChanged::schema_json()).unwrap();
        let with = |field: Value| {
            let mut more = ours.clone();
            more["fields"].as_array_mut().unwrap().push(field);
            more
        };
        let fields = ours["fields"].as_array().unwrap();
        let required: Vec<usize> = (0..fields.len()).filter(|at| fields[*at].get("default").is_none()).collect();
        assert_eq!(required.len(), 5, "{fields:?}");
        for at in required {
            let mut less = ours.clone();
            let lost = less["fields"].as_array_mut().unwrap().remove(at);
            assert_eq!(post(&target, &subject, &less).await, 409, "without {lost}");
        }
        assert_eq!(post(&target, &subject, &with(json!({ "name": "more", "type": "long" }))).await, 409);
        assert_eq!(latest(&target, &subject).await.map(|schema| shape(&schema)), Some(shape(&ours.to_string())));

        let later = with(json!({ "name": "more", "type": "long", "default": 0 }));
        assert_eq!(post(&target, &subject, &later).await, 200);
        assert_eq!(latest(&target, &subject).await.map(|schema| shape(&schema)), Some(shape(&later.to_string())));
        // A later version beside ours is no reason to stop.
        verify(&target, &topology).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compatibility_level_that_was_changed_is_planned_to_be_set_again() {
    in_own_prefix("level", async |target, topology| {
        applied(&target, &topology).await;
        let subject = topology.topic("balance_changed").unwrap().subject(BalanceChanged::full_name());
        let level = format!("{}/config/{subject}", target.registry);
        let body = r#"{"compatibility":"NONE"}"#;
        let request = reqwest::Client::new().put(&level).header("content-type", "application/json").body(body);
        assert!(request.send().await.unwrap().status().is_success());
        let to = "FULL_TRANSITIVE".to_owned();
        let expected = Action::SetCompatibility { subject, from: Some("NONE".to_owned()), to };
        assert_eq!(plan(&target, &topology, false).await.unwrap().actions, [expected]);
    })
    .await;
}
