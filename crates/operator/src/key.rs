//! The key under which the model knows an object.

use bindy_model::NamespacedName;
use kube::ResourceExt;

/// Namespace and name of an object of the API.
pub(crate) fn key_of(object: &impl ResourceExt) -> NamespacedName {
    NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any())
}
