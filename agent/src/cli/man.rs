use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap::builder::Resettable;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::json;

use super::args::Cli;
use super::screen::{Screen, count};
use crate::host::{Exit, private};

/// `drctl man`: the pages are made from the very arguments that the program takes.
pub(super) fn man(screen: Screen, directory: Option<&Path>) -> Result<Exit> {
    // The subcommand `help` has no page: what it prints is in the others.
    let mut command = Cli::command().disable_help_subcommand(true);
    let Some(directory) = directory else {
        let page = String::from_utf8(page(&command, "drctl")?).context("print the page")?;
        screen.answer("drctl.man/1", json!({ "page": page }), || page.clone());
        return Ok(Exit::Success);
    };
    private::public_directory(directory)
        .with_context(|| format!("make the directory {}", directory.display()))?;
    command.build();
    let mut pages = Vec::new();
    write_pages(&command, "drctl", directory, &mut pages)?;
    screen.answer("drctl.man/1", json!({ "pages": pages }), String::new);
    let written = count(pages.len() as u64, "page");
    screen.say(format!("wrote {written} into {}", directory.display()));
    Ok(Exit::Success)
}

fn page(command: &clap::Command, name: &str) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let is_main = name == "drctl";
    // The main page has the exit codes as a table of its own.
    let command =
        if is_main { command.clone().after_help(Resettable::Reset) } else { command.clone() };
    Man::new(command).title(name.to_uppercase()).render(&mut page)?;
    // Ragged: between two long alternatives a line has no blank that could be stretched.
    let ragged = String::from_utf8(page)?.replace(".SH SYNOPSIS\n", ".SH SYNOPSIS\n.ad l\n");
    let mut page = ragged.into_bytes();
    if is_main {
        let mut roff = Roff::new();
        roff.control("SH", ["EXIT STATUS"]);
        for (exit, name, meaning) in Exit::TABLE {
            roff.control("TP", []);
            roff.text([bold(exit.code().to_string())]);
            roff.text([roman(format!("{name}: {meaning}"))]);
        }
        roff.control("PP", []);
        roff.text([roman("A code that is not listed means failure.")]);
        roff.to_writer(&mut page)?;
    }
    Ok(page)
}

fn write_pages(
    command: &clap::Command,
    name: &str,
    directory: &Path,
    written: &mut Vec<PathBuf>,
) -> Result<()> {
    let path = directory.join(format!("{name}.1"));
    let page = page(command, name)?;
    let kept = std::fs::write(&path, page)
        .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o644)));
    kept.with_context(|| format!("write {}", path.display()))?;
    written.push(path);
    for verb in command.get_subcommands() {
        write_pages(verb, &format!("{name}-{}", verb.get_name()), directory, written)?;
    }
    Ok(())
}
