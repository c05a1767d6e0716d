//! Texts of the objects that tests need again and again.

/// Any object of Bindy's, as one YAML document.
pub fn manifest(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: bindy.firestoned.io/v1beta1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// An instance.
pub fn instance(name: &str, role: &str, replicas: u32, upstreams: &[&str]) -> String {
    let upstreams: String = upstreams.iter().map(|name| format!("{{name: {name}}}, ")).collect();
    manifest("Bind9Instance", name, &format!("role: {role}, replicas: {replicas}, upstreams: [{upstreams}]"))
}

/// A zone whose object has this name.
pub fn zone(name: &str, zone_name: &str) -> String {
    manifest("DNSZone", name, &format!("zoneName: {zone_name}"))
}

/// An A record of the zone object `zone`.
pub fn a(object: &str, zone: &str, name: &str, address: &str) -> String {
    manifest("ARecord", object, &format!("zoneRef: {zone}, name: \"{name}\", ipv4Addresses: [{address}]"))
}

/// A ConfigMap with a zone file.
pub fn zone_file(name: &str, key: &str, text: &str) -> String {
    let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\n\
         metadata: {{name: {name}, labels: {{bindy.firestoned.io/zone-file: \"true\"}}}}\n\
         data:\n  {key}: |\n{lines}"
    )
}
