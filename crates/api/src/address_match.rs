//! Elements of an address match list, parsed: what `allowQuery` and `allowTransfer` may contain.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// One element of an address match list of BIND. The first element of a list that matches an address decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressMatch {
    /// A match excludes instead of admitting.
    pub negated: bool,
    /// What it matches.
    pub addresses: Addresses,
}

/// A set of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// Every address.
    Any,
    /// No address.
    None,
    /// The addresses of the server itself.
    Localhost,
    /// The networks that the server is attached to.
    Localnets,
    /// All addresses that share the first `length` bits with `address`, whose other bits are zero.
    Prefix {
        /// The network's address.
        address: IpAddr,
        /// Bits of the prefix.
        length: u8,
    },
}

/// A text that is no element of an address match list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressMatchError {
    /// It is neither an address, nor a prefix, nor one of the names.
    #[error(
        "{0:?} must be an address, a prefix, any, none, localhost or localnets, with an optional leading \"!\""
    )]
    Unknown(String),
    /// A prefix whose address has bits beyond its length.
    #[error(
        "{0:?} has bits set beyond the prefix length: write the network's own address, or a longer prefix"
    )]
    HostBits(String),
}

impl FromStr for AddressMatch {
    type Err = AddressMatchError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (negated, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let addresses = match rest {
            "any" => Addresses::Any,
            "none" => Addresses::None,
            "localhost" => Addresses::Localhost,
            "localnets" => Addresses::Localnets,
            _ => prefix(rest).ok_or_else(|| AddressMatchError::Unknown(text.to_owned()))?,
        };
        match addresses {
            Addresses::Prefix { address, length } if has_host_bits(address, length) => {
                Err(AddressMatchError::HostBits(text.to_owned()))
            }
            _ => Ok(Self { negated, addresses }),
        }
    }
}

fn prefix(text: &str) -> Option<Addresses> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(digits) if !digits.starts_with('+') => {
            digits.parse().ok().filter(|length| *length <= longest)?
        }
        Some(_) => return None,
        None => longest,
    };
    Some(Addresses::Prefix { address, length })
}

fn has_host_bits(address: IpAddr, length: u8) -> bool {
    let beyond = match address {
        IpAddr::V4(address) => u32::from(address).checked_shl(u32::from(length)).map(u128::from),
        IpAddr::V6(address) => u128::from(address).checked_shl(u32::from(length)),
    };
    beyond.is_some_and(|bits| bits != 0)
}

impl fmt::Display for AddressMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.negated {
            f.write_str("!")?;
        }
        match self.addresses {
            Addresses::Any => f.write_str("any"),
            Addresses::None => f.write_str("none"),
            Addresses::Localhost => f.write_str("localhost"),
            Addresses::Localnets => f.write_str("localnets"),
            Addresses::Prefix { address, length } => write!(f, "{address}/{length}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_written_in_one_form() {
        for (text, written) in [
            ("any", "any"),
            ("!none", "!none"),
            ("localnets", "localnets"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("!192.0.2.0/24", "!192.0.2.0/24"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse::<AddressMatch>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "!",
            "!!any",
            "Any",
            "any; };",
            "192.0.2.0/33",
            "192.0.2.0/+8",
            "192.0.2/24",
            "::/129",
            "192.0.2.0/",
            "key k",
        ] {
            assert_eq!(
                text.parse::<AddressMatch>(),
                Err(AddressMatchError::Unknown(text.to_owned())),
                "{text}"
            );
        }
        for text in ["192.0.2.1/24", "!2001:db8::1/64", "0.0.0.1/0", "::1/0"] {
            assert_eq!(
                text.parse::<AddressMatch>(),
                Err(AddressMatchError::HostBits(text.to_owned())),
                "{text}"
            );
        }
    }
}
