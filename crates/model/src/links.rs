//! Where each instance's servers get zones from, and whose key opens that door; the same for pods and local processes.

use std::collections::BTreeSet;

use crate::agent_conf::SourceKind;
use crate::fleet::Fleet;
use crate::object::NamespacedName;

/// One way by which zones come to the servers of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What is at the other end, seen from the servers.
    pub kind: SourceKind,
    /// Who is there.
    pub origin: Origin,
    /// The key that signs requests.
    pub key: LinkKey,
}

/// Who gives zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The hidden primary.
    Operator,
    /// The servers of that instance.
    Instance(NamespacedName),
}

/// Which key a request is signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKey {
    /// The instance's own.
    Own,
    /// The one derived for this instance from that upstream's key.
    AtUpstream(NamespacedName),
    /// The one derived for that downstream from this instance's own.
    OfDownstream(NamespacedName),
}

impl Fleet {
    /// The links of an instance, in the order in which the servers prefer them; those to its own servers included.
    pub fn links(&self, key: &NamespacedName) -> Vec<Link> {
        let upstreams = self.upstreams(key);
        // The first tier has no other upstream.
        let operator = if upstreams.is_empty() { SourceKind::Upstream } else { SourceKind::Operator };
        let mut links: Vec<Link> = upstreams
            .into_iter()
            .map(|upstream| Link {
                kind: SourceKind::Upstream,
                origin: Origin::Instance(upstream.clone()),
                key: LinkKey::AtUpstream(upstream),
            })
            .collect();
        links.push(Link {
            kind: SourceKind::Sibling,
            origin: Origin::Instance(key.clone()),
            key: LinkKey::Own,
        });
        links.push(Link { kind: operator, origin: Origin::Operator, key: LinkKey::Own });
        // The last resort, when everything above is lost.
        links.extend(self.direct_downstreams(key).map(|downstream| Link {
            kind: SourceKind::Downstream,
            origin: Origin::Instance(downstream.clone()),
            key: LinkKey::OfDownstream(downstream),
        }));
        links
    }

    /// The instances whose servers an instance has to know the addresses of.
    pub fn neighbours(&self, key: &NamespacedName) -> BTreeSet<NamespacedName> {
        let links = self.links(key).into_iter();
        let instance = |link: Link| match link.origin {
            Origin::Operator => None,
            Origin::Instance(key) => Some(key),
        };
        links.filter_map(instance).collect()
    }

    fn direct_downstreams(&self, key: &NamespacedName) -> impl Iterator<Item = NamespacedName> {
        self.downstreams(key).into_iter().filter(|downstream| self.upstreams(downstream).contains(key))
    }
}
