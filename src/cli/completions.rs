//! `strongroom completions`: what a shell needs to complete our words.

use clap::Args;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;

/// Prints a shell's completions.
#[derive(Args)]
pub struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// If the output can't be written.
pub fn run(context: &Context, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "strongroom", &mut script);
    context.bytes(&script)?;
    Ok(Exit::Done)
}
