//! Fields of a later version that this build does not know, made skippable.
//!
//! apache-avro reads past an unknown field by its type, but refuses an enum there. On the wire an enum is an int, so
//! in unknown fields (and only there) the schema that reads calls it one.

use apache_avro::Schema;
use serde_json::Value;

use crate::records::record_type;

/// The schema to read with, where it has to differ from the writer's.
pub(super) fn skippable(full_name: &str, schema_json: &str) -> Option<Schema> {
    let Schema::Record(ours) = (record_type(full_name)?.schema)() else { return None };
    let mut json: Value = serde_json::from_str(schema_json).ok()?;
    let mut enums = Vec::new();
    for field in json.get_mut("fields")?.as_array_mut()? {
        let is_known = field.get("name").and_then(Value::as_str).is_some_and(|name| ours.lookup.contains_key(name));
        if is_known {
            continue;
        }
        if let Some(kind) = field.get_mut("type") {
            flatten(kind, &mut enums);
        }
        // Defaults are the reader's business, and this one may name a symbol.
        field.as_object_mut()?.remove("default");
    }
    // Unions that would hold two ints do not parse: such a record stays unreadable, and is reported as such.
    if enums.is_empty() { None } else { Schema::parse(&json).ok() }
}

/// Replaces enums by ints, and remembers their names for where they are used again.
fn flatten(kind: &mut Value, enums: &mut Vec<String>) {
    match kind {
        Value::String(name) if enums.iter().any(|known| known == name) => *kind = Value::from("int"),
        Value::Array(variants) => variants.iter_mut().for_each(|variant| flatten(variant, enums)),
        Value::Object(parts) if parts.get("type").and_then(Value::as_str) == Some("enum") => {
            enums.extend(parts.get("name").and_then(Value::as_str).map(str::to_owned));
            *kind = Value::from("int");
        }
        Value::Object(parts) => {
            for key in ["type", "items", "values"] {
                if let Some(inner) = parts.get_mut(key).filter(|inner| !inner.is_string() || key != "type") {
                    flatten(inner, enums);
                }
            }
            for field in parts.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(inner) = field.get_mut("type") {
                    flatten(inner, enums);
                }
            }
        }
        _ => {}
    }
}
