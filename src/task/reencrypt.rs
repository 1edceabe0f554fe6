//! Re-encryption: what older epochs' keys open is sealed anew, while backups and restores go on.
//!
//! Objects are sealed anew and put, a record says which stand for which, and only then the old ones are
//! removed: whatever cuts this off, each name means a whole object. When nothing is left under an older
//! epoch, that epoch is closed to new headers; what came late is sealed anew too; then its secrets are
//! given up, and so nobody who joins the readers' ring later, or ever held it before, opens what is here.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::time::Duration;
use std::time::SystemTime;

use rayon::iter::IntoParallelRefIterator;
use rayon::iter::ParallelIterator;

use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::observe::Event;
use crate::observe::Observer;
use crate::observe::Phase;
use crate::task::error::Error;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::Current;
use crate::vault::authority::damaged;
use crate::vault::error;
use crate::vault::history::Located;
use crate::vault::name::Place;
use crate::vault::record::Head;
use crate::vault::record::SupersedeRow;
use crate::vault::reseal::Strays;

/// Objects of so many bytes are sealed anew before a record says so. A run that is killed leaves at most
/// these behind, and the next one opens them to use them; while a batch is on its way the vault holds both of each.
const BATCH_BYTES: u64 = 256 << 20;
/// And so many objects, so that many small ones are no more to lose than few large ones.
const BATCH_OBJECTS: usize = 256;

/// How re-encryption goes.
pub struct Options<'a> {
    /// When to stop and leave the rest to the next run, by `clock`.
    pub until: Option<u64>,
    /// Now, in nanoseconds since 1970 UTC.
    pub clock: fn() -> u64,
    /// As for `Log::append`: what to do when another owner was faster.
    pub wait: &'a dyn Fn(u32),
}

/// A number of objects, and how many bytes they have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// In bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// Nothing is left under an epoch before the newest, and the older secrets are gone.
    Complete {
        /// The newest epoch whose secrets no longer exist; none if there was only ever one.
        dropped: Option<Epoch>,
    },
    /// Time was up.
    OutOfTime,
    /// Objects could not be sealed anew, so the older secrets are still needed.
    Hindered(Vec<error::Error>),
}

/// What a run did.
#[derive(Debug)]
pub struct Summary {
    /// What was sealed anew.
    pub done: Amount,
    /// What is still under an older epoch.
    pub left: Amount,
    /// Objects under older epochs, and older tables and rings, that the store refused to remove.
    pub kept: u64,
    /// The devices that had no snapshot under the newest epoch when this last looked. One that is at work
    /// under an older one may still put objects that the older keys open.
    pub behind: Vec<DeviceId>,
    /// How it ended.
    pub ended: Ended,
}

/// An object under an older epoch, and all names that mean it.
struct Old {
    device: DeviceId,
    object: Located,
    listed: Vec<Digest>,
}

/// What stands under which epoch.
#[derive(Default)]
pub struct Survey {
    old: Vec<Old>,
    /// The newest header of each device.
    heads: Vec<Head>,
    /// Of each device, the objects that must exist.
    named: BTreeMap<DeviceId, HashSet<Digest>>,
    /// All that must exist.
    pub all: Amount,
    /// What of it is under an older epoch than the newest.
    pub left: Amount,
    /// The devices that may add and have no snapshot under the newest epoch.
    pub behind: Vec<DeviceId>,
    /// What could not be looked at.
    pub problems: Vec<error::Error>,
}

