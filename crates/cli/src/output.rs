//! Data on standard output.

use std::io::Write;
use std::path::Path;

/// Prints text to standard output; a closed pipe is an error that ends the run quietly.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints a value as indented JSON.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Refuses to replace a file, unless forced.
pub fn claim_file(path: &Path, force: bool) -> anyhow::Result<()> {
    if path.exists() && !force {
        anyhow::bail!(
            "{}: output exists; choose another name or overwrite with --force",
            path.display()
        );
    }
    Ok(())
}

/// Refuses to write into a folder that holds something, unless forced.
pub fn claim_folder(folder: &Path, force: bool) -> anyhow::Result<()> {
    let occupied = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => anyhow::bail!("{}: {error}", folder.display()),
    };
    if occupied && !force {
        anyhow::bail!(
            "{}: output exists and is not empty; choose another folder or overwrite with --force",
            folder.display()
        );
    }
    std::fs::create_dir_all(folder)
        .map_err(|error| anyhow::anyhow!("{}: cannot be created: {error}", folder.display()))
}
