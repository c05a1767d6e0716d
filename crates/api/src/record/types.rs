//! The record kinds: for each its documentation, its fields, its columns and how its fields become record data.
//!
//! The macro adds what all of them share: owner name, TTL, zone, status and columns.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{DataField, FieldValue, RecordKind, RecordResource, RecordStatus};
use crate::rules;

macro_rules! record {
    (
        $kind:ident = $name:tt, $spec:ident: $row:ident, $plural:tt, $short:tt, $doc:tt;
        columns { $($column:tt: $column_type:tt = $path:tt),+ }
        rules { $($rule:expr),* }
        fields { $($(#[$attribute:meta])* $field:ident: $type:ty,)+ }
        data($this:ident) $data:block
    ) => {
        #[doc = $doc]
        #[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
        #[kube(
            group = "bindy.firestoned.io",
            version = "v1beta1",
            kind = $name,
            plural = $plural,
            namespaced,
            status = "RecordStatus",
            derive = "PartialEq",
            shortname = $short,
            category = "bindy",
            doc = $doc,
            printcolumn(name = "Name", type_ = "string", json_path = ".spec.name"),
            printcolumn(name = "Zone", type_ = "string", json_path = ".status.zone"),
            $(printcolumn(name = $column, type_ = $column_type, json_path = $path),)+
            printcolumn(name = "TTL", type_ = "integer", json_path = ".spec.ttl"),
            printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
            printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
            printcolumn(name = "Accepted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].reason", priority = 1),
            printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Accepted\")].message", priority = 1)
        )]
        #[serde(rename_all = "camelCase")]
        #[x_kube($(validation = $rule),*)]
        pub struct $spec {
            /// The owner name: `@` for the zone's apex, a name relative to the zone, or an absolute name in the zone with a
            /// final dot. A wildcard is `*` or starts with `*.` (RFC 4592). Examples: `www`, `@`, `*.apps`,
            /// `www.example.com.`
            #[schemars(length(min = 1, max = 1004))]
            #[x_kube(
                validation = rules::name_is_text(),
                validation = rules::apex_stands_alone(),
                validation = rules::no_empty_label(),
                validation = rules::label_length(),
                validation = rules::wildcard_comes_first(),
            )]
            pub name: String,
            /// Seconds that resolvers may keep the answer, 0 to 2147483647. Default: the `ttl` of the zone. Objects of one
            /// name and type share one TTL: the lowest counts (RFC 2181 section 5.2).
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(range(min = 0, max = 2_147_483_647))]
            pub ttl: Option<u32>,
            /// Object name of a DNSZone, in the same namespace, that the record goes into. A record also goes into every zone
            /// whose `spec.recordsFrom` selects it, and needs no zoneRef then. Example: `example-com`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[schemars(length(min = 1, max = 253))]
            pub zone_ref: Option<String>,
            $($(#[$attribute])* pub $field: $type,)+
        }

        impl RecordResource for $kind {
            const KIND: RecordKind = RecordKind::$row;

            fn owner(&self) -> &str {
                &self.spec.name
            }

            fn ttl(&self) -> Option<u32> {
                self.spec.ttl
            }

            fn zone_ref(&self) -> Option<&str> {
                self.spec.zone_ref.as_deref()
            }

            fn data(&self) -> Vec<Vec<DataField<'_>>> {
                let $this = &self.spec;
                $data
            }
        }
    };
}

const fn field<'a>(path: &'static str, value: FieldValue<'a>) -> DataField<'a> {
    DataField { path, index: None, value }
}

/// One resource record of one field for each element of a list.
fn each<'a>(
    path: &'static str,
    list: &'a [String],
    value: impl Fn(&'a str) -> FieldValue<'a>,
) -> Vec<Vec<DataField<'a>>> {
    list.iter()
        .enumerate()
        .map(|(index, text)| vec![DataField { path, index: Some(index), value: value(text) }])
        .collect()
}

record! {
    ARecord = "ARecord", ARecordSpec: A, "arecords", "a",
        "IPv4 addresses of a name (RFC 1035 section 3.4.1).";
    columns { "Addresses": "string" = ".spec.ipv4Addresses" }
    rules {}
    fields {
        /// The addresses, 1 to 1000; resolvers get all of them. Addresses of several ARecords of one name are merged.
        /// Example: `["192.0.2.10", "192.0.2.11"]`.
        #[schemars(schema_with = "rules::ipv4_list")]
        ipv4_addresses: Vec<String>,
    }
    data(spec) { each("spec.ipv4Addresses", &spec.ipv4_addresses, FieldValue::Ipv4) }
}

