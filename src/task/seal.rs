//! Sealed files: a vault made for a folder and written as one file, and changed by writing it anew.
//!
//! To seal is to make a vault in a draft of a file, to back up into that, and to sign its end. What changes a
//! sealed file does with a draft over the old one what it would do with any vault: the draft becomes a whole
//! new file, which takes the place of the old one at once or not at all.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rayon::iter::IndexedParallelIterator as _;
use rayon::iter::IntoParallelRefIterator as _;
use rayon::iter::ParallelIterator as _;

use crate::crypto::sign::SigningKey;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::store::SealedDraft;
use crate::store::Store;
use crate::store::state::StateDir;
use crate::task::backup;
use crate::task::backup::Before;
use crate::task::backup::Input;
use crate::task::backup::Sealing;
use crate::task::error::Error;
use crate::task::lost;
use crate::task::lost::Lost;
use crate::task::reencrypt;
use crate::task::reencrypt::Ended;
use crate::task::reseed;
use crate::task::verify;
use crate::task::verify::Change;
use crate::task::verify::Difference;
use crate::task::verify::ReadData;
use crate::tree::path::TreePath;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::damaged;
use crate::vault::device::DeviceKeys;
use crate::vault::device::DeviceVault;
use crate::vault::end;
use crate::vault::error;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::index::Prefix;
use crate::vault::index::prefix;
use crate::vault::init::NewVault;
use crate::vault::name::Place;
use crate::vault::read::SnapshotReader;
use crate::vault::reseed::ListedPack;
use crate::vault::reseed::Reseed;
use crate::vault::whole_object_bytes;

/// Nobody else changes a draft, so there is never anybody to wait for.
fn no_wait(_: u32) {}

/// What was sealed.
pub struct Summary {
    /// What the backup into it did.
    pub backup: backup::Summary,
    /// How long the file is, in bytes.
    pub file_bytes: u64,
    /// Bytes of it that were taken over from the file before.
    pub bytes_kept: u64,
}

/// Seals `input` into a new file: `vault` is put into `draft`, `device` its only one.
///
/// # Errors
/// As [`backup::backup`]; [`Error::Vault`] if the file can't be written. Nothing is left then.
pub fn seal(
    draft: &Arc<SealedDraft>,
    vault: NewVault,
    device: DeviceKeys,
    input: Input,
    options: &backup::Options<'_>,
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    let (fingerprint, authority) = (vault.fingerprint(), vault.authority());
    let store: Arc<dyn Store> = Arc::<SealedDraft>::clone(draft);
    let log = vault.put(&store, &device, &StateDir::forgetful(), options.now)?;
    let mut device = DeviceVault::of_sealed_file(store, log, device, None)?;
    let backup = backup::backup(&mut device, input, options, observer)?;
    let file_bytes = finish(draft, &fingerprint, &authority, observer)?;
    Ok(Summary { backup, file_bytes, bytes_kept: 0 })
}

/// Seals `input` again, into the same file: `vault` is the file's, opened by an owner over a draft of the new
/// one. What didn't change is taken over, and nothing else is.
///
/// # Errors
/// As [`seal`]; [`error::Error::NotOwner`]; [`error::Error::Damaged`] if what would be taken over is no longer
/// as it was sealed.
pub fn seal_again(
    vault: Vault,
    draft: &SealedDraft,
    input: Input,
    options: backup::Options<'_>,
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    seal_again_if(vault, draft, input, options, &|_| Ok(()), observer)
}

/// The same if `check` lets go what the file would no longer hold; it is asked before anything of the file
/// is changed.
///
/// # Errors
/// As [`seal_again`]; those of `check`.
pub fn seal_again_if<E: From<Error>>(
    mut vault: Vault,
    draft: &SealedDraft,
    input: Input,
    options: backup::Options<'_>,
    check: &dyn Fn(&Lost) -> Result<(), E>,
    observer: &dyn Observer,
) -> Result<Summary, E> {
    let keys = device_keys(&vault)?;
    let device = keys.device;
    let history = Arc::new(vault.locked().history(device).map_err(Error::from)?);
    let last = newest(&vault, &history)?;
    let reader = SnapshotReader::load(&vault, Arc::clone(&history), last).map_err(Error::from)?;
    // Without an index everything is made anew from the source, as it is for a pack that is damaged.
    let reseed = reseed::of_indexes(&reader).ok().map(|reseed| only_whole_packs(&reader, reseed));
    let before = reseed.map(|reseed| Before { reseed, reader: &reader });
    let mut options = options;
    let sealing = options.sealing.unwrap_or_else(|| Sealing::new(StateDir::forgetful()));
    options.sealing = Some(Sealing { before, ..sealing });
    let store = vault.shared_store();
    let writer = DeviceVault::of_sealed_file(store, vault.log().clone(), keys, history.head());
    let mut writer = writer.map_err(Error::from)?;
    let backup = backup::backup(&mut writer, input, &options, observer)?;
    drop(writer);
    if !backup.has_all_names {
        check(&lost_since(&reader)?)?;
    }
    let now = options.now;
    let kept = forget_older(&mut vault, device, now)?;
    let authority = SigningKey::from_seed(vault.admin().map_err(Error::from)?.authority_seed.duplicate());
    let file_bytes = finish(draft, &vault.log().fingerprint(), &authority, observer)?;
    Ok(Summary { backup, file_bytes, bytes_kept: kept })
}

