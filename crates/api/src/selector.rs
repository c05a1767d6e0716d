//! Label selectors, with the semantics of Kubernetes.
//!
//! An own type and not the one of `k8s-openapi`: it carries documentation and limits into the CRD, its operator is a
//! closed enum, and matching needs no parsing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Selects objects by their labels. All requirements must hold; a selector without any matches every object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that the object must have, each with exactly this value. Example: `{zone: example.com}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Requirements beyond equality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub match_expressions: Option<Vec<Requirement>>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new(
    "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0"
).message("In and NotIn need values; Exists and DoesNotExist take none"))]
pub struct Requirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label relates to `values`: `In`, `NotIn` (also true when the label is absent), `Exists` or `DoesNotExist`.
    pub operator: Operator,
    /// The values that `In` and `NotIn` compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Option<Vec<String>>,
}

/// The relation of a label to a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is present and its value is one of the list.
    In,
    /// The label is absent or its value is none of the list.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let equal = self.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
        equal && self.match_expressions.iter().flatten().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = || value.is_some_and(|value| self.values.iter().flatten().any(|listed| listed == value));
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn expression(operator: Operator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let requirement = Requirement { key: "env".to_owned(), operator, values: Some(values) };
        LabelSelector { match_labels: None, match_expressions: Some(vec![requirement]) }
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(LabelSelector::default().matches(&labels(&[])));
        assert!(LabelSelector::default().matches(&labels(&[("a", "b")])));
    }

    #[test]
    fn every_label_must_match() {
        let selector =
            LabelSelector { match_labels: Some(labels(&[("a", "1"), ("b", "2")])), match_expressions: None };
        assert!(selector.matches(&labels(&[("a", "1"), ("b", "2"), ("c", "3")])));
        assert!(!selector.matches(&labels(&[("a", "1")])));
        assert!(!selector.matches(&labels(&[("a", "1"), ("b", "3")])));
    }

    #[test]
    fn operators_follow_kubernetes() {
        let dev = labels(&[("env", "dev")]);
        let none = labels(&[]);
        assert!(expression(Operator::In, &["dev", "test"]).matches(&dev));
        assert!(!expression(Operator::In, &["dev"]).matches(&none));
        assert!(!expression(Operator::NotIn, &["dev"]).matches(&dev));
        assert!(expression(Operator::NotIn, &["dev"]).matches(&none), "an absent label is not in any list");
        assert!(expression(Operator::Exists, &[]).matches(&dev));
        assert!(!expression(Operator::Exists, &[]).matches(&none));
        assert!(expression(Operator::DoesNotExist, &[]).matches(&none));
        assert!(!expression(Operator::DoesNotExist, &[]).matches(&dev));
    }
}
