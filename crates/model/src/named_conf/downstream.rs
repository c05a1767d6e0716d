//! What a BIND outside of Bindy has to be configured with to follow an instance: two files, for the two places at which
//! named.conf takes them.
//!
//! Both leave one thing to whoever includes them: the list of primaries, that is, at which address the instance is
//! reached from there. Nobody else knows.

use bindy_zone::Name;

use super::{Statement, Text, TextError, key_statement};

/// Seconds between two looks for new and removed zones; NOTIFY does not reach servers outside.
const CATALOG_REFRESH: u32 = 10;

/// A server outside of Bindy that follows an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownstreamSettings<'a> {
    /// The instance's namespace.
    pub namespace: &'a str,
    /// The instance's name.
    pub instance: &'a str,
    /// Name of its catalog zone.
    pub catalog: &'a Name,
    /// Name of the key that the server signs with.
    pub key: &'a Name,
}

/// What to include on the top level of named.conf: the key and the catalog zone. `secret` is the key's in base64.
pub fn downstream_config(settings: &DownstreamSettings<'_>, secret: &Text) -> Result<String, TextError> {
    let nobody = || [Statement::new("none")];
    let zone = Statement::new("zone").name(settings.catalog).block([
        Statement::new("type").word("secondary"),
        Statement::new("primaries").block([primaries(settings)?]),
        Statement::new("file").text(&Text::new(format!("{}.db", list(settings)))?),
        Statement::new("min-refresh-time").number(1u32),
        Statement::new("max-refresh-time").number(CATALOG_REFRESH),
        Statement::new("min-retry-time").number(1u32),
        Statement::new("max-retry-time").number(CATALOG_REFRESH),
        Statement::new("allow-query").block(nobody()),
        Statement::new("allow-transfer").block(nobody()),
        Statement::new("notify").yes_no(false),
    ]);
    let list = list(settings);
    let DownstreamSettings { key, .. } = settings;
    let comment = format!(
        "# Include this on the top level of named.conf, and say where the instance is to be reached, such as\n\
         #     primaries \"{list}\" {{ 192.0.2.1 port 5353 key \"{key}\"; }};\n"
    );
    Ok(comment + &key_statement(settings.key, secret) + &zone.to_string())
}

/// What to include within `options` of named.conf: that the catalog is one.
pub fn downstream_options(settings: &DownstreamSettings<'_>) -> Result<String, TextError> {
    let catalog = Statement::new("zone")
        .name(settings.catalog)
        .word("default-primaries")
        .block([primaries(settings)?])
        .word("in-memory")
        .yes_no(false)
        .word("min-update-interval")
        .number(1u32);
    let comment = "# Include this within options { } of named.conf.\n";
    Ok(comment.to_owned() + &Statement::new("catalog-zones").block([catalog]).to_string())
}

/// The list of primaries, by its name.
fn primaries(settings: &DownstreamSettings<'_>) -> Result<Statement, TextError> {
    Ok(Statement::default().text(&Text::new(list(settings))?))
}

fn list(settings: &DownstreamSettings<'_>) -> String {
    format!("bindy-{}-{}", settings.namespace, settings.instance)
}
