//! One record of each type, with what an edit makes of it.

use bindy_testing::manifest::manifest;
use bindy_zone::Rtype;

/// A record object as it is made first, and after an edit.
pub struct Record {
    /// Its kind.
    pub kind: &'static str,
    /// Its type.
    pub rtype: Rtype,
    /// The name that it has first.
    pub owner: &'static str,
    /// The data first, as the fields of its spec and as texts in DNS.
    pub first: (&'static str, &'static [&'static str]),
    /// The data after an edit.
    pub edited: (&'static str, &'static [&'static str]),
}

impl Record {
    /// The name of its object.
    pub fn object(&self) -> String {
        self.kind.to_lowercase()
    }

    /// The object with this owner name and data, in the zone object of that name.
    pub fn manifest(&self, zone: &str, owner: &str, data: &str) -> String {
        manifest(self.kind, &self.object(), &format!("zoneRef: {zone}, name: \"{owner}\", {data}"))
    }
}

/// One record of each of the eight types.
pub const ALL_TYPES: [Record; 8] = [
    Record {
        kind: "ARecord",
        rtype: Rtype::A,
        owner: "www",
        first: ("ipv4Addresses: [192.0.2.1, 192.0.2.2]", &["192.0.2.1", "192.0.2.2"]),
        edited: ("ipv4Addresses: [192.0.2.3]", &["192.0.2.3"]),
    },
    Record {
        kind: "AAAARecord",
        rtype: Rtype::AAAA,
        owner: "six",
        first: ("ipv6Addresses: [\"2001:db8::1\"]", &["2001:db8::1"]),
        edited: ("ipv6Addresses: [\"2001:db8::2\", \"2001:db8::3\"]", &["2001:db8::2", "2001:db8::3"]),
    },
    Record {
        kind: "CNAMERecord",
        rtype: Rtype::CNAME,
        owner: "alias",
        first: ("target: www", &["www.example.com."]),
        edited: ("target: www.example.net.", &["www.example.net."]),
    },
    Record {
        kind: "MXRecord",
        rtype: Rtype::MX,
        owner: "mail",
        first: ("priority: 10, mailServer: mx.example.net.", &["10 mx.example.net."]),
        edited: ("priority: 20, mailServer: mx", &["20 mx.example.com."]),
    },
    Record {
        kind: "TXTRecord",
        rtype: Rtype::TXT,
        owner: "text",
        first: (
            "text: [\"v=spf1 -all\", \"it's; {hostile} \\\" text\"]",
            &["\"v=spf1 -all\" \"it's; {hostile} \\\" text\""],
        ),
        edited: ("text: [\"other\"]", &["\"other\""]),
    },
    Record {
        kind: "NSRecord",
        rtype: Rtype::NS,
        owner: "sub",
        first: ("nameserver: ns1.example.net.", &["ns1.example.net."]),
        edited: ("nameserver: ns2.example.net.", &["ns2.example.net."]),
    },
    Record {
        kind: "SRVRecord",
        rtype: Rtype::SRV,
        owner: "_sip._tcp",
        first: (
            "priority: 1, weight: 2, port: 5060, target: sip.example.net.",
            &["1 2 5060 sip.example.net."],
        ),
        edited: ("priority: 1, weight: 2, port: 5061, target: sip", &["1 2 5061 sip.example.com."]),
    },
    Record {
        kind: "CAARecord",
        rtype: Rtype::CAA,
        owner: "caa",
        first: ("flags: 0, tag: issue, value: ca.example.net", &["0 issue \"ca.example.net\""]),
        edited: (
            "flags: 128, tag: iodef, value: \"mailto:ca@example.net\"",
            &["128 iodef \"mailto:ca@example.net\""],
        ),
    },
];
