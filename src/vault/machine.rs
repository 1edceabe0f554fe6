//! What this machine remembers of vaults: which one stands where, and the newest state of each.

use std::path::Path;
use std::time::Duration;
use std::time::SystemTime;

use crate::id::Fingerprint;
use crate::store::state::StateDir;
use crate::store::state::StateLock;
use crate::vault::LockedVault;
use crate::vault::acts::ActHead;
use crate::vault::authority::Log;
use crate::vault::device;
use crate::vault::device::DeviceKeys;
use crate::vault::device::io_error;
use crate::vault::device::state_error;
use crate::vault::error::Error;
use crate::vault::history;
use crate::vault::pins::PINS_BYTES_MAX;
use crate::vault::pins::Pins;

/// Lines of a fingerprint in hex, a space, and where that vault stands.
const PLACES_FILE: &str = "places";
const PLACES_BYTES_MAX: u64 = 1 << 20;
/// A person's pins; a device's are kept sealed beside its key.
const SEEN_FILE: &str = "seen";
/// Where it stands which files were sealed, in a form that only those open who open the sealed file.
const SEALED_FOLDER: &str = "sealed";
/// How long that is kept of a file that isn't sealed again, in nanoseconds: 45 days.
const SEALED_KEPT_NS: u64 = 45 * 24 * 60 * 60 * 1_000_000_000;

/// This machine's memory, without any secret of a person.
#[derive(Clone, Debug)]
pub struct Machine {
    state: StateDir,
}

