//! Which part listens where, and who sits on a port that is taken.
//!
//! Every port is an offset from one base, so that a second stack needs one number. The default base puts the first
//! gateway on 8181, where clients of earlier systems look for it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Mutex;

use crate::error::{Error, Result};

/// The base when none is given.
pub const DEFAULT_BASE: u16 = 8180;
/// Most gateways in one stack.
pub const MAX_GATEWAYS: u16 = 8;
/// Most processors in one stack: as many as there are shards to share.
pub const MAX_INSTANCES: u16 = 6;
/// A stack uses the ports from its base to base + SPAN - 1.
pub const SPAN: u16 = 30;

/// The table, as `--help` prints it.
pub const TABLE: &str = "\
Ports (all on 127.0.0.1; P is --port-base, 8180 unless given; a second stack needs a P that differs by 30):
  P+1 .. P+8   gateways 1 to 8: GraphQL, /graphiql, /readyz, /metrics
  P+10         processor 1: /livez, /readyz, /metrics
  P+11         processor 1: queries over gRPC
  P+12         Kafka
  P+13         Kafka's controller
  P+14         schema registry (Confluent API under /apis/ccompat/v7)
  P+15         schema registry: management
  P+16 .. P+25 processors 2 to 6, two ports each as the first";

/// The ports of one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    base: u16,
}

impl Ports {
    /// `base` + [`SPAN`] must be a port.
    pub fn new(base: u16) -> Result<Self> {
        if !(1024..=u16::MAX - SPAN).contains(&base) {
            return Err(Error::Usage(format!(
                "--port-base {base} is out of range: choose one from 1024 to {}",
                u16::MAX - SPAN
            )));
        }
        Ok(Self { base })
    }

    /// A base whose whole span is free at this moment, and that this process has not handed out before: a broker takes
    /// its ports a second or two after they were chosen.
    pub fn free() -> Result<Self> {
        static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
        let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for _ in 0..200 {
            let base = free_port()? / SPAN * SPAN;
            if !given.contains(&base) && (base..base + SPAN).all(is_free) {
                given.push(base);
                return Self::new(base);
            }
        }
        Err(Error::Usage("no free range of ports from 20000 to 32000".into()))
    }

    /// The number that `--port-base` gave.
    pub fn base(self) -> u16 {
        self.base
    }

    /// Gateways count from 1.
    pub fn gateway(self, number: u16) -> u16 {
        self.base + number
    }

    /// Health and metrics of a processor; they count from 1. The first one is where the only one of a stack is, the
    /// others are behind everything else.
    pub fn processor_http(self, number: u16) -> u16 {
        self.base + if number == 1 { 10 } else { 12 + 2 * number }
    }

    /// Queries.
    pub fn processor_grpc(self, number: u16) -> u16 {
        self.processor_http(number) + 1
    }

    /// The broker.
    pub fn kafka(self) -> u16 {
        self.base + 12
    }

    /// Kafka's controller.
    pub fn controller(self) -> u16 {
        self.base + 13
    }

    /// The registry.
    pub fn registry(self) -> u16 {
        self.base + 14
    }

    /// The registry's management interface.
    pub fn registry_management(self) -> u16 {
        self.base + 15
    }
}

/// Refuses a port that is taken, and names who has it.
pub fn check_free(port: u16, part: &str) -> Result<()> {
    if is_free(port) {
        return Ok(());
    }
    Err(Error::PortTaken { port, part: part.to_string(), by: owner(port) })
}

/// Whether a listener could be opened. (Rust sets SO_REUSEADDR, so connections in TIME_WAIT do not count.)
///
/// While another thread starts a program, the new process has a copy of every descriptor until it runs that program: a
/// port that was found free may then be taken for some milliseconds by the very look. Who opens a listener in the same
/// process lets the kernel choose, or tries again.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free port outside the range from which the kernel draws the near ends of connections, and that this process has
/// not handed out before.
pub fn free_port() -> Result<u16> {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for _ in 0..2000 {
        let draw = uuid::Uuid::new_v4().as_u128() % 12_000;
        let port = 20_000 + u16::try_from(draw).unwrap_or_default();
        if !given.contains(&port) && is_free(port) {
            given.push(port);
            return Ok(port);
        }
    }
    Err(Error::Usage("no free port from 20000 to 32000".into()))
}

