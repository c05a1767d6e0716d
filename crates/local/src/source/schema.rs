//! Checks an object against the structural schema of its kind, as the API server does, but on the tree with positions:
//! every fault is found in one pass, and each says where it is and how to put it right.
//!
//! Rules in CEL are not run: what they say is checked by the model too, on the object itself.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::node::{Node, Position, Value};

/// One thing wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Position,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Checks `node`, which is the field `path` of its object, and adds what is wrong with it to `faults`.
pub(crate) fn check(node: &Node, schema: &JSONSchemaProps, path: &str, faults: &mut Vec<Fault>) {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    if !type_fits(node, schema) {
        let nullable = schema.nullable == Some(true) && matches!(node.value, Value::Null);
        if !nullable {
            faults.push(wrong_type(node, schema, path));
        }
        return;
    }
    match &node.value {
        Value::Map(_) => check_map(node, schema, path, faults),
        Value::List(items) => check_list(node, items, schema, path, faults),
        Value::Text(text) => check_text(node, text, schema, path, faults),
        Value::Number(number) => check_number(node, number, schema, path, faults),
        Value::Null | Value::Bool(_) => {}
    }
}

fn type_fits(node: &Node, schema: &JSONSchemaProps) -> bool {
    if schema.x_kubernetes_int_or_string == Some(true) {
        return matches!(&node.value, Value::Text(_))
            || matches!(&node.value, Value::Number(n) if n.is_i64());
    }
    match (schema.type_.as_deref(), &node.value) {
        (None, _)
        | (Some("object"), Value::Map(_))
        | (Some("array"), Value::List(_))
        | (Some("string"), Value::Text(_))
        | (Some("boolean"), Value::Bool(_))
        | (Some("number"), Value::Number(_)) => true,
        (Some("integer"), Value::Number(number)) => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

fn wrong_type(node: &Node, schema: &JSONSchemaProps, path: &str) -> Fault {
    let wanted = match schema.type_.as_deref() {
        Some("object") => "a mapping",
        Some("array") => "a list",
        Some("string") => "a text",
        Some("boolean") => "true or false",
        Some("integer") => "a whole number",
        _ => "a number",
    };
    let hint = match (schema.type_.as_deref(), &node.value) {
        (Some("string"), Value::Number(_) | Value::Bool(_)) => ": put it in quotation marks",
        (Some("array"), Value::Text(_) | Value::Number(_) | Value::Map(_)) => {
            ": put it in a list, `- ` before each item"
        }
        (Some("integer" | "boolean"), Value::Text(_)) => ": leave the quotation marks out",
        (_, Value::Null) => ": give a value, or leave the field out",
        _ => "",
    };
    let message = format!("{path} has to be {wanted}, not {}{hint}", node.describe());
    Fault { at: node.at, reason: "WrongType", message }
}

fn check_map(node: &Node, schema: &JSONSchemaProps, path: &str, faults: &mut Vec<Fault>) {
    let empty = std::collections::BTreeMap::new();
    let properties = schema.properties.as_ref().unwrap_or(&empty);
    let others = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(schema.as_ref()),
        _ => None,
    };
    for field in node.fields() {
        let below = format!("{path}.{}", field.name);
        match properties.get(&field.name).or(others) {
            Some(schema) => check(&field.node, schema, &below, faults),
            None if properties.is_empty() => {}
            None => faults.push(Fault {
                at: field.at,
                reason: "UnknownField",
                message: unknown_field(&below, &field.name, properties.keys().map(String::as_str)),
            }),
        }
    }
    for name in schema.required.iter().flatten().filter(|name| node.get(name).is_none()) {
        let message = format!("{path}.{name} is missing: it has no default");
        faults.push(Fault { at: node.at, reason: "MissingField", message });
    }
}

fn check_list(node: &Node, items: &[Node], schema: &JSONSchemaProps, path: &str, faults: &mut Vec<Fault>) {
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(least) = schema.min_items.filter(|least| count < *least) {
        let message = format!("{path} has {count} items and needs at least {least}");
        faults.push(Fault { at: node.at, reason: "InvalidValue", message });
    }
    if let Some(most) = schema.max_items.filter(|most| count > *most) {
        let message = format!("{path} has {count} items; at most {most} are allowed");
        faults.push(Fault { at: node.at, reason: "InvalidValue", message });
    }
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(item, schema, &format!("{path}[{index}]"), faults);
        }
    }
}

