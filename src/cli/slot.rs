//! `strongroom slot`: people's ways in, shown, added, replaced, taken away and tried.

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::context::clock;
use crate::cli::context::wait_for_others;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::new_way::NewWay;
use crate::cli::new_way::NewWayArgs;
use crate::cli::new_way::check_label;
use crate::cli::sealed;
use crate::cli::terminal;
use crate::crypto::kdf::Argon2Settings;
use crate::id::SlotId;
use crate::task::seal;
use crate::vault::Vault;
use crate::vault::error::Error;
use crate::vault::slot::Lock;
use crate::vault::slot::Role;
use crate::vault::slot::Slot;

/// Shows, adds, replaces, takes away and tries people's ways in.
///
/// A slot is one way in for one person: a passphrase, a key file, both together, a recovery code, cards
/// of which some are enough, or somebody's own key.
#[derive(Args)]
pub struct SlotArgs {
    #[command(subcommand)]
    command: SlotCommand,
}

#[derive(Subcommand)]
enum SlotCommand {
    /// Lists all slots; names are shown to owners only
    List,
    /// Adds a slot; takes an owner's key
    Add(AddArgs),
    /// Takes a slot away; takes an owner's key
    Remove(RemoveArgs),
    /// Gives a slot another secret; takes an owner's key
    Passwd(PasswdArgs),
    /// Tries a way in and says what it opens, without showing anything
    Test,
}

/// What a slot's holder may do.
#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Everything
    Owner,
    /// List, verify and restore
    Reader,
}

#[derive(Args)]
struct AddArgs {
    /// What the slot is called, such as the person's name
    label: String,

    /// What its holder may do
    #[arg(long, value_enum, default_value = "reader")]
    role: RoleArg,

    #[command(flatten)]
    new: NewWayArgs,
}

#[derive(Args)]
struct RemoveArgs {
    /// The slot's name, or the first digits of its id
    label: String,
}

#[derive(Args)]
struct PasswdArgs {
    /// The slot's name, or the first digits of its id [default: the slot that is opened]
    label: Option<String>,

    #[command(flatten)]
    new: NewWayArgs,
}

