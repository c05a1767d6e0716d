//! From everything that is wanted of a zone to its content; only owner names that something changed at are visited.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use bindy_zone::{Content, Name, OwnerName, Rdata, RrSets, Rtype, Soa, Ttl};

use crate::claim::{Claim, resolve};
use crate::object::{Kind, NameServer, NamespacedName, SoaFields, ZoneFileRef};
use crate::record_data::{self, pointed_to};
use crate::record_table::{RecordId, RecordTable};
use crate::verdict::{Kept, Refusal, Verdict, ZoneProblem};
use crate::zone_state::{Dirty, FileFault, ZoneState};

/// TTL of records when neither they nor their zone has one, in seconds.
pub const DEFAULT_TTL: u32 = 3600;

/// How many left-out records of its zone files a zone is told.
const SHOWN_FILE_PROBLEMS: usize = 3;

/// An instance that serves a zone, for the zone's default name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingInstance {
    /// Its key.
    pub key: NamespacedName,
    /// Where its servers answer; empty until it was Ready for the first time.
    pub addresses: Vec<IpAddr>,
}

/// The result of compiling a zone.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What the zone should contain now.
    pub content: Content,
    /// Owner names that were compiled.
    pub visited: Vec<OwnerName>,
    /// The record objects at those names.
    pub touched: Vec<RecordId>,
    /// Whether records were lost to a relist rather than to deletions that were seen.
    pub relisted: bool,
    /// The lowest serial that the specification and its zone files allow.
    pub serial_floor: Option<u32>,
    /// What the DNSZone is told.
    pub problems: Vec<ZoneProblem>,
}

/// Who wants records at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Record(RecordId, String),
    File(ZoneFileRef),
    NameServers,
    Residue,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(_, shown) => f.write_str(shown),
            Self::File(file) => write!(f, "zone file {file}"),
            Self::NameServers => f.write_str("the zone's name servers"),
            Self::Residue => f.write_str("what was served before"),
        }
    }
}

/// A zone name server with its names resolved.
struct Server {
    name: Name,
    addresses: Vec<IpAddr>,
}

/// Compiles what is dirty in `zone`. `serving` are the instances that serve it.
pub(crate) fn compile(
    zone: &mut ZoneState,
    table: &RecordTable,
    serving: &[ServingInstance],
) -> Option<Compiled> {
    let apex = zone.apex.clone().ok()?;
    let (servers, mut problems) = name_servers(zone, &apex, serving);
    let soa = match soa(zone, &apex, &servers) {
        Ok(soa) => soa,
        Err((soa, problem)) => {
            problems.push(problem);
            soa
        }
    };
    let mut queue = match std::mem::replace(&mut zone.dirty, Dirty::none()) {
        Dirty::Everything => zone.wanted_names(table),
        Dirty::Names(names) => names,
    };
    let mut content = match zone.content.take() {
        Some(content) => content,
        None => Content::new(apex.clone(), soa.clone()),
    };
    content.set_soa(soa);
    let given: BTreeSet<OwnerName> = servers
        .iter()
        .filter_map(|server| server.name.relative_to(&apex))
        .chain([OwnerName::apex()])
        .collect();
    let addresses: Vec<(Name, Vec<IpAddr>)> =
        servers.iter().map(|server| (server.name.clone(), server.addresses.clone())).collect();
    if zone.servers != addresses {
        queue.extend(zone.servers.iter().filter_map(|(name, _)| name.relative_to(&apex)));
        queue.extend(given);
        zone.servers = addresses;
    }
    let mut compiler = Compiler { zone, table, apex: &apex, servers: &servers, content, touched: Vec::new() };
    let mut visited = Vec::new();
    // Names sort before everything below them, so a new delegation is known when its descendants are visited.
    while let Some(owner) = queue.pop_first() {
        queue.extend(compiler.visit(&owner));
        visited.push(owner);
    }
    let Compiler { content, touched, .. } = compiler;
    problems.extend(servers_without_address(zone, &servers, &content));
    problems.extend(file_problems(zone, &apex));
    zone.content = Some(content.clone());
    let relisted = std::mem::take(&mut zone.relisted);
    let serial_floor = serial_floor(zone);
    Some(Compiled { content, visited, touched, relisted, serial_floor, problems })
}

struct Compiler<'a> {
    zone: &'a mut ZoneState,
    table: &'a RecordTable,
    apex: &'a Name,
    servers: &'a [Server],
    content: Content,
    touched: Vec<RecordId>,
}