fn check_text(node: &Node, text: &str, schema: &JSONSchemaProps, path: &str, faults: &mut Vec<Fault>) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let mut add = |message| faults.push(Fault { at: node.at, reason: "InvalidValue", message });
    if let Some(values) = &schema.enum_ {
        let allowed: Vec<&str> = values.iter().filter_map(|value| value.0.as_str()).collect();
        if !allowed.contains(&text) {
            add(format!("{path} is {text:?}; it has to be one of {}", allowed.join(", ")));
        }
    }
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        add(format!("{path} has {length} characters; at most {most} are allowed"));
    }
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        add(format!("{path} has {length} characters and needs at least {least}"));
    }
}

fn check_number(
    node: &Node,
    number: &serde_json::Number,
    schema: &JSONSchemaProps,
    path: &str,
    faults: &mut Vec<Fault>,
) {
    let Some(value) = number.as_f64() else { return };
    let low = schema.minimum.filter(|low| value < *low);
    let high = schema.maximum.filter(|high| value > *high);
    let message = match (low, high) {
        (Some(low), _) => format!("{path} is {number}; it has to be at least {low}"),
        (_, Some(high)) => format!("{path} is {number}; it may be at most {high}"),
        _ => return,
    };
    faults.push(Fault { at: node.at, reason: "InvalidValue", message });
}

/// The message about a field that nobody knows, with the known one that is closest to it.
pub(crate) fn unknown_field<'a>(
    path: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    match closest(name, known.clone()) {
        Some(other) => format!("{path} is no known field: did you mean {other}?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("{path} is no known field: remove it; known here are {}", known.join(", "))
        }
    }
}

/// The one of `known` that takes the fewest changes from `name`, if they are few for its length.
pub(crate) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let (distance, best) = known.map(|other| (distance(&wanted, &other.to_lowercase()), other)).min()?;
    (distance <= name.len().max(3) / 3).then_some(best)
}

/// Levenshtein's distance with transpositions of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&next, j) + 1).min(at(&row, j + 1) + 1).min(at(&row, j) + usize::from(x != y));
            if j > 0 && last == Some(y) && b.get(j - 1) == Some(&x) && x != y {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(x);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> JSONSchemaProps {
        serde_json::from_value(serde_json::json!({
            "type": "object", "required": ["name"],
            "properties": {
                "name": {"type": "string", "maxLength": 5},
                "ttl": {"type": "integer", "minimum": 0, "maximum": 100},
                "role": {"type": "string", "enum": ["primary", "secondary"]},
                "addresses": {"type": "array", "minItems": 1, "items": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "paused": {"type": "boolean", "nullable": true},
            },
        }))
        .unwrap()
    }

    fn faults(text: &str) -> Vec<(u64, u64, String)> {
        let mut faults = Vec::new();
        check(&Node::parse(text, 1).unwrap(), &schema(), "spec", &mut faults);
        faults.into_iter().map(|fault| (fault.at.line, fault.at.column, fault.message)).collect()
    }

    #[test]
    fn a_good_object_has_no_faults() {
        assert_eq!(
            faults("name: www\nttl: 60\naddresses: [a]\nlabels: {a: b}\npaused: null\nrole: primary\n"),
            []
        );
    }

    #[test]
    fn every_fault_is_found_in_one_pass() {
        let found = faults("ttl: 101\nadresses: [a]\nrole: boss\naddresses: [1]\nlabels: {a: true}\n");
        let expected = [
            (1, 6, "spec.ttl is 101; it may be at most 100"),
            (2, 1, "spec.adresses is no known field: did you mean addresses?"),
            (3, 7, "spec.role is \"boss\"; it has to be one of primary, secondary"),
            (4, 13, "spec.addresses[0] has to be a text, not the number 1: put it in quotation marks"),
            (5, 13, "spec.labels.a has to be a text, not the boolean true: put it in quotation marks"),
            (1, 1, "spec.name is missing: it has no default"),
        ];
        assert_eq!(found, expected.map(|(line, column, message)| (line, column, message.to_owned())));
    }

    #[test]
    fn lists_and_texts_have_their_limits() {
        assert_eq!(faults("name: too long\naddresses: []\n").len(), 2);
        assert!(faults("name: a\naddresses: x\n")[0].2.contains("in a list"));
    }

    #[test]
    fn the_closest_field_is_suggested_only_if_it_is_close() {
        let known = || ["zoneName", "ttl", "nameServers"].into_iter();
        assert_eq!(closest("zonename", known()), Some("zoneName"));
        assert_eq!(closest("tlt", known()), Some("ttl"));
        assert_eq!(closest("replicas", known()), None);
    }
}
