//! Which pages may call: an explicit list of origins.
//!
//! Browsers send `Origin` with every WebSocket handshake and every cross-origin POST; the same-origin policy does not
//! protect WebSockets, so this list does. Programs send none and are let through.

use std::net::SocketAddr;

/// Allowed values of `Origin`, lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// The configured ones; without any, the gateway's own pages on this machine.
    #[must_use]
    pub fn new(configured: &[String], listening: SocketAddr) -> Self {
        if !configured.is_empty() {
            return Self(configured.iter().map(|origin| as_sent(origin)).collect());
        }
        let port = listening.port();
        let mut own: Vec<String> =
            ["localhost", "127.0.0.1", "[::1]"].iter().map(|host| as_sent(&format!("http://{host}:{port}"))).collect();
        if !listening.ip().is_unspecified() && !listening.ip().is_loopback() {
            own.push(as_sent(&format!("http://{listening}")));
        }
        Self(own)
    }

    /// Whether a request with this header may pass.
    #[must_use]
    pub fn allow(&self, origin: Option<&str>) -> bool {
        origin.is_none_or(|origin| self.0.contains(&as_sent(origin)))
    }
}

/// As browsers write it: lower case, without the scheme's own port.
fn as_sent(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let own_port = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(own_port).map(str::to_owned).unwrap_or(origin)
}

/// Checks a configured origin: scheme and authority, nothing after.
pub fn parse(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match authority {
        Some(authority) if !authority.is_empty() && !authority.contains(['/', '*', ' ', '@', '?', '#']) => {
            Ok(text.to_owned())
        }
        _ => Err("an origin is http://host:port or https://host, without a path and without *".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_pages_are_allowed_by_default() {
        let origins = Origins::new(&[], "127.0.0.1:8080".parse().unwrap());
        for (origin, allowed) in [
            (None, true),
            (Some("http://localhost:8080"), true),
            (Some("http://127.0.0.1:8080"), true),
            (Some("HTTP://LOCALHOST:8080"), true),
            (Some("http://localhost:8081"), false),
            (Some("https://localhost:8080"), false),
            (Some("http://localhost:8080.evil.example"), false),
            (Some("http://evil.example"), false),
            (Some("null"), false),
        ] {
            assert_eq!(origins.allow(origin), allowed, "{origin:?}");
        }
    }

    #[test]
    fn a_configured_list_replaces_the_default() {
        let origins = Origins::new(&["https://bank.example".into()], "127.0.0.1:8080".parse().unwrap());
        assert!(origins.allow(Some("https://bank.example")));
        assert!(!origins.allow(Some("http://localhost:8080")));
    }

    #[test]
    fn the_port_of_the_scheme_is_left_out_as_browsers_do() {
        let origins = Origins::new(&[], "127.0.0.1:80".parse().unwrap());
        assert!(origins.allow(Some("http://localhost")));
        let configured = ["https://bank.example:443".into(), "http://bank.example:8080".into()];
        let origins = Origins::new(&configured, "127.0.0.1:80".parse().unwrap());
        assert!(
            origins.allow(Some("https://bank.example"))
                && origins.allow(Some("https://bank.example:443"))
                && origins.allow(Some("http://bank.example:8080"))
        );
        assert!(!origins.allow(Some("http://bank.example")));
    }

    #[test]
    fn configured_origins_are_checked() {
        assert!(parse("https://bank.example:8443").is_ok());
        for text in ["*", "bank.example", "https://", "https://bank.example/", "https://*.example"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