record! {
    AAAARecord = "AAAARecord", AAAARecordSpec: Aaaa, "aaaarecords", "aaaa",
        "IPv6 addresses of a name (RFC 3596).";
    columns { "Addresses": "string" = ".spec.ipv6Addresses" }
    rules {}
    fields {
        /// The addresses, 1 to 1000; resolvers get all of them. Addresses of several AAAARecords of one name are merged.
        /// Example: `["2001:db8::10"]`.
        #[schemars(schema_with = "rules::ipv6_list")]
        ipv6_addresses: Vec<String>,
    }
    data(spec) { each("spec.ipv6Addresses", &spec.ipv6_addresses, FieldValue::Ipv6) }
}

record! {
    CNAMERecord = "CNAMERecord", CNAMERecordSpec: Cname, "cnamerecords", "cname",
        "An alias: the name stands for another one (RFC 1035 section 3.3.1). It must be the only record of its name, so it cannot be at the apex; the oldest object wins.";
    columns { "Target": "string" = ".spec.target" }
    rules {
        Rule::new("self.name != '@'").field_path(".name")
            .message("a CNAME cannot be at the apex, where SOA and NS records are (RFC 1034 section 3.6.2)")
    }
    fields {
        /// The name it stands for. A name with a dot in it is absolute, with or without a final dot; a single label is relative
        /// to the zone, `@` is its apex. Example: `www.example.org.`
        #[schemars(length(min = 1, max = 1004))]
        #[x_kube(
            validation = rules::name_is_text(),
            validation = rules::apex_stands_alone(),
            validation = rules::no_empty_label(),
            validation = rules::label_length(),
        )]
        target: String,
    }
    data(spec) { vec![vec![field("spec.target", FieldValue::Name(&spec.target))]] }
}

record! {
    MXRecord = "MXRecord", MXRecordSpec: Mx, "mxrecords", "mx",
        "A mail server of a domain (RFC 5321 section 5). MXRecords of one name are merged.";
    columns { "Priority": "integer" = ".spec.priority", "Mail server": "string" = ".spec.mailServer" }
    rules {}
    fields {
        /// Preference, 0 to 65535; the lowest is tried first. Example: 10.
        #[schemars(range(min = 0, max = 65535))]
        priority: u16,
        /// Host name of the mail server, which must have addresses and be no alias (RFC 2181 section 10.3). A name
        /// with a dot in it is absolute, with or without a final dot; a single label is relative to the zone, `@` is its apex;
        /// `.` with priority 0 says that the domain takes no mail (RFC 7505). Example: `mail.example.com.`
        #[schemars(length(min = 1, max = 1004))]
        #[x_kube(
            validation = rules::name_is_text(),
            validation = rules::apex_stands_alone(),
            validation = rules::no_empty_label(),
            validation = rules::label_length(),
        )]
        mail_server: String,
    }
    data(spec) {
        vec![vec![
            field("spec.priority", FieldValue::U16(spec.priority)),
            field("spec.mailServer", FieldValue::Name(&spec.mail_server)),
        ]]
    }
}

record! {
    TXTRecord = "TXTRecord", TXTRecordSpec: Txt, "txtrecords", "txt",
        "Text of a name (RFC 1035 section 3.3.14): SPF, DKIM, DMARC, proofs of ownership. One object is one record; TXTRecords of one name are merged.";
    columns { "Text": "string" = ".spec.text" }
    rules {}
    fields {
        /// The strings of the record, 1 to 64 of up to 4096 characters, taken as they are: no quotes, no escapes. Most readers
        /// join them without a space. A string over 255 octets is split. Example: `["v=spf1 mx -all"]`.
        #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
        text: Vec<String>,
    }
    data(spec) {
        let strings = spec.text.iter().enumerate();
        vec![
            strings
                .map(|(index, text)| DataField { path: "spec.text", index: Some(index), value: FieldValue::Text(text) })
                .collect(),
        ]
    }
}

