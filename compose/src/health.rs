//! How one sees that a child is ready: an HTTP address that answers 2xx, or a broker that lists itself.
//! Also the last lines of a log, which belong into every message about a child that is not.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::error::{Error, Result};

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const TAIL_BYTES: u64 = 16 * 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Ready as soon as it runs.
    Running,
    /// A URL that must answer with a 2xx status.
    Http(String),
    /// A bootstrap address whose cluster must have a broker that takes requests.
    Kafka(String),
}

impl Health {
    /// Asks once; blocks for at most about two seconds.
    pub fn probe(&self) -> bool {
        match self {
            Health::Running => true,
            Health::Http(url) => http_ok_blocking(url),
            Health::Kafka(bootstrap) => broker_is_up(bootstrap),
        }
    }
}

fn http_ok_blocking(url: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.is_ok_and(|runtime| runtime.block_on(http_ok(url)))
}

/// Whether a GET is answered with 2xx.
pub async fn http_ok(url: &str) -> bool {
    get(url).await.is_ok_and(|(status, _)| (200..300).contains(&status))
}

/// Status and body of a GET.
pub async fn get(url: &str) -> std::result::Result<(u16, String), reqwest::Error> {
    let answer = http_client()?.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// The one client of the process: making one reads every root certificate of the machine, some 15 ms of a core, and
/// there are fifty probes a second. It keeps no connection, so it works on any runtime.
fn http_client() -> std::result::Result<&'static reqwest::Client, reqwest::Error> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let client = reqwest::Client::builder().timeout(PROBE_TIMEOUT).no_proxy().pool_max_idle_per_host(0).build()?;
    Ok(CLIENT.get_or_init(|| client))
}

/// A broker that is still fenced is not in the metadata, so being listed means that it serves.
fn broker_is_up(bootstrap: &str) -> bool {
    let open =
        bootstrap.parse().is_ok_and(|address| std::net::TcpStream::connect_timeout(&address, PROBE_TIMEOUT).is_ok());
    // Without a listener a client would only fill the log with refused connections.
    open && client(bootstrap)
        .and_then(|client| client.fetch_metadata(None, PROBE_TIMEOUT).map_err(|_| ()))
        .is_ok_and(|metadata| !metadata.brokers().is_empty())
}

fn client(bootstrap: &str) -> std::result::Result<BaseConsumer, ()> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).set("log_level", "0").create().map_err(|_| ())
}

/// The last `lines` non-empty lines of a log, each on a line of its own behind two blanks; empty if there are none.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = read_end(log).unwrap_or_default();
    let mut last: Vec<&str> = text.lines().rev().filter(|l| !l.trim().is_empty()).take(lines).collect();
    last.reverse();
    last.iter().map(|line| format!("\n  {line}")).collect()
}

fn read_end(log: &Path) -> Result<String> {
    let mut file = File::open(log).map_err(Error::io("read", log))?;
    let size = file.metadata().map_or(0, |meta| meta.len());
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(Error::io("read", log))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_tail_of_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        assert_eq!(tail(&log, 3), "", "no log");
        let mut file = File::create(&log).unwrap();
        for i in 0..5000 {
            writeln!(file, "line {i}\n").unwrap();
        }
        assert_eq!(tail(&log, 2), "\n  line 4998\n  line 4999");
    }

    #[test]
    fn nobody_there_is_not_ready() {
        let port = crate::ports::free_port().unwrap();
        assert!(!Health::Http(format!("http://127.0.0.1:{port}/")).probe());
        assert!(!Health::Kafka(format!("127.0.0.1:{port}")).probe());
        assert!(Health::Running.probe());
    }

    #[test]
    fn only_a_success_is_ready() {
        for (status, ready) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/readyz", listener.local_addr().unwrap());
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(Health::Http(url).probe(), ready, "{status}");
            server.join().unwrap();
        }
    }
}
