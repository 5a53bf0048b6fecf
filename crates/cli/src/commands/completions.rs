//! `cistron completions` and `cistron man`: what packages install beside the binary.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron completions bash > ~/.local/share/bash-completion/completions/cistron
  cistron completions zsh > ~/.zfunc/_cistron
  cistron completions fish > ~/.config/fish/completions/cistron.fish")]
pub struct Completions {
    /// Shell to complete for
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron man ~/.local/share/man/man1
  man cistron-score-vcf")]
pub struct Man {
    /// Folder to write, one page a command
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Write into a folder that holds something
    #[arg(long)]
    force: bool,
}

/// Prints the completions of a shell.
pub fn print(arguments: &Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut crate::Cli::command(),
        "cistron",
        &mut script,
    );
    output::print(&String::from_utf8_lossy(&script))
}

/// Writes a page for each command.
pub fn write_pages(arguments: &Man) -> anyhow::Result<()> {
    output::claim_folder(&arguments.folder, arguments.force)?;
    let mut command = crate::Cli::command().disable_help_subcommand(true);
    command.build();
    let pages = pages(command)?;
    for (name, page) in &pages {
        let path = arguments.folder.join(name);
        cistron_model::checkpoint::write_atomically(&path, page)?;
    }
    tracing::info!("{}: {} pages", arguments.folder.display(), pages.len());
    Ok(())
}

/// File name and text of the page of a command and of each below it.
fn pages(command: Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        all.extend(pages(inner.clone())?);
    }
    // Named after the whole command, as in cistron-score-vcf.
    let page = clap_mangen::Man::new(command);
    let (file, mut text) = (page.get_filename(), Vec::new());
    page.render(&mut text).context(file.clone())?;
    all.push((file, text));
    Ok(all)
}
