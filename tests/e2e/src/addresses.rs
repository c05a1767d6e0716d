//! Where clients ask, as instances and zones tell it.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use bindy_testing::cluster::Namespace;
use bindy_zone::Rtype;
use serde_json::Value;

use crate::ZONE;

/// Waits until these are the addresses in the status of the instance `primary`, and those that the zone tells of its name
/// server on every server.
pub async fn addresses_told(namespace: &Namespace, addresses: &[IpAddr]) -> Result<()> {
    namespace
        .until(("Bind9Instance", "primary"), &format!("the status to say {addresses:?}"), |instance| {
            let found = addresses_in(instance.data.pointer("/status/addresses"));
            ensure!(found == addresses, "it says {found:?}");
            let first = instance.data.pointer("/status/address").and_then(Value::as_str);
            ensure!(first == addresses.first().map(IpAddr::to_string).as_deref(), "the first is {first:?}");
            Ok(())
        })
        .await?;
    let server = format!("primary.ns.{}", ZONE.1);
    namespace.answers(ZONE.1, Rtype::NS, &[&format!("{server}.")]).await?;
    for (rtype, is_ipv6) in [(Rtype::A, false), (Rtype::AAAA, true)] {
        let own = addresses.iter().filter(|address| address.is_ipv6() == is_ipv6);
        let texts: Vec<String> = own.map(IpAddr::to_string).collect();
        let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        if addresses.is_empty() {
            texts.push("NXDOMAIN");
        }
        namespace.answers(&server, rtype, &texts).await?;
    }
    Ok(())
}

/// The addresses in a list of texts.
pub fn addresses_in(list: Option<&Value>) -> Vec<IpAddr> {
    let texts = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}