impl Compiler<'_> {
    /// Compiles one owner name and returns the names that have to be visited because of it.
    fn visit(&mut self, owner: &OwnerName) -> BTreeSet<OwnerName> {
        let mut told = Vec::new();
        let claims = self.claims(owner, &mut told);
        let delegates = !owner.is_apex() && claims.iter().any(|claim| claim.rtype == Rtype::NS);
        let cut = delegates.then(|| owner.in_zone(self.apex));
        let resolution = resolve(claims, cut.as_ref());
        told.extend(resolution.verdicts);
        let (mut verdicts, mut refused) = (Vec::new(), Vec::new());
        for (source, verdict) in told {
            match (source, verdict) {
                (Source::Record(id, _), verdict) => verdicts.push((id, verdict)),
                (Source::File(file), Verdict::Refused(refusal)) => refused.push((file, refusal)),
                _ => {}
            }
        }
        self.zone.file_refusals.remove(owner);
        if !refused.is_empty() {
            self.zone.file_refusals.insert(owner.clone(), refused);
        }
        let mut again = self.note_servers(owner, &resolution.rrsets);
        let was_cut = self.cut_at(owner);
        self.content.set(owner.clone(), resolution.rrsets.clone());
        self.tell(verdicts, &resolution.rrsets);
        if was_cut != self.cut_at(owner) {
            let served = self.content.within(owner).map(|(below, _)| below.clone());
            let hidden =
                self.zone.occluded.range(owner.clone()..).take_while(|below| below.is_within(owner)).cloned();
            again.extend(served.chain(hidden).filter(|below| below != owner));
        }
        again
    }

    /// What is wanted at `owner`, the oldest first; refusals go to `told`.
    fn claims(&mut self, owner: &OwnerName, told: &mut Vec<(Source, Verdict)>) -> Vec<Claim<Source>> {
        let mut ids: Vec<RecordId> = self.zone.members_at(self.table, owner).collect();
        self.touched.extend(&ids);
        ids.sort_by_cached_key(|id| {
            self.table.get(*id).map(|stored| (stored.created, self.table.key(stored), stored.data.kind()))
        });
        let several = ids.len() > 1 || !self.zone.files.is_empty();
        let zone_created = self.zone.spec.metadata.created;
        let mut claims: Vec<(u32, Claim<Source>)> = Vec::new();
        for id in ids {
            let Some(stored) = self.table.get(id) else { continue };
            match self.record_claim(id, owner, several) {
                Ok(claim) => claims.push((stored.created, claim)),
                Err(refusal) => told.push((Source::Record(id, String::new()), Verdict::Refused(refusal))),
            }
        }
        let given = self.file_claims(owner).into_iter().chain(self.server_claims(owner));
        claims.extend(given.map(|claim| (zone_created, claim)));
        claims.sort_by_key(|(created, _)| *created);
        let mut claims: Vec<Claim<Source>> = claims.into_iter().map(|(_, claim)| claim).collect();
        if owner.is_apex() && !claims.iter().any(|claim| claim.rtype == Rtype::NS) {
            claims.extend(self.default_ns());
        }
        self.add_residue(owner, &mut claims);
        self.hide(owner, &mut claims, told);
        claims
    }

    /// Takes out what servers never give, since they answer with a delegation or a DNAME above.
    fn hide(
        &mut self,
        owner: &OwnerName,
        claims: &mut Vec<Claim<Source>>,
        told: &mut Vec<(Source, Verdict)>,
    ) {
        self.zone.occluded.remove(owner);
        let Some((cut, by)) = self.cut_above(owner) else { return };
        let is_hidden = |claim: &mut Claim<Source>| by == Rtype::DNAME || !is_address(claim.rtype);
        for Claim { source, rtype, .. } in claims.extract_if(.., is_hidden) {
            let (below, cut) = (owner.in_zone(self.apex), cut.in_zone(self.apex));
            let refusal = match by {
                Rtype::DNAME => Refusal::BelowDname { owner: below, dname: cut, rtype },
                _ => Refusal::Occluded { owner: below, cut, rtype },
            };
            told.push((source, Verdict::Refused(refusal)));
            self.zone.occluded.insert(owner.clone());
        }
    }

    fn record_claim(&self, id: RecordId, owner: &OwnerName, several: bool) -> Result<Claim<Source>, Refusal> {
        let stored = self.table.get(id).ok_or_else(|| Refusal::Invalid("the object is gone".to_owned()))?;
        let rdatas = stored.data.rdatas(self.apex)?;
        let rtype = stored.data.rtype();
        let seconds = stored.ttl.or(self.zone.spec.ttl).unwrap_or(DEFAULT_TTL);
        let ttl = Ttl::new(seconds).ok_or(Refusal::Ttl(seconds))?;
        if owner.is_apex() && matches!(rtype, Rtype::CNAME | Rtype::DNAME) {
            return Err(Refusal::AtApex(rtype));
        }
        if owner.is_wildcard() && rtype == Rtype::NS {
            return Err(Refusal::WildcardDelegation);
        }
        // Named only where somebody may have to be told who won.
        let shown = match several {
            true => format!("{} {}", Kind::Record(stored.data.kind()), self.table.key(stored)),
            false => String::new(),
        };
        Ok(Claim { source: Source::Record(id, shown), rtype, ttl, rdatas })
    }

    fn file_claims(&self, owner: &OwnerName) -> Vec<Claim<Source>> {
        let mut claims = Vec::new();
        for (reference, part) in &self.zone.files {
            let Some(rrsets) = part.records.as_ref().and_then(|records| records.get(owner)) else { continue };
            for rrset in rrsets.iter() {
                let rdatas = rrset.rdatas().map(Rdata::from_canonical).collect();
                claims.push(Claim {
                    source: Source::File(reference.clone()),
                    rtype: rrset.rtype(),
                    ttl: rrset.ttl(),
                    rdatas,
                });
            }
        }
        claims
    }

    /// NS records at the apex and addresses of name servers that the specification gives, or that are instances.
    fn server_claims(&self, owner: &OwnerName) -> Vec<Claim<Source>> {
        let ttl = Ttl::saturating(self.zone.spec.ttl.unwrap_or(DEFAULT_TTL));
        let claim = |rtype, rdatas: Vec<Rdata>| Claim { source: Source::NameServers, rtype, ttl, rdatas };
        let mut claims = Vec::new();
        if owner.is_apex() && !self.zone.spec.name_servers.is_empty() {
            claims.push(claim(
                Rtype::NS,
                self.servers.iter().map(|server| Rdata::name(&server.name)).collect(),
            ));
        }
        for server in
            self.servers.iter().filter(|server| server.name.relative_to(self.apex).as_ref() == Some(owner))
        {
            let v4 = server.addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some(Rdata::a(*address)),
                IpAddr::V6(_) => None,
            });
            let v6 = server.addresses.iter().filter_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(address) => Some(Rdata::aaaa(*address)),
            });
            claims.push(claim(Rtype::A, v4.collect()));
            claims.push(claim(Rtype::AAAA, v6.collect()));
        }
        claims.retain(|claim| !claim.rdatas.is_empty());
        claims
    }

    fn default_ns(&self) -> Option<Claim<Source>> {
        let rdatas: Vec<Rdata> = self.servers.iter().map(|server| Rdata::name(&server.name)).collect();
        let ttl = Ttl::saturating(self.zone.spec.ttl.unwrap_or(DEFAULT_TTL));
        (!rdatas.is_empty()).then_some(Claim { source: Source::NameServers, rtype: Rtype::NS, ttl, rdatas })
    }

    /// What was served before, for types that nobody claims, while a zone file cannot be read.
    fn add_residue(&self, owner: &OwnerName, claims: &mut Vec<Claim<Source>>) {
        let Some(rrsets) = self.zone.residue.as_ref().and_then(|content| content.get(owner)) else { return };
        for rrset in rrsets.iter() {
            if !claims.iter().any(|claim| claim.rtype == rrset.rtype()) {
                let rdatas = rrset.rdatas().map(Rdata::from_canonical).collect();
                claims.push(Claim {
                    source: Source::Residue,
                    rtype: rrset.rtype(),
                    ttl: rrset.ttl(),
                    rdatas,
                });
            }
        }
    }

    /// Remembers which names of the zone `owner`'s NS records point to; returns those NS owners whose target changed
    /// between having an address and having none.
    fn note_servers(&mut self, owner: &OwnerName, rrsets: &RrSets) -> BTreeSet<OwnerName> {
        let apex = self.apex;
        let targets = |rrsets: &RrSets| -> BTreeSet<OwnerName> {
            let names = rrsets.get(Rtype::NS).into_iter().flat_map(|rrset| rrset.rdatas());
            names.filter_map(|rdata| pointed_to(Rtype::NS, rdata)?.relative_to(apex)).collect()
        };
        for target in self.content.get(owner).map(targets).unwrap_or_default() {
            if let Some(pointing) = self.zone.server_names.get_mut(&target) {
                pointing.remove(owner);
            }
        }
        for target in targets(rrsets) {
            self.zone.server_names.entry(target).or_default().insert(owner.clone());
        }
        let had = self.content.get(owner).is_some_and(has_address);
        match self.zone.server_names.get(owner) {
            Some(pointing) if had != has_address(rrsets) => {
                pointing.iter().filter(|other| *other != owner).cloned().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Keeps the verdicts of the records at one name.
    fn tell(&mut self, verdicts: Vec<(RecordId, Verdict)>, rrsets: &RrSets) {
        let lame = lame_targets(rrsets, &self.content).next();
        for (id, verdict) in verdicts {
            let is_ns = self.table.get(id).is_some_and(|stored| stored.data.rtype() == Rtype::NS);
            let verdict = match (&lame, verdict) {
                (Some(target), Verdict::Accepted) if is_ns => Verdict::TargetWithoutAddress(target.clone()),
                (_, verdict) => verdict,
            };
            if verdict == Verdict::Accepted {
                self.zone.verdicts.remove(&id);
            } else {
                self.zone.verdicts.insert(id, verdict);
            }
        }
    }

    /// What servers answer with below this name, whatever is there: a referral (NS) or the name that a DNAME gives.
    fn cut_at(&self, owner: &OwnerName) -> Option<Rtype> {
        let rrsets = self.content.get(owner)?;
        let delegates = !owner.is_apex() && rrsets.get(Rtype::NS).is_some();
        let by = if delegates { Rtype::NS } else { Rtype::DNAME };
        rrsets.get(by).is_some().then_some(by)
    }

    /// The highest name above this one that has such an answer: servers look no further down.
    fn cut_above(&self, owner: &OwnerName) -> Option<(OwnerName, Rtype)> {
        let mut ancestor = owner.parent()?;
        let mut highest = None;
        loop {
            if let Some(by) = self.cut_at(&ancestor) {
                highest = Some((ancestor.clone(), by));
            }
            match ancestor.parent() {
                Some(next) => ancestor = next,
                None => return highest,
            }
        }
    }
}

fn is_address(rtype: Rtype) -> bool {
    matches!(rtype, Rtype::A | Rtype::AAAA)
}

fn has_address(rrsets: &RrSets) -> bool {
    rrsets.iter().any(|rrset| is_address(rrset.rtype()))
}

/// Names of the zone that NS records point to and that have no address.
fn lame_targets<'a>(rrsets: &'a RrSets, content: &'a Content) -> impl Iterator<Item = Name> + 'a {
    let names = rrsets.get(Rtype::NS).into_iter().flat_map(|rrset| rrset.rdatas());
    names.filter_map(|rdata| pointed_to(Rtype::NS, rdata)).filter(|target| {
        let owner = target.relative_to(content.apex());
        owner.is_some_and(|owner| !content.get(&owner).is_some_and(has_address))
    })
}

/// The name servers at the apex that resolvers cannot reach by their names. Those that are instances get their addresses
/// when they are ready.
fn servers_without_address(zone: &ZoneState, servers: &[Server], content: &Content) -> Vec<ZoneProblem> {
    let is_given = |name: &Name| {
        let given = zone.spec.name_servers.iter();
        given.into_iter().any(|one| record_data::target(&one.hostname, content.apex()).as_ref() == Ok(name))
    };
    let is_default = |name: &Name| !is_given(name) && servers.iter().any(|server| server.name == *name);
    let lame = content.get(&OwnerName::apex()).into_iter().flat_map(|rrsets| lame_targets(rrsets, content));
    lame.filter(|name| !is_default(name)).map(ZoneProblem::ServerWithoutAddress).collect()
}

/// The zone's name servers: those it names, else (also where none of them is a name) the instances that have been Ready, else all
/// that serve it.
fn name_servers(
    zone: &ZoneState,
    apex: &Name,
    serving: &[ServingInstance],
) -> (Vec<Server>, Vec<ZoneProblem>) {
    let (mut servers, mut problems) = (Vec::new(), Vec::new());
    for NameServer { hostname, addresses } in &zone.spec.name_servers {
        match record_data::target(hostname, apex) {
            Ok(name) => servers.push(Server { name, addresses: addresses.clone() }),
            Err(error) => problems.push(ZoneProblem::Target { field: "spec.nameServers", error }),
        }
    }
    // BIND refuses a zone without any.
    if servers.is_empty() {
        let seen = serving.iter().any(|instance| !instance.addresses.is_empty());
        let entered = serving.iter().filter(|instance| !seen || !instance.addresses.is_empty());
        servers.extend(entered.filter_map(|instance| {
            let owner = OwnerName::parse(&format!("{}.ns", instance.key.name), apex).ok()?;
            Some(Server { name: owner.in_zone(apex), addresses: instance.addresses.clone() })
        }));
    }
    (servers, problems)
}

/// The SOA: what the specification gives, else what a zone file gives, else the defaults.
fn soa(zone: &ZoneState, apex: &Name, servers: &[Server]) -> Result<Soa, (Soa, ZoneProblem)> {
    let SoaFields { primary, mailbox, refresh, retry, expire, negative_ttl, serial_floor: _ } =
        &zone.spec.soa;
    let file = zone.files.values().find_map(|part| part.soa.as_ref().map(|(soa, _)| soa));
    let default_primary = servers.first().map_or_else(|| apex.clone(), |server| server.name.clone());
    let default_mailbox =
        OwnerName::parse("hostmaster", apex).map_or_else(|_| apex.clone(), |o| o.in_zone(apex));
    let mut problem = None;
    let mut name = |field, text: &Option<String>, from_file: Option<&Name>, default: Name| {
        let fallback = from_file.cloned().unwrap_or(default);
        let Some(text) = text else { return fallback };
        let text = if field == "spec.soaRecord.adminEmail" { mailbox_name(text) } else { text.clone() };
        record_data::target(&text, apex).unwrap_or_else(|error| {
            problem = Some(ZoneProblem::Target { field, error });
            fallback
        })
    };
    let soa = Soa {
        ttl: zone.spec.ttl.or(file.map(|soa| soa.ttl)).unwrap_or(DEFAULT_TTL),
        primary: name("spec.soaRecord.primaryNs", primary, file.map(|soa| &soa.primary), default_primary),
        mailbox: name("spec.soaRecord.adminEmail", mailbox, file.map(|soa| &soa.mailbox), default_mailbox),
        refresh: refresh.or(file.map(|soa| soa.refresh)).unwrap_or(3600),
        retry: retry.or(file.map(|soa| soa.retry)).unwrap_or(600),
        expire: expire.or(file.map(|soa| soa.expire)).unwrap_or(35 * 86_400),
        negative_ttl: negative_ttl.or(file.map(|soa| soa.negative_ttl)).unwrap_or(300),
    };
    problem.map_or(Ok(soa.clone()), |problem| Err((soa, problem)))
}

/// A mail address as RFC 1035 section 8 writes it; a text without `@` is a name already.
fn mailbox_name(text: &str) -> String {
    match text.split_once('@') {
        Some((local, domain)) => format!("{}.{}.", local.replace('.', "\\."), domain.trim_end_matches('.')),
        None => text.to_owned(),
    }
}

fn serial_floor(zone: &ZoneState) -> Option<u32> {
    let files = zone.files.values().filter_map(|part| part.soa.as_ref().map(|(_, serial)| serial.get()));
    zone.spec.soa.serial_floor.into_iter().chain(files).max()
}

/// What the DNSZone is told about its zone files.
fn file_problems(zone: &ZoneState, apex: &Name) -> Vec<ZoneProblem> {
    let of = |(reference, part): (&ZoneFileRef, &crate::zone_state::FilePart)| {
        let kept = match part.records.is_some() || zone.residue.is_some() {
            true => Kept::LastGood,
            false => Kept::Nothing,
        };
        let file = reference.to_string();
        Some(match part.fault.clone()? {
            FileFault::Missing => ZoneProblem::FileMissing(file, kept),
            FileFault::Broken(error) => ZoneProblem::File { file, error, kept },
        })
    };
    let refused = zone.file_refusals.iter().flat_map(|(owner, refusals)| {
        refusals.iter().map(move |(file, refusal)| ZoneProblem::FileRecord {
            file: file.to_string(),
            message: format!("{}: {refusal}", owner.in_zone(apex)),
        })
    });
    zone.files.iter().filter_map(of).chain(refused.take(SHOWN_FILE_PROBLEMS)).collect()
}
