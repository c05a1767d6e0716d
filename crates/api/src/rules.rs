//! Validation rules that several fields share, in the CEL dialect of Kubernetes.
//!
//! A rule sits on the field it is about, so that the API server's error names that field, and its message says what to
//! write instead. Every string and list that a rule looks at has a maximum length: the API server refuses rules whose
//! worst case it cannot bound.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A name without characters that need an escape or punycode.
pub(crate) fn name_is_text() -> Rule {
    Rule::new("self.matches('^[!-~]+$')")
        .message("must be printable ASCII without spaces; international names in their xn-- form")
}

/// `@` only as the apex.
pub(crate) fn apex_stands_alone() -> Rule {
    Rule::new("self == '@' || !self.contains('@')").message("\"@\" stands alone, for the apex of the zone")
}

/// A wildcard only as a whole, first label.
pub(crate) fn wildcard_comes_first() -> Rule {
    Rule::new(
        "!self.contains('*') || self == '*' || (self.startsWith('*.') && !self.substring(1).contains('*'))",
    )
    .message("a wildcard is a whole label and the first one: \"*\" or \"*.apps\" (RFC 4592)")
}

/// No two dots in a row, none at the start.
pub(crate) fn no_empty_label() -> Rule {
    Rule::new("!self.contains('..') && (self == '.' || !self.startsWith('.'))")
        .message("has an empty label: remove the extra dot")
}

/// Labels within their limit; a name with escapes is judged later, when its octets are known.
pub(crate) fn label_length() -> Rule {
    Rule::new("self.contains('\\\\') || self.split('.').all(label, size(label) <= 63)")
        .message("a label (the part between two dots) has at most 63 octets (RFC 1035 section 2.3.4)")
}

/// A zone that can be a member of a catalog.
pub(crate) fn zone_name_is_plain() -> Rule {
    Rule::new("self != '.' && !self.contains('@') && !self.contains('*')")
        .message("must be a plain domain name such as example.com, without \"@\" and \"*\"")
}

/// The mailbox of a SOA record, as an address or as a domain name.
pub(crate) fn mailbox() -> Rule {
    Rule::new("self.indexOf('@') == self.lastIndexOf('@') && !self.startsWith('@') && !self.endsWith('@')")
        .message("must be a mail address (admin@example.com) or its domain form (admin.example.com.)")
}

/// An IPv4 address.
pub(crate) fn ipv4() -> Rule {
    Rule::new("isIP(self) && ip(self).family() == 4").message("must be an IPv4 address such as 192.0.2.1")
}

/// An IPv6 address.
pub(crate) fn ipv6() -> Rule {
    Rule::new("isIP(self) && ip(self).family() == 6").message("must be an IPv6 address such as 2001:db8::1")
}

/// Schema of a list of IPv4 addresses.
pub(crate) fn ipv4_list(_: &mut SchemaGenerator) -> Schema {
    address_list("ipv4", 15, &ipv4())
}

/// Schema of a list of IPv6 addresses.
pub(crate) fn ipv6_list(_: &mut SchemaGenerator) -> Schema {
    address_list("ipv6", 45, &ipv6())
}

/// Schema of one optional IPv4 address.
pub(crate) fn ipv4_address(_: &mut SchemaGenerator) -> Schema {
    address("ipv4", 15, &ipv4())
}

/// Schema of one optional IPv6 address.
pub(crate) fn ipv6_address(_: &mut SchemaGenerator) -> Schema {
    address("ipv6", 45, &ipv6())
}

fn address(format: &str, max: u32, rule: &Rule) -> Schema {
    json_schema!({ "type": "string", "format": format, "maxLength": max, "x-kubernetes-validations": [rule] })
}

fn address_list(format: &str, max: u32, rule: &Rule) -> Schema {
    json_schema!({ "type": "array", "minItems": 1, "maxItems": 1000, "items": address(format, max, rule) })
}
