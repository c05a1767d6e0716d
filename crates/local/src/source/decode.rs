//! From one document to the objects in it, and what is wrong with them.
//!
//! Lines are counted from the start of the document, so that a document that only moved within its file is the same.

use std::sync::Arc;

use bindy_model::{Kind, NamespacedName, Object, ObjectKey};
use k8s_openapi::api::core::v1::ConfigMap;

use super::documents::Document;
use super::kinds::{Meaning, meaning, model_kind};
use super::metadata;
use super::node::{Node, Position, Value};
use super::{Hash, hash};
use crate::status::Severity;

/// One object of a document.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) key: ObjectKey,
    /// Its first line, from the start of the document.
    pub(crate) line: u64,
    /// None if it cannot be used.
    pub(crate) usable: Option<Usable>,
}

/// An object that can be used.
#[derive(Clone, Debug)]
pub(crate) struct Usable {
    /// Without what the ledger knows of it.
    pub(crate) object: Arc<Object>,
    /// Of everything in it that matters.
    pub(crate) hash: Hash,
    /// Of its specification.
    pub(crate) spec: Hash,
}

/// Something wrong, at a position from the start of the document.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) at: Position,
    pub(crate) severity: Severity,
    pub(crate) reason: &'static str,
    pub(crate) object: Option<ObjectKey>,
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn error(at: Position, reason: &'static str, message: impl Into<String>) -> Self {
        Self { at, severity: Severity::Error, reason, object: None, message: message.into() }
    }
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
    fn hole(&mut self, finding: Finding) {
        self.has_hole = true;
        self.findings.push(finding);
    }
}

/// Reads one document.
pub(crate) fn decode(document: &Document<'_>) -> Decoded {
    let mut decoded = Decoded::default();
    match Node::parse(document.text, 1) {
        Ok(node) => decode_node(&node, &mut decoded),
        Err((at, message)) => {
            let message = format!(
                "this is no YAML: {message}; what was served of this file is kept until it is put right"
            );
            decoded.hole(Finding::error(at, "NotYaml", message));
        }
    }
    decoded
}

fn decode_node(node: &Node, decoded: &mut Decoded) {
    if !matches!(node.value, Value::Map(_)) {
        let message =
            format!("a manifest is a mapping with apiVersion, kind and metadata, not {}", node.describe());
        return decoded.hole(Finding::error(node.at, "NoObject", message));
    }
    let (Some(api_version), Some(kind)) = (node.text_of("apiVersion"), node.text_of("kind")) else {
        let missing = if node.text_of("kind").is_none() { "kind" } else { "apiVersion" };
        let message = format!("{missing} is missing: every manifest has apiVersion and kind");
        return decoded.hole(Finding::error(node.at, "NoObject", message));
    };
    match meaning(api_version, kind) {
        Meaning::Bindy(kind) => decode_object(node, model_kind(kind), decoded, |json, findings| {
            bindy_object(node, kind, json, findings)
        }),
        Meaning::ConfigMap if !is_zone_file(node) => decoded.findings.push(Finding {
            severity: Severity::Notice,
            ..Finding::error(
                node.at,
                "NoZoneFile",
                format!(
                    "this ConfigMap is not read: zones read their files from ConfigMaps with the label {}: \"true\"",
                    bindy_api::ZONE_FILE_LABEL
                ),
            )
        }),
        Meaning::ConfigMap => decode_object(node, Kind::ConfigMap, decoded, |json, findings| {
            config_map(node, json, findings)
        }),
        Meaning::List => decode_list(node, decoded),
        Meaning::Unknown(message) => decoded.hole(Finding::error(node.at, "UnknownKind", message)),
        Meaning::Foreign => {
            let message =
                format!("{kind} of {api_version} is ignored: embedded mode reads Bindy's kinds and ConfigMaps");
            let finding = Finding::error(node.at, "OtherKind", message);
            decoded.findings.push(Finding { severity: Severity::Notice, ..finding });
        }
    }
}

