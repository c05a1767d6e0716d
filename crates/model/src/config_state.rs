//! Which configuration a server runs with, as it says itself: what became of the two files that it is given.

use bindy_zone::{Name, NameError};

use crate::workload::AGENT_CONFIG;

/// The question (type TXT, over TCP) at the transfer port, signed with an own key, for the configuration that a server runs
/// with; [`ConfigStates`] answer it.
pub const CONFIG_QUESTION: &str = "config.agent.bindy.";

/// The question that [`CONFIG_QUESTION`] becomes with the digest of a named.conf in front, in two labels: the server that is asked
/// is told by it that this is what it may have its BIND read, see [`AgentConfig::in_turn`](crate::AgentConfig::in_turn).
pub fn turn_question(digest: &str) -> Result<Name, NameError> {
    let (first, rest) = digest.split_at_checked(digest.len() / 2).unwrap_or((digest, ""));
    Name::parse(&format!("{first}.{rest}.{CONFIG_QUESTION}"))
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigState {
    /// The one of this digest is in force.
    Taken(String),
    /// The one of this digest is refused, and the one before stays in force.
    Refused {
        /// See [`ConfigState::digest`].
        digest: String,
        /// Why, of which a record takes 255 octets.
        text: String,
    },
}

/// What became of both, in one TXT record each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigStates {
    /// named.conf, at named.
    pub named: ConfigState,
    /// agent.json, at the agent; an agent of the version before says nothing of it.
    pub agent: Option<ConfigState>,
}

/// The digests of both, as a server shall have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDigests {
    /// Of named.conf.
    pub named: String,
    /// Of agent.json.
    pub agent: String,
}

impl ConfigState {
    /// The SHA-256 of a file, in hexadecimal.
    pub fn digest(config: &[u8]) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, config);
        digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    }

    fn strings(&self) -> Vec<&str> {
        match self {
            Self::Taken(digest) => vec!["taken", digest],
            Self::Refused { digest, text } => vec!["refused", digest, text],
        }
    }

    fn of(strings: &[String]) -> Option<Self> {
        match strings {
            [what, digest] if what == "taken" => Some(Self::Taken(digest.clone())),
            [what, digest, text] if what == "refused" => {
                Some(Self::Refused { digest: digest.clone(), text: text.clone() })
            }
            _ => None,
        }
    }

    fn refusal(&self, wanted: &str) -> Option<&str> {
        match self {
            Self::Refused { digest, text } if digest == wanted => Some(text),
            _ => None,
        }
    }
}

impl ConfigStates {
    /// Whether these are in force.
    pub fn has(&self, wanted: &ConfigDigests) -> bool {
        let has = |state: &ConfigState, wanted: &str| matches!(state, ConfigState::Taken(digest) if digest == wanted);
        has(&self.named, &wanted.named) && self.agent.as_ref().is_none_or(|state| has(state, &wanted.agent))
    }

    /// Who refuses one of these, and why; `None` where nobody does.
    pub fn refusal(&self, wanted: &ConfigDigests) -> Option<String> {
        let agent = self.agent.as_ref().and_then(|state| state.refusal(&wanted.agent));
        let named = self.named.refusal(&wanted.named).map(|text| ("BIND", text));
        let (who, text) = named.or(agent.map(|text| ("agent", text)))?;
        Some(format!("{who}: {text}"))
    }

    /// The RDATA of the records that say so. The one of agent.json begins with its name, which the version before, who asks for
    /// the other one only, does not know.
    pub fn to_rdata(&self) -> Vec<Vec<u8>> {
        let agent = self.agent.iter().map(|state| [&[AGENT_CONFIG][..], &state.strings()].concat());
        std::iter::once(self.named.strings()).chain(agent).map(|strings| text_rdata(&strings)).collect()
    }

    /// Reads the RDATA of TXT records; `None` where none is about named.conf.
    pub fn from_rdata<'a>(records: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut named, mut agent) = (None, None);
        for strings in records.filter_map(text_strings) {
            match strings.split_first() {
                Some((file, state)) if file == AGENT_CONFIG => agent = Some(ConfigState::of(state)?),
                _ => named = named.or(ConfigState::of(&strings)),
            }
        }
        Some(Self { named: named?, agent })
    }
}

/// TXT RDATA (RFC 1035 section 3.3.14); of a string 255 octets.
fn text_rdata(strings: &[&str]) -> Vec<u8> {
    let mut rdata = Vec::new();
    for string in strings {
        let octets: Vec<u8> = string.bytes().take(usize::from(u8::MAX)).collect();
        rdata.extend(u8::try_from(octets.len()));
        rdata.extend(octets);
    }
    rdata
}

fn text_strings(mut rdata: &[u8]) -> Option<Vec<String>> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = rdata.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length))?;
        strings.push(String::from_utf8_lossy(string).into_owned());
        rdata = rest;
    }
    Some(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[Vec<u8>]) -> Option<ConfigStates> {
        ConfigStates::from_rdata(records.iter().map(Vec::as_slice))
    }

    fn refused(text: &str) -> ConfigState {
        ConfigState::Refused { digest: ConfigState::digest(b""), text: text.to_owned() }
    }

    #[test]
    fn what_is_said_of_a_configuration_is_read_as_it_was_meant() {
        let digest = ConfigState::digest(b"");
        assert!(digest.starts_with("e3b0c44298fc1c14") && digest.len() == 64, "{digest}");
        let states = [ConfigState::Taken(digest), refused(""), refused("unknown option")];
        for (named, agent) in states.iter().zip(states.iter().rev()) {
            for agent in [None, Some(agent.clone())] {
                let states = ConfigStates { named: named.clone(), agent };
                let mut records = states.to_rdata();
                assert_eq!(read(&records), Some(states.clone()));
                records.reverse();
                assert_eq!(read(&records), Some(states), "records have no order");
            }
        }
        let long = ConfigStates { named: refused(&"x".repeat(300)), agent: None };
        assert_eq!(read(&long.to_rdata()).unwrap().named, refused(&"x".repeat(255)));
        for foreign in [&b""[..], b"\x05taken", b"\x09taken", b"\x03abc\x03def"] {
            assert_eq!(read(&[foreign.to_owned()]), None);
        }
    }

    #[test]
    fn a_configuration_is_in_force_when_both_files_are_and_an_agent_of_the_version_before_says_nothing_of_one()
     {
        let wanted = ConfigDigests { named: "n".to_owned(), agent: "a".to_owned() };
        let taken = |digest: &str| ConfigState::Taken(digest.to_owned());
        let refused =
            |digest: &str| ConfigState::Refused { digest: digest.to_owned(), text: "why".to_owned() };
        for (named, agent, has, refusal) in [
            (taken("n"), Some(taken("a")), true, None),
            (taken("n"), None, true, None),
            (taken("n"), Some(taken("older")), false, None),
            (taken("older"), Some(taken("a")), false, None),
            (taken("n"), Some(refused("older")), false, None),
            (taken("n"), Some(refused("a")), false, Some("agent: why")),
            (refused("n"), Some(taken("a")), false, Some("BIND: why")),
        ] {
            let states = ConfigStates { named, agent };
            assert_eq!(
                (states.has(&wanted), states.refusal(&wanted).as_deref()),
                (has, refusal),
                "{states:?}"
            );
        }
    }
}
