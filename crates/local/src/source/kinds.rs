//! Which kinds of objects are read, and what the others are.

use bindy_api::{API_VERSION, GROUP, RECORD_KINDS};
use bindy_model::Kind;

/// What a manifest's `apiVersion` and `kind` stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// One of Bindy's kinds.
    Bindy(bindy_api::Kind),
    /// A ConfigMap, which may hold zone files.
    ConfigMap,
    /// A list of objects.
    List,
    /// Somebody else's kind.
    Foreign,
    /// A mistake, with the message about it.
    Unknown(String),
}

pub(crate) fn meaning(api_version: &str, kind: &str) -> Meaning {
    let known = bindy_api::Kind::from_name(kind);
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (api_version, kind, known) {
        (API_VERSION, _, Some(kind)) => Meaning::Bindy(kind),
        (API_VERSION, _, None) => match kind.strip_suffix("List").and_then(bindy_api::Kind::from_name) {
            Some(_) => Meaning::List,
            None => Meaning::Unknown(unknown_kind(kind)),
        },
        (_, _, Some(_)) => Meaning::Unknown(wrong_version(api_version, kind)),
        (_, _, None) if group == GROUP => Meaning::Unknown(wrong_version(api_version, kind)),
        ("v1", "ConfigMap", _) => Meaning::ConfigMap,
        ("v1", "List", _) => Meaning::List,
        _ => Meaning::Foreign,
    }
}

fn wrong_version(api_version: &str, kind: &str) -> String {
    format!("apiVersion is {api_version:?}: for {kind} write {API_VERSION}")
}

fn unknown_kind(kind: &str) -> String {
    let records = RECORD_KINDS.iter().map(|row| row.name);
    let known: Vec<&str> = ["Bind9Instance", "DNSZone"].into_iter().chain(records).collect();
    match known.iter().find(|known| known.eq_ignore_ascii_case(kind)) {
        Some(known) => format!("{kind} is no kind of {API_VERSION}: did you mean {known}?"),
        None => format!("{kind} is no kind of {API_VERSION}: there are {}", known.join(", ")),
    }
}

/// The model's name of a kind.
pub(crate) fn model_kind(kind: bindy_api::Kind) -> Kind {
    match kind {
        bindy_api::Kind::Bind9Instance => Kind::Instance,
        bindy_api::Kind::DNSZone => Kind::Zone,
        bindy_api::Kind::Record(kind) => Kind::Record(kind),
    }
}
