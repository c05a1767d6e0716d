//! The kinds of objects that are read, with their schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};

/// One kind.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: Arc<str>,
    /// The schema of the whole object, metadata apart.
    pub(crate) schema: JSONSchemaProps,
}

/// Every kind that is read: those of the custom resource definitions, and ConfigMap.
#[derive(Debug)]
pub struct Kinds {
    /// `group/version` of the custom resources.
    api_version: String,
    custom: BTreeMap<String, Kind>,
    config_map: Kind,
}

/// What a manifest's `apiVersion` and `kind` stand for.
pub(crate) enum Meaning<'a> {
    Known(&'a Kind),
    List,
    /// Somebody else's kind.
    Foreign,
    /// A mistake, with the message about it.
    Unknown(String),
}

impl Kinds {
    /// The kinds of these definitions, which are all of one group and version.
    pub fn new(definitions: impl IntoIterator<Item = CustomResourceDefinition>) -> Self {
        let mut api_version = String::new();
        let mut custom = BTreeMap::new();
        for definition in definitions {
            let Some(version) = definition.spec.versions.into_iter().find(|version| version.storage) else {
                continue;
            };
            api_version = format!("{}/{}", definition.spec.group, version.name);
            let schema = version.schema.and_then(|schema| schema.open_api_v3_schema).unwrap_or_default();
            let name = definition.spec.names.kind;
            custom.insert(name.clone(), Kind { name: name.into(), schema });
        }
        Self { api_version, custom, config_map: config_map() }
    }

    pub(crate) fn meaning(&self, api_version: &str, kind: &str) -> Meaning<'_> {
        if api_version == self.api_version {
            return match self.custom.get(kind) {
                Some(kind) => Meaning::Known(kind),
                None if kind.strip_suffix("List").is_some_and(|item| self.custom.contains_key(item)) => {
                    Meaning::List
                }
                None => Meaning::Unknown(self.unknown_kind(kind)),
            };
        }
        let group = |version: &str| version.split('/').next().unwrap_or_default().to_owned();
        if self.custom.contains_key(kind) || group(api_version) == group(&self.api_version) {
            let wanted = &self.api_version;
            return Meaning::Unknown(format!(
                "apiVersion is {api_version:?}; for {kind} it has to be {wanted}"
            ));
        }
        match (api_version, kind) {
            ("v1", "ConfigMap") => Meaning::Known(&self.config_map),
            ("v1", "List") => Meaning::List,
            _ => Meaning::Foreign,
        }
    }

    fn unknown_kind(&self, kind: &str) -> String {
        let known = || self.custom.keys().map(String::as_str);
        match super::schema::closest(kind, known()) {
            Some(other) => format!("{kind} is no kind of {}: did you mean {other}?", self.api_version),
            None => {
                let known: Vec<&str> = known().collect();
                format!("{kind} is no kind of {}: there are {}", self.api_version, known.join(", "))
            }
        }
    }
}

fn config_map() -> Kind {
    let texts = || {
        let text = JSONSchemaProps { type_: Some("string".to_owned()), ..Default::default() };
        JSONSchemaProps {
            type_: Some("object".to_owned()),
            additional_properties: Some(
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrBool::Schema(
                    Box::new(text),
                ),
            ),
            ..Default::default()
        }
    };
    let boolean = JSONSchemaProps { type_: Some("boolean".to_owned()), ..Default::default() };
    let properties = [("data", texts()), ("binaryData", texts()), ("immutable", boolean)];
    let schema = JSONSchemaProps {
        type_: Some("object".to_owned()),
        properties: Some(properties.map(|(name, schema)| (name.to_owned(), schema)).into()),
        ..Default::default()
    };
    Kind { name: "ConfigMap".into(), schema }
}
