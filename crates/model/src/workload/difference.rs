//! Whether a live object already is as it should be.
//!
//! Everything that is wanted has to be there; what the API server or others add beside it stays. Fields that were wanted
//! once and are not any more show by the hash in [`APPLIED_ANNOTATION`](super::APPLIED_ANNOTATION).

use serde_json::{Map, Value};

use super::quantity::same_quantity;

/// Lists whose entries are found by a key; entries of others are left alone. (Elsewhere the order counts.)
const KEYED: &[(&str, &[&str])] = &[
    ("ownerReferences", &["uid"]),
    ("initContainers", &["name"]),
    ("containers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("volumeMounts", &["mountPath"]),
];
/// Maps that have no room for anything else: one more entry changes what they mean.
const WHOLE: &[&str] = &["selector", "matchLabels", "nodeSelector"];
/// Fields that the API server leaves out when they are false.
const FALSE_WHEN_ABSENT: &[&str] = &["publishNotReadyAddresses"];
/// Maps of quantities, and fields that are one.
const QUANTITIES: &[&str] = &["requests", "limits", "sizeLimit"];

/// The first field of `live` that is not as in `desired`; `None` when nothing has to be done.
pub fn difference(live: &Value, desired: &Value) -> Option<String> {
    let (Value::Object(live), Value::Object(desired)) = (live, desired) else { return Some(String::new()) };
    let wanted = desired.iter().filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind"));
    wanted.into_iter().find_map(|(name, wanted)| field(live.get(name), wanted, name, name))
}

fn field(live: Option<&Value>, wanted: &Value, name: &str, path: &str) -> Option<String> {
    let differs = || Some(path.to_owned());
    match (live, wanted) {
        (None, Value::Bool(false)) if FALSE_WHEN_ABSENT.contains(&name) => None,
        (None, _) => differs(),
        (Some(Value::Object(live)), Value::Object(wanted)) => object(live, wanted, name, path),
        (Some(Value::Array(live)), Value::Array(wanted)) => list(live, wanted, name, path),
        (Some(live), wanted) if live == wanted => None,
        (Some(live), wanted) => {
            let quantity = QUANTITIES.contains(&name) && same_quantity(live, wanted);
            if quantity { None } else { differs() }
        }
    }
}

fn object(live: &Map<String, Value>, wanted: &Map<String, Value>, name: &str, path: &str) -> Option<String> {
    if WHOLE.contains(&name) && live.len() != wanted.len() {
        return Some(path.to_owned());
    }
    let quantities = QUANTITIES.contains(&name);
    wanted.iter().find_map(|(key, value)| {
        let name = if quantities { name } else { key };
        field(live.get(key), value, name, &format!("{path}.{key}"))
    })
}

fn list(live: &[Value], wanted: &[Value], name: &str, path: &str) -> Option<String> {
    let Some((_, keys)) = KEYED.iter().find(|(list, _)| *list == name) else {
        if live.len() != wanted.len() {
            return Some(path.to_owned());
        }
        let pairs = live.iter().zip(wanted).enumerate();
        return pairs
            .into_iter()
            .find_map(|(index, (live, wanted))| field(Some(live), wanted, "", &format!("{path}[{index}]")));
    };
    wanted.iter().find_map(|wanted| {
        let same = |live: &&Value| keys.iter().all(|key| live.get(key) == wanted.get(key));
        let shown: Vec<&str> =
            keys.iter().filter_map(|key| wanted.get(key).and_then(Value::as_str)).collect();
        field(live.iter().find(same), wanted, "", &format!("{path}[{}]", shown.join(",")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_add_is_no_difference() {
        let wanted = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let live = json!({
            "metadata": {"labels": {"a": "1", "b": "2"}, "uid": "u"},
            "spec": {"containers": [{"name": "other"}, {"name": "c", "image": "i", "imagePullPolicy": "Always"}]},
            "status": {},
        });
        assert_eq!(difference(&live, &wanted), None);
    }

    #[test]
    fn what_others_change_or_remove_is_one() {
        let wanted = json!({"spec": {
            "selector": {"a": "1"}, "ports": [{"port": 53}], "containers": [{"name": "c", "image": "i"}]}});
        for (live, path) in [
            (
                json!({"selector": {"a": "1", "b": "2"}, "ports": [{"port": 53}], "containers": [{"name": "c", "image": "i"}]}),
                "spec.selector",
            ),
            (
                json!({"selector": {"a": "1"}, "ports": [{"port": 53}, {"port": 54}], "containers": [{"name": "c", "image": "i"}]}),
                "spec.ports",
            ),
            (
                json!({"selector": {"a": "1"}, "ports": [{"port": 53}], "containers": [{"name": "c", "image": "x"}]}),
                "spec.containers[c].image",
            ),
            (
                json!({"selector": {"a": "1"}, "ports": [{"port": 53}], "containers": []}),
                "spec.containers[c]",
            ),
            (json!({"selector": {"a": "1"}, "containers": [{"name": "c", "image": "i"}]}), "spec.ports"),
        ] {
            assert_eq!(difference(&json!({ "spec": live }), &wanted).as_deref(), Some(path));
        }
    }

    #[test]
    fn quantities_are_compared_by_what_they_mean() {
        let wanted = json!({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}});
        let live = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu, "memory": "1Gi"}}});
        assert_eq!(difference(&live("1"), &wanted), None);
        assert_eq!(difference(&live("2"), &wanted).as_deref(), Some("resources.limits.cpu"));
    }
}