/// `name (pid n)` of the process that listens on a port, as far as this user may see it.
fn owner(port: u16) -> String {
    let sockets = listening_sockets();
    let unknown = "a program of another user (look with: ss -ltnp)".to_string();
    let Some(inode) = sockets.get(&port) else {
        return unknown;
    };
    let wanted = format!("socket:[{inode}]");
    let Ok(processes) = fs::read_dir("/proc") else {
        return unknown;
    };
    let numbered = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok();
    for process in processes.flatten().filter(numbered) {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            if fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let pid = process.file_name().to_string_lossy().into_owned();
                return format!("{} (pid {pid})", name.trim());
            }
        }
    }
    unknown
}

/// Port to inode of every TCP socket that listens.
fn listening_sockets() -> BTreeMap<u16, String> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(listening_socket).collect::<Vec<_>>())
        .collect()
}

/// One line of `/proc/net/tcp`: the second column is the near address, the fourth the state (0A = listening), the
/// tenth the inode.
fn listening_socket(line: &str) -> Option<(u16, String)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    if *columns.get(3)? != "0A" {
        return None;
    }
    let (_, port) = columns.get(1)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((port, (*columns.get(9)?).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_do_not_overlap_and_stay_in_their_span() {
        let ports = Ports::new(DEFAULT_BASE).unwrap();
        let mut all: Vec<u16> = (1..=MAX_GATEWAYS).map(|n| ports.gateway(n)).collect();
        all.extend((1..=MAX_INSTANCES).flat_map(|n| [ports.processor_http(n), ports.processor_grpc(n)]));
        all.extend([ports.kafka(), ports.controller(), ports.registry(), ports.registry_management()]);
        let distinct: std::collections::BTreeSet<u16> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|p| (8180..8180 + SPAN).contains(p)));
        assert_eq!(ports.gateway(1), 8181, "where earlier clients look");
    }

    #[test]
    fn the_table_names_every_offset() {
        for offset in ["P+1 ", "P+10", "P+11", "P+12", "P+13", "P+14", "P+15", "P+16"] {
            assert!(TABLE.contains(offset), "{offset}");
        }
        let ports = Ports::new(DEFAULT_BASE).unwrap();
        assert!(TABLE.contains(&format!("P+{} processors 2 to 6", ports.processor_grpc(MAX_INSTANCES) - DEFAULT_BASE)));
    }

    #[test]
    fn a_base_without_room_is_refused() {
        for base in [0, 80, u16::MAX - 5] {
            assert!(Ports::new(base).is_err(), "{base}");
        }
    }

    #[test]
    fn a_taken_port_names_its_owner() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let message = check_free(port, "gateway-1").unwrap_err().to_string();
        assert!(message.contains(&format!("port {port} for gateway-1")), "{message}");
        assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
        assert!(message.contains("--port-base"), "{message}");
    }

    #[test]
    fn free_ports_are_never_given_twice() {
        let ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 50);
        let bases: Vec<u16> = (0..50).map(|_| Ports::free().unwrap().base()).collect();
        let distinct: std::collections::BTreeSet<_> = bases.iter().collect();
        assert_eq!(distinct.len(), 50);
    }

    #[test]
    fn lines_of_the_socket_table() {
        let line =
            "   0: 0100007F:1FF5 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0";
        assert_eq!(listening_socket(line), Some((8181, "4242".to_string())));
        assert_eq!(listening_socket(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(listening_socket("  sl  local_address rem_address   st"), None);
    }
}