fn decode_list(node: &Node, decoded: &mut Decoded) {
    match node.get("items") {
        Some(Node { value: Value::List(items), .. }) => {
            for item in items {
                decode_node(item, decoded);
            }
        }
        other => {
            let at = other.map_or(node.at, |items| items.at);
            decoded.hole(Finding::error(at, "NoObject", "items of a List has to be a list of objects"));
        }
    }
}

/// Labels decide whether a ConfigMap is read at all, as in a cluster, where others are not watched.
fn is_zone_file(node: &Node) -> bool {
    let labels = node.get("metadata").and_then(|metadata| metadata.get("labels"));
    labels.and_then(|labels| labels.text_of(bindy_api::ZONE_FILE_LABEL)) == Some("true")
}

fn decode_object(
    node: &Node,
    kind: Kind,
    decoded: &mut Decoded,
    convert: impl FnOnce(serde_json::Value, &mut Vec<Finding>) -> Option<Object>,
) {
    let (namespace, name) = match metadata::read_key(node) {
        Ok(key) => key,
        Err(finding) => return decoded.hole(finding),
    };
    let key = ObjectKey { kind, key: NamespacedName::new(namespace, name) };
    let mut findings = Vec::new();
    metadata::check(node, &mut findings);
    let json = to_json(node, &key);
    let hash_of =
        |json: Option<&serde_json::Value>| hash(&json.map(serde_json::Value::to_string).unwrap_or_default());
    let (whole, spec) = (hash_of(Some(&json)), hash_of(json.get("spec").or_else(|| json.get("data"))));
    let object = convert(json, &mut findings).filter(|_| findings.is_empty());
    let about_it = |finding| Finding { object: Some(key.clone()), ..finding };
    decoded.findings.extend(findings.into_iter().map(about_it));
    let usable = object.map(|object| Usable { object: Arc::new(object), hash: whole, spec });
    decoded.items.push(Item { key, line: node.at.line, usable });
}

fn bindy_object(
    node: &Node,
    kind: bindy_api::Kind,
    json: serde_json::Value,
    findings: &mut Vec<Finding>,
) -> Option<Object> {
    let mut all = bindy_api::check(kind, &json);
    // A misspelt field explains the missing one.
    all.sort_by_key(|found| found.severity);
    for found in all {
        // `kubectl apply` refuses a field that nobody knows, too, rather than to apply half of what was meant.
        let reason =
            if found.severity == bindy_api::Severity::Warning { "UnknownField" } else { "InvalidField" };
        let message = format!("{} {}", found.path, found.message);
        findings.push(Finding::error(node.locate(&found.path), reason, message));
    }
    if !findings.is_empty() {
        return None;
    }
    let decoded = bindy_api::Object::decode(json).map_err(|error| error.to_string());
    take(decoded.and_then(|object| bindy_model::decode(&object)), node, findings)
}

fn config_map(node: &Node, json: serde_json::Value, findings: &mut Vec<Finding>) -> Option<Object> {
    let decoded: Result<ConfigMap, String> = serde_json::from_value(json).map_err(|error| error.to_string());
    take(decoded.and_then(|map| bindy_model::decode_config_map(&map)), node, findings)
}

fn take(decoded: Result<Object, String>, node: &Node, findings: &mut Vec<Finding>) -> Option<Object> {
    decoded
        .map_err(|message| {
            let path = message.split(':').next().unwrap_or_default();
            findings.push(Finding::error(node.locate(path), "InvalidField", message.clone()));
        })
        .ok()
}

/// The object without what a cluster has said about it (status, managed fields), its namespace filled in.
fn to_json(node: &Node, key: &ObjectKey) -> serde_json::Value {
    let mut json = node.to_json();
    if let Some(object) = json.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            let kept = ["name", "labels", "annotations"];
            metadata.retain(|name, value| kept.contains(&name.as_str()) && !value.is_null());
            metadata.insert("namespace".to_owned(), key.key.namespace.clone().into());
        }
    }
    json
}
