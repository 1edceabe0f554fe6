//! `strongroom man`: the manual pages.

use std::path::PathBuf;

use clap::Args;
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;

/// Prints the manual's first page, or writes all pages.
#[derive(Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If the pages can't be written.
pub fn run(context: &Context, args: &ManArgs) -> Result<Exit, Failure> {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page).map_err(|error| Failure::io("the page", &error))?;
        context.bytes(&page)?;
        return Ok(Exit::Done);
    };
    let place = one_line(&folder.to_string_lossy());
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|error| Failure::io(format!("the pages could not be written to {place}"), &error))?;
    context.note(&format!("the pages are in {place}"));
    Ok(Exit::Done)
}
