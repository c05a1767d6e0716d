//! The tables of the control channel in wire form, and their signature.
//!
//! ```text
//! message = length:u32 version:u32 (= 1) table
//! table   = { key length:u8, key, value }*
//! value   = kind:u8 (1 octets, 2 table, 3 list of values), length:u32, content
//! _auth   = table { hsha = octets { algorithm:u8, base64 of the HMAC, zeros up to 88 } }
//! ```

use domain::utils::base64;
use ring::hmac;

use super::RndcError;
use crate::keys::Key;

const VERSION: u32 = 1;
const OCTETS: u8 = 1;
const TABLE: u8 = 2;
const LIST: u8 = 3;
/// hmac-sha256.
const ALGORITHM: u8 = 163;
/// Room for the base64 form of the longest HMAC there is.
const HMAC_ROOM: usize = 88;
/// Tables within tables; named uses two levels.
const MAX_DEPTH: u8 = 8;

/// Keys and their values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table(Vec<(String, Value)>);

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Octets(Vec<u8>),
    Table(Table),
    List(Vec<Value>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Octets(text.as_bytes().to_vec())
    }

    fn append(&self, wire: &mut Vec<u8>) {
        let mut content = Vec::new();
        let kind = match self {
            Self::Octets(octets) => {
                content.extend(octets);
                OCTETS
            }
            Self::Table(table) => {
                table.append(&mut content);
                TABLE
            }
            Self::List(values) => {
                values.iter().for_each(|value| value.append(&mut content));
                LIST
            }
        };
        wire.push(kind);
        wire.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
        wire.extend(content);
    }

    fn split(wire: &[u8], depth: u8) -> Result<(Self, &[u8]), RndcError> {
        const SHORT: RndcError = RndcError::Malformed("it ends too early");
        let (&kind, rest) = wire.split_first().ok_or(SHORT)?;
        let (length, rest) = rest.split_first_chunk().ok_or(SHORT)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SHORT)?;
        let (mut content, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
        let depth = depth.checked_sub(1).ok_or(RndcError::Malformed("it is nested too deeply"))?;
        let value = match kind {
            OCTETS => Self::Octets(content.to_vec()),
            TABLE => Self::Table(Table::parse(content, depth)?),
            LIST => {
                let mut values = Vec::new();
                while !content.is_empty() {
                    let (value, after) = Self::split(content, depth)?;
                    values.push(value);
                    content = after;
                }
                Self::List(values)
            }
            _ => return Err(RndcError::Malformed("it has a value of an unknown kind")),
        };
        Ok((value, rest))
    }
}

impl Table {
    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.0.push((key.to_owned(), value));
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    pub(super) fn table(&self, key: &str) -> Option<&Table> {
        match self.get(key)? {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(super) fn octets(&self, key: &str) -> Option<&[u8]> {
        match self.get(key)? {
            Value::Octets(octets) => Some(octets),
            _ => None,
        }
    }

    fn append(&self, wire: &mut Vec<u8>) {
        for (key, value) in &self.0 {
            wire.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
            wire.extend(key.as_bytes());
            value.append(wire);
        }
    }

    fn parse(mut wire: &[u8], depth: u8) -> Result<Self, RndcError> {
        let mut table = Self::default();
        while !wire.is_empty() {
            let (key, value, rest) = split_entry(wire, depth)?;
            table.0.push((key, value));
            wire = rest;
        }
        Ok(table)
    }
}

fn split_entry(wire: &[u8], depth: u8) -> Result<(String, Value, &[u8]), RndcError> {
    const SHORT: RndcError = RndcError::Malformed("it ends too early");
    let (&length, rest) = wire.split_first().ok_or(SHORT)?;
    let (key, rest) = rest.split_at_checked(usize::from(length)).ok_or(SHORT)?;
    let (value, rest) = Value::split(rest, depth)?;
    Ok((String::from_utf8_lossy(key).into_owned(), value, rest))
}

/// The signed wire form of a message.
pub(super) fn seal(message: &Table, key: &Key) -> Vec<u8> {
    let mut content = Vec::new();
    message.append(&mut content);
    let mac = hmac::sign(key.hmac(), &content);
    let mut hsha = vec![ALGORITHM];
    hsha.extend(base64::encode_string(mac.as_ref()).as_bytes());
    hsha.resize(1 + HMAC_ROOM, 0);
    let mut auth = Table::default();
    auth.set("hsha", Value::Octets(hsha));
    let mut signature = Table::default();
    signature.set("_auth", Value::Table(auth));
    let mut rest = VERSION.to_be_bytes().to_vec();
    signature.append(&mut rest);
    rest.extend(content);
    let mut wire = u32::try_from(rest.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    wire.extend(rest);
    wire
}

/// Verifies a message (without its length) and reads it.
pub(super) fn open(wire: &[u8], key: &Key) -> Result<Table, RndcError> {
    let (version, rest) = wire.split_first_chunk().ok_or(RndcError::Malformed("it ends too early"))?;
    if u32::from_be_bytes(*version) != VERSION {
        return Err(RndcError::Malformed("it has an unknown version"));
    }
    let (name, auth, content) = split_entry(rest, MAX_DEPTH)?;
    let Value::Table(auth) = auth else { return Err(RndcError::Signature) };
    let hsha = auth.octets("hsha").filter(|_| name == "_auth").ok_or(RndcError::Signature)?;
    let (algorithm, text) = hsha.split_first().ok_or(RndcError::Signature)?;
    let end = text.iter().position(|&octet| octet == 0).unwrap_or(text.len());
    let text = text.get(..end).and_then(|text| std::str::from_utf8(text).ok()).ok_or(RndcError::Signature)?;
    let mac: Vec<u8> = base64::decode(text).map_err(|_| RndcError::Signature)?;
    if *algorithm != ALGORITHM || hmac::verify(key.hmac(), content, &mac).is_err() {
        return Err(RndcError::Signature);
    }
    Table::parse(content, MAX_DEPTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_zone::Name;
    use proptest::prelude::*;

    fn key(secret: &[u8]) -> Key {
        Key::new(Name::parse("k").unwrap(), secret)
    }

    fn message() -> Table {
        let mut inner = Table::default();
        inner.set("type", Value::text("status"));
        inner.set("list", Value::List(vec![Value::text("a"), Value::Octets(vec![0, 255])]));
        let mut table = Table::default();
        table.set("_data", Value::Table(inner));
        table
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_only() {
        let wire = seal(&message(), &key(b"one"));
        assert_eq!(open(&wire[4..], &key(b"one")).unwrap(), message());
        assert!(matches!(open(&wire[4..], &key(b"two")), Err(RndcError::Signature)));
    }

    proptest! {
        #[test]
        fn a_damaged_message_never_opens_and_never_panics(position in 4usize..150, octet: u8) {
            let mut wire = seal(&message(), &key(b"one"));
            if let Some(target) = wire.get_mut(position).filter(|target| **target != octet) {
                *target = octet;
                if let Ok(opened) = open(&wire[4..], &key(b"one")) {
                    // Only the room after the HMAC is not covered.
                    prop_assert_eq!(opened, message());
                }
            }
        }

        #[test]
        fn garbage_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Table::parse(&octets, MAX_DEPTH);
        }
    }
}
