//! One question to one server, over UDP: enough to show addresses without building a resolver.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, ensure};
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::A;

/// How long an answer from the same machine may take when it is busy; a server that is down refuses at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// The addresses that `server` answers for `name`, aliases in its zones followed, sorted.
pub(crate) fn addresses(server: SocketAddr, name: &str) -> Result<Vec<Ipv4Addr>> {
    let own = if server.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // The port is new for every question, so the ID need not tell answers apart.
    let mut question = MessageBuilder::new_vec().question();
    question.push((Name::<Vec<u8>>::from_str(name)?, Rtype::A))?;
    socket.send(&question.finish())?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    let mut addresses = answers(buffer.get(..length).unwrap_or_default())?;
    addresses.sort_unstable();
    Ok(addresses)
}

fn answers(message: &[u8]) -> Result<Vec<Ipv4Addr>> {
    let message = Message::from_octets(message)?;
    ensure!(message.no_error(), "{}", message.header().rcode());
    message.answer()?.limit_to_in::<A>().map(|record| Ok(record?.data().addr())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header and question of an answer with so many records, in which `example.` is at 17.
    fn start(rcode: u8, records: u8) -> Vec<u8> {
        let header = [0, 0, 0x84, rcode, 0, 1, 0, records, 0, 0, 0, 0];
        [&header[..], b"\x04blog\x07example\0", &[0, 1, 0, 1]].concat()
    }

    #[test]
    fn an_alias_and_its_addresses_are_read_as_the_addresses() {
        let mut message = start(0, 2);
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3, b'w', b'w', b'w', 0xc0, 17]);
        message.extend([0xc0, 42, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        assert_eq!(answers(&message).unwrap(), [Ipv4Addr::new(192, 0, 2, 1)]);
    }

    #[test]
    fn a_response_code_is_an_error_that_names_it() {
        for (rcode, name) in [(3, "NXDOMAIN"), (4, "NOTIMP"), (5, "REFUSED"), (9, "NOTAUTH")] {
            assert_eq!(answers(&start(rcode, 0)).unwrap_err().to_string(), name);
        }
        assert!(answers(&start(0, 0)[..5]).is_err(), "truncated");
    }
}
