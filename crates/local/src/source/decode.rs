//! From one document to the objects in it, and what is wrong with them.
//!
//! Lines are counted from the start of the document, so that a document that only moved within its file is the same.

use std::sync::Arc;

use super::Key;
use super::documents::Document;
use super::kinds::{Kind, Kinds, Meaning};
use super::node::{Field, Node, Position, Value};
use super::schema::{self, Fault};
use crate::status::Severity;

/// The fields of an object's metadata, as in Kubernetes.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// One object of a document.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) key: Key,
    /// Its first line, from the start of the document.
    pub(crate) line: u64,
    /// Its JSON; none if it cannot be used.
    pub(crate) json: Option<Arc<str>>,
}

/// Something wrong, at a position from the start of the document.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) at: Position,
    pub(crate) severity: Severity,
    pub(crate) reason: &'static str,
    pub(crate) object: Option<Key>,
    pub(crate) message: String,
}

/// What a document holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) items: Vec<Item>,
    pub(crate) findings: Vec<Finding>,
    /// Something in it could not even be identified, so objects that it held before may still be in it.
    pub(crate) has_hole: bool,
}

impl Decoded {
    fn fault(&mut self, at: Position, reason: &'static str, message: String) {
        self.findings.push(Finding { at, severity: Severity::Error, reason, object: None, message });
    }

    fn hole(&mut self, at: Position, reason: &'static str, message: String) {
        self.has_hole = true;
        self.fault(at, reason, message);
    }
}

/// Reads one document.
pub(crate) fn decode(document: &Document<'_>, kinds: &Kinds) -> Decoded {
    let mut decoded = Decoded::default();
    match Node::parse(document.text, 1) {
        Ok(node) => decode_node(&node, kinds, &mut decoded),
        Err((at, message)) => decoded.hole(
            at,
            "NotYaml",
            format!("this is no YAML: {message}; what was served of this file is kept until it is put right"),
        ),
    }
    decoded
}

fn decode_node(node: &Node, kinds: &Kinds, decoded: &mut Decoded) {
    let Value::Map(fields) = &node.value else {
        let message =
            format!("a manifest is a mapping with apiVersion, kind and metadata, not {}", node.describe());
        return decoded.hole(node.at, "NoObject", message);
    };
    let (Some(api_version), Some(kind)) = (node.text_of("apiVersion"), node.text_of("kind")) else {
        let missing = if node.text_of("kind").is_none() { "kind" } else { "apiVersion" };
        return decoded.hole(
            node.at,
            "NoObject",
            format!("{missing} is missing: every manifest has apiVersion and kind"),
        );
    };
    match kinds.meaning(api_version, kind) {
        Meaning::Known(kind) => decode_object(node, fields, kind, decoded),
        Meaning::List => decode_list(node, kinds, decoded),
        Meaning::Unknown(message) => decoded.hole(node.at, "UnknownKind", message),
        Meaning::Foreign => decoded.findings.push(Finding {
            at: node.at,
            severity: Severity::Notice,
            reason: "OtherKind",
            object: None,
            message: format!(
                "{kind} of {api_version} is ignored: embedded mode reads Bindy's kinds and ConfigMaps"
            ),
        }),
    }
}

fn decode_list(node: &Node, kinds: &Kinds, decoded: &mut Decoded) {
    match node.get("items").map(|items| (&items.value, items.at)) {
        Some((Value::List(items), _)) => {
            for item in items {
                decode_node(item, kinds, decoded);
            }
        }
        other => {
            let at = other.map_or(node.at, |(_, at)| at);
            decoded.hole(at, "NoObject", "items of a List has to be a list of objects".to_owned());
        }
    }
}

fn decode_object(node: &Node, fields: &[Field], kind: &Kind, decoded: &mut Decoded) {
    let key = match read_key(node, kind) {
        Ok(key) => key,
        Err(fault) => return decoded.hole(fault.at, fault.reason, fault.message),
    };
    let mut faults = Vec::new();
    check_metadata(node, &mut faults);
    check_fields(node, fields, kind, &mut faults);
    let json = faults.is_empty().then(|| to_json(node, &key));
    decoded.findings.extend(faults.into_iter().map(|fault| Finding {
        at: fault.at,
        severity: Severity::Error,
        reason: fault.reason,
        object: Some(key.clone()),
        message: fault.message,
    }));
    decoded.items.push(Item { key, line: node.at.line, json });
}

