//! A person at a terminal: the only layer that knows of arguments, environment, clock and terminal.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the program's help, not markdown")]

pub mod args;
pub mod context;
pub mod failure;
pub mod pages;
pub mod progress;
pub mod qr;
pub mod render;
pub mod secrets;
pub mod sender;
pub mod terminal;
pub mod trusted;

mod backup;
mod completions;
mod device;
mod diff;
mod dump;
mod export;
mod find;
mod html;
mod import;
mod incident;
mod init;
mod inspect;
mod log;
mod ls;
mod man;
mod new_way;
mod open;
mod powers;
mod recover;
mod recovery_kit;
mod restore;
mod rotate;
mod seal;
mod sealed;
mod settle;
mod slot;
mod snapshots;
mod stats;
mod status;
mod verify;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::Parser;
use clap::Subcommand;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use crate::cli::args::OutputArgs;
use crate::cli::args::SecretArgs;
use crate::cli::args::VaultArgs;
use crate::cli::context::Context;
use crate::cli::context::say;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::crypto::memory::harden_process;
use crate::tree::walk::raise_open_files_limit;

/// Encrypted, deduplicated, signed backups.
///
/// A vault is a folder that holds snapshots. The machine that is backed up holds no key that reads
/// them; restoring takes a passphrase, a key file or the recovery code. Every restored byte is verified.
#[derive(Parser)]
#[command(
    name = "strongroom",
    version,
    arg_required_else_help = true,
    propagate_version = false,
    disable_help_subcommand = false,
    after_help = EXIT_CODES,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    vault: VaultArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    secrets: SecretArgs,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong use; 3 done, but some source files could not be read; \
    10 no such vault; 11 locked by another run; 12 wrong key; 20 damaged or forged; 21 history rolled back, forked or \
    missing; 22 too old (status); 25 rotation incomplete; 26 refused for safety; 130 interrupted";

/// One word each.
#[derive(Subcommand)]
enum Command {
    Init(Box<init::InitArgs>),
    #[command(visible_alias = "create")]
    Backup(Box<backup::BackupArgs>),
    #[command(visible_alias = "list")]
    Snapshots(snapshots::SnapshotsArgs),
    Ls(ls::LsArgs),
    Find(find::FindArgs),
    Diff(diff::DiffArgs),
    Stats(stats::StatsArgs),
    Dump(dump::DumpArgs),
    #[command(visible_alias = "extract")]
    Restore(restore::RestoreArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    #[command(visible_alias = "check")]
    Verify(verify::VerifyArgs),
    Inspect(inspect::InspectArgs),
    Log(log::LogArgs),
    #[command(visible_alias = "key")]
    Slot(slot::SlotArgs),
    Device(device::DeviceArgs),
    Recover(Box<recover::RecoverArgs>),
    RecoveryKit(recovery_kit::RecoveryKitArgs),
    Rotate(rotate::RotateArgs),
    Reencrypt(rotate::ReencryptArgs),
    Incident(incident::IncidentArgs),
    Seal(Box<seal::SealArgs>),
    Open(open::OpenArgs),
    Status(status::StatusArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// The word of a command that has nothing to do in a sealed file: that has one snapshot and one device,
    /// which is nobody's machine.
    fn for_vaults_only(&self) -> Option<&'static str> {
        Some(match self {
            Self::Log(_) => "log",
            Self::Device(_) => "device",
            Self::Recover(_) => "recover",
            Self::RecoveryKit(_) => "recovery-kit",
            Self::Rotate(_) => "rotate",
            Self::Reencrypt(_) => "reencrypt",
            Self::Incident(_) => "incident",
            _ => return None,
        })
    }
}

/// Runs the program with these arguments, its own name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before anything secret is near: no core dumps, no debugger, no keys in swap.
    let weak = harden_process();
    // A walk holds every directory on its way down open.
    raise_open_files_limit();
    let args: Vec<OsString> = args.into_iter().collect();
    let is_json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let ended = match parse(&args) {
        Ok(cli) => command(cli, &weak),
        Err(error) => parse_failure(&error, is_json),
    };
    match ended {
        Ok(exit) => {
            if let Some(failure) = exit.told().filter(|_| is_json) {
                say(&format!("{}\n", failure.json()));
            }
            ExitCode::from(exit.code())
        }
        Err(failure) => {
            if failure.is_silent {
            } else if is_json {
                say(&format!("{}\n", failure.json()));
            } else {
                say(&failure.text());
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

/// The arguments, with what of them the environment stands in for.
fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(args)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    // A global option may stand at any level of the commands.
    let is_given = |name: &str| {
        let levels =
            std::iter::successors(Some(&matches), |level| level.subcommand().map(|(_, below)| below));
        levels.into_iter().any(|level| level.value_source(name) == Some(ValueSource::CommandLine))
    };
    cli.secrets.is_key_file_of_environment = !is_given("key_file");
    cli.secrets.is_recovery_code_file_of_environment = !is_given("recovery_code_file");
    cli.secrets.is_identity_of_environment = !is_given("identity");
    Ok(cli)
}

fn command(cli: Cli, weak: &[&str]) -> Result<Exit, Failure> {
    args::refuse_secret_environment()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let context = Context {
        vault: cli.vault,
        output: cli.output,
        secrets: cli.secrets,
        now,
        sealed: sealed::Opened::default(),
    };
    if context.output.verbose > 0 {
        for what in weak {
            context.note(&format!("note: the system does not allow {what}"));
        }
    }
    if let Some(word) = cli.command.for_vaults_only() {
        context.check_vault(word)?;
    }
    match cli.command {
        Command::Init(args) => init::run(&context, &args),
        Command::Backup(args) => backup::run(&context, &args),
        Command::Snapshots(args) => snapshots::run(&context, &args),
        Command::Ls(args) => ls::run(&context, &args),
        Command::Find(args) => find::run(&context, &args),
        Command::Diff(args) => diff::run(&context, &args),
        Command::Stats(args) => stats::run(&context, &args),
        Command::Dump(args) => dump::run(&context, &args),
        Command::Restore(args) => restore::run(&context, &args),
        Command::Export(args) => export::run(&context, &args),
        Command::Import(args) => import::run(&context, &args),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Log(args) => log::run(&context, &args),
        Command::Inspect(args) => inspect::run(&context, &args),
        Command::Slot(args) => slot::run(&context, &args),
        Command::Device(args) => device::run(&context, &args),
        Command::Recover(args) => recover::run(&context, &args),
        Command::RecoveryKit(args) => recovery_kit::run(&context, &args),
        Command::Rotate(args) => rotate::run(&context, &args),
        Command::Reencrypt(args) => rotate::run_reencrypt(&context, &args),
        Command::Incident(args) => incident::run(&context, &args),
        Command::Seal(args) => seal::run(&context, &args),
        Command::Open(args) => open::run(&context, &args),
        Command::Status(args) => status::run(&context, &args),
        Command::Completions(args) => completions::run(&context, &args),
        Command::Man(args) => man::run(&context, &args),
    }
}

/// Help and version are results; all else that the parser says is wrong use.
fn parse_failure(error: &clap::Error, is_json: bool) -> Result<Exit, Failure> {
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let mut out = anstream_stdout();
            return match out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => Ok(Exit::Done),
                Err(error) => Err(Failure::output(&error)),
            };
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            say(&text.to_string());
            return Ok(Exit::Usage);
        }
        _ => {}
    }
    let word = match (error.get(ContextKind::InvalidSubcommand), error.get(ContextKind::InvalidArg)) {
        (Some(ContextValue::String(word)), _) | (None, Some(ContextValue::String(word))) => {
            Some(word.as_str())
        }
        _ => None,
    };
    let usage = text.to_string();
    let hint = word.and_then(|word| match word {
        "delete" | "rm" | "revoke" | "del" if usage.contains("strongroom slot ") => {
            Some("`strongroom slot remove NAME` takes a way in away")
        }
        "delete" | "rm" | "remove" | "del" if usage.contains("strongroom device ") => {
            Some("`strongroom device revoke NAME` shuts a machine out")
        }
        word => meant(word),
    });
    if is_json {
        let message = usage.lines().next().unwrap_or_default();
        let failure = Failure::usage(message.strip_prefix("error: ").unwrap_or(message));
        return Err(match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        });
    }
    say(&usage);
    if let Some(hint) = hint {
        say(&format!("  hint: {hint}\n"));
    }
    Ok(Exit::Usage)
}

