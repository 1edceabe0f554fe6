//! `strongroom inspect`: what a vault is made of, as anybody sees it who holds it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::render;
use crate::cli::render::Table;
use crate::cli::sealed;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::text;
use crate::id::DeviceId;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::store::Store;
use crate::vault::LockedVault;
use crate::vault::end;
use crate::vault::fetch::SECOND;
use crate::vault::name::Place;
use crate::vault::slot::Lock;
use crate::vault::slot::SlotTable;
use crate::vault::witness::Whole;

/// The version of the format that this program reads and writes.
const FORMAT_VERSION: u32 = 1;

/// Shows what a vault is made of; takes no key.
///
/// What it prints is all that anybody learns who holds the vault: names, contents and people's names
/// are not among it.
#[derive(Args)]
pub struct InspectArgs {
    /// Folder of the vault; the same as --vault
    #[arg(value_name = "VAULT")]
    folder: Option<OsString>,
}

/// Objects of one kind.
#[derive(Clone, Copy, Default)]
struct Kind {
    count: u64,
    bytes: u64,
}

/// What is known of a device without a key.
struct DeviceState {
    device: DeviceId,
    is_revoked: bool,
    added: u64,
    /// Why its chain can't be read, if it can't.
    broken: Option<String>,
    snapshots: u64,
    newest: Option<u64>,
    stored: Kind,
}

