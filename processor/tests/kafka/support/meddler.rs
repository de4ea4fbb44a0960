//! A relay in front of an instance that meddles with what the instance answers: it breaks off, or flips bits.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What happens to the answers of each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddle {
    /// The connection ends after so many bytes.
    CutAfter(usize),
    /// One bit is flipped in each so many bytes.
    FlipEvery(usize),
}

/// See the module. Listens as long as the test runs.
pub struct Meddler {
    /// `http://127.0.0.1:port` where it listens.
    pub address: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    target: String,
    meddle: Meddle,
    connections: usize,
}

impl Meddler {
    /// Listens; it relays to nobody yet.
    pub fn start(meddle: Meddle) -> Meddler {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared { target: String::new(), meddle, connections: 0 }));
        let mine = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (target, meddle) = {
                    let mut shared = mine.lock().unwrap();
                    shared.connections += 1;
                    (shared.target.clone(), shared.meddle)
                };
                if let (Ok(near), Ok(far)) = (near, TcpStream::connect(&target)) {
                    relay(near, far, meddle);
                }
            }
        });
        Meddler { address, shared }
    }

    /// From now on it relays to this address.
    pub fn to(&self, target: &str) {
        target.trim_start_matches("http://").clone_into(&mut self.shared.lock().unwrap().target);
    }

    /// What happens to later connections.
    pub fn set(&self, meddle: Meddle) {
        self.shared.lock().unwrap().meddle = meddle;
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().unwrap().connections
    }
}

fn relay(near: TcpStream, far: TcpStream, meddle: Meddle) {
    let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    std::thread::spawn(move || pump(near, far, None));
    std::thread::spawn(move || pump(far_too, near_too, Some(meddle)));
}

fn pump(mut from: TcpStream, mut to: TcpStream, meddle: Option<Meddle>) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(read) = from.read(&mut buffer) {
        let mut bytes = &mut buffer[..read];
        match meddle {
            Some(Meddle::CutAfter(limit)) => bytes = &mut buffer[..read.min(limit - passed)],
            Some(Meddle::FlipEvery(every)) => {
                (0..read).filter(|at| (passed + at) % every == every - 1).for_each(|at| bytes[at] ^= 1);
            }
            None => {}
        }
        passed += bytes.len();
        if bytes.is_empty() || to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}
