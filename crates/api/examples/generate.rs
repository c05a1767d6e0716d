//! Writes the definitions of the custom resources and their reference below the current directory, as `cargo xtask generate` does
//! at the root of the repository.

use std::fs;

use bindy_api::generate;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (path, text) in generate()? {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
