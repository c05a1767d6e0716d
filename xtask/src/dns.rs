//! One question to one server, over UDP: enough of DNS (RFC 1035 §4) to show addresses without building a resolver.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long an answer from the same machine may take when it is busy; a server that is down refuses at once.
const PATIENCE: Duration = Duration::from_secs(1);
const A: u16 = 1;
const IN: u16 = 1;

/// The addresses that `server` answers for `name`, aliases in its zones followed, sorted.
pub(crate) fn addresses(server: SocketAddr, name: &str) -> Result<Vec<Ipv4Addr>> {
    let own = if server.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // The port is new for every question, so the ID need not tell answers apart.
    socket.send(&question(name)?)?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    let mut addresses = answers(buffer.get(..length).unwrap_or_default())?;
    addresses.sort_unstable();
    Ok(addresses)
}

fn question(name: &str) -> Result<Vec<u8>> {
    let mut message = vec![0x42, 0x79, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        message.push(length.with_context(|| format!("{name:?} is no domain name"))?);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend([A.to_be_bytes(), IN.to_be_bytes()].concat());
    Ok(message)
}

fn answers(message: &[u8]) -> Result<Vec<Ipv4Addr>> {
    let rcode = message.get(3).context("no DNS message")? & 0x0f;
    ensure!(
        rcode == 0,
        "{}",
        ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN"].get(usize::from(rcode)).unwrap_or(&"REFUSED")
    );
    let mut rest = Reader { message, at: 12 };
    rest.skip_name()?;
    rest.take(4)?;
    let mut found = Vec::new();
    for _ in 0..u16_of(message.get(6..8).unwrap_or_default())? {
        rest.skip_name()?;
        let rtype = u16_of(rest.take(2)?)?;
        rest.take(6)?;
        let length = u16_of(rest.take(2)?)?;
        let rdata = rest.take(usize::from(length))?;
        if rtype == A {
            found.push(Ipv4Addr::from(<[u8; 4]>::try_from(rdata)?));
        }
    }
    Ok(found)
}

fn u16_of(octets: &[u8]) -> Result<u16> {
    Ok(u16::from_be_bytes(octets.try_into()?))
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let octets = self.message.get(self.at..self.at + count).context("a truncated DNS message")?;
        self.at += count;
        Ok(octets)
    }

    /// Labels until the root or a compression pointer.
    fn skip_name(&mut self) -> Result<()> {
        loop {
            match self.take(1)? {
                [0] => return Ok(()),
                [pointer] if *pointer >= 0xc0 => return self.take(1).map(drop),
                [length] => self.take(usize::from(*length)).map(drop)?,
                _ => bail!("a truncated DNS message"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_and_its_addresses_are_read_as_the_addresses() {
        let mut message = question("blog.example").unwrap();
        message.splice(6..8, [0, 2]);
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3, b'w', b'w', b'w', 0xc0, 17]);
        message.extend([0xc0, 36, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        assert_eq!(answers(&message).unwrap(), [Ipv4Addr::new(192, 0, 2, 1)]);
    }

    #[test]
    fn a_response_code_is_an_error_that_names_it() {
        let mut message = question("nowhere.example").unwrap();
        message.splice(3..4, [3]);
        assert_eq!(answers(&message).unwrap_err().to_string(), "NXDOMAIN");
        assert!(answers(&message[..5]).is_err(), "truncated");
    }
}
