//! A TCP relay on loopback that a test can cut: the other side is then refused, and open connections are closed.
//! For the registry and for gRPC; a Kafka client leaves it at once for the address that the broker advertises.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// A relay to one address. Ends with its owner.
pub struct Proxy {
    /// `127.0.0.1:port` where it listens.
    pub address: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    cut: bool,
    over: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    /// Listens on a free port and relays to `target` (`127.0.0.1:port`).
    pub fn start(target: &str) -> Result<Self> {
        let port = crate::ports::free_port()?;
        let address = format!("127.0.0.1:{port}");
        let unable = || Error::io("listen on", std::path::Path::new(&address));
        let listener = TcpListener::bind(&address).map_err(unable())?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (mine, target) = (Arc::clone(&shared), target.to_string());
        std::thread::spawn(move || {
            for incoming in listener.incoming() {
                if lock(&mine).over {
                    return;
                }
                if let Ok(incoming) = incoming {
                    relay(incoming, &target, &mine);
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// Closes every connection, and refuses new ones until `mend`.
    pub fn cut(&self) {
        let mut shared = lock(&self.shared);
        shared.cut = true;
        close_all(&mut shared);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        lock(&self.shared).cut = false;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.over = true;
        close_all(&mut shared);
        drop(shared);
        // Wakes the thread that accepts, which then sees that it is over.
        let _ = TcpStream::connect(&self.address);
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn close_all(shared: &mut Shared) {
    for stream in shared.open.drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn relay(near: TcpStream, target: &str, shared: &Mutex<Shared>) {
    let mut state = lock(shared);
    if state.cut {
        return;
    }
    let Ok(far) = TcpStream::connect(target) else {
        return;
    };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
        state.open.extend(stream.try_clone());
    }
    drop(state);
    if let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) {
        std::thread::spawn(move || pump(near, far));
        std::thread::spawn(move || pump(far_too, near_too));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Echoes whatever it gets.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let back = stream.try_clone().unwrap();
                std::thread::spawn(move || pump(stream, back));
            }
        });
        address
    }

    fn says(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 4];
        stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"ping"
    }

    #[test]
    fn a_cut_closes_and_refuses_and_a_mend_lets_through() {
        let proxy = Proxy::start(&echo()).unwrap();
        let mut open = TcpStream::connect(&proxy.address).unwrap();
        assert!(says(&mut open));
        proxy.cut();
        assert!(!says(&mut open), "an open connection is closed");
        let refused = TcpStream::connect(&proxy.address);
        assert!(!refused.is_ok_and(|mut stream| says(&mut stream)), "a new one is refused");
        proxy.mend();
        assert!(says(&mut TcpStream::connect(&proxy.address).unwrap()));
    }
}
