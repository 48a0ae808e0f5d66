use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use super::args::Cli;
use super::screen::Screen;
use crate::Exit;

/// `drctl man`: the pages are made from the very arguments that the program takes.
pub(super) fn man(screen: Screen, directory: Option<&Path>) -> Result<Exit> {
    let mut command = Cli::command();
    match directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            screen.out(String::from_utf8_lossy(&page).trim_end());
        }
        Some(directory) => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("make the directory {}", directory.display()))?;
            command.build();
            write_pages(&command, "drctl", directory)?;
        }
    }
    Ok(Exit::Success)
}

fn write_pages(command: &clap::Command, name: &str, directory: &Path) -> Result<()> {
    let path = directory.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).render(&mut page)?;
    std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        write_pages(verb, &format!("{name}-{}", verb.get_name()), directory)?;
    }
    Ok(())
}
