//! The writer: one record a line, absolute names, every TTL, in canonical order, the SOA first.

use std::fmt;

use super::ZoneFile;
use crate::rdata::DisplayRdata;
use crate::version::Version;
use domain::base::iana::Rtype;

impl ZoneFile {
    /// The zone-file text of a version; [`ZoneFile::parse`] reads it back.
    pub fn display(version: &Version) -> impl fmt::Display + '_ {
        DisplayVersion(version)
    }
}

struct DisplayVersion<'a>(&'a Version);

impl fmt::Display for DisplayVersion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = &self.0.content;
        let (apex, soa) = (content.apex(), self.0.soa_rdata());
        let data = DisplayRdata { rtype: Rtype::SOA, wire: &soa };
        writeln!(f, "{apex} {} IN SOA {data}", content.soa().ttl)?;
        for (owner, rrsets) in content.iter() {
            let owner = owner.in_zone(apex);
            for rrset in rrsets.iter() {
                let (ttl, rtype) = (rrset.ttl(), rrset.rtype());
                for wire in rrset.rdatas() {
                    writeln!(f, "{owner} {ttl} IN {rtype} {}", DisplayRdata { rtype, wire })?;
                }
            }
        }
        Ok(())
    }
}
