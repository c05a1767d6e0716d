//! Elements of address match lists, as users write them in `allowQuery` and `allowTransfer`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use bindy_zone::Name;

use crate::statement::quoted_name;

/// One element of an address match list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AclElement {
    /// Everybody.
    Any,
    /// Nobody.
    None,
    /// Addresses of the server itself.
    Localhost,
    /// Networks the server has an address in.
    Localnets,
    /// A network, or a single address with the full prefix length.
    Network(IpAddr, u8),
    /// Whoever signs with this key.
    Key(Name),
    /// Not what the inner element matches.
    Not(Box<AclElement>),
}

/// Why a text is no element of an address match list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// Neither a keyword nor an address nor a network.
    #[error(
        "{0:?} is not an address, a network (192.0.2.0/24), any, none, localhost or localnets, nor one of these after `!`"
    )]
    Unknown(String),
    /// The prefix is longer than the address.
    #[error("{0:?}: the prefix length is at most 32 for IPv4 and 128 for IPv6")]
    PrefixTooLong(String),
    /// Bits are set behind the prefix; BIND refuses to load such a file.
    #[error("{text:?} has bits set behind its prefix: write {network}")]
    HostBits {
        /// As it was written.
        text: String,
        /// The network that contains it.
        network: AclElement,
    },
}

impl AclElement {
    /// The network of that many leading bits, if nothing is set behind them.
    fn network(address: IpAddr, prefix: u8, text: &str) -> Result<Self, AclError> {
        let masked = match address {
            IpAddr::V4(address) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
            _ => return Err(AclError::PrefixTooLong(text.to_owned())),
        };
        if masked == address {
            return Ok(Self::Network(address, prefix));
        }
        Err(AclError::HostBits { text: text.to_owned(), network: Self::Network(masked, prefix) })
    }
}

/// As the schema of `allowQuery` and `allowTransfer` takes it: addresses are written as for Kubernetes.
impl FromStr for AclElement {
    type Err = AclError;

    fn from_str(text: &str) -> Result<Self, AclError> {
        let unknown = || AclError::Unknown(text.to_owned());
        let (plain, negated) = text.strip_prefix('!').map_or((text, false), |plain| (plain, true));
        let element = match plain {
            "any" => Self::Any,
            "none" => Self::None,
            "localhost" => Self::Localhost,
            "localnets" => Self::Localnets,
            _ => {
                let (address, prefix) = plain.split_once('/').unzip();
                let address: IpAddr = address.unwrap_or(plain).parse().map_err(|_| unknown())?;
                if address.to_canonical() != address {
                    return Err(unknown());
                }
                let prefix = match prefix {
                    None if address.is_ipv4() => 32,
                    None => 128,
                    // Digits, no zero before them.
                    Some(digits) => {
                        let read = digits.parse::<u8>().ok().filter(|prefix| prefix.to_string() == digits);
                        read.ok_or_else(unknown)?
                    }
                };
                Self::network(address, prefix, text)?
            }
        };
        Ok(if negated { Self::Not(Box::new(element)) } else { element })
    }
}

/// As `named.conf` has it.
impl fmt::Display for AclElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::None => f.write_str("none"),
            Self::Localhost => f.write_str("localhost"),
            Self::Localnets => f.write_str("localnets"),
            Self::Network(address, prefix) => write!(f, "{address}/{prefix}"),
            Self::Key(name) => write!(f, "key {}", quoted_name(name)),
            Self::Not(element) => write!(f, "! {element}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_written() {
        for (text, written) in [
            ("any", "any"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("!10.0.0.0/8", "! 10.0.0.0/8"),
            ("!any", "! any"),
            ("!none", "! none"),
            ("!localhost", "! localhost"),
            ("!localnets", "! localnets"),
        ] {
            assert_eq!(text.parse::<AclElement>().unwrap().to_string(), written, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "any;",
            "10.0.0.0/8; any",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "::ffff:192.0.2.1",
            "!",
            "!!10.0.0.1",
            "!!any",
            "! 10.0.0.1",
            "10.0.0.1!",
            "Any",
            "key k",
            "}",
        ] {
            assert!(text.parse::<AclElement>().is_err(), "{text:?}");
        }
        let error = "10.0.0.1/8".parse::<AclElement>().unwrap_err();
        assert!(error.to_string().ends_with("write 10.0.0.0/8"), "{error}");
    }
}
