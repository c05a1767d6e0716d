//! The SOA record's fields apart from the serial, which belongs to the version (RFC 1035 section 3.3.13).

use crate::name::{Name, NameError};
use crate::serial::Serial;

/// What an SOA says besides its serial. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// TTL of the SOA record itself.
    pub ttl: u32,
    /// MNAME: the server named as the origin of the zone.
    pub primary: Name,
    /// RNAME: the mailbox of the person responsible, as a name.
    pub mailbox: Name,
    /// How often a secondary asks for the serial.
    pub refresh: u32,
    /// How soon it asks again when that failed.
    pub retry: u32,
    /// How long it answers without having reached an upstream.
    pub expire: u32,
    /// TTL of negative answers (RFC 2308 section 4).
    pub negative_ttl: u32,
}

impl Soa {
    /// The RDATA with `serial`.
    pub fn rdata(&self, serial: Serial) -> Vec<u8> {
        let mut rdata = self.primary.to_wire();
        self.mailbox.append_wire(&mut rdata);
        for field in [serial.get(), self.refresh, self.retry, self.expire, self.negative_ttl] {
            rdata.extend(field.to_be_bytes());
        }
        rdata
    }

    /// Reads uncompressed RDATA; the counterpart of [`Soa::rdata`].
    pub fn from_rdata(ttl: u32, rdata: &[u8]) -> Result<(Self, Serial), NameError> {
        let (primary, rest) = Name::split_wire(rdata)?;
        let (mailbox, rest) = Name::split_wire(rest)?;
        let fields: &[u8; 20] = rest.try_into().map_err(|_| NameError::BadWire)?;
        let mut numbers = fields
            .chunks_exact(4)
            .map(|octets| octets.iter().fold(0u32, |value, &octet| value << 8 | u32::from(octet)));
        let mut next = || numbers.next().unwrap_or_default();
        let serial = Serial::new(next());
        let soa = Self {
            ttl,
            primary,
            mailbox,
            refresh: next(),
            retry: next(),
            expire: next(),
            negative_ttl: next(),
        };
        Ok((soa, serial))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rdata_round_trip() {
        let soa = Soa {
            ttl: 3600,
            primary: Name::parse("ns1.example.com").unwrap(),
            mailbox: Name::parse("hostmaster.example.com").unwrap(),
            refresh: 1,
            retry: 2,
            expire: 3,
            negative_ttl: 4,
        };
        let rdata = soa.rdata(Serial::new(2024));
        assert_eq!(Soa::from_rdata(3600, &rdata).unwrap(), (soa, Serial::new(2024)));
        assert!(Soa::from_rdata(3600, &rdata[..rdata.len() - 1]).is_err());
    }
}
