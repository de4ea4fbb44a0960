//! A YAML mapping that is emptied key by key, so that what is left over is known, and every error carries its path.

use std::ops::RangeInclusive;

use serde_yaml_ng::{Mapping, Value};

use super::load::TopologyError;
use super::suggest::hint;

/// One mapping and where it stands.
pub(super) struct Fields {
    path: String,
    map: Mapping,
    asked: Vec<&'static str>,
}

impl Fields {
    /// `path` is empty for the top of the file.
    pub(super) fn of(path: &str, value: Value) -> Result<Self, TopologyError> {
        match value {
            Value::Mapping(map) => Ok(Self { path: path.to_owned(), map, asked: Vec::new() }),
            other => Err(bad(path, format!("must hold keys with values, found {}", kind(&other)))),
        }
    }

    /// Path of a key in this mapping.
    pub(super) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(super) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        self.map.remove(key).filter(|value| !value.is_null())
    }

    pub(super) fn string(&mut self, key: &'static str) -> Result<Option<String>, TopologyError> {
        let path = self.at(key);
        self.value(key)
            .map(|value| match value {
                Value::String(text) => Ok(text),
                other => Err(bad(&path, format!("must be a text, found {}", kind(&other)))),
            })
            .transpose()
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Result<Option<bool>, TopologyError> {
        let path = self.at(key);
        self.value(key)
            .map(|value| {
                value.as_bool().ok_or_else(|| bad(&path, format!("must be true or false, found {}", kind(&value))))
            })
            .transpose()
    }

    /// A whole number from 1 to `most`.
    pub(super) fn count(&mut self, key: &'static str, most: i32) -> Result<Option<i32>, TopologyError> {
        self.number(key, 1..=most)
    }

    /// A whole number within these bounds.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<i32>,
    ) -> Result<Option<i32>, TopologyError> {
        let path = self.at(key);
        let (least, most) = (bounds.start(), bounds.end());
        self.value(key)
            .map(|value| {
                value
                    .as_i64()
                    .and_then(|number| i32::try_from(number).ok())
                    .filter(|number| bounds.contains(number))
                    .ok_or_else(|| {
                        bad(&path, format!("must be a whole number from {least} to {most}, found {}", kind(&value)))
                    })
            })
            .transpose()
    }

    /// A list of texts; empty when the key is absent.
    pub(super) fn strings(&mut self, key: &'static str) -> Result<Vec<String>, TopologyError> {
        let path = self.at(key);
        let refuse = |value: &Value| bad(&path, format!("must be a list of texts, found {}", kind(value)));
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Sequence(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    other => Err(refuse(&other)),
                })
                .collect(),
            Some(other) => Err(refuse(&other)),
        }
    }

    /// Every key with its value, for mappings whose keys are names.
    pub(super) fn entries(self) -> Result<Vec<(String, Value)>, TopologyError> {
        let path = self.path;
        self.map
            .into_iter()
            .map(|(key, value)| match key {
                Value::String(key) => Ok((key, value)),
                other => Err(bad(&path, format!("keys must be texts, found {}", kind(&other)))),
            })
            .collect()
    }

    /// Refuses keys that nobody asked for.
    pub(super) fn finish(self) -> Result<(), TopologyError> {
        match self.map.into_iter().next() {
            None => Ok(()),
            Some((Value::String(key), _)) => {
                let hint = hint(&key, self.asked.iter().copied());
                let known = self.asked.join(", ");
                Err(bad(&join(&self.path, &key), format!("unknown key{hint} (known: {known})")))
            }
            Some((other, _)) => Err(bad(&self.path, format!("keys must be texts, found {}", kind(&other)))),
        }
    }
}

/// What a value is, for an error.
pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("\"{text}\""),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "keys with values".to_owned(),
        Value::Tagged(_) => "a tagged value".to_owned(),
    }
}

pub(super) fn bad(path: &str, what: impl Into<String>) -> TopologyError {
    TopologyError::Invalid {
        path: if path.is_empty() { "the file".to_owned() } else { path.to_owned() },
        what: what.into(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