/// What the newest snapshot of a file no longer has of an older one.
fn lost_since(older: &SnapshotReader<'_>) -> Result<Lost, Error> {
    let vault = older.vault();
    let history = Arc::new(vault.locked().history(older.history().device())?);
    lost::between(older, &SnapshotReader::load(vault, Arc::clone(&history), newest(vault, &history)?)?)
}

/// Seals everything in a draft anew under new keys: what is done before a way in is taken away.
///
/// Until the draft is finished none of these keys is anywhere but in memory, and the change that takes the way in
/// away wraps them to those who stay. So whoever goes never sees them.
///
/// # Errors
/// [`error::Error::NotOwner`]; as [`reencrypt::reencrypt`]; [`Error::Vault`] if an object can't be sealed anew.
pub fn renew_keys(vault: &mut Vault, clock: fn() -> u64, observer: &dyn Observer) -> Result<(), Error> {
    vault.change_keys(clock(), &no_wait, &|draft| {
        draft.start_epoch();
        Ok(())
    })?;
    let options = reencrypt::Options { until: None, clock, wait: &no_wait };
    let summary = reencrypt::reencrypt(vault, &options, observer)?;
    match summary.ended {
        Ended::Hindered(errors) => errors.into_iter().next().map_or(Ok(()), |error| Err(error.into())),
        _ => Ok(()),
    }
}

/// Ends a file whose slots were changed in `draft`, and says how long it is.
///
/// # Errors
/// [`error::Error::NotOwner`]; [`Error::Vault`] if something in it is damaged, or the file can't be written: the old
/// one is as it was then.
pub fn finish_slots(vault: &Vault, draft: &SealedDraft, observer: &dyn Observer) -> Result<u64, Error> {
    for device in vault.log().devices().keys() {
        // What rotted would be copied, and the file that it was copied from be gone.
        let history = vault.locked().history(*device)?;
        history.must_exist(vault.log()).par_iter().try_for_each(|located| {
            let name = Place::Pack { device: *device, digest: located.name }.name();
            whole_object_bytes(vault.store(), &name, located).map(drop)
        })?;
    }
    vault.remove_older_generations()?;
    let authority = SigningKey::from_seed(vault.admin()?.authority_seed.duplicate());
    finish(draft, &vault.log().fingerprint(), &authority, observer)
}

/// The device whose secrets the owners' ring of a sealed file has.
fn device_keys(vault: &Vault) -> Result<DeviceKeys, Error> {
    let keys = vault.log().keys();
    let broken = |_| {
        let name = Place::Ring {
            generation: keys.generation,
            digest: crate::vault::name::first8(&keys.admin_ring),
            admin: true,
        };
        Error::Vault(damaged(&name.name(), "it has no device of a sealed file"))
    };
    DeviceKeys::decode(&vault.admin()?.device_secrets).map_err(broken)
}

/// The one snapshot that a sealed file shows, ready to be read; none if the file has no device.
///
/// # Errors
/// As [`newest`] and [`SnapshotReader::load`].
pub fn reader(vault: &Vault) -> Result<Option<SnapshotReader<'_>>, Error> {
    let Some(device) = vault.log().devices().keys().next() else { return Ok(None) };
    let history = Arc::new(vault.locked().history(*device)?);
    Ok(Some(SnapshotReader::load(vault, Arc::clone(&history), newest(vault, &history)?)?))
}

/// The one snapshot that a sealed file shows.
///
/// # Errors
/// [`Error::Nothing`] if it has none.
pub fn newest<'h>(vault: &Vault, history: &'h History) -> Result<&'h Snapshot, Error> {
    let is_there = |snapshot: &&Snapshot| !vault.log().is_forgotten(history.device(), snapshot.header.seq);
    history
        .snapshots()
        .iter()
        .rev()
        .find(is_there)
        .ok_or(Error::Nothing { what: "the file holds no snapshot" })
}

/// Of what a snapshot uses, the packs that are whole, byte for byte, and hold nothing else: a pack that is
/// damaged is made anew from the source, and bytes that no file has any more don't stay in the file.
fn only_whole_packs(reader: &SnapshotReader<'_>, mut before: Reseed) -> Reseed {
    let (vault, history) = (reader.vault(), reader.history());
    let mut used: Vec<HashSet<Prefix>> = before.objects.packs.iter().map(|_| HashSet::new()).collect();
    for row in &before.rows {
        if let Some(used) = used.get_mut(row.pack as usize) {
            used.insert(row.id);
        }
    }
    let is_exact = |pack: &ListedPack, used: &HashSet<Prefix>| -> Result<bool, error::Error> {
        let located = history.locate(vault.log(), pack.name)?;
        let name = Place::Pack { device: history.device(), digest: located.name }.name();
        whole_object_bytes(vault.store(), &name, &located)?;
        let held = reader.pack(&pack.name)?;
        let holds: HashSet<Prefix> = held.directory().chunks().map(|(id, _)| prefix(&id)).collect();
        // As many chunks as beginnings of ids: no two begin alike.
        Ok(held.directory().chunk_count() == used.len() && holds == *used)
    };
    let packs = before.objects.packs.par_iter().zip(&used).with_max_len(1);
    let exact: Vec<bool> = packs.map(|(pack, used)| is_exact(pack, used).unwrap_or(false)).collect();
    before.rows.retain(|row| exact.get(row.pack as usize) == Some(&true));
    before
}

