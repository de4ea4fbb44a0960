//! A GraphQL client over HTTP, for tests.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// A client of one gateway.
#[derive(Debug, Clone)]
pub struct GraphQl {
    url: String,
    client: reqwest::Client,
}

impl GraphQl {
    /// `http` is the gateway's address, such as `http://127.0.0.1:8181`.
    pub fn new(http: &str) -> Self {
        let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
        Self {
            url: format!("{http}/graphql"),
            // Only a missing TLS backend makes it fail, and the default client reports that itself.
            client: builder.build().unwrap_or_default(),
        }
    }

    /// The whole answer to an operation, `errors` included, and the HTTP status.
    pub async fn post(&self, document: &str, variables: Value) -> Result<(u16, Value)> {
        let body = json!({ "query": document, "variables": variables });
        let failed =
            |error: reqwest::Error| Error::Http { url: self.url.clone(), cause: error.without_url().to_string() };
        let answer = self.client.post(&self.url).json(&body).send().await.map_err(failed)?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(failed)?;
        // A refusal before GraphQL may be plain text.
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, value))
    }

    /// `data` of the answer; an error when the answer carries `errors`.
    pub async fn data(&self, document: &str, variables: Value) -> Result<Value> {
        let (status, mut answer) = self.post(document, variables).await?;
        let errors = answer.get("errors").filter(|e| !e.is_null());
        if status != 200 || errors.is_some() {
            return Err(Error::Http { url: self.url.clone(), cause: format!("status {status}: {answer}") });
        }
        Ok(answer["data"].take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Answers one request with this status and body.
    fn serve(status: &'static str, body: &'static str) -> GraphQl {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        });
        GraphQl::new(&url)
    }

    #[tokio::test]
    async fn data_or_the_errors_that_came_instead() {
        let client = serve("200 OK", r#"{"data":{"a":1}}"#);
        assert_eq!(client.data("{a}", json!({})).await.unwrap(), json!({"a": 1}));
        for (status, body) in [
            ("200 OK", r#"{"data":null,"errors":[{"message":"no field a"}]}"#),
            ("413 Payload Too Large", "no field a"),
        ] {
            let error = serve(status, body).data("{a}", json!({})).await.unwrap_err();
            assert!(error.to_string().contains("no field a"), "{error}");
        }
    }
}