/// Looks which objects are under older epochs; takes no key.
///
/// # Errors
/// [`Error::Interrupted`]. What is damaged or missing is told in [`Survey::problems`].
pub fn survey(vault: &LockedVault, observer: &dyn Observer) -> Result<Survey, Error> {
    observer.event(&Event::Phase(Phase::Counting));
    let newest = vault.log().keys().newest;
    let mut survey = Survey::default();
    for device in vault.log().devices().keys() {
        let history = match vault.history(*device) {
            Ok(history) => history,
            Err(error) => {
                survey.problems.push(error);
                continue;
            }
        };
        // A header that an owner has seen and that is not shown now would be made late.
        if let Some(seen) = vault.log().seen().get(device)
            && let Err(error) = history.check_head(seen)
            && vault.log().devices()[device].revoked.is_none()
        {
            survey.problems.push(error);
        }
        survey.heads.extend(history.head());
        let is_behind = history.snapshots().last().is_none_or(|snapshot| snapshot.header.epoch < newest);
        if is_behind && vault.log().devices()[device].revoked.is_none() {
            survey.behind.push(*device);
        }
        let mut objects: BTreeMap<Digest, Old> = BTreeMap::new();
        for object in history.must_exist(vault.log()) {
            let old = Old { device: *device, object, listed: Vec::new() };
            objects.entry(object.name).or_insert(old).listed.push(object.listed);
        }
        survey.named.insert(*device, objects.keys().copied().collect());
        let objects: Vec<Old> = objects.into_values().collect();
        let looked: Vec<Option<Result<Epoch, error::Error>>> = objects
            .par_iter()
            .map(|old| {
                if observer.interrupted() {
                    return None;
                }
                Some(vault.sealed_under(*device, old.object.name).map(|(epoch, _)| epoch))
            })
            .collect();
        for (old, epoch) in objects.into_iter().zip(looked) {
            let bytes = u64::from(old.object.length);
            survey.all.add(bytes);
            match epoch.ok_or(Error::Interrupted)? {
                Ok(epoch) if epoch < newest => {
                    survey.left.add(bytes);
                    survey.old.push(old);
                }
                Ok(epoch) if epoch > newest => {
                    let name = Place::Pack { device: *device, digest: old.object.name }.name();
                    survey.problems.push(damaged(&name, "it claims an epoch that has not begun"));
                }
                Ok(_) => {}
                Err(error) => survey.problems.push(error),
            }
        }
    }
    Ok(survey)
}

/// What the store holds that keys of some epochs open, whether anything names it or not.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Exposed {
    /// Objects of those epochs.
    pub old: Amount,
    /// All that were looked at.
    pub all: Amount,
    /// How many of these don't say which epoch they are of.
    pub unread: u64,
}

/// Looks at every pack, index and body of every device that is stored, strays too, for those that keys of
/// `epoch` or before open; takes no key.
///
/// # Errors
/// [`Error::Vault`] if the store can't be listed or read; [`Error::Interrupted`].
pub fn exposed(vault: &LockedVault, epoch: Epoch, observer: &dyn Observer) -> Result<Exposed, Error> {
    observer.event(&Event::Phase(Phase::Counting));
    let stored = vault.all_stored()?;
    let looked: Vec<Option<Result<Epoch, error::Error>>> = stored
        .par_iter()
        .map(|(device, name, _)| {
            (!observer.interrupted()).then(|| vault.sealed_under(*device, *name).map(|(epoch, _)| epoch))
        })
        .collect();
    let mut exposed = Exposed::default();
    for ((_, _, bytes), of) in stored.into_iter().zip(looked) {
        match of.ok_or(Error::Interrupted)? {
            Ok(of) if of <= epoch => exposed.old.add(bytes),
            Ok(_) => {}
            // It went while this looked.
            Err(error::Error::Missing { .. }) => continue,
            Err(error @ error::Error::Store(_)) => return Err(error.into()),
            Err(_) => exposed.unread += 1,
        }
        exposed.all.add(bytes);
    }
    Ok(exposed)
}

