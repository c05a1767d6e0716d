//! Where each instance's servers get zones from, and whose key opens that door; the same for pods and local processes.

use std::collections::BTreeSet;

use bindy_zone::Name;

use crate::agent_conf::SourceKind;
use crate::fleet::Fleet;
use crate::object::{NamespacedName, OutsideUpstream};

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
    /// A server outside of Bindy.
    Outside(OutsideUpstream),
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
    /// The one of that name, which somebody else made.
    Foreign(Name),
}

impl Link {
    /// The only zones that come by it; empty when it is not limited to any.
    pub fn zones(&self) -> BTreeSet<Name> {
        match &self.origin {
            Origin::Outside(upstream) => upstream.zones.clone(),
            Origin::Operator | Origin::Instance(_) => BTreeSet::new(),
        }
    }
}

impl Fleet {
    /// The links of an instance, in the order in which the servers prefer them; those to its own servers included.
    pub fn links(&self, key: &NamespacedName) -> Vec<Link> {
        let upstreams = self.upstreams(key);
        // The first tier has no other upstream.
        let operator = if upstreams.is_empty() { SourceKind::Upstream } else { SourceKind::Operator };
        let outside = self.get(key).into_iter().flat_map(|instance| &instance.outside);
        let mut links: Vec<Link> = outside
            .map(|upstream| Link {
                kind: SourceKind::Outside,
                origin: Origin::Outside(upstream.clone()),
                key: LinkKey::Foreign(upstream.key.clone()),
            })
            .collect();
        links.extend(upstreams.into_iter().map(|upstream| Link {
            kind: SourceKind::Upstream,
            origin: Origin::Instance(upstream.clone()),
            key: LinkKey::AtUpstream(upstream),
        }));
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
            Origin::Operator | Origin::Outside(_) => None,
            Origin::Instance(key) => Some(key),
        };
        links.filter_map(instance).collect()
    }

    fn direct_downstreams(&self, key: &NamespacedName) -> impl Iterator<Item = NamespacedName> {
        self.downstreams(key).into_iter().filter(|downstream| self.upstreams(downstream).contains(key))
    }
}