record! {
    NSRecord = "NSRecord", NSRecordSpec: Ns, "nsrecords", "nsr",
        "Delegates a name to a server of another zone (RFC 1035 section 3.3.11); at the apex it adds a name server to the zone itself. NSRecords of one name are merged.";
    columns { "Name server": "string" = ".spec.nameserver" }
    rules {
        Rule::new("self.name != '*' && !self.name.startsWith('*.')").field_path(".name")
            .message("an NS record cannot be at a wildcard (RFC 4592 section 4.2): delegate each name by itself")
    }
    fields {
        /// Host name of the server. A name with a dot in it is absolute, with or without a final dot; a single label is
        /// relative to the zone. When it is in the zone it needs an ARecord or AAAARecord there. Example: `ns1.example.net.`
        #[schemars(length(min = 1, max = 1004))]
        #[x_kube(
            validation = rules::name_is_text(),
            validation = rules::apex_stands_alone(),
            validation = rules::no_empty_label(),
            validation = rules::label_length(),
        )]
        nameserver: String,
    }
    data(spec) { vec![vec![field("spec.nameserver", FieldValue::Name(&spec.nameserver))]] }
}

record! {
    SRVRecord = "SRVRecord", SRVRecordSpec: Srv, "srvrecords", "srv",
        "Where a service runs (RFC 2782); the name is of the form _service._protocol. SRVRecords of one name are merged.";
    columns {
        "Priority": "integer" = ".spec.priority",
        "Weight": "integer" = ".spec.weight",
        "Port": "integer" = ".spec.port",
        "Target": "string" = ".spec.target"
    }
    rules {}
    fields {
        /// Preference, 0 to 65535; the lowest is tried first. Example: 10.
        #[schemars(range(min = 0, max = 65535))]
        priority: u16,
        /// Share among targets of the same priority, 0 to 65535. Example: 5.
        #[schemars(range(min = 0, max = 65535))]
        weight: u16,
        /// Port of the service, 0 to 65535. Example: 5060.
        #[schemars(range(min = 0, max = 65535))]
        port: u16,
        /// Host that runs the service, which must have addresses and be no alias. A name with a dot in it is absolute,
        /// with or without a final dot; a single label is relative to the zone, `@` is its apex; `.` says that there is no such service. Example: `sip.example.com.`
        #[schemars(length(min = 1, max = 1004))]
        #[x_kube(
            validation = rules::name_is_text(),
            validation = rules::apex_stands_alone(),
            validation = rules::no_empty_label(),
            validation = rules::label_length(),
        )]
        target: String,
    }
    data(spec) {
        vec![vec![
            field("spec.priority", FieldValue::U16(spec.priority)),
            field("spec.weight", FieldValue::U16(spec.weight)),
            field("spec.port", FieldValue::U16(spec.port)),
            field("spec.target", FieldValue::Name(&spec.target)),
        ]]
    }
}

record! {
    CAARecord = "CAARecord", CAARecordSpec: Caa, "caarecords", "caa",
        "Which certification authorities may issue for a name (RFC 8659). CAARecords of one name are merged.";
    columns {
        "Flags": "integer" = ".spec.flags",
        "Tag": "string" = ".spec.tag",
        "Value": "string" = ".spec.value"
    }
    rules {}
    fields {
        /// 128 makes the property critical: an authority that does not know the tag must not issue. 0 otherwise.
        /// Range: 0 to 255.
        #[schemars(range(min = 0, max = 255))]
        flags: u8,
        /// The property: letters and digits, up to 15 of them. Examples: `issue`, `issuewild`, `iodef`.
        #[schemars(length(min = 1, max = 15))]
        #[x_kube(validation = Rule::new("self.matches('^[0-9A-Za-z]+$')")
            .message("must be letters and digits only, such as issue, issuewild or iodef (RFC 8659 section 4.1)"))]
        tag: String,
        /// The property's value, taken as it is. Examples: `letsencrypt.org`, `;` (nobody may issue),
        /// `mailto:security@example.com`.
        #[schemars(length(max = 4096))]
        value: String,
    }
    data(spec) {
        vec![vec![
            field("spec.flags", FieldValue::U8(spec.flags)),
            field("spec.tag", FieldValue::CharacterString(&spec.tag)),
            field("spec.value", FieldValue::Rest(&spec.value)),
        ]]
    }
}
