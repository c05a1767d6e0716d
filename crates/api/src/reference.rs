//! The reference of all kinds, fields and reasons, as one page of Markdown.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
pub(crate) fn markdown(_crds: &[CustomResourceDefinition]) -> String {
    String::new()
}