/// Hides all snapshots but the newest, and takes out what that doesn't use; says how many bytes of older
/// snapshots stay.
fn forget_older(vault: &mut Vault, device: DeviceId, now: u64) -> Result<u64, Error> {
    let history = Arc::new(vault.locked().history(device)?);
    let last = newest(vault, &history)?;
    let last_seq = last.header.seq;
    let reader = SnapshotReader::load(vault, Arc::clone(&history), last)?;
    let mut kept: HashSet<Digest> = reader.body().indexes.iter().map(|part| part.name).collect();
    for part in &reader.body().indexes {
        let located = history.locate(vault.log(), part.name)?;
        kept.extend(vault.index(device, &located)?.packs());
    }
    kept.insert(last.header.body);
    drop(reader);
    let older: Vec<u64> = history
        .snapshots()
        .iter()
        .map(|snapshot| snapshot.header.seq)
        .filter(|seq| *seq != last_seq && !vault.log().is_forgotten(device, *seq))
        .collect();
    let before = history.snapshots().iter().filter(|snapshot| snapshot.header.seq != last_seq);
    let taken_over =
        before.flat_map(|snapshot| &snapshot.header.objects).filter(|object| kept.contains(&object.name));
    let bytes_kept = taken_over.map(|object| u64::from(object.length)).sum();
    if !older.is_empty() {
        let forget = vault.forget(device, &older, now, &no_wait)?;
        let unused: HashSet<Digest> = history
            .must_exist(vault.log())
            .iter()
            .map(|located| located.listed)
            .filter(|listed| !kept.contains(listed))
            .collect();
        let heads: Vec<_> = history.head().into_iter().collect();
        vault.purge(device, &unused, (forget, &heads), now, &no_wait)?;
    }
    remove_unnamed(vault, &history)?;
    Ok(bytes_kept)
}

/// Takes out of a draft all packs that don't have to exist.
fn remove_unnamed(vault: &Vault, history: &History) -> Result<(), Error> {
    let device = history.device();
    let named: HashSet<Digest> =
        history.must_exist(vault.log()).into_iter().map(|located| located.name).collect();
    for (digest, _) in vault.locked().stored(device)? {
        if !named.contains(&digest) {
            let name = Place::Pack { device, digest }.name();
            vault.store().remove(&name).map_err(error::Error::from)?;
        }
    }
    Ok(())
}

fn finish(
    draft: &SealedDraft,
    fingerprint: &Fingerprint,
    authority: &SigningKey,
    observer: &dyn Observer,
) -> Result<u64, Error> {
    let end = end::encode(fingerprint.vault_id(), &draft.members(), authority);
    let file_bytes = draft.file_bytes(end.len() as u64);
    observer.event(&Event::Phase(Phase::Writing));
    // What a new file holds was mostly written as it was sealed.
    observer.event(&Event::Total { items: 0, bytes: draft.bytes_left(end.len() as u64) });
    draft
        .finish(&end, &|bytes| observer.event(&Event::Progress { items: 0, bytes }))
        .map_err(error::Error::from)?;
    Ok(file_bytes)
}

/// Checks everything of a sealed file that takes no key: nothing is released before.
///
/// Its end was checked when it was loaded. Here every part is held against its digest, every signature and
/// chain is verified, and nothing may be in it that nothing names.
///
/// # Errors
/// [`Error::Vault`] or [`Error::Found`] with what is wrong; [`Error::Interrupted`].
pub fn check(vault: &LockedVault, observer: &dyn Observer) -> Result<(), Error> {
    let report = verify::verify_public(vault, None, &[], &ReadData::All, observer)?;
    if let Some(problem) = report.findings.into_first() {
        return Err(problem.into());
    }
    if report.strays > 0 || report.strangers > 0 {
        return Err(damaged(&end::name(), "the file has parts that nothing in it names").into());
    }
    Ok(())
}

/// Whether a source is, entry by entry, what the file's snapshot has under `name`.
///
/// # Errors
/// As [`verify::against_all_of_source`]; [`Error::Refused`] with the first difference.
pub fn check_source(
    reader: &SnapshotReader<'_>,
    source: &Path,
    name: &TreePath,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let found = verify::against_all_of_source(reader, source, name, observer)?;
    match found.differences.first() {
        None => Ok(()),
        Some(Difference { path, changes }) => {
            let what = match changes.first() {
                Some(Change::OnlyOnDisk) => "is not in the file",
                _ => "is no longer as it was sealed",
            };
            Err(Error::Refused { what: format!("{path} {what}") })
        }
    }
}
