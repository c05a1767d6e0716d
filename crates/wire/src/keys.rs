//! TSIG keys (hmac-sha256), where they come from and how they are kept in files.
//!
//! ```text
//! MasterSecret ─HKDF(namespace, instance, generation)─► key of an instance      a.NAME.NAMESPACE.key.bindy.
//! key of an upstream ─HKDF(name of the new key)─► key of a downstream at it      D.NSD.a.NAME.NAMESPACE.key.bindy.
//!                                            └─► key of one outside of Bindy     D._downstream.a.NAME.NAMESPACE.key.bindy.
//! ```
//! Whoever has an upstream's key can derive every downstream's, so an upstream needs no list of keys. Nothing here
//! shows a secret in its `Debug` form; the text of a key file is the only way out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bindy_zone::{Name, NameError};
use domain::utils::base64;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// Octets of every secret made here: the output of SHA-256.
const SECRET: usize = 32;
/// Fewest octets that are accepted as a secret: half of the output of SHA-256 (RFC 2104 section 3).
const MIN_SECRET: usize = 16;
/// Stands where an instance has its namespace in the key of a downstream outside of Bindy. No namespace has an underscore.
pub const OUTSIDE_LABEL: &str = "_downstream";
/// Separates our derivations from all others of the same secret.
const SALT: &[u8] = b"bindy tsig v1";

/// A TSIG key: its name, and its secret for hmac-sha256. Cloning is cheap.
#[derive(Clone)]
pub struct Key(Arc<KeyParts>);

struct KeyParts {
    name: Name,
    secret: Box<[u8]>,
    hmac: hmac::Key,
}

/// The operator's secret that every instance's key comes from.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterSecret([u8; SECRET]);

/// What an instance's key is called after: keys of the secret that replaces another have the other letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// Called `a`.
    A,
    /// Called `b`.
    B,
}

/// Finds the key that a message names.
pub trait KeyRing: Send + Sync + 'static {
    /// The key with this name, if there is one.
    fn key(&self, name: &Name) -> Option<Key>;
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system has no randomness to give.
    #[error("the system's random generator failed")]
    Randomness,
    /// The text of a key file does not consist of a name and a secret.
    #[error("a key file has one line with two words: the key's name and its secret in base64")]
    Form,
    /// The text is no `key` statement of `named.conf`.
    #[error(
        "this is no key statement; it has the form key NAME {{ algorithm hmac-sha256; secret \"BASE64\"; }};"
    )]
    Statement,
    /// A key for another algorithm.
    #[error("key {name} is for the algorithm {algorithm:?}; only hmac-sha256 is supported")]
    Algorithm {
        /// The key.
        name: Name,
        /// Its algorithm.
        algorithm: String,
    },
    /// The secret is not base64.
    #[error("the secret of key {0} is not base64")]
    Base64(Name),
    /// The secret is too short.
    #[error("the secret of key {name} has {octets} octets; at least {MIN_SECRET} are needed")]
    Short {
        /// The key.
        name: Name,
        /// Octets that its secret has.
        octets: usize,
    },
    /// The key's name is not a domain name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl Key {
    /// The key with this name and secret.
    pub fn new(name: Name, secret: &[u8]) -> Self {
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self(Arc::new(KeyParts { name, secret: secret.into(), hmac }))
    }

    /// A new random key.
    pub fn generate(name: Name) -> Result<Self, KeyError> {
        Ok(Self::new(name, &random_secret()?))
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// Its secret.
    pub fn secret(&self) -> &[u8] {
        &self.0.secret
    }

    /// Its secret in the form of `named.conf`.
    pub fn secret_base64(&self) -> String {
        base64::encode_string(self.secret())
    }

    /// The key that a downstream instance uses at the instance whose own key this is.
    pub fn derive(&self, namespace: &str, instance: &str) -> Result<Self, KeyError> {
        self.derive_named(Name::parse(&format!("{instance}.{namespace}.{}", self.name()))?)
    }

    /// The key that a downstream outside of Bindy uses at the instance whose own key this is.
    pub fn derive_outside(&self, downstream: &str) -> Result<Self, KeyError> {
        self.derive(OUTSIDE_LABEL, downstream)
    }

    /// The downstream's key with this name; it has to end in the name of this key.
    pub fn derive_named(&self, name: Name) -> Result<Self, KeyError> {
        if !name.is_within(self.name()) || name == *self.name() {
            return Err(KeyError::Name(NameError::OutOfZone { name, zone: self.name().clone() }));
        }
        let secret = expand(self.secret(), &name.to_wire());
        Ok(Self::new(name, &secret))
    }

    /// What a key file contains: `NAME SECRET` and a newline.
    pub fn to_file(&self) -> String {
        format!("{} {}\n", self.name(), self.secret_base64())
    }

    pub(crate) fn hmac(&self) -> &hmac::Key {
        &self.0.hmac
    }
}

