//! JSON patches (RFC 6902) as the client sends them.

use kube::api::Patch;
use serde_json::Value;

/// A patch of these operations.
pub(crate) fn json_patch(operations: Vec<Value>) -> Result<Patch<()>, kube::Error> {
    serde_json::from_value(Value::Array(operations)).map(Patch::Json).map_err(kube::Error::SerdeError)
}
