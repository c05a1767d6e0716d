//! The part of a manifest that every object has: what it is called, its labels and annotations.

use super::decode::Finding;
use super::node::{Node, Value};

/// The fields of an object's metadata, as in Kubernetes.
const FIELDS: [&str; 15] = [
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

/// Namespace and name of an object.
pub(crate) fn read_key(node: &Node) -> Result<(&str, &str), Finding> {
    let wrong = |at, message: String| Finding::error(at, "InvalidName", message);
    let Some(metadata) = node.get("metadata") else {
        return Err(wrong(node.at, "metadata is missing: every object needs metadata.name".to_owned()));
    };
    let name = match metadata.get("name") {
        Some(Node { value: Value::Text(name), .. }) if is_subdomain(name) => name,
        Some(name) => {
            let message = format!(
                "metadata.name is {}: a name has lower-case letters, digits, `-` and `.`, at most 253 of them, and \
                 begins and ends with a letter or digit",
                name.describe()
            );
            return Err(wrong(name.at, message));
        }
        None => {
            return Err(wrong(metadata.at, "metadata.name is missing: every object needs one".to_owned()));
        }
    };
    let namespace = match metadata.get("namespace") {
        None | Some(Node { value: Value::Null, .. }) => "default",
        Some(Node { value: Value::Text(text), .. })
            if is_subdomain(text) && !text.contains('.') && text.len() < 64 =>
        {
            text
        }
        Some(other) => {
            let message = format!(
                "metadata.namespace is {}: a namespace has at most 63 lower-case letters, digits and `-`",
                other.describe()
            );
            return Err(wrong(other.at, message));
        }
    };
    Ok((namespace, name))
}

/// RFC 1123: what Kubernetes takes as a name.
fn is_subdomain(name: &str) -> bool {
    let alphanumeric = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
    let label = |label: &str| {
        label.bytes().all(|octet| alphanumeric(octet) || octet == b'-')
            && label.bytes().next().is_some_and(alphanumeric)
            && label.bytes().last().is_some_and(alphanumeric)
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Adds what is wrong with the metadata of `node`.
pub(crate) fn check(node: &Node, findings: &mut Vec<Finding>) {
    for field in node.get("metadata").map(Node::fields).unwrap_or_default() {
        if !FIELDS.contains(&field.name.as_str()) {
            let message =
                format!("metadata.{} is no field of metadata{}", field.name, suggestion(&field.name));
            findings.push(Finding::error(field.at, "UnknownField", message));
        } else if matches!(field.name.as_str(), "labels" | "annotations") {
            check_texts(&field.node, &field.name, findings);
        }
    }
}

/// Most misspelt are those that begin right.
fn suggestion(name: &str) -> String {
    let start: String = name.chars().take(3).flat_map(char::to_lowercase).collect();
    let near = FIELDS.iter().find(|field| field.to_lowercase().starts_with(&start));
    near.map_or_else(|| ": remove it".to_owned(), |near| format!("; did you mean {near:?}?"))
}

fn check_texts(node: &Node, field: &str, findings: &mut Vec<Finding>) {
    match &node.value {
        Value::Null => {}
        Value::Map(entries) => {
            for entry in entries.iter().filter(|entry| !matches!(entry.node.value, Value::Text(_))) {
                let message = format!(
                    "metadata.{field}.{} has to be a string, not {}: put it in quotation marks",
                    entry.name,
                    entry.node.describe()
                );
                findings.push(Finding::error(entry.node.at, "InvalidField", message));
            }
        }
        _ => {
            let message = format!("metadata.{field} has to be a mapping of strings, not {}", node.describe());
            findings.push(Finding::error(node.at, "InvalidField", message));
        }
    }
}
