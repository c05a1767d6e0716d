//! What the servers of a zone are asked for besides its serial: a sample of what its last version changed.

use bindy_zone::{Content, Name};

use super::Core;
use crate::object::NamespacedName;
use crate::sample::{self, Question, RrSetName, SAMPLE};

/// The RRsets that show whether a server has the version of a zone.
#[derive(Default)]
pub(crate) struct Proof {
    /// The content that was published last in this run.
    shown: Option<Content>,
    /// What that changed; nothing when it is not known what was served before it.
    changed: Option<Vec<RrSetName>>,
}

impl Proof {
    /// A version with this content is published. `unproven`: some server was not seen to have the one before, so
    /// that its changes are still to be asked for, as far as there is room.
    fn published(&mut self, content: &Content, unproven: bool) {
        let before = self.changed.take();
        self.changed = match &self.shown {
            None => None,
            Some(shown) => {
                let mut changed = sample::changed(shown, content);
                let older = before.unwrap_or_else(|| sample::ends(content));
                for rrset in older.into_iter().filter(|_| unproven) {
                    if changed.len() < SAMPLE && !changed.contains(&rrset) {
                        changed.push(rrset);
                    }
                }
                Some(changed)
            }
        };
        self.shown = Some(content.clone());
    }
}

impl Core {
    /// A version of a zone is published: from now on its changes have to be proven.
    pub(super) fn note_changes(&mut self, key: &NamespacedName, apex: &Name) {
        let Some(zone) = self.zones.get_mut(&(key.clone(), apex.clone())) else { return };
        let mut carrying =
            self.servers.values().filter(|server| zone.carriers.contains(&server.state.id.instance));
        let unproven = carrying.any(|server| !server.has(apex));
        if let Some(served) = zone.publication.served() {
            zone.proof.published(&served.content, unproven);
        }
    }

    /// What a server of `instance` has to answer to show that it has the version of `apex`. Catalogs need no proof:
    /// their members are asked for by themselves.
    pub(super) fn questions(&self, apex: &Name, instance: &NamespacedName) -> Vec<Question> {
        let zones =
            self.world.zones_named(apex).filter_map(|key| self.zones.get(&(key.clone(), apex.clone())));
        let Some(zone) = zones.into_iter().find(|zone| zone.carriers.contains(instance)) else {
            return Vec::new();
        };
        let Some(served) = zone.publication.served() else { return Vec::new() };
        let foreign = |name: &Name| {
            self.serials.contains_key(name)
                || self.orphans.contains_key(name)
                || self.world.zones_named(name).next().is_some()
        };
        match &zone.proof.changed {
            Some(changed) => sample::questions(&served.content, changed, foreign),
            None => sample::questions(&served.content, &sample::ends(&served.content), foreign),
        }
    }
}