impl Machine {
    /// The memory kept in `folder`, for instance `~/.local/state/strongroom`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { state: StateDir::new(folder) }
    }

    /// Where it is kept.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.state.path()
    }

    /// Which vault this machine knows to stand at `place`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn known(&self, place: &str) -> Result<Option<Fingerprint>, Error> {
        Ok(self.places()?.into_iter().find(|(_, known)| known == place).map(|(fingerprint, _)| fingerprint))
    }

    /// Where this machine has seen a vault.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn places_of(&self, fingerprint: &Fingerprint) -> Result<Vec<String>, Error> {
        let places = self.places()?.into_iter().filter(|(known, _)| known == fingerprint);
        Ok(places.map(|(_, place)| place).collect())
    }

    /// Remembers that this vault stands at `place`, in place of any other.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn remember(&self, place: &str, fingerprint: &Fingerprint) -> Result<(), Error> {
        if place.contains('\n') || self.known(place)? == Some(*fingerprint) {
            return Ok(());
        }
        let _alone = self.alone()?;
        let mut places = self.places()?;
        places.retain(|(_, known)| known != place);
        places.push((*fingerprint, place.to_owned()));
        let text: String =
            places.iter().map(|(fingerprint, place)| format!("{fingerprint} {place}\n")).collect();
        self.state
            .replace(PLACES_FILE, text.as_bytes())
            .map_err(|error| io_error(&self.state, PLACES_FILE, &error))
    }

    fn places(&self) -> Result<Vec<(Fingerprint, String)>, Error> {
        let bytes = self.state.read(PLACES_FILE, PLACES_BYTES_MAX);
        let bytes = bytes.map_err(|error| io_error(&self.state, PLACES_FILE, &error))?.unwrap_or_default();
        let wrong = || state_error(&self.state, PLACES_FILE, "it is not as strongroom writes it");
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        text.lines()
            .map(|line| {
                let (fingerprint, place) = line.split_once(' ').ok_or_else(wrong)?;
                Ok((Fingerprint::from_hex(fingerprint).ok_or_else(wrong)?, place.to_owned()))
            })
            .collect()
    }

    /// The folder for one vault: pins, and the device key if this machine is one of its devices.
    #[must_use]
    pub fn vault_state(&self, fingerprint: &Fingerprint) -> StateDir {
        self.state.folder(&fingerprint.vault_id().to_string())
    }

    /// What this machine knows of the files in the folders that it sealed, each folder's in a file of its own; what
    /// wasn't sealed again for 45 days before `now`, in nanoseconds since 1970, is forgotten.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn sealed(&self, now: u64) -> Result<StateDir, Error> {
        let state = self.state.folder(SEALED_FOLDER);
        let oldest = SystemTime::UNIX_EPOCH + Duration::from_nanos(now.saturating_sub(SEALED_KEPT_NS));
        state.forget_older(oldest).map_err(|error| io_error(&self.state, SEALED_FOLDER, &error))?;
        Ok(state)
    }

    /// Whether this machine holds a device key of the vault.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn device(&self, fingerprint: &Fingerprint) -> Result<Option<crate::id::DeviceId>, Error> {
        let keys = DeviceKeys::load(fingerprint, &self.vault_state(fingerprint))?;
        Ok(keys.map(|keys| keys.device))
    }

    /// The newest state of the vault that this machine has seen, as a device or for a person.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn pins(&self, fingerprint: &Fingerprint) -> Result<Option<Pins>, Error> {
        let state = self.vault_state(fingerprint);
        let bytes = state.read(SEEN_FILE, PINS_BYTES_MAX);
        let seen = match bytes.map_err(|error| io_error(&state, SEEN_FILE, &error))? {
            None => None,
            Some(bytes) => Some(
                Pins::decode(&bytes).map_err(|error| state_error(&state, SEEN_FILE, &error.to_string()))?,
            ),
        };
        let own = device::device_pins(fingerprint, &state)?;
        Ok(match (seen, own) {
            (Some(mut seen), Some(own)) => {
                seen.advance(own.log, own.heads.into_values());
                Some(seen)
            }
            (seen, own) => seen.or(own),
        })
    }

    /// Checks a vault against what this machine has seen of it, if anything.
    ///
    /// # Errors
    /// [`Error::RolledBack`] or [`Error::Forked`]; [`Error::State`].
    pub fn check(&self, vault: &LockedVault) -> Result<Option<Pins>, Error> {
        let Some(pins) = self.pins(&vault.log().fingerprint())? else { return Ok(None) };
        pins.check_log(vault.log())?;
        for head in pins.heads.values() {
            let revoked = vault.log().devices().get(&head.device).and_then(|device| device.revoked);
            if revoked.is_none_or(|last| head.seq <= last.seq) {
                history::check_listed(vault.store(), head)?;
            }
        }
        Ok(Some(pins))
    }

    /// Remembers the state of a vault that was just checked, and where it stands.
    ///
    /// # Errors
    /// [`Error::State`]; as [`history::newest_headers`].
    pub fn pin(&self, vault: &LockedVault) -> Result<(), Error> {
        self.see(vault)?;
        self.remember(&vault.store().place(), &vault.log().fingerprint())
    }

    /// Remembers the state of a vault that was just checked, wherever it stands.
    ///
    /// # Errors
    /// As [`Machine::pin`].
    pub fn see(&self, vault: &LockedVault) -> Result<(), Error> {
        let log = vault.log();
        let fingerprint = log.fingerprint();
        let before = self.pins(&fingerprint)?;
        let pinned = before.map(|pins| pins.heads).unwrap_or_default();
        let heads = history::newest_headers(vault.store(), log, &pinned)?;
        self.advance(log, &|pins| pins.advance(log.head(), heads.clone()))
    }

    /// Remembers the newest entries of people's logs.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::Store`].
    pub fn see_acts(&self, vault: &LockedVault, heads: &[ActHead]) -> Result<(), Error> {
        let log = vault.log();
        let before = self.pins(&log.fingerprint())?;
        let gone = vault.acts_gone(before.iter().flat_map(|pins| &pins.acts))?;
        self.advance(log, &|pins| pins.advance_acts(heads, &gone))
    }

    /// Moves the pins of a vault forward.
    fn advance(&self, log: &Log, advance: &dyn Fn(&mut Pins)) -> Result<(), Error> {
        let fingerprint = log.fingerprint();
        let advanced = |before: &Option<Pins>| {
            let mut pins = before.clone().unwrap_or_else(|| Pins::new(log));
            advance(&mut pins);
            Some(pins)
        };
        let before = self.pins(&fingerprint)?;
        if before == advanced(&before) {
            return Ok(());
        }
        // Another command may have seen more since: what it remembered must not be lost, or a rollback to before
        // that would pass.
        let _alone = self.alone()?;
        if let Some(pins) = advanced(&self.pins(&fingerprint)?) {
            let state = self.vault_state(&fingerprint);
            state.replace(SEEN_FILE, &pins.encode()).map_err(|error| io_error(&state, SEEN_FILE, &error))?;
        }
        Ok(())
    }

    /// Keeps other commands from changing what this machine remembers.
    fn alone(&self) -> Result<StateLock, Error> {
        self.state.alone().map_err(|error| io_error(&self.state, "alone", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_several_runs_remember_at_once_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::new(&folder.path().join("state"));
        let fingerprint = |number: u8| Fingerprint([number; 32]);
        std::thread::scope(|scope| {
            for number in 0..16 {
                let machine = machine.clone();
                scope.spawn(move || machine.remember(&format!("/{number}"), &fingerprint(number)).unwrap());
            }
        });
        for number in 0..16 {
            assert_eq!(machine.known(&format!("/{number}")).unwrap(), Some(fingerprint(number)));
        }
    }
}