/// Seals everything under older epochs anew, and gives up those epochs' secrets when nothing is left.
///
/// # Errors
/// [`Error::Vault`] if the store can't be read or written, or the key is no owner's;
/// [`Error::Interrupted`]: what was done until then stays done.
pub fn reencrypt(
    vault: &mut Vault,
    options: &Options<'_>,
    observer: &dyn Observer,
) -> Result<Summary, Error> {
    let mut done = Amount::default();
    let mut kept = 0;
    loop {
        vault.admin()?;
        vault.reload()?;
        let found = survey(vault.locked(), observer)?;
        let keys = vault.log().keys();
        if found.old.is_empty() && found.problems.is_empty() {
            let (oldest, open, newest) = (keys.oldest, keys.open, keys.newest);
            if oldest < newest && open < newest {
                close(vault, newest, options)?;
                // Headers that came before they could know of it are listed anew.
                continue;
            }
            if oldest < newest && !give_up(vault, newest, &found.heads, options)? {
                continue;
            }
            kept += vault.remove_older_generations()?.objects as u64;
            kept += remove_strays(vault, newest)?;
            // What writers that were cut off left under no name; what the store keeps of it is old anyhow.
            let now = SystemTime::UNIX_EPOCH + Duration::from_nanos((options.clock)());
            vault.store().clear_leftovers(now).map_err(error::Error::from)?;
            let dropped = newest.0.checked_sub(1).filter(|epoch| *epoch > 0).map(Epoch);
            let ended = Ended::Complete { dropped };
            return Ok(Summary { done, left: Amount::default(), kept, behind: found.behind, ended });
        }
        let before = done;
        let (left, behind) = (found.left, found.behind.clone());
        let ended = pass(vault, found, &mut done, &mut kept, options, observer)?;
        let left = Amount {
            objects: left.objects - (done.objects - before.objects),
            bytes: left.bytes - (done.bytes - before.bytes),
        };
        match ended {
            Some(ended @ Ended::OutOfTime) => return Ok(Summary { done, left, kept, behind, ended }),
            // Another owner's run may have taken the objects in hand: as long as it goes on, so do we.
            Some(ended) if done == before => return Ok(Summary { done, left, kept, behind, ended }),
            _ => {}
        }
    }
}

