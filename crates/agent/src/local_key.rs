//! The key between the agent and its named: made once, never leaves the machine.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bindy_model::named_conf::{LOCAL_KEY, Text, key_statement};
use bindy_wire::Key;
use bindy_zone::Name;
use domain::utils::base64;

use crate::AgentError;

/// The key that `path` holds, so that an agent which starts again still is known to its named; else a new one.
pub(crate) fn load_or_create(path: &Path) -> Result<Key, AgentError> {
    let error = |error| AgentError::KeyFile { path: path.to_owned(), error };
    let name = Name::parse(LOCAL_KEY).map_err(|name| error(std::io::Error::other(name)))?;
    if let Some(secret) = std::fs::read_to_string(path).ok().as_deref().and_then(parse) {
        return Ok(Key::new(name, &secret));
    }
    let key = Key::generate(name).map_err(|key| error(std::io::Error::other(key)))?;
    let secret = Text::new(key.secret_base64()).map_err(|text| error(std::io::Error::other(text)))?;
    replace(path, key_statement(key.name(), &secret).as_bytes()).map_err(error)?;
    Ok(key)
}

/// The secret within a key statement.
fn parse(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once("secret \"")?;
    let (secret, _) = rest.split_once('"')?;
    base64::decode(secret).ok().filter(|secret: &Vec<u8>| secret.len() >= 16)
}

/// Replaces the file in one step, readable by this user only.
pub(crate) fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_private_and_survives_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.key");
        let first = load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = load_or_create(&path).unwrap();
        assert_eq!(first.secret(), second.secret());
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.key");
        std::fs::write(&path, "key \"bindy-agent\" { secret \"\"; };").unwrap();
        let key = load_or_create(&path).unwrap();
        assert!(key.secret().len() >= 16);
        assert_eq!(load_or_create(&path).unwrap().secret(), key.secret());
    }
}
