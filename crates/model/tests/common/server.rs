//! Servers of a simulation.

use std::collections::BTreeMap;

use bindy_model::{Answer, Answered, Ask, ServerId, ServerState};
use bindy_zone::{Catalog, Name, Rcode, Version};

use super::key;

/// A server, and the versions that it has.
pub struct Server {
    pub state: ServerState,
    pub zones: BTreeMap<Name, Version>,
}

/// Two servers of the instance `primary` and one of `secondary`, which have nothing yet.
pub fn servers() -> Vec<Server> {
    let server = |(n, instance): (usize, &str)| Server {
        state: ServerState {
            id: ServerId { instance: key(instance), name: n.to_string() },
            incarnation: 1,
            ready: true,
            going: false,
        },
        zones: BTreeMap::new(),
    };
    ["primary", "primary", "secondary"].into_iter().enumerate().map(server).collect()
}

impl Server {
    /// What named and its agent do: the catalog first, then its members, never backwards.
    pub fn transfer(&mut self, published: &BTreeMap<Name, Version>) {
        let instance = &self.state.id.instance;
        let catalog = Catalog::name(&instance.namespace, &instance.name).unwrap();
        let mut wanted = vec![catalog.clone()];
        if let Some(version) = published.get(&catalog) {
            wanted.extend(Catalog::members(&version.content));
        }
        for name in wanted {
            let Some(version) = published.get(&name) else { continue };
            if self.zones.get(&name).is_none_or(|old| version.serial.is_after(old.serial)) {
                self.zones.insert(name, version.clone());
            }
        }
    }
}

/// What a server with this version answers.
pub fn answer(version: &Version, ask: &Ask) -> Answer {
    let Ask::Records(questions) = ask else { return Answer::Serial(version.serial) };
    let content = &version.content;
    let wrong = questions.iter().find_map(|question| {
        let owner = question.name.relative_to(content.apex())?;
        let rrset = content.get(&owner).and_then(|rrsets| rrsets.get(question.rtype));
        let records = rrset.map(|set| set.rdatas().map(|rdata| (set.ttl().get(), rdata.into())).collect());
        let exists = owner.is_apex() || content.within(&owner).next().is_some();
        let rcode = if exists { Rcode::NOERROR } else { Rcode::NXDOMAIN };
        let answered = Answered { rcode, authoritative: true, records: records.unwrap_or_default() };
        question.check(&answered).err()
    });
    wrong.map_or(Answer::Proven, Answer::Failure)
}
