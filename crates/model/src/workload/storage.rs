//! The volumes of a StatefulSet: one a server, for the zones that it has.

use std::collections::BTreeMap;

use bindy_api::{Retention, Storage};
use k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::ObjectKind;
use super::containers::volumes;
use super::names::labels;
use super::quantity::same_quantity;
use crate::object::Instance;

/// The kind that makes the pods of an instance.
pub fn pods_kind(instance: &Instance) -> ObjectKind {
    if instance.pods.storage.is_some() { ObjectKind::StatefulSet } else { ObjectKind::Deployment }
}

/// What each server claims.
pub(super) fn claim(instance: &str, storage: &Storage) -> PersistentVolumeClaim {
    let modes = match storage.access_modes.as_slice() {
        [] => vec!["ReadWriteOnce".to_owned()],
        modes => modes.to_vec(),
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(volumes::DATA.to_owned()),
            labels: Some(labels(instance)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(storage.size.clone()))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// What becomes of claims that nobody uses any more.
pub(super) fn retention(storage: &Storage) -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    let word = |retention: Option<Retention>| match retention.unwrap_or_default() {
        Retention::Retain => Some("Retain".to_owned()),
        Retention::Delete => Some("Delete".to_owned()),
    };
    StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: word(storage.on_delete),
        when_scaled: word(storage.on_scale_down),
    }
}

/// The volumes of a StatefulSet are not those that are asked for, and cannot be made so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the volumes stay as they were made, {live}; {wanted} is asked for, and Kubernetes lets nobody change them. To have such \
     volumes remove spec.storage, wait until the instance is Ready, delete the PersistentVolumeClaims data-{name}-…, and set \
     spec.storage again"
)]
pub struct FixedVolumes {
    /// Name of the StatefulSet.
    pub name: String,
    /// What its volumes are.
    pub live: String,
    /// What they should be.
    pub wanted: String,
}

/// Gives a wanted StatefulSet the claims of the live one, so that everything else about it can be changed; `Some` when
/// other volumes are asked for.
pub fn keep_volumes(live: &Value, wanted: &mut Value) -> Option<FixedVolumes> {
    const CLAIMS: &str = "/spec/volumeClaimTemplates";
    let kept = live.pointer(CLAIMS)?;
    let claims = wanted.pointer_mut(CLAIMS)?;
    let asked = std::mem::replace(claims, kept.clone());
    let (had, asked) = (kept.get(0)?, asked.get(0)?);
    let size = |claim: &Value| claim.pointer("/spec/resources/requests/storage").cloned().unwrap_or_default();
    let rest = |claim: &Value| {
        ["/spec/storageClassName", "/spec/accessModes"].map(|field| claim.pointer(field).cloned())
    };
    let same = same_quantity(&size(had), &size(asked)) && rest(had) == rest(asked);
    let name = live.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    (!same).then(|| FixedVolumes { name, live: described(had), wanted: described(asked) })
}

/// Size, class and modes in words.
fn described(claim: &Value) -> String {
    let text = |pointer: &str| claim.pointer(pointer).and_then(Value::as_str);
    let modes = claim.pointer("/spec/accessModes").and_then(Value::as_array).into_iter().flatten();
    let modes: Vec<&str> = modes.filter_map(Value::as_str).collect();
    let class = match text("/spec/storageClassName") {
        None => "the cluster's class".to_owned(),
        Some(class) => format!("class {class:?}"),
    };
    let size = text("/spec/resources/requests/storage").unwrap_or("?");
    format!("{size} of {class}, {}", modes.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(size: &str, class: Option<&str>) -> Value {
        let storage = Storage {
            size: size.to_owned(),
            storage_class_name: class.map(str::to_owned),
            ..Storage::default()
        };
        json!({ "metadata": { "name": "dns" }, "spec": { "volumeClaimTemplates": [claim("dns", &storage)] } })
    }

    #[test]
    fn volumes_that_cannot_be_changed_are_kept_and_the_wish_is_answered() {
        let live = set("1Gi", None);
        let mut same = set("1024Mi", None);
        assert_eq!(keep_volumes(&live, &mut same), None);
        assert_eq!(same, live, "it is sent as it is there");
        for wanted in [set("2Gi", None), set("1Gi", Some("fast"))] {
            let mut sent = wanted.clone();
            let fixed = keep_volumes(&live, &mut sent).unwrap();
            assert_eq!(sent, live);
            assert_eq!(fixed.live, "1Gi of the cluster's class, ReadWriteOnce");
            assert_ne!(fixed.live, fixed.wanted);
        }
        let mut classless = set("1Gi", None);
        assert!(keep_volumes(&set("1Gi", Some("fast")), &mut classless).is_some());
        let mut first = set("1Gi", None);
        assert_eq!(keep_volumes(&json!({}), &mut first), None);
    }
}