fn close(vault: &mut Vault, newest: Epoch, options: &Options<'_>) -> Result<(), Error> {
    let closed = vault.change_keys((options.clock)(), options.wait, &|draft| {
        if draft.newest() != newest {
            return Err(error::Error::EpochChanged);
        }
        draft.close_older_epochs();
        Ok(())
    });
    match closed {
        Ok(_) | Err(error::Error::EpochChanged) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// True once the older secrets are gone; false if another epoch has begun meanwhile.
fn give_up(vault: &mut Vault, newest: Epoch, heads: &[Head], options: &Options<'_>) -> Result<bool, Error> {
    let dropped = vault.change_keys((options.clock)(), options.wait, &|draft| {
        if draft.newest() != newest {
            return Err(error::Error::EpochChanged);
        }
        draft.drop_older_epochs(heads.to_vec());
        Ok(())
    });
    match dropped {
        Ok(_) => Ok(true),
        Err(error::Error::EpochChanged) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Seals what a survey found anew, batch by batch. `None` if nothing hindered it.
fn pass(
    vault: &mut Vault,
    found: Survey,
    done: &mut Amount,
    kept: &mut u64,
    options: &Options<'_>,
    observer: &dyn Observer,
) -> Result<Option<Ended>, Error> {
    observer.event(&Event::Phase(Phase::Reencrypting));
    observer.event(&Event::Total { items: found.left.objects, bytes: found.left.bytes });
    let Survey { old, named, mut problems, .. } = found;
    let (until, clock) = (options.until, options.clock);
    let is_over = || observer.interrupted() || until.is_some_and(|until| clock() >= until);
    let strays = strays(vault, &named, &old, &is_over)?;
    let epoch = vault.log().keys().newest;
    let mut rest = &old[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |old: &&Old| {
            bytes += u64::from(old.object.length);
            bytes <= BATCH_BYTES
        };
        let fitting = rest.iter().take(BATCH_OBJECTS).take_while(fits).count();
        let (batch, after) = rest.split_at(fitting.max(1));
        rest = after;
        let sealed: Vec<Option<Result<Digest, error::Error>>> = batch
            .par_iter()
            .map(|old| {
                if is_over() {
                    return None;
                }
                let sealed = one(vault, old, &strays);
                if sealed.is_ok() {
                    let bytes = u64::from(old.object.length);
                    observer.event(&Event::Progress { items: 1, bytes });
                }
                Some(sealed)
            })
            .collect();
        let mut rows = Vec::new();
        let mut replaced = Vec::new();
        let mut failed = None;
        let mut moved = false;
        for (old, sealed) in batch.iter().zip(sealed) {
            match sealed {
                None => {}
                Some(Ok(current)) => {
                    let length = old.object.length;
                    let row = |listed: &Digest| SupersedeRow {
                        device: old.device,
                        listed: *listed,
                        current,
                        length,
                    };
                    rows.extend(old.listed.iter().map(|listed| (row(listed), old.object.name)));
                    replaced.push(old);
                }
                Some(Err(error @ error::Error::Store(_))) => failed = Some(error),
                // Another owner's run was faster: the next survey finds it where it is.
                Some(Err(error::Error::Missing { .. })) if has_moved(vault, old) => moved = true,
                Some(Err(error)) => problems.push(error),
            }
        }
        if !rows.is_empty() {
            match vault.supersede(&rows, epoch, (options.clock)(), options.wait) {
                // All of it is to be sealed under that one, these objects too.
                Err(error::Error::EpochChanged) => return Ok(None),
                result => result?,
            }
        }
        for old in &replaced {
            done.add(u64::from(old.object.length));
        }
        let removed: Vec<bool> =
            replaced.par_iter().map(|old| vault.remove_unnamed(old.device, old.object.name)).collect();
        *kept += removed.iter().filter(|removed| !**removed).count() as u64;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if moved {
            return Ok(None);
        }
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        if is_over() {
            return Ok(Some(Ended::OutOfTime));
        }
    }
    Ok((!problems.is_empty()).then_some(Ended::Hindered(problems)))
}

/// Whether the log says by now that another object stands for this one.
fn has_moved(vault: &Vault, old: &Old) -> bool {
    let Ok(newer) = vault.reloaded() else { return false };
    let now = old.listed.first().map(|listed| newer.log().current(old.device, *listed, old.object.length));
    now.is_some_and(|now| now != Current::Object(old.object.name, old.object.length))
}

/// Seals one object anew and stores it.
fn one(vault: &Vault, old: &Old, strays: &Strays) -> Result<Digest, error::Error> {
    let resealed = vault.reseal(old.device, &old.object, strays)?;
    vault.put_resealed(old.device, &resealed)?;
    Ok(resealed.name)
}

/// What the store holds that no header and no record names, and that is as long as something still to be sealed
/// anew: packs of a backup that is under way or was cut off, and what a run of this that was killed has sealed.
/// Each is opened once, so that going on costs no more than doing the lost batch again.
fn strays(
    vault: &Vault,
    named: &BTreeMap<DeviceId, HashSet<Digest>>,
    old: &[Old],
    is_over: &(dyn Fn() -> bool + Sync),
) -> Result<Strays, Error> {
    let lengths: HashSet<(DeviceId, u32)> = old.iter().map(|old| (old.device, old.object.length)).collect();
    let mut unnamed = Vec::new();
    for (device, named) in named {
        for (name, bytes) in vault.locked().stored(*device)? {
            let length = u32::try_from(bytes).unwrap_or(u32::MAX);
            if !named.contains(&name) && lengths.contains(&(*device, length)) {
                unnamed.push((*device, name, length));
            }
        }
    }
    let strays = Strays::default();
    unnamed.par_iter().for_each(|(device, name, length)| {
        if !is_over() {
            vault.note_stray(&strays, *device, *name, *length);
        }
    });
    Ok(strays)
}

/// Removes what older epochs' keys would still open and no header can list any more, now that those
/// epochs are closed. Says how much of it the store kept.
fn remove_strays(vault: &Vault, newest: Epoch) -> Result<u64, Error> {
    let mut kept = 0;
    for device in vault.log().devices().keys() {
        let named: HashSet<Digest> = vault
            .locked()
            .history(*device)?
            .must_exist(vault.log())
            .iter()
            .map(|object| object.name)
            .collect();
        for (name, _) in vault.locked().stored(*device)? {
            let is_old =
                || matches!(vault.locked().sealed_under(*device, name), Ok((epoch, _)) if epoch < newest);
            if !named.contains(&name) && is_old() && !vault.remove_unnamed(*device, name) {
                kept += 1;
            }
        }
    }
    Ok(kept)
}
