//! A registry of a few lines: HTTP over one thread, answers as set, may go away and come back at its address.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Waits for a condition that another thread brings about.
pub(super) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it did not happen in 20 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) struct FakeRegistry {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Status and body by path.
    answers: Mutex<HashMap<String, (u16, String)>>,
    /// Schema text and id by subject.
    subjects: Mutex<HashMap<String, (String, u32)>>,
    requests: Mutex<Vec<String>>,
    down: AtomicBool,
}

impl FakeRegistry {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        // Ends with the process: a test that is over asks no more.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !served.down.load(Ordering::SeqCst) {
                    // A client that hangs up is none of a registry's business.
                    let _ = serve(&served, stream);
                }
            }
        });
        Self { port, shared }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn answers(&self, path: &str, status: u16, body: &str) {
        self.shared.answers.lock().insert(path.to_owned(), (status, body.to_owned()));
    }

    pub(super) fn has_schema(&self, id: u32, schema_json: &str) {
        let body = serde_json::json!({ "schema": schema_json }).to_string();
        self.answers(&format!("/schemas/ids/{id}"), 200, &body);
    }

    pub(super) fn has_subject(&self, subject: &str, schema_json: &str, id: u32) {
        self.shared.subjects.lock().insert(subject.to_owned(), (schema_json.to_owned(), id));
    }

    pub(super) fn count(&self, start: &str) -> usize {
        self.shared.requests.lock().iter().filter(|request| request.starts_with(start)).count()
    }

    /// Hangs up on everyone from now on.
    pub(super) fn stop(&self) {
        self.shared.down.store(true, Ordering::SeqCst);
    }

    pub(super) fn resume(&self) {
        self.shared.down.store(false, Ordering::SeqCst);
    }
}

fn serve(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut request)?;
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, text) = answer(shared, &request, &body);
    shared.requests.lock().push(request);
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    )
}

fn answer(shared: &Shared, request: &str, body: &[u8]) -> (u16, String) {
    let path = request.split(' ').nth(1).unwrap().split('?').next().unwrap();
    if let Some(subject) = path.strip_prefix("/subjects/") {
        let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
        return match shared.subjects.lock().get(subject) {
            Some((schema, id)) if asked["schema"] == schema.as_str() => {
                (200, serde_json::json!({ "subject": subject, "id": id, "version": 1, "schema": schema }).to_string())
            }
            Some(_) => (404, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned()),
            None => (404, r#"{"error_code":40401,"message":"Subject not found"}"#.to_owned()),
        };
    }
    let absent = (404, r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned());
    shared.answers.lock().get(path).cloned().unwrap_or(absent)
}
