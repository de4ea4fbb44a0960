//! A TCP relay on loopback that a test can cut: the other side is then refused, and open connections are closed. It can
//! also be told to hold one direction: what is sent that way does not arrive, and nobody is told, as with a switch that
//! fails. For the registry and for gRPC; a Kafka client leaves it at once for the address that the broker advertises,
//! so for that one see `Broker`, which advertises relays.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// A direction through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From who connected to the target.
    ToTarget,
    /// Back.
    FromTarget,
}

/// A relay to one address. Ends with its owner.
pub struct Proxy {
    /// `127.0.0.1:port` where it listens.
    pub address: String,
    gate: Arc<Gate>,
}

/// What all connections of a relay pass.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    target: String,
    cut: bool,
    over: bool,
    held: Vec<Way>,
    open: Vec<TcpStream>,
    refused: usize,
}

impl Proxy {
    /// Listens on a free port and relays to `target` (`127.0.0.1:port`).
    pub fn start(target: &str) -> Result<Self> {
        let unable = || Error::io("listen on", std::path::Path::new("127.0.0.1:0"));
        // Looking for a free port and taking it a moment later fails now and then, see `ports::is_free`.
        let listener = TcpListener::bind("127.0.0.1:0").map_err(unable())?;
        let address = listener.local_addr().map_err(unable())?.to_string();
        let gate = Arc::new(Gate::default());
        gate.lock().target = target.to_string();
        let mine = Arc::clone(&gate);
        std::thread::spawn(move || {
            for incoming in listener.incoming() {
                if mine.lock().over {
                    return;
                }
                if let Ok(incoming) = incoming {
                    relay(incoming, &mine);
                }
            }
        });
        Ok(Self { address, gate })
    }

    /// A relay to the server of a URL, and the URL that leads through it.
    pub fn to_url(url: &str) -> Result<(Self, String)> {
        let no_url = || Error::Usage(format!("{url} is no scheme://host:port/path"));
        let (scheme, rest) = url.split_once("://").ok_or_else(no_url)?;
        let (server, path) = rest.split_once('/').ok_or_else(no_url)?;
        let proxy = Self::start(server)?;
        let through = format!("{scheme}://{}/{path}", proxy.address);
        Ok((proxy, through))
    }

    /// From now on new connections lead there: for a target that did not run yet when the relay had to be named.
    pub fn lead_to(&self, target: &str) {
        self.gate.lock().target = target.to_string();
    }

    /// Closes every connection, and refuses new ones until `mend`.
    pub fn cut(&self) {
        self.gate.change(|state| {
            state.cut = true;
            close_all(state);
        });
    }

    /// How many connections it has refused: who waits for a number of them knows that somebody tries again.
    pub fn refused(&self) -> usize {
        self.gate.lock().refused
    }

    /// Bytes of this direction wait from now on, those of new connections too, until `mend`. Nothing is closed.
    pub fn hold(&self, way: Way) {
        self.gate.change(|state| state.held.push(way));
    }

    /// Lets everything through again; what was held arrives late.
    pub fn mend(&self) {
        self.gate.change(|state| {
            state.cut = false;
            state.held.clear();
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.gate.change(|state| {
            state.over = true;
            close_all(state);
        });
        // Wakes the thread that accepts, which then sees that it is over.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits while this direction is held.
    fn pass(&self, way: Way) {
        let held = |state: &mut State| state.held.contains(&way) && !state.cut && !state.over;
        drop(self.changed.wait_while(self.lock(), held).unwrap_or_else(PoisonError::into_inner));
    }
}

fn close_all(state: &mut State) {
    for stream in state.open.drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn relay(near: TcpStream, gate: &Arc<Gate>) {
    let mut state = gate.lock();
    if state.cut {
        state.refused += 1;
        return;
    }
    let Ok(far) = TcpStream::connect(&state.target) else {
        return;
    };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
        state.open.extend(stream.try_clone());
    }
    drop(state);
    if let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) {
        let (there, back) = (Arc::clone(gate), Arc::clone(gate));
        std::thread::spawn(move || pump(near, far, &|| there.pass(Way::ToTarget)));
        std::thread::spawn(move || pump(far_too, near_too, &|| back.pass(Way::FromTarget)));
    }
}

/// Copies until one side ends; its end, too, has to pass.
fn pump(mut from: TcpStream, mut to: TcpStream, pass: &dyn Fn()) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        pass();
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
    use std::time::Duration;

    /// Echoes whatever it gets.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let back = stream.try_clone().unwrap();
                std::thread::spawn(move || pump(stream, back, &|| {}));
            }
        });
        address
    }

    fn hears(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).is_ok() && &answer == b"ping"
    }

    fn says(stream: &mut TcpStream) -> bool {
        stream.write_all(b"ping").is_ok() && hears(stream)
    }

    #[test]
    fn a_cut_closes_and_refuses_and_a_mend_lets_through() {
        let proxy = Proxy::start(&echo()).unwrap();
        let mut open = TcpStream::connect(&proxy.address).unwrap();
        assert!(says(&mut open));
        proxy.cut();
        assert!(!says(&mut open), "an open connection is closed");
        assert_eq!(proxy.refused(), 0);
        let refused = TcpStream::connect(&proxy.address);
        assert!(!refused.is_ok_and(|mut stream| says(&mut stream)), "a new one is refused");
        assert_eq!(proxy.refused(), 1);
        proxy.mend();
        assert!(says(&mut TcpStream::connect(&proxy.address).unwrap()));
    }

    #[test]
    fn a_url_leads_through_the_relay_with_its_path() {
        let (proxy, url) = Proxy::to_url("http://127.0.0.1:1/apis/v7").unwrap();
        assert_eq!(url, format!("http://{}/apis/v7", proxy.address));
        for no_url in ["127.0.0.1:1/apis", "http://127.0.0.1:1"] {
            assert!(Proxy::to_url(no_url).is_err_and(|error| error.to_string().contains(no_url)));
        }
    }

    #[test]
    fn a_held_direction_delivers_late_and_closes_nothing() {
        // Known to the relay only after its start.
        let proxy = Proxy::start("127.0.0.1:1").unwrap();
        proxy.lead_to(&echo());
        for way in [Way::ToTarget, Way::FromTarget] {
            let mut open = TcpStream::connect(&proxy.address).unwrap();
            assert!(says(&mut open));
            proxy.hold(way);
            open.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            assert!(!says(&mut open), "{way:?}");
            proxy.mend();
            open.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            assert!(hears(&mut open), "{way:?}: it was only held");
        }
    }
}
