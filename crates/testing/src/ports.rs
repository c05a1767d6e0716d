//! Ports on loopback that no other test on this machine gets at the same time.
//!
//! A reservation is a UDP socket bound to the same port of another loopback address: it holds between processes,
//! leaves nothing behind, and ends with the process. The range lies below the kernel's ephemeral ports, so that no
//! outgoing connection takes a reserved one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use rand::Rng;

const RANGE: std::ops::Range<u16> = 10_000..32_000;
const RESERVATIONS: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);
const ATTEMPTS: usize = 500;

/// A port of 127.0.0.1 for TCP and UDP, reserved until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: UdpSocket,
}

impl Port {
    /// Reserves a port that nothing listens on.
    pub fn free() -> io::Result<Self> {
        let mut random = rand::rng();
        for _ in 0..ATTEMPTS {
            let number = random.random_range(RANGE);
            let Ok(reservation) = UdpSocket::bind((RESERVATIONS, number)) else { continue };
            let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, number))
                .and_then(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, number)));
            if unused.is_ok() {
                return Ok(Self { number, _reservation: reservation });
            }
        }
        Err(io::Error::other(format!("no free port of 127.0.0.1 in {ATTEMPTS} attempts in {RANGE:?}")))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with this port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reserved_ports_are_distinct_and_free() {
        let ports: Vec<Port> = (0..50).map(|_| Port::free().unwrap()).collect();
        let numbers: std::collections::BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        for port in &ports {
            assert!(UdpSocket::bind((RESERVATIONS, port.number())).is_err(), "held until dropped");
            // A process that a test beside this one is about to start has copies of our sockets until its exec.
            let limit = std::time::Duration::from_secs(10);
            crate::wait_for("the port", limit, async || TcpListener::bind(port.address())).await.unwrap();
        }
    }
}