fn read_key(node: &Node, kind: &Kind) -> Result<Key, Fault> {
    let fault = |at, message: &str| Fault { at, reason: "InvalidName", message: message.to_owned() };
    let metadata = node
        .get("metadata")
        .ok_or_else(|| fault(node.at, "metadata is missing: an object needs metadata.name"))?;
    let name = match metadata.get("name") {
        Some(Node { value: Value::Text(name), at }) if is_subdomain(name) => Ok((name, at)),
        Some(name) => Err(fault(
            name.at,
            &format!(
                "metadata.name is {}: a name has lower-case letters, digits, `-` and `.`, at most 253 of them, and \
                 begins and ends with a letter or digit",
                name.describe()
            ),
        )),
        None => Err(fault(metadata.at, "metadata.name is missing: every object needs one")),
    }?;
    let namespace = match metadata.get("namespace").map(|node| (&node.value, node)) {
        None | Some((Value::Null, _)) => "default",
        Some((Value::Text(namespace), _))
            if is_subdomain(namespace) && !namespace.contains('.') && namespace.len() < 64 =>
        {
            namespace
        }
        Some((_, other)) => {
            let message = format!(
                "metadata.namespace is {}: a namespace has at most 63 lower-case letters, digits and `-`",
                other.describe()
            );
            return Err(fault(other.at, &message));
        }
    };
    Ok(Key { kind: kind.name.clone(), namespace: namespace.into(), name: name.0.as_str().into() })
}

fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|octet| alphanumeric(octet) || octet == b'-')
            && label.bytes().next().is_some_and(alphanumeric)
            && label.bytes().last().is_some_and(alphanumeric)
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn check_metadata(node: &Node, faults: &mut Vec<Fault>) {
    for field in node.get("metadata").map(Node::fields).unwrap_or_default() {
        let path = format!("metadata.{}", field.name);
        if !METADATA.contains(&field.name.as_str()) {
            let message = schema::unknown_field(&path, &field.name, METADATA.into_iter());
            faults.push(Fault { at: field.at, reason: "UnknownField", message });
        } else if matches!(field.name.as_str(), "labels" | "annotations") {
            check_texts(&field.node, &path, faults);
        }
    }
}

fn check_texts(node: &Node, path: &str, faults: &mut Vec<Fault>) {
    match &node.value {
        Value::Null => {}
        Value::Map(fields) => {
            for field in fields.iter().filter(|field| !matches!(field.node.value, Value::Text(_))) {
                let message = format!(
                    "{path}.{} has to be a text, not {}: put it in quotation marks",
                    field.name,
                    field.node.describe()
                );
                faults.push(Fault { at: field.node.at, reason: "WrongType", message });
            }
        }
        _ => {
            let message = format!("{path} has to be a mapping of texts, not {}", node.describe());
            faults.push(Fault { at: node.at, reason: "WrongType", message });
        }
    }
}

fn check_fields(node: &Node, fields: &[Field], kind: &Kind, faults: &mut Vec<Fault>) {
    let common = ["apiVersion", "kind", "metadata", "status"];
    let properties = kind.schema.properties.iter().flatten();
    let known: Vec<&str> = common.into_iter().chain(properties.map(|(name, _)| name.as_str())).collect();
    for field in fields.iter().filter(|field| !common.contains(&field.name.as_str())) {
        match kind.schema.properties.as_ref().and_then(|properties| properties.get(&field.name)) {
            Some(schema) => schema::check(&field.node, schema, &field.name, faults),
            None => {
                let message = schema::unknown_field(&field.name, &field.name, known.iter().copied());
                faults.push(Fault { at: field.at, reason: "UnknownField", message });
            }
        }
    }
    for name in kind.schema.required.iter().flatten().filter(|name| node.get(name).is_none()) {
        faults.push(Fault { at: node.at, reason: "MissingField", message: format!("{name} is missing") });
    }
}

/// The object without what somebody else has said about it (status, managed fields), its namespace filled in.
fn to_json(node: &Node, key: &Key) -> Arc<str> {
    let mut json = node.to_json();
    if let Some(object) = json.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            let kept = ["name", "labels", "annotations"];
            metadata.retain(|name, value| kept.contains(&name.as_str()) && !value.is_null());
            metadata.insert("namespace".to_owned(), (&*key.namespace).into());
        }
    }
    json.to_string().into()
}