/// Reads what [`Key::to_file`] wrote.
impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut words = text.split_whitespace();
        let (Some(name), Some(secret), None) = (words.next(), words.next(), words.next()) else {
            return Err(KeyError::Form);
        };
        let name = Name::parse(name)?;
        let secret: Vec<u8> = base64::decode(secret).map_err(|_| KeyError::Base64(name.clone()))?;
        if secret.len() < MIN_SECRET {
            return Err(KeyError::Short { name, octets: secret.len() });
        }
        Ok(Self::new(name, &secret))
    }
}

impl MasterSecret {
    /// A new random one.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self(random_secret()?))
    }

    /// The secret with these octets.
    pub const fn from_bytes(octets: [u8; SECRET]) -> Self {
        Self(octets)
    }

    /// Its octets, to be stored.
    pub const fn as_bytes(&self) -> &[u8; SECRET] {
        &self.0
    }

    /// Tells texts apart for whoever has this secret, and nothing about them to anybody else.
    pub fn fingerprint(&self, text: &[u8]) -> String {
        let octets = expand(&self.0, &[b"fingerprint\0", text].concat());
        octets.iter().take(16).map(|octet| format!("{octet:02x}")).collect()
    }

    /// The key of an instance.
    pub fn instance_key(
        &self,
        namespace: &str,
        instance: &str,
        generation: Generation,
    ) -> Result<Key, KeyError> {
        let name = instance_key_name(namespace, instance, generation)?;
        let secret = expand(&self.0, &name.to_wire());
        Ok(Key::new(name, &secret))
    }
}

/// The name of an instance's key: `a.NAME.NAMESPACE.key.bindy.`
pub fn instance_key_name(namespace: &str, instance: &str, generation: Generation) -> Result<Name, NameError> {
    Name::parse(&format!("{generation}.{instance}.{namespace}.key.bindy."))
}

struct SecretLength;

impl KeyType for SecretLength {
    fn len(&self) -> usize {
        SECRET
    }
}

/// HKDF-SHA256 (RFC 5869) of `secret` for the purpose `info`.
fn expand(secret: &[u8], info: &[u8]) -> [u8; SECRET] {
    let prk: Prk = Salt::new(HKDF_SHA256, SALT).extract(secret);
    let mut derived = [0; SECRET];
    // Both fail only beyond 255 blocks of output; one is asked for.
    let filled = prk.expand(&[info], SecretLength).and_then(|okm| okm.fill(&mut derived));
    debug_assert!(filled.is_ok());
    derived
}

fn random_secret() -> Result<[u8; SECRET], KeyError> {
    let mut secret = [0; SECRET];
    SystemRandom::new().fill(&mut secret).map_err(|_| KeyError::Randomness)?;
    Ok(secret)
}

/// Equal when name and secret are.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.secret() == other.secret()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, secret hidden)", self.name())
    }
}

impl fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSecret(hidden)")
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

