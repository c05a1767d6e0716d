//! Checks a manifest against the schema of its kind, as the API server does on `kubectl apply`.
//!
//! Where there is no API server (a folder of manifests) this is what finds a misspelt field or a value out of range and
//! says where it is. It knows the keywords that our schemas use; CEL rules are the API server's, and whatever they
//! refuse is refused again when the object is put into a zone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::{Kind, crds};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The API server would accept the object and drop the field.
    Warning,
    /// The API server would refuse the object.
    Error,
}

/// Something in a manifest that its schema does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The field. Example: `spec.ipv4Addresses[1]`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything in `manifest` that the schema of `kind` does not allow; errors and warnings in the order of the fields.
#[must_use]
pub fn check(kind: Kind, manifest: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    if let Some(schema) = schemas().get(kind.name()) {
        findings.object(schema, manifest, "");
    }
    findings.0
}

fn schemas() -> &'static BTreeMap<String, Value> {
    static SCHEMAS: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let crds = crds().unwrap_or_default();
        crds.into_iter()
            .filter_map(|crd| {
                let mut version = crd.spec.versions.into_iter().next()?;
                let schema = version.schema.take()?.open_api_v3_schema?;
                Some((crd.spec.names.kind, serde_json::to_value(schema).ok()?))
            })
            .collect()
    })
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Error, path: path.to_owned(), message: message.into() });
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
        match (wanted, value) {
            ("object", Value::Object(_)) => self.object(schema, value, path),
            ("array", Value::Array(items)) => self.array(schema, items, path),
            ("string", Value::String(text)) => self.string(schema, text, path),
            ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {
                self.number(schema, number, path);
            }
            ("boolean", Value::Bool(_)) => {}
            ("", _) => {}
            _ => self.error(path, format!("must be {}, not {}", article(wanted), described(value))),
        }
    }

    fn object(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(fields) = value.as_object() else {
            return self.error(path, format!("must be an object, not {}", described(value)));
        };
        for required in
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if fields.get(required).is_none_or(Value::is_null) {
                self.error(&joined(path, required), "is required");
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let at_most = schema.get("maxProperties").and_then(Value::as_u64);
        if at_most.is_some_and(|limit| fields.len() as u64 > limit) {
            self.error(
                path,
                format!("has {} entries, at most {} are allowed", fields.len(), at_most.unwrap_or_default()),
            );
        }
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let path_of_field = joined(path, name);
            match (properties.and_then(|properties| properties.get(name)), others) {
                // The API server checks metadata by rules of its own.
                (schema, _) if path.is_empty() && name == "metadata" => self.metadata(schema, value),
                (Some(schema), _) | (None, Some(schema)) => self.value(schema, value, &path_of_field),
                (None, None) if path.is_empty() && matches!(name.as_str(), "apiVersion" | "kind") => {}
                (None, None) => self.0.push(Finding {
                    severity: Severity::Warning,
                    path: path_of_field,
                    message: unknown(name, properties),
                }),
            }
        }
    }

    fn metadata(&mut self, schema: Option<&Value>, metadata: &Value) {
        let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            if let Some(value) = metadata.get(name) {
                self.value(schema, value, &joined("metadata", name));
            }
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], path: &str) {
        let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
        let length = items.len() as u64;
        if let Some(least) = limit("minItems").filter(|least| length < *least) {
            self.error(
                path,
                format!("needs at least {least} {}", if least == 1 { "entry" } else { "entries" }),
            );
        }
        if let Some(most) = limit("maxItems").filter(|most| length > *most) {
            self.error(path, format!("has {length} entries, at most {most} are allowed"));
        }
        if let Some(schema) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(schema, item, &format!("{path}[{index}]"));
            }
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &str) {
        let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
        let length = text.chars().count() as u64;
        if limit("minLength").is_some_and(|least| length < least) {
            self.error(path, "must not be empty");
        }
        if let Some(most) = limit("maxLength").filter(|most| length > *most) {
            self.error(path, format!("has {length} characters, at most {most} are allowed"));
        }
        let choices: Vec<&str> = schema
            .get("enum")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !choices.is_empty() && !choices.contains(&text) {
            self.error(path, format!("is {text:?}, must be one of: {}", choices.join(", ")));
        }
        match schema.get("format").and_then(Value::as_str) {
            Some("ipv4") if text.parse::<Ipv4Addr>().is_err() => {
                self.error(path, format!("{text:?} is not an IPv4 address such as 192.0.2.1"));
            }
            Some("ipv6")
                if !text.parse::<Ipv6Addr>().is_ok_and(|address| address.to_ipv4_mapped().is_none()) =>
            {
                self.error(path, format!("{text:?} is not an IPv6 address such as 2001:db8::1"));
            }
            _ => {}
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, path: &str) {
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        let value = number.as_f64().unwrap_or_default();
        let below = limit("minimum").is_some_and(|least| value < least);
        let above = limit("maximum").is_some_and(|most| value > most);
        if below || above {
            let range = match (limit("minimum"), limit("maximum")) {
                (Some(least), Some(most)) => format!("between {least} and {most}"),
                (Some(least), None) => format!("at least {least}"),
                (None, Some(most)) => format!("at most {most}"),
                (None, None) => String::new(),
            };
            self.error(path, format!("is {number}, must be {range}"));
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn article(wanted: &str) -> String {
    let vowel = wanted.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {wanted}", if vowel { "an" } else { "a" })
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value} (quote it to make it a string)"),
        Value::Number(value) => format!("the number {value} (quote it to make it a string)"),
        Value::String(value) => format!("the string {value:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn unknown(name: &str, properties: Option<&Map<String, Value>>) -> String {
    let known = properties.into_iter().flat_map(Map::keys);
    match known.map(|known| (distance(name, known), known)).min().filter(|(distance, _)| *distance <= 3) {
        Some((_, known)) => format!("is no field of this object; did you mean {known:?}?"),
        None => "is no field of this object".to_owned(),
    }
}

/// Levenshtein distance, without regard to case.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.to_lowercase().chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(index + 1);
        for (pair, known) in row.windows(2).zip(&other) {
            let (above_left, above) = match pair {
                [above_left, above] => (*above_left, *above),
                _ => return usize::MAX,
            };
            let left = next.last().copied().unwrap_or_default();
            next.push((above_left + usize::from(letter != *known)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
