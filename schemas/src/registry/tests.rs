//! The cache against a registry that says what a test wants: yes, no, nonsense, or nothing at all.

mod fake;

use std::path::Path;
use std::time::Duration;

use fake::{FakeRegistry, eventually};

use super::{CacheConfig, Lookup, ResolveError, SchemaCache};
use crate::records::{AvroRecord, ConfirmMoneyTransfer, Heartbeat, MoneyTransferConfirmed};
use crate::topics::Topology;
use crate::{Encoder, Writer, unframe};

const NO_SUCH_SCHEMA: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

fn start(url: &str, file: Option<&Path>) -> SchemaCache {
    SchemaCache::start(CacheConfig { registry_url: url.to_owned(), file: file.map(Path::to_owned) }).unwrap()
}

fn known(cache: &SchemaCache, id: u32) -> Option<&'static Writer> {
    match cache.writer(id) {
        Lookup::Known(writer) => Some(writer),
        _ => None,
    }
}

fn absent(cache: &SchemaCache, id: u32) -> Option<String> {
    match cache.writer(id) {
        Lookup::Absent(why) => Some(why),
        _ => None,
    }
}

fn topology() -> Topology {
    Topology::parse(
        "{partitions: 2, shards: 1, layout: 1, topics: {
            beats: {cleanup: delete, subjects: topic, records: [Heartbeat]},
            answers: {cleanup: delete, records: [MoneyTransferConfirmed]}}}",
    )
    .unwrap()
    .with_prefix("t.")
}

/// A registry that holds the schemas of [`topology`] under `first` and the next id.
fn registry_of_topology(first: u32) -> FakeRegistry {
    let registry = FakeRegistry::start();
    registry.has_schema(first, Heartbeat::schema_json());
    registry.has_schema(first + 1, MoneyTransferConfirmed::schema_json());
    registry.has_subject("t.beats-value", Heartbeat::schema_json(), first);
    registry.has_subject(
        "t.answers-nl.openweb.data.MoneyTransferConfirmed",
        MoneyTransferConfirmed::schema_json(),
        first + 1,
    );
    registry
}

#[test]
fn an_unknown_id_is_pending_and_then_known() {
    let registry = FakeRegistry::start();
    registry.has_schema(7, ConfirmMoneyTransfer::schema_json());
    let cache = start(&format!("{}/", registry.url()), None);
    assert!(matches!(cache.writer(7), Lookup::Pending));
    let writer = eventually(|| known(&cache, 7));
    assert_eq!((writer.id, writer.full_name.as_str()), (7, "nl.openweb.data.ConfirmMoneyTransfer"));
    assert!(known(&cache.clone(), 7).is_some());
    assert_eq!(registry.count("GET /schemas/ids/7"), 1, "known is asked once");
}