fn anstream_stdout() -> std::io::StdoutLock<'static> {
    std::io::stdout().lock()
}

/// What people who come from other programs mean by a word that isn't ours.
fn meant(word: &str) -> Option<&'static str> {
    let word = word.split(['=', ' ']).next().unwrap_or(word);
    Some(match word {
        "keys" | "key-change" | "passwd" => {
            "ways in are called slots here: `strongroom slot add`, `passwd`, `remove`"
        }
        "forget" | "prune" | "compact" | "delete" => {
            "nothing is ever removed in this version: every snapshot stays"
        }
        "mount" | "umount" => {
            "`strongroom ls`, `find` and `dump` show what is in a snapshot, `restore` takes it out"
        }
        "unlock" | "break-lock" => {
            "there is no lock that a run could leave behind: nothing has to be unlocked"
        }
        "cat" => {
            "`strongroom dump SNAPSHOT PATH` prints a file, `strongroom inspect` shows what a vault is made of"
        }
        "info" => "`strongroom stats` tells how large snapshots are, `strongroom status` how old",
        "repair" | "rebuild-index" => {
            "`strongroom verify --read-all` finds what is damaged; what is whole can always be restored"
        }
        "import-tar" => "`strongroom import FILE` adds a tar archive as a snapshot",
        "export-tar" => "`strongroom export SNAPSHOT` writes a tar archive",
        "repo-create" | "rcreate" | "rinit" => "a new vault is made by `strongroom init`",
        "rlist" => "`strongroom snapshots` lists the snapshots of a vault",
        "-p" | "--password" | "--passphrase" => {
            "a passphrase never stands in the arguments, where every user can read it: give --password-file, \
             --password-command or --password-fd"
        }
        "--repository-file" | "--repository" => {
            "the vault's place is given with `--vault` or STRONGROOM_VAULT"
        }
        "--insecure-no-password" | "--encryption" => {
            "every vault is encrypted, and in one way: there is nothing to choose"
        }
        "--pattern" | "--patterns-from" => {
            "give `--exclude` and `--exclude-file`, in the syntax of .gitignore"
        }
        "--keep-last" | "--keep-daily" | "--keep-weekly" | "--keep-monthly" => {
            "nothing is ever removed in this version: every snapshot stays"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_all_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_of_other_programs_get_an_answer_and_are_none_of_ours() {
        let own: Vec<String> = Cli::command()
            .get_subcommands()
            .flat_map(|each| {
                each.get_all_aliases()
                    .map(str::to_owned)
                    .chain([each.get_name().to_owned()])
                    .collect::<Vec<_>>()
            })
            .collect();
        for word in ["keys", "forget", "prune", "mount", "unlock", "cat", "info", "repair"] {
            assert!(meant(word).is_some(), "{word}");
            assert!(!own.contains(&word.to_owned()), "{word} is a command");
        }
    }
}