/// All of it.
struct Inspection {
    fingerprint: Fingerprint,
    place: String,
    is_sealed_file: bool,
    made: u64,
    records: u64,
    epochs: [u32; 3],
    generation: u32,
    table: SlotTable,
    devices: Vec<DeviceState>,
    kinds: Vec<(&'static str, Kind)>,
    warnings: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::NoVault`]; [`Exit::Damaged`] or [`Exit::History`] if the log doesn't verify.
pub fn run(context: &Context, args: &InspectArgs) -> Result<Exit, Failure> {
    let mut vault = context.vault.clone();
    if args.folder.is_some() {
        vault.vault.clone_from(&args.folder);
    }
    let context = &Context {
        vault,
        output: context.output.clone(),
        secrets: context.secrets.clone(),
        now: context.now,
        sealed: sealed::Opened::default(),
    };
    let locked = context.locked_as_found(context.vault.fingerprint.as_ref(), &[])?;
    if locked.store().is_sealed_file() {
        sealed::warn_if_older(context, &locked);
    }
    let inspection = inspect(context, &locked)?;
    if context.output.json {
        context.json(&as_json(&inspection))?;
    } else {
        show(context, &inspection)?;
    }
    for warning in &inspection.warnings {
        context.warn(warning);
    }
    Ok(Exit::Done)
}

fn inspect(context: &Context, locked: &LockedVault) -> Result<Inspection, Failure> {
    let log = locked.log();
    let keys = log.keys();
    let (table, _) = locked.slot_table()?;
    let (kinds, stored) = count_objects(locked.store())?;
    let devices: Vec<DeviceState> = log
        .devices()
        .iter()
        .map(|(device, known)| {
            let whole = locked.whole_history(*device);
            let stored = stored.get(device).copied().unwrap_or_default();
            let (is_revoked, added) = (known.revoked.is_some(), known.added);
            let (broken, snapshots, newest) = match &whole {
                Err(error) => (Some(error.to_string()), 0, None),
                Ok(Whole { history, hindrance, .. }) => {
                    let broken = hindrance.as_ref().map(ToString::to_string);
                    let snapshots = history.snapshots();
                    (broken, snapshots.len() as u64, snapshots.last().map(|newest| newest.header.time))
                }
            };
            DeviceState { device: *device, is_revoked, added, broken, snapshots, newest, stored }
        })
        .collect();
    let mut warnings = Vec::new();
    let is_sealed_file = locked.store().is_sealed_file();
    // Who seals a file keeps the folder or another way in: a file for one recipient has no need of a code.
    if !is_sealed_file && !table.slots.iter().any(|slot| slot.lock.is_code()) {
        warnings.push("this vault has no recovery code: whoever loses the other keys loses it".to_owned());
    }
    if let Err(error) = context.machine().and_then(|machine| Ok(machine.check(locked).map(drop)?)) {
        warnings.push(error.message);
    }
    warnings.extend(devices.iter().filter_map(|device| device.broken.clone()));
    Ok(Inspection {
        fingerprint: log.fingerprint(),
        place: locked.store().place(),
        is_sealed_file,
        made: log.made(),
        records: log.records().len() as u64,
        epochs: [keys.oldest.0, keys.open.0, keys.newest.0],
        generation: keys.generation,
        table,
        devices,
        kinds,
        warnings,
    })
}

/// How many objects there are of each kind, and what each device has stored.
#[allow(clippy::type_complexity, reason = "two results of one pass")]
fn count_objects(
    store: &dyn Store,
) -> Result<(Vec<(&'static str, Kind)>, BTreeMap<DeviceId, Kind>), Failure> {
    const WORDS: [&str; 12] = [
        "log records",
        "lists",
        "slot tables",
        "rings",
        "snapshot headers",
        "packs, indexes and bodies",
        "messages",
        "requests to join",
        "people's log entries",
        "second copies",
        "README and others",
        "end",
    ];
    let mut kinds = WORDS.map(|word| (word, Kind::default()));
    let mut stored: BTreeMap<DeviceId, Kind> = BTreeMap::new();
    for listed in store.list("")? {
        let first = listed.name.as_str().strip_prefix(SECOND).and_then(ObjectName::parse);
        let place = Place::parse(first.as_ref().unwrap_or(&listed.name));
        let at = match (&first, &place) {
            (_, None) if listed.name == end::name() && store.is_sealed_file() => 11,
            (_, None) => 10,
            (Some(_), Some(_)) => 9,
            (None, Some(place)) => match place {
                Place::Record { .. } => 0,
                Place::List(_) => 1,
                Place::SlotTable { .. } => 2,
                Place::Ring { .. } => 3,
                Place::Header { .. } => 4,
                Place::Pack { device, .. } => {
                    let of_device = stored.entry(*device).or_default();
                    of_device.count += 1;
                    of_device.bytes += listed.bytes;
                    5
                }
                Place::Message { .. } => 6,
                Place::Request { .. } => 7,
                Place::Log { .. } => 8,
                Place::Readme => 10,
            },
        };
        kinds[at].1.count += 1;
        kinds[at].1.bytes += listed.bytes;
    }
    Ok((kinds.into_iter().filter(|(_, kind)| kind.count > 0).collect(), stored))
}

fn settings_of(lock: &Lock) -> Option<&Argon2Settings> {
    match lock {
        Lock::Passphrase(stretch, _) | Lock::Joint(stretch, _) => Some(&stretch.settings),
        _ => None,
    }
}

/// What it costs to try one secret, in words.
fn cost(lock: &Lock) -> String {
    match (settings_of(lock), lock) {
        (Some(settings), _) => format!(
            "Argon2id, {} MiB, {} passes, {} lanes",
            settings.memory_kib / 1024,
            settings.passes,
            settings.lanes
        ),
        (None, Lock::Cards { threshold, count, .. }) => format!("{threshold} of {count} cards"),
        (None, Lock::Recipient) => "rests on the recipient's key alone".to_owned(),
        (None, _) => "random, nothing to guess".to_owned(),
    }
}

fn show(context: &Context, found: &Inspection) -> Result<(), Failure> {
    let [oldest, open, newest] = found.epochs;
    let what = if found.is_sealed_file { "sealed file" } else { "vault" };
    context.line(&format!("{what:<12}  {}", crate::cli::failure::one_line(&found.place)))?;
    context.line(&format!("format        {FORMAT_VERSION}"))?;
    context.line(&format!("fingerprint   {}", text::fingerprint_base32(&found.fingerprint)))?;
    context.line(&format!("in words      {}", text::fingerprint_words(&found.fingerprint)))?;
    context.line(&format!("made          {}", render::local_time(found.made)))?;
    context.line(&format!("epochs        newest {newest}, open from {open}, live from {oldest}"))?;
    context.line("post-quantum  yes: keys are sealed with X-Wing (X25519 and ML-KEM-768)")?;
    context.line("")?;
    let mut slots = Table::new(&["slot", "kind", "role", "cost of a guess"]);
    for slot in &found.table.slots {
        slots.row(vec![
            slot.id.short(),
            slot.lock.word().to_owned(),
            slot.role.word().to_owned(),
            cost(&slot.lock),
        ]);
    }
    context.bytes(slots.finish().as_bytes())?;
    context.line("")?;
    let mut devices = Table::new(&["device", "added", "snapshots", "newest", "objects", "size"]);
    for device in &found.devices {
        let revoked = if device.is_revoked { " (revoked)" } else { "" };
        let newest = match (&device.broken, device.newest) {
            (Some(_), _) => "its chain is broken".to_owned(),
            (None, Some(newest)) => render::local_time(newest),
            (None, None) => "none yet".to_owned(),
        };
        devices.row(vec![
            format!("{}{revoked}", device.device),
            render::local_time(device.added),
            render::count(device.snapshots),
            newest,
            render::count(device.stored.count),
            render::size(device.stored.bytes),
        ]);
    }
    context.bytes(devices.finish().as_bytes())?;
    context.line("")?;
    let mut kinds = Table::new(&["objects", "count", "size"]);
    for (word, kind) in &found.kinds {
        kinds.row(vec![(*word).to_owned(), render::count(kind.count), render::size(kind.bytes)]);
    }
    context.bytes(kinds.finish().as_bytes())
}

fn as_json(found: &Inspection) -> Value {
    let slots = found.table.slots.iter().map(|slot| {
        let kdf = settings_of(&slot.lock).map(|settings| {
            json!({
                "name": "argon2id",
                "memory_kib": settings.memory_kib,
                "passes": settings.passes,
                "lanes": settings.lanes,
            })
        });
        json!({ "id": slot.id.to_string(), "kind": slot.lock.word(), "role": slot.role.word(), "kdf": kdf })
    });
    let devices = found.devices.iter().map(|device| {
        json!({
            "id": device.device.to_string(),
            "is_revoked": device.is_revoked,
            "added": render::rfc3339(device.added),
            "snapshots": device.snapshots,
            "newest": device.newest.map(render::rfc3339),
            "problem": device.broken,
            "objects": device.stored.count,
            "bytes": device.stored.bytes,
        })
    });
    let kinds = found
        .kinds
        .iter()
        .map(|(word, kind)| json!({ "kind": word, "count": kind.count, "bytes": kind.bytes }));
    let [oldest, open, newest] = found.epochs;
    let has_code = found.table.slots.iter().any(|slot| slot.lock.is_code());
    json!({
        "message_type": "inspection",
        "schema": 1,
        "vault": found.place,
        "kind": if found.is_sealed_file { "sealed file" } else { "vault" },
        "format_version": FORMAT_VERSION,
        "fingerprint": text::fingerprint_base32(&found.fingerprint),
        "fingerprint_hex": found.fingerprint.to_string(),
        "fingerprint_words": text::fingerprint_words(&found.fingerprint),
        "made": render::rfc3339(found.made),
        "records": found.records,
        "generation": found.generation,
        "epochs": { "oldest": oldest, "open": open, "newest": newest },
        "is_post_quantum": true,
        "slots": slots.collect::<Vec<_>>(),
        "has_recovery_code": has_code,
        "devices": devices.collect::<Vec<_>>(),
        "objects": kinds.collect::<Vec<_>>(),
    })
}