impl Generation {
    /// That of the secret that replaces this one's.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A ring with this one key.
impl KeyRing for Key {
    fn key(&self, name: &Name) -> Option<Key> {
        (self.name() == name).then(|| self.clone())
    }
}

impl KeyRing for Vec<Key> {
    fn key(&self, name: &Name) -> Option<Key> {
        self.iter().find(|key| key.name() == name).cloned()
    }
}

impl<R: KeyRing + ?Sized> KeyRing for Arc<R> {
    fn key(&self, name: &Name) -> Option<Key> {
        (**self).key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> MasterSecret {
        MasterSecret::from_bytes([7; SECRET])
    }

    #[test]
    fn keys_of_instances_and_generations_differ_and_are_reproducible() {
        let key = master().instance_key("dns", "primary", Generation::A).unwrap();
        assert_eq!(key.name().to_string(), "a.primary.dns.key.bindy.");
        assert_eq!(key, master().instance_key("dns", "primary", Generation::A).unwrap());
        let other = master().instance_key("dns", "primary", Generation::B).unwrap();
        assert_ne!(key.secret(), other.secret());
        let foreign = MasterSecret::from_bytes([8; SECRET]);
        assert_ne!(key.secret(), foreign.instance_key("dns", "primary", Generation::A).unwrap().secret());
    }

    #[test]
    fn a_downstreams_key_comes_from_the_upstreams_key_alone() {
        let upstream = master().instance_key("dns", "primary", Generation::A).unwrap();
        let derived = upstream.derive("edge", "secondary").unwrap();
        assert_eq!(derived.name().to_string(), "secondary.edge.a.primary.dns.key.bindy.");
        let found = Key::from_str(&upstream.to_file()).unwrap().derive_named(derived.name().clone());
        assert_eq!(found.unwrap(), derived);
        assert_ne!(derived.secret(), upstream.secret());
        assert!(upstream.derive_named(upstream.name().clone()).is_err());
        assert!(upstream.derive_named(Name::parse("x.key.bindy").unwrap()).is_err());
    }

    #[test]
    fn a_key_for_outside_is_no_instances_key() {
        let own = master().instance_key("dns", "primary", Generation::A).unwrap();
        let outside = own.derive_outside("vm").unwrap();
        assert_eq!(outside.name().to_string(), "vm._downstream.a.primary.dns.key.bindy.");
        assert_ne!(outside.secret(), own.derive("downstream", "vm").unwrap().secret());
    }

    #[test]
    fn key_files_round_trip_and_bad_ones_say_what_is_wrong() {
        let key = Key::generate(Name::parse("k.example").unwrap()).unwrap();
        assert_eq!(key.to_file().parse::<Key>().unwrap(), key);
        assert_eq!("k.example.".parse::<Key>(), Err(KeyError::Form));
        assert_eq!("k.example. abc def".parse::<Key>(), Err(KeyError::Form));
        assert!(matches!("k.example. !!".parse::<Key>(), Err(KeyError::Base64(_))));
        assert!(matches!("k.example. AAAA".parse::<Key>(), Err(KeyError::Short { octets: 3, .. })));
        assert!(matches!("k..example. AAAA".parse::<Key>(), Err(KeyError::Name(_))));
    }

    #[test]
    fn fingerprints_differ_by_text_and_by_master_secret() {
        let print = master().fingerprint(b"k. c2VjcmV0");
        assert_eq!(print, master().fingerprint(b"k. c2VjcmV0"));
        assert_ne!(print, master().fingerprint(b"k. c2VjcmV1"));
        assert_ne!(print, MasterSecret::from_bytes([8; SECRET]).fingerprint(b"k. c2VjcmV0"));
        assert_eq!(print.len(), 32);
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let key = Key::new(Name::parse("k").unwrap(), b"correct horse battery staple");
        let shown = format!("{key:?} {:?}", master());
        assert_eq!(shown, "Key(k., secret hidden) MasterSecret(hidden)");
    }
}
