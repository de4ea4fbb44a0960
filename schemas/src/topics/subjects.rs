//! The registry's part of the declaration: subjects, their compatibility, this build's schemas in them.
//!
//! The only place that registers a schema. It speaks the Confluent API over plain HTTP, because the registry library
//! has no words for compatibility levels.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::records::record_type;

/// Every subject's level: every version reads, and is read by, every other.
pub(super) const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// What a registry holds of a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectState {
    /// Level of this subject, if it has one of its own.
    pub compatibility: Option<String>,
    /// Whether this build's schema is one of its versions.
    pub registered: bool,
}

/// The registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// Nobody answers, or nothing sensible. Worth a retry.
    #[error(
        "the schema registry at {url} does not answer, is it running and is the address right (--registry, KONTOR_REGISTRY)? {why}"
    )]
    Unreachable {
        /// As configured.
        url: String,
        /// Innermost reason.
        why: String,
    },
    /// The registry refuses. Not worth a retry.
    #[error("the schema registry refuses {subject}: {why}")]
    Refused {
        /// The subject.
        subject: String,
        /// In the registry's words.
        why: String,
    },
}

impl SubjectError {
    /// Whether the same may work a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A registry to be brought in line.
pub(super) struct Registry {
    url: String,
    http: reqwest::Client,
}

/// What came back: a body, or that the thing asked for does not exist.
enum Reply {
    Body(Value),
    NotFound,
}

impl Registry {
    pub(super) fn connect(url: &str) -> Result<Self, SubjectError> {
        let url = url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        match http {
            Ok(http) => Ok(Self { url, http }),
            Err(error) => Err(SubjectError::Unreachable { url, why: error.to_string() }),
        }
    }

    pub(super) async fn state(&self, subject: &str, schema_json: &str) -> Result<SubjectState, SubjectError> {
        let config = self.call(Method::GET, &["config", subject], None).await?;
        let compatibility = match &config {
            Reply::Body(body) => body["compatibilityLevel"].as_str().map(str::to_owned),
            Reply::NotFound => None,
        };
        let schema = json!({ "schema": schema_json });
        let found = self.call(Method::POST, &["subjects", subject], Some(schema)).await?;
        Ok(SubjectState { compatibility, registered: matches!(found, Reply::Body(body) if body["id"].is_u64()) })
    }

    /// Some registries know a level only for a subject that exists: then it is set after the first version.
    pub(super) async fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), SubjectError> {
        let body = json!({ "compatibility": level });
        self.call(Method::PUT, &["config", subject], Some(body)).await.map(drop)
    }

    pub(super) async fn register(&self, subject: &str, record: &str) -> Result<(), SubjectError> {
        let refuse = |why: String| SubjectError::Refused { subject: subject.to_owned(), why };
        let record = record_type(record).ok_or_else(|| refuse(format!("there is no record {record}")))?;
        let body = json!({ "schema": record.schema_json });
        match self.call(Method::POST, &["subjects", subject, "versions"], Some(body)).await? {
            Reply::Body(_) => Ok(()),
            Reply::NotFound => {
                Err(refuse("it has no place to register schemas; is the address the API's base?".to_owned()))
            }
        }
    }

    /// `path` ends with, or contains at its second place, the subject.
    async fn call(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<Reply, SubjectError> {
        let unreachable = |why: String| SubjectError::Unreachable { url: self.url.clone(), why };
        let mut url = reqwest::Url::parse(&self.url).map_err(|error| unreachable(error.to_string()))?;
        url.path_segments_mut().map_err(|()| unreachable("not an address of a server".to_owned()))?.extend(path);
        let mut request = self.http.request(method, url).header("accept", MEDIA_TYPE);
        if let Some(body) = body {
            request = request.header("content-type", MEDIA_TYPE).body(body.to_string());
        }
        let response = request.send().await.map_err(|error| unreachable(innermost(&error)))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| unreachable(innermost(&error)))?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let says = body["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
        let subject = path.get(1).copied().unwrap_or_default();
        match status {
            status if status.is_success() && !body.is_null() => Ok(Reply::Body(body)),
            status if status.is_success() => Err(unreachable("the answer is not JSON".to_owned())),
            // Without the registry's own error code it is a proxy or a wrong address that knows nothing.
            StatusCode::NOT_FOUND if body["error_code"].is_u64() => Ok(Reply::NotFound),
            StatusCode::CONFLICT => Err(SubjectError::Refused {
                subject: subject.to_owned(),
                why: format!("the schema is not {COMPATIBILITY} with an earlier version ({says})"),
            }),
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(SubjectError::Refused { subject: subject.to_owned(), why: says })
            }
            _ => Err(unreachable(says)),
        }
    }
}

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// "connection refused" stands at the bottom.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