#[test]
fn only_a_clear_no_is_absence() {
    let registry = FakeRegistry::start();
    registry.answers("/schemas/ids/1", 404, NO_SUCH_SCHEMA);
    registry.answers("/schemas/ids/2", 200, r#"{"schema":"syntax = \"proto3\";","schemaType":"PROTOBUF"}"#);
    registry.answers("/schemas/ids/3", 200, r#"{"schema":"\"long\""}"#);
    registry.answers("/schemas/ids/4", 200, r#"{"schema":"{\"type\":\"record\"}"}"#);
    let cache = start(&registry.url(), None);
    for (id, why) in [
        (1, "the registry has no schema 1"),
        (2, "schema 2 is Protobuf, not Avro"),
        (3, "schema 3 is not the schema of a record"),
        (4, "schema 4 is not an Avro schema"),
    ] {
        let said = eventually(|| absent(&cache, id));
        assert!(said.starts_with(why), "{id}: {said}");
    }
    assert_eq!(registry.count("GET /schemas/ids/1"), 1, "a clear no is believed for a while");
}

#[test]
fn a_clear_no_is_asked_again_after_a_while() {
    let registry = FakeRegistry::start();
    let config = CacheConfig { registry_url: registry.url(), file: None };
    let cache = SchemaCache::start_believing(config, Duration::from_millis(50)).unwrap();
    eventually(|| absent(&cache, 6));
    registry.has_schema(6, Heartbeat::schema_json());
    assert_eq!(eventually(|| known(&cache, 6)).full_name, Heartbeat::full_name());
}

#[test]
fn whatever_else_goes_wrong_is_asked_again() {
    let unclear = [
        (404, "<html>not here</html>"),
        (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
        (500, r#"{"error_code":50001,"message":"store"}"#),
        (503, ""),
        (401, r#"{"error_code":401,"message":"who are you"}"#),
        (200, "{}"),
        (200, "not json"),
    ];
    for (status, body) in unclear {
        let registry = FakeRegistry::start();
        registry.answers("/schemas/ids/5", status, body);
        let cache = start(&registry.url(), None);
        assert!(matches!(cache.writer(5), Lookup::Pending));
        eventually(|| (registry.count("GET /schemas/ids/5") >= 2).then_some(()));
        assert!(matches!(cache.writer(5), Lookup::Pending), "{status} {body}");
        registry.has_schema(5, Heartbeat::schema_json());
        eventually(|| known(&cache, 5));
    }
}

#[test]
fn an_outage_holds_up_one_id_and_ends() {
    let registry = registry_of_topology(1);
    let cache = start(&registry.url(), None);
    eventually(|| known(&cache, 1));
    registry.stop();
    for id in 100..400 {
        assert!(matches!(cache.writer(id), Lookup::Pending), "a flood of ids during an outage");
    }
    assert!(matches!(cache.writer(2), Lookup::Pending));
    assert!(known(&cache, 1).is_some(), "what is known stays known");
    registry.resume();
    // The invented ids are refused one after the other; then there is room to ask for the real one.
    eventually(|| known(&cache, 2));
}

#[test]
fn resolve_learns_the_ids_of_this_build() {
    let registry = registry_of_topology(3);
    let cache = start(&registry.url(), None);
    assert_eq!(cache.id_of("t.beats", Heartbeat::full_name()), None);
    cache.resolve(&topology()).unwrap();
    assert_eq!(cache.id_of("t.beats", Heartbeat::full_name()), Some(3));
    assert_eq!(cache.id_of("t.answers", MoneyTransferConfirmed::full_name()), Some(4));
    assert_eq!(cache.id_of("t.answers", Heartbeat::full_name()), None);
    assert_eq!(cache.id_of("beats", Heartbeat::full_name()), None);

    // What it writes, it reads at once: its own ids need no question.
    let mut value = Vec::new();
    Encoder::<Heartbeat>::new(3).encode(&Heartbeat { beat: 11 }, &mut value).unwrap();
    let (id, datum) = unframe(&value).unwrap();
    assert_eq!(known(&cache, id).unwrap().decode::<Heartbeat>(datum).unwrap(), Heartbeat { beat: 11 });
}

#[test]
fn missing_schemas_are_named_with_the_fix() {
    let registry = FakeRegistry::start();
    registry.has_subject("t.beats-value", "{}", 9);
    let cache = start(&registry.url(), None);
    let error = cache.resolve(&topology()).unwrap_err();
    assert_eq!(
        error,
        ResolveError::Missing(vec![
            "subject t.beats-value has other schemas than this build".to_owned(),
            "the registry has no subject t.answers-nl.openweb.data.MoneyTransferConfirmed".to_owned(),
        ])
    );
    assert!(error.to_string().contains("run `topics apply`"), "{error}");
}

#[test]
fn a_start_survives_an_outage_with_the_file_and_says_so_without() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schemas.json");
    let registry = registry_of_topology(1);
    registry.has_schema(50, ConfirmMoneyTransfer::schema_json());
    let cache = start(&registry.url(), Some(&file));
    cache.resolve(&topology()).unwrap();
    eventually(|| known(&cache, 50));
    eventually(|| std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"50\"")).then_some(()));
    let url = registry.url();
    registry.stop();

    let again = start(&url, Some(&file));
    again.resolve(&topology()).unwrap();
    assert_eq!(again.id_of("t.beats", Heartbeat::full_name()), Some(1));
    assert!(known(&again, 50).is_some() && known(&again, 1).is_some(), "from the file, without a question");

    let short = Duration::from_millis(300);
    let other = start(&url, None).resolve_within(&topology(), short).unwrap_err();
    assert!(matches!(&other, ResolveError::Unreachable { .. }), "{other}");
    assert!(other.to_string().contains(&url), "{other}");

    // A build with another schema than the file's must not write under the old id.
    let text = std::fs::read_to_string(&file).unwrap().replace("beat", "beet");
    std::fs::write(&file, text).unwrap();
    let error = start(&url, Some(&file)).resolve_within(&topology(), short).unwrap_err();
    assert!(matches!(error, ResolveError::Unreachable { .. }), "{error}");

    // A damaged file is as good as none.
    std::fs::write(&file, "{\"schemas\":").unwrap();
    let damaged = start(&url, Some(&file));
    assert!(damaged.resolve_within(&topology(), short).is_err());
    registry.resume();
    damaged.resolve(&topology()).unwrap();
    assert_eq!(damaged.id_of("t.beats", Heartbeat::full_name()), Some(1));
}

/// A new registry under the old address: the ids of the file would mean something else there.
#[test]
fn a_file_of_another_registry_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schemas.json");
    let old = registry_of_topology(1);
    start(&old.url(), Some(&file)).resolve(&topology()).unwrap();

    let new = registry_of_topology(2);
    new.has_schema(1, ConfirmMoneyTransfer::schema_json());
    let cache = start(&new.url(), Some(&file));
    cache.resolve(&topology()).unwrap();
    assert_eq!(cache.id_of("t.beats", Heartbeat::full_name()), Some(2));
    assert_eq!(known(&cache, 2).unwrap().full_name, Heartbeat::full_name());
    let first = eventually(|| known(&cache, 1));
    assert_eq!(first.full_name, ConfirmMoneyTransfer::full_name());
}

#[test]
fn an_address_that_is_none_is_an_unclear_answer_not_a_panic() {
    let cache = start("not an address", None);
    assert!(matches!(cache.writer(1), Lookup::Pending));
    let error = cache.resolve_within(&topology(), Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, ResolveError::Unreachable { .. }), "{error}");
}
