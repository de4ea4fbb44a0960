//! The questions asked of a schema registry, and what its answers mean.
//!
//! A registry can say yes, it can clearly say no, or it can be in no state to say anything; only the second is ever
//! acted on as absence. schema_registry_converter's own caches are not used: they keep a refusal for good.

use std::error::Error;
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id, perform_sr_call};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SrCall};

/// What a registry said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    /// Yes, this.
    Is(T),
    /// No; asking again soon gives the same.
    No(String),
    /// Nothing that could be relied on; ask again.
    Unclear(String),
}

/// A registry with Confluent's API.
#[derive(Clone)]
pub(crate) struct RegistryClient {
    settings: SrSettings,
}

/// How long one call may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const SUBJECT_NOT_FOUND: u32 = 40401;
const SCHEMA_NOT_FOUND: u32 = 40403;

impl RegistryClient {
    /// `url` is the complete base of the API, with or without a `/` at its end.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        SrSettings::new_builder(url.trim_end_matches('/').to_owned())
            .no_proxy()
            .set_timeout(CALL_TIMEOUT)
            .build()
            .map(|settings| Self { settings })
            .map_err(|error| explain(&error))
    }

    /// Text of the Avro schema with this id. A schema of another kind is a clear no: its records cannot be read,
    /// however often one asks.
    pub(crate) async fn schema(&self, id: u32) -> Answer<String> {
        match get_schema_by_id(id, &self.settings).await {
            Ok(found) if found.schema_type != SchemaType::Avro => {
                Answer::No(format!("schema {id} is {:?}, not Avro", found.schema_type))
            }
            Ok(found) if !found.references.is_empty() => {
                Answer::No(format!("schema {id} refers to other schemas, which is not supported"))
            }
            Ok(found) => Answer::Is(found.schema),
            Err(error) => match code(&error) {
                Some(SCHEMA_NOT_FOUND) => Answer::No(format!("the registry has no schema {id}")),
                _ => Answer::Unclear(explain(&error)),
            },
        }
    }

    /// Id of exactly this schema under `subject`.
    pub(crate) async fn id_of(&self, subject: &str, schema_json: &str) -> Answer<u32> {
        let body = serde_json::json!({ "schema": schema_json }).to_string();
        match perform_sr_call(&self.settings, SrCall::PostForVersion(subject, &body)).await {
            Ok(found) => match found.id {
                Some(id) => Answer::Is(id),
                None => Answer::Unclear(format!("the registry gave no id for {subject}")),
            },
            Err(error) => match code(&error) {
                Some(SUBJECT_NOT_FOUND) => Answer::No(format!("the registry has no subject {subject}")),
                Some(SCHEMA_NOT_FOUND) => Answer::No(format!("subject {subject} has other schemas than this build")),
                _ => Answer::Unclear(explain(&error)),
            },
        }
    }
}

/// The registry's own error code, where it gave one.
fn code(error: &SRCError) -> Option<u32> {
    error.source()?.downcast_ref::<RawError>().map(|raw| raw.error_code)
}

/// One line with the innermost cause, which is where "connection refused" stands.
pub(crate) fn explain(error: &SRCError) -> String {
    let mut text = error.error.clone();
    let mut cause = error.source();
    while let Some(inner) = cause {
        cause = inner.source();
        if cause.is_none() {
            text = format!("{text}: {inner}");
        }
    }
    text
}