/// Runs the command.
///
/// # Errors
/// As unlocking; [`Exit::Refused`] if the key is a reader's or the last owner would go.
pub fn run(context: &Context, args: &SlotArgs) -> Result<Exit, Failure> {
    match &args.command {
        SlotCommand::List => list(context),
        SlotCommand::Add(args) => add(context, args),
        SlotCommand::Remove(args) => remove(context, args),
        SlotCommand::Passwd(args) => passwd(context, args),
        SlotCommand::Test => test(context),
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let vault = context.unlock("slot list", "")?;
    let own = vault.slot().0.id;
    for slot in &vault.slots().slots {
        let label = vault.slot_label(slot.id);
        if context.output.json {
            let mut message = json!({
                "message_type": "slot",
                "schema": 1,
                "id": slot.id.to_string(),
                "label": label,
                "kind": slot.lock.word(),
                "role": slot.role.word(),
                "opened": slot.id == own,
            });
            if let Some(fields) = message.as_object_mut() {
                put_settings(fields, &slot.lock);
            }
            context.json(&message)?;
            continue;
        }
        let label = label.map_or_else(|| "(named to owners only)".to_owned(), one_line);
        let mark = if slot.id == own { "  (opened now)" } else { "" };
        let about = about(&slot.lock);
        context.line(&format!(
            "{}  {:<6}  {label:<24}  {}{about}{mark}",
            slot.id.short(),
            slot.role.word(),
            slot.lock.word()
        ))?;
    }
    Ok(Exit::Done)
}

/// The same for programs.
fn put_settings(fields: &mut serde_json::Map<String, serde_json::Value>, lock: &Lock) {
    match lock {
        Lock::Passphrase(stretch, _) | Lock::Joint(stretch, _) => {
            let Argon2Settings { memory_kib, passes, lanes } = stretch.settings;
            let kdf =
                json!({ "name": "Argon2id", "memory_kib": memory_kib, "passes": passes, "lanes": lanes });
            fields.insert("kdf".to_owned(), kdf);
        }
        Lock::Cards { set, threshold, count, .. } => {
            fields.insert("threshold".to_owned(), json!(threshold));
            fields.insert("count".to_owned(), json!(count));
            fields.insert("set".to_owned(), json!(data_encoding::HEXLOWER.encode(set)));
        }
        Lock::KeyFile(_) | Lock::RecoveryCode(_) | Lock::Recipient => {}
    }
}

/// What else a person would want to know of a lock.
fn about(lock: &Lock) -> String {
    match lock {
        Lock::Passphrase(stretch, _) | Lock::Joint(stretch, _) => {
            let settings = &stretch.settings;
            format!(" (Argon2id, {} MiB, {} passes)", settings.memory_kib / 1024, settings.passes)
        }
        Lock::Cards { set, threshold, count, .. } => {
            format!(" (any {threshold} of {count}, set {})", data_encoding::HEXLOWER.encode(set))
        }
        Lock::Recipient => " (rests on X-Wing alone)".to_owned(),
        Lock::KeyFile(_) | Lock::RecoveryCode(_) => String::new(),
    }
}

fn add(context: &Context, args: &AddArgs) -> Result<Exit, Failure> {
    check_label(&args.label)?;
    args.new.refuse_secret()?;
    let as_owner = if matches!(args.role, RoleArg::Owner) { " --role owner" } else { "" };
    let about = format!("{}{as_owner}{}", args.label, args.new.words());
    context.as_owner("slot add", &about, |vault| add_to(context, args, vault))
}

fn add_to(context: &Context, args: &AddArgs, vault: &mut Vault) -> Result<Exit, Failure> {
    // Before anything is asked or written for it.
    if vault.admin()?.slots.iter().any(|slot| slot.label == args.label) {
        return Err(Error::LabelTaken { label: args.label.clone() }.into());
    }
    let role = match args.role {
        RoleArg::Owner => Role::Owner,
        RoleArg::Reader => Role::Reader,
    };
    let fingerprint = vault.log().fingerprint();
    let new = args.new.make(context, &vault.store().place(), &fingerprint)?;
    new.check_new(vault)?;
    let unused = |error| NewWay::unused(&[&new], error, "nothing was changed");
    let slot = new.slot(&fingerprint, role, &args.label).map_err(unused)?;
    vault
        .change_keys(context.now, &wait_for_others, &|draft| draft.add_slot(slot.draft()))
        .map_err(unused)?;
    let label = one_line(&args.label);
    let kind = slot.kind();
    conclude(context, vault)?;
    told(context, "slot_added", &args.label, role, kind, &new.keep, None)?;
    if !context.output.json {
        let is_file = vault.store().is_sealed_file();
        let may = match role {
            Role::Owner => "everything, with an owner's powers",
            Role::Reader if is_file => "all of it, and changes nothing",
            Role::Reader => "all snapshots of all devices, and changes nothing",
        };
        let what = if is_file { "file" } else { "vault" };
        context.line(&format!("{label} opens the {what} by {kind}: {may}"))?;
    }
    Ok(Exit::Done)
}

fn remove(context: &Context, args: &RemoveArgs) -> Result<Exit, Failure> {
    context.as_owner("slot remove", &args.label, |vault| remove_from(context, args, vault))
}

fn remove_from(context: &Context, args: &RemoveArgs, vault: &mut Vault) -> Result<Exit, Failure> {
    let (id, role, kind, label) = find(vault, &args.label)?;
    let is_sealed_anew = renew_file_keys(context, vault)?;
    vault.change_keys(context.now, &wait_for_others, &|draft| draft.remove_slot(id))?;
    conclude(context, vault)?;
    let old = Old { kind, is_sealed_anew, was_owner: role == Role::Owner };
    told(context, "slot_removed", &label, role, kind, &[], Some(&old))?;
    if role == Role::Owner {
        warn_if_only_codes_are_left(context, vault);
    }
    if is_sealed_anew && !context.output.json {
        let label = one_line(&label);
        context.line(&format!(
            "This file is no longer open to {label}: all of it was sealed anew under new keys"
        ))?;
        context.line(&format!(
            "Copies of the file as it was still open with {}",
            told_of(kind, "that", "those")
        ))?;
    } else if !context.output.json {
        let label = one_line(&label);
        context.line(&format!("{label} no longer opens the vault"))?;
        context.line(&format!(
            "What {label} could read until now stays readable to whoever has {} and an old copy of the vault's slot \
             table,",
            told_of(kind, "that", "those")
        ))?;
        context.line(&format!(
            "and so does what is added from now on until the keys change: run `{}`",
            "strongroom rotate --reencrypt"
        ))?;
    }
    old.tell_of_signing_key(context)?;
    Ok(Exit::Done)
}

/// A code or cards are for the day when all else is gone. An owner who is left with nothing else should know
/// before he needs it.
fn warn_if_only_codes_are_left(context: &Context, vault: &Vault) {
    let mut owners = vault.slots().slots.iter().filter(|slot| slot.role == Role::Owner);
    if owners.all(|slot| slot.lock.is_code()) {
        context.warn(
            "nothing but a recovery code or cards opens the vault with an owner's powers now: add a way in for every \
             day with `strongroom slot add NAME --role owner`, given the code with --recovery-code-file",
        );
    }
}

fn passwd(context: &Context, args: &PasswdArgs) -> Result<Exit, Failure> {
    args.new.refuse_secret()?;
    let about = format!("{}{}", args.label.as_deref().unwrap_or_default(), args.new.words());
    context.as_owner("slot passwd", about.trim_start(), |vault| replace_in(context, args, vault))
}

fn replace_in(context: &Context, args: &PasswdArgs, vault: &mut Vault) -> Result<Exit, Failure> {
    let wanted = match &args.label {
        Some(label) => label.clone(),
        None => vault.slot().0.id.to_string(),
    };
    let (id, role, old_kind, label) = find(vault, &wanted)?;
    if args.label.is_none() && terminal::is_there() {
        // The one that was opened may be somebody else's, or the code from the safe.
        terminal::tell(&format!(
            "This gives {}, the slot that you opened, another secret.",
            one_line(&label)
        ));
    }
    let fingerprint = vault.log().fingerprint();
    let new = args.new.make(context, &vault.store().place(), &fingerprint)?;
    new.check_new(vault)?;
    let unused = |error| NewWay::unused(&[&new], error, "the old one still opens the vault");
    let slot = new.slot(&fingerprint, role, &label).map_err(unused)?;
    let is_sealed_anew = renew_file_keys(context, vault)?;
    vault
        .change_keys(context.now, &wait_for_others, &|draft| draft.replace_slot(id, slot.draft()))
        .map_err(unused)?;
    conclude(context, vault)?;
    let old = Old { kind: old_kind, is_sealed_anew, was_owner: role == Role::Owner };
    told(context, "slot_replaced", &label, role, slot.kind(), &new.keep, Some(&old))?;
    if is_sealed_anew && !context.output.json {
        let label = one_line(&label);
        context.line(&format!("This file is open to {label} by the new {} only", slot.kind()))?;
        context.line(&format!(
            "Copies of the file as it was still open with {}",
            told_of(old_kind, "the old", "the old")
        ))?;
    } else if !context.output.json {
        context.line(&format!("{} opens the vault by the new {} only", one_line(&label), slot.kind()))?;
        context.line(&format!(
            "{} still open{} old copies of the vault, and with them what is added until the keys change: if {} may be \
             known, run `strongroom rotate --reencrypt`",
            told_of(old_kind, "The old", "The old"),
            if old_kind == Lock::CARDS { "" } else { "s" },
            if old_kind == Lock::CARDS { "they" } else { "it" },
        ))?;
    }
    old.tell_of_signing_key(context)?;
    Ok(Exit::Done)
}

fn test(context: &Context) -> Result<Exit, Failure> {
    let vault = context.unlock("slot test", "")?;
    let (slot, role) = vault.slot();
    let kind = vault.slots().slots.iter().find(|each| each.id == slot.id).map_or("", |each| each.lock.word());
    let label = vault.slot_label(slot.id).unwrap_or_default().to_owned();
    told(context, "slot_opens", &label, role, kind, &[], None)?;
    if !context.output.json {
        let named = if label.is_empty() { slot.id.short() } else { one_line(&label) };
        let opens = if kind == Lock::CARDS { "open" } else { "opens" };
        let what = told_of(kind, "this", "these");
        context.line(&format!("{what} {opens} slot {named} as {}", role.word()))?;
    }
    Ok(Exit::Done)
}

/// A way in as a sentence takes it, with the word before it for one thing or for several.
fn told_of(kind: &str, one: &str, several: &str) -> String {
    match kind {
        Lock::CARDS => format!("{several} {kind}"),
        Lock::RECIPIENT => format!("{one} recipient's key"),
        _ => format!("{one} {kind}"),
    }
}

/// The slot that a person means: its name, or the first digits of its id.
///
/// # Errors
/// [`Error::NoSuchLabel`] if none or several fit; [`Error::NotOwner`].
pub fn find(vault: &Vault, wanted: &str) -> Result<(SlotId, Role, &'static str, String), Error> {
    let admin = vault.admin()?;
    let label_of =
        |slot: &Slot| admin.slots.iter().find(|keys| keys.id == slot.id).map(|keys| keys.label.as_str());
    let slots = &vault.slots().slots;
    let whole_id = slots.iter().find(|slot| slot.id.to_string() == wanted);
    let named = whole_id.or_else(|| slots.iter().find(|slot| label_of(slot) == Some(wanted)));
    let mut by_id = slots.iter().filter(|slot| wanted.len() >= 4 && slot.id.to_string().starts_with(wanted));
    let slot = match (named, by_id.next(), by_id.next()) {
        (Some(slot), ..) | (None, Some(slot), None) => slot,
        _ => return Err(Error::NoSuchLabel { label: one_line(wanted) }),
    };
    Ok((slot.id, slot.role, slot.lock.word(), label_of(slot).unwrap_or_default().to_owned()))
}

/// Before a way in is taken from a sealed file, all of it is sealed anew; true if it is such a file.
fn renew_file_keys(context: &Context, vault: &mut Vault) -> Result<bool, Failure> {
    if !vault.store().is_sealed_file() {
        return Ok(false);
    }
    let bars = context.watched_bars();
    seal::renew_keys(vault, clock, &bars)?;
    Ok(true)
}

/// Makes a change of slots last: a sealed file is written anew.
fn conclude(context: &Context, vault: &Vault) -> Result<(), Failure> {
    let Some(draft) = context.sealed.draft() else {
        finish(context, vault);
        return Ok(());
    };
    {
        let bars = context.watched_bars();
        seal::finish_slots(vault, draft, &bars)?;
    }
    sealed::remember(context, &context.place()?);
    Ok(())
}

/// What follows every change of keys: older tables go, this machine remembers the new state. The change
/// stands, whatever becomes of these.
pub fn finish(context: &Context, vault: &Vault) {
    match vault.remove_older_generations() {
        Ok(leftover) if leftover.objects == 0 => {}
        Ok(leftover) => context.warn(&format!(
            "the store kept {} older slot tables and rings: whoever reads them and has an old secret opens what \
             they held; remove them where the store is kept",
            leftover.objects
        )),
        Err(error) => context.warn(&format!("older slot tables and rings could not be removed: {error}")),
    }
    match context.machine() {
        Ok(machine) => context.pin_quietly(&machine, vault.locked()),
        Err(failure) => context.warn(&failure.message),
    }
}

/// A secret that opens a slot no more.
struct Old {
    kind: &'static str,
    /// All that it opened was sealed anew: it is a sealed file.
    is_sealed_anew: bool,
    /// It led to the key that signs for the vault, which was drawn anew.
    was_owner: bool,
}

impl Old {
    /// Says what an owner's change means for those who know the vault.
    fn tell_of_signing_key(&self, context: &Context) -> Result<(), Failure> {
        if !self.was_owner || self.is_sealed_anew || context.output.json {
            return Ok(());
        }
        context.line(
            "The vault's signing key changed with it: machines that know the vault follow; give people who check receipts \
             a new one",
        )
    }

    /// What it still opens, for programs.
    fn still_opens(&self) -> serde_json::Value {
        let copies = if self.is_sealed_anew { "file_copies" } else { "vault_copies" };
        let later = (!self.is_sealed_anew).then_some("added_until_keys_change");
        json!(std::iter::once(copies).chain(later).collect::<Vec<_>>())
    }
}

/// The same for programs; the things to keep for people.
fn told(
    context: &Context,
    message: &str,
    label: &str,
    role: Role,
    kind: &str,
    keep: &[String],
    old: Option<&Old>,
) -> Result<(), Failure> {
    if context.output.json {
        let mut message = json!({
            "message_type": message,
            "schema": 1,
            "label": label,
            "role": role.word(),
            "kind": kind,
            "keep": keep,
        });
        if let (Some(old), Some(fields)) = (old, message.as_object_mut()) {
            let next = (!old.is_sealed_anew).then_some("strongroom rotate --reencrypt");
            fields.insert("old_kind".to_owned(), json!(old.kind));
            fields.insert("old_still_opens".to_owned(), old.still_opens());
            fields.insert("ended_by".to_owned(), json!(next));
            fields.insert("signing_key_changed".to_owned(), json!(old.was_owner));
        }
        return context.json(&message);
    }
    for line in keep {
        context.line(&format!("keep         {line}"))?;
    }
    Ok(())
}
