//! How a command gets at things: where the vault is, what this machine knows of it, and its keys.

use std::ffi::OsString;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::cli::args::OutputArgs;
use crate::cli::args::SecretArgs;
use crate::cli::args::Settle;
use crate::cli::args::VaultArgs;
use crate::cli::args::local_path;
use crate::cli::args::other_programs_hint;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::init::host_name;
use crate::cli::progress::Bars;
use crate::cli::progress::watch_interrupts;
use crate::cli::render;
use crate::cli::sealed;
use crate::cli::secrets;
use crate::cli::terminal;
use crate::crypto::kdf::Argon2Settings;
use crate::crypto::random;
use crate::crypto::text;
use crate::id::Fingerprint;
use crate::store::Local;
use crate::store::Store;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::acts::Act;
use crate::vault::acts::ActHead;
use crate::vault::acts::Deed;
use crate::vault::authority::Log;
use crate::vault::authority::Vouched;
use crate::vault::device::DeviceKeys;
use crate::vault::device::DeviceVault;
use crate::vault::error::Error;
use crate::vault::join::Request;
use crate::vault::machine::Machine;
use crate::vault::pins::Pins;
use crate::vault::receipt::Receipt;
use crate::vault::slot;
use crate::vault::slot::Lock;
use crate::vault::slot::Way;

/// The command of an entry that says how the one that it names after its exit code failed.
pub const ENDED: &str = "ended";

/// What every command has at hand: the flags that all share, the clock and the environment.
pub struct Context {
    /// Which vault.
    pub vault: VaultArgs,
    /// How results are shown.
    pub output: OutputArgs,
    /// What opens it.
    pub secrets: SecretArgs,
    /// When the command began, in nanoseconds since 1970 UTC.
    pub now: u64,
    /// The sealed file at the place, if it is one.
    pub sealed: sealed::Opened,
}

impl Context {
    /// Where the vault is, absolute: what was given, or the default place.
    ///
    /// # Errors
    /// `Exit::Usage` for a kind of place that this version doesn't know.
    pub fn place(&self) -> Result<PathBuf, Failure> {
        let Some(given) = &self.vault.vault else { return self.default_place() };
        let path = local_path(given)?;
        canonical(&path).map_err(|error| Failure::io(one_line(&path.to_string_lossy()), &error))
    }

    /// Where a vault is looked for when none is named.
    ///
    /// # Errors
    /// `Exit::Usage` if the environment names no home.
    pub fn default_place(&self) -> Result<PathBuf, Failure> {
        Ok(home_folder("XDG_DATA_HOME", ".local/share")?.join("strongroom").join("vault"))
    }

    /// The vault's store.
    ///
    /// # Errors
    /// `Exit::NoVault` if there is no such folder.
    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        let place = self.place()?;
        if sealed::is_file(&place) {
            Ok(self.sealed.file(&place)?)
        } else {
            Ok(Arc::new(Local::load(&place)?))
        }
    }

    /// Whether the place is a sealed file, of which this machine remembers nothing: an older copy of it is an
    /// older file, and no history that was rolled back.
    ///
    /// # Errors
    /// As [`Context::place`].
    pub fn is_sealed_file(&self) -> Result<bool, Failure> {
        Ok(sealed::is_file(&self.place()?))
    }

    /// Refuses a sealed file for a command that is for vaults.
    ///
    /// # Errors
    /// [`Exit::Usage`]; as [`Context::place`].
    pub fn check_vault(&self, command: &str) -> Result<(), Failure> {
        if !self.is_sealed_file()? {
            return Ok(());
        }
        let hint = match command {
            "recover" => "`strongroom open FILE --recovery-code-file CODE` gets back what is in it",
            "recovery-kit" => {
                "`strongroom slot add NAME --recovery-code-out PAGE` makes a page with a code, by which `strongroom open` \
                 gets back what is in it"
            }
            _ => "`strongroom slot` changes who opens it, `strongroom seal` seals its folder again",
        };
        Err(Failure::usage(format!("{command} is for vaults, and this is a sealed file")).hint(hint))
    }

    /// What is at the place, in a word.
    #[must_use]
    pub fn word(store: &dyn Store) -> &'static str {
        if store.is_sealed_file() { "file" } else { "vault" }
    }

    /// The sealed file at the place, its log and its end verified.
    fn load_sealed_file(&self, expected: Option<&Fingerprint>) -> Result<LockedVault, Failure> {
        let locked = LockedVault::load_sealed_file(self.sealed.file(&self.place()?)?)?;
        let found = locked.log().fingerprint();
        match expected {
            Some(expected) if *expected != found => {
                Err(Error::OtherVault { expected: *expected, found }.into())
            }
            _ => Ok(locked),
        }
    }

    /// What this machine remembers.
    ///
    /// # Errors
    /// `Exit::Usage` if the environment names no home.
    pub fn machine(&self) -> Result<Machine, Failure> {
        Ok(Machine::new(&home_folder("XDG_STATE_HOME", ".local/state")?.join("strongroom")))
    }

    /// The vault that must be at this place: as `--fingerprint` says, or as this machine remembers.
    ///
    /// # Errors
    /// `Exit::Usage` if what was given is no fingerprint.
    pub fn expected(&self, store: &dyn Store, machine: &Machine) -> Result<Option<Fingerprint>, Failure> {
        match &self.vault.fingerprint {
            Some(given) => Ok(Some(*given)),
            // Another file under the same name is another file.
            None if store.is_sealed_file() => Ok(None),
            None => Ok(machine.known(&store.place())?),
        }
    }

    /// The vault with its log verified and held against what this machine has seen of it.
    ///
    /// # Errors
    /// `Exit::NoVault`, `Exit::Damaged` or `Exit::History`.
    pub fn locked(&self) -> Result<(LockedVault, Option<Pins>), Failure> {
        let (store, machine) = (self.store()?, self.machine()?);
        let expected = self.expected(&*store, &machine)?;
        let locked = if store.is_sealed_file() {
            self.load_sealed_file(expected.as_ref())?
        } else {
            let vouched = self.vouched(&*store, &machine, expected.as_ref())?;
            LockedVault::load_from(store, expected.as_ref(), vouched)?
        };
        if locked.store().is_sealed_file() {
            // An older copy of it is an older file, and may be read.
            sealed::warn_if_older(self, &locked);
            return Ok((locked, None));
        }
        let pins = machine.check(&locked)?;
        Ok((locked, pins))
    }

    /// What this machine, or the receipt with `--settle-fork`, says of the vault's log.
    ///
    /// # Errors
    /// `Exit::Failed` if this machine's memory can't be read.
    pub fn vouched(
        &self,
        store: &dyn Store,
        machine: &Machine,
        expected: Option<&Fingerprint>,
    ) -> Result<Option<Vouched>, Failure> {
        let fingerprint = match expected {
            Some(expected) => *expected,
            // A place that this machine doesn't know. What is wrong with the log, reading it tells.
            None => match Log::find_fingerprint(store) {
                Ok(found) => found,
                Err(_) => return Ok(None),
            },
        };
        let pinned = machine.pins(&fingerprint)?.map(|pins| pins.log.into());
        let receipt = match &self.vault.settle_fork {
            Some(Settle::Receipt(receipt)) if receipt.vault == fingerprint.vault_id() => Some(receipt.into()),
            _ => None,
        };
        Ok(Vouched::newer(pinned, receipt))
    }

    /// The vault as it is, for a command that tells what is wrong with it: as this machine or a receipt
    /// vouches for if that history is there, otherwise whatever is.
    ///
    /// # Errors
    /// `Exit::NoVault`, `Exit::Damaged` or `Exit::History` if it can't be read either way.
    pub fn locked_as_found(
        &self,
        expected: Option<&Fingerprint>,
        receipts: &[Receipt],
    ) -> Result<LockedVault, Failure> {
        if self.is_sealed_file()? {
            return self.load_sealed_file(expected);
        }
        let (store, machine) = (self.store()?, self.machine()?);
        let pinned = self.vouched(&*store, &machine, expected)?;
        let named = expected.map(Fingerprint::vault_id);
        let receipts = receipts.iter().filter(|receipt| named.is_none_or(|named| receipt.vault == named));
        let vouched = receipts.fold(pinned, |newest, receipt| Vouched::newer(newest, Some(receipt.into())));
        match LockedVault::load_from(Arc::clone(&store), expected, vouched) {
            Err(Error::RolledBack { .. } | Error::Forked { .. } | Error::HistoryMissing { .. })
                if vouched.is_some() =>
            {
                Ok(LockedVault::load(store, expected)?)
            }
            result => Ok(result?),
        }
    }

    /// The vault, opened with what the person holds for `command`, which was given `about`; its state is
    /// pinned, and the person's log has an entry of it.
    ///
    /// A command has one entry, put before it reads or changes anything: a crash can't hide what was read,
    /// and what came of a change is in the authority log.
    ///
    /// # Errors
    /// As [`Context::locked`]; `Exit::WrongKey`; `Exit::Usage` if no key was given and there is
    /// no terminal to ask at.
    pub fn unlock(&self, command: &str, about: &str) -> Result<Vault, Failure> {
        let vault = self.unlock_to_choose()?;
        self.record(&vault, command, Deed::Given(about.to_owned()));
        Ok(vault)
    }

    /// As [`Context::unlock`], for a command that reads snapshots: choosing them (`snapshots::choose`)
    /// puts the entry, as it can name them. What is read until then are headers, which anybody may read, and
    /// as many bodies as it takes to choose.
    ///
    /// # Errors
    /// As [`Context::unlock`].
    pub fn unlock_to_choose(&self) -> Result<Vault, Failure> {
        let (locked, pins) = self.locked()?;
        let mut way = self.way(&locked)?;
        self.unlock_typed(locked, pins.is_some(), &mut way)
    }

    /// The same for a command that changes the vault: with an owner's key only, and once a fork of its log
    /// is settled.
    ///
    /// # Errors
    /// As [`Context::unlock`]; `Exit::History` if a fork isn't settled; `Exit::Refused` if the key is a reader's.
    pub fn unlock_owner(&self, command: &str, about: &str) -> Result<Vault, Failure> {
        if self.is_sealed_file()? {
            return self.unlock_draft().map_err(Failure::of_sealed_file);
        }
        let asked = self.settle_fork()?;
        let (locked, pins) = self.locked()?;
        let mut way = match asked {
            Some(way) => way,
            None => self.way(&locked)?,
        };
        let mut vault = self.unlock_typed(locked, pins.is_some(), &mut way)?;
        self.record_change(&vault, command, about)?;
        vault.admin()?;
        self.renew_lock(&mut vault, &way);
        Ok(vault)
    }

    /// Opens the vault as [`Context::unlock_owner`] does, and lets `act` change it. If that fails, the person's log
    /// has a second entry that says so: the first one says what was begun.
    ///
    /// # Errors
    /// As [`Context::unlock_owner`]; what `act` says.
    pub fn as_owner<T>(
        &self,
        command: &str,
        about: &str,
        act: impl FnOnce(&mut Vault) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut vault = self.unlock_owner(command, about)?;
        let done = act(&mut vault);
        if let Err(failure) = &done
            && !failure.is_silent
            && !vault.store().is_sealed_file()
        {
            let given = format!("{} {command} {about}", failure.exit.code());
            self.record(&vault, ENDED, Deed::Given(given.trim_end().to_owned()));
        }
        done
    }

    /// The same for a command that changes the slots of a sealed file: what is returned is a draft of the file
    /// to come, which `slot::finish` writes in place of this one.
    fn unlock_draft(&self) -> Result<Vault, Failure> {
        let place = self.place()?;
        let locked = self.load_sealed_file(self.vault.fingerprint.as_ref())?;
        let mut way = self.way(&locked)?;
        let (mut vault, draft) = sealed::unlock_draft(self, self.sealed.file(&place)?, &place, &mut way)?;
        self.sealed.keep(draft);
        self.renew_lock(&mut vault, &way);
        Ok(vault)
    }

    /// The same with a way that is known already; `is_known` says whether this machine knew the vault.
    ///
    /// # Errors
    /// `Exit::WrongKey`; as [`Context::confirm_vault`].
    pub fn unlock_by(&self, locked: LockedVault, is_known: bool, way: &Way) -> Result<Vault, Failure> {
        let spinner = way.passphrase.is_some().then(|| self.bars().spinner("trying the passphrase"));
        let is_file = locked.store().is_sealed_file();
        let vault = locked.unlock(way).map_err(|error| of_kind(is_file, Failure::unlock(error, way)))?;
        drop(spinner);
        self.admit(vault, is_known)
    }

    /// The same with what [`Context::way`] gave: whoever typed a wrong passphrase is asked again.
    ///
    /// # Errors
    /// As [`Context::unlock_by`].
    pub fn unlock_typed(&self, locked: LockedVault, is_known: bool, way: &mut Way) -> Result<Vault, Failure> {
        let is_file = locked.store().is_sealed_file();
        let vault = self.try_typed(locked, way).map_err(|failure| of_kind(is_file, failure))?;
        self.admit(vault, is_known)
    }

    /// Opens a vault, and asks again for a passphrase that was typed and is wrong.
    ///
    /// # Errors
    /// What unlocking says; [`Exit::Interrupted`].
    pub fn try_typed(&self, locked: LockedVault, way: &mut Way) -> Result<Vault, Failure> {
        let is_typed = way.passphrase.is_some() && terminal::is_there() && !self.secrets.is_given()?;
        let mut left = if is_typed { terminal::TRIES - 1 } else { 0 };
        let prompt = prompt(&locked);
        let spinner = || self.bars().spinner("trying the passphrase");
        let mut trying = way.passphrase.is_some().then(spinner);
        let mut ended = None;
        let opened = locked.unlock_or(way, &mut || {
            left = left.checked_sub(1)?;
            drop(trying.take());
            terminal::tell("That passphrase opens nothing here.");
            let typed = self.ask(&prompt).map_err(|failure| ended = Some(failure)).ok()?;
            trying = Some(spinner());
            Some(typed)
        });
        match ended {
            Some(failure) => Err(failure),
            None => opened.map_err(|error| Failure::unlock(error, way)),
        }
    }

    /// Has a vault that was opened confirmed, if need be, and remembers its state.
    fn admit(&self, vault: Vault, is_known: bool) -> Result<Vault, Failure> {
        let machine = self.machine()?;
        if !vault.store().is_sealed_file() {
            self.confirm_recipient(&vault, is_known)?;
        }
        self.pin_quietly(&machine, vault.locked());
        Ok(vault)
    }

    /// Adds to the log of the slot that was opened. A store that can't be written, or is full, is no reason
    /// not to restore from it.
    pub fn record(&self, vault: &Vault, command: &str, deed: Deed) {
        let Err(error) = self.put_act(vault, command, deed) else { return };
        let text = format!("the log of who did what has no entry of this: {error}");
        if vault.store().writable().is_ok() {
            self.warn(&text);
        } else if self.output.verbose > 0 {
            self.note(&format!("note: {text}"));
        }
    }

    /// The same for a command that changes the vault, which is not done unseen.
    ///
    /// # Errors
    /// [`Exit::Refused`] if there can be no entry of it.
    pub fn record_change(&self, vault: &Vault, command: &str, about: &str) -> Result<(), Failure> {
        match self.put_act(vault, command, Deed::Given(about.to_owned())) {
            Err(error) if vault.store().writable().is_ok() => {
                let error = Failure::from(&error).message;
                let what = format!("the log of who did what can't take an entry of this: {error}");
                Err(Failure::new(Exit::Refused, what).hint(
                    "nothing was changed; see to it that files can be put below u and 2/u in the vault's folder",
                ))
            }
            // Where nothing can be written, nothing is changed.
            _ => Ok(()),
        }
    }

    fn put_act(&self, vault: &Vault, command: &str, deed: Deed) -> Result<(), Error> {
        let act = Act { host: host_name(), command: command.to_owned(), deed };
        let head = vault.record_act(&act, self.now)?;
        self.see_acts(vault.locked(), &[head]);
        Ok(())
    }

    /// Remembers entries of people's logs, so that it is noticed if they go. A state folder that can't be written
    /// was told of when the vault was opened.
    pub fn see_acts(&self, locked: &LockedVault, heads: &[ActHead]) {
        if let (false, Ok(machine)) = (locked.store().is_sealed_file(), self.machine()) {
            let _ = machine.see_acts(locked, heads);
        }
    }

    /// An outside recipient's key opens whatever anybody sealed to it: the first time, somebody has to say
    /// that this is the right vault.
    pub(super) fn confirm_recipient(&self, vault: &Vault, is_known: bool) -> Result<(), Failure> {
        let opened = vault.slot().0.id;
        let is_recipient =
            vault.slots().slots.iter().any(|slot| slot.id == opened && slot.lock == Lock::Recipient);
        if !is_recipient { Ok(()) } else { self.confirm_vault(vault.locked(), is_known) }
    }

    /// Has a person say that this is the right vault, unless this machine or `--fingerprint` does.
    ///
    /// # Errors
    /// [`Exit::Refused`] if he says no, or there is nobody to ask.
    pub fn confirm_vault(&self, locked: &LockedVault, is_known: bool) -> Result<(), Failure> {
        if is_known || self.vault.fingerprint.is_some() {
            return Ok(());
        }
        let words = text::fingerprint_words(&locked.log().fingerprint());
        if !terminal::is_there() {
            let what = "this machine has not seen this vault before, and nobody can be asked whether it is the \
                        right one";
            return Err(Failure::new(Exit::Refused, what)
                .hint("give --fingerprint, as an owner's `strongroom inspect` prints it"));
        }
        terminal::tell(&format!("This vault's fingerprint is:\n\n    {words}\n"));
        if terminal::ask_line("Type yes if that is what an owner of the vault has: ")?
            .eq_ignore_ascii_case("yes")
        {
            return Ok(());
        }
        Err(Failure::new(Exit::Refused, "this is not the vault that was meant")
            .hint("look whether `--vault` names the right place"))
    }

    /// Locks an owner's passphrase slot anew if it was made when less was asked of one. A vault that
    /// can't be written now stays as it is until one that can.
    fn renew_lock(&self, vault: &mut Vault, way: &Way) {
        let id = vault.slot().0.id;
        let lock = vault.slots().slots.iter().find(|slot| slot.id == id).map(|slot| &slot.lock);
        let (Some(Lock::Passphrase(stretch, _) | Lock::Joint(stretch, _)), Ok(_)) = (lock, vault.admin())
        else {
            return;
        };
        let (old, own) = (stretch.settings, Argon2Settings::DEFAULT);
        let cost = |settings: &Argon2Settings| u64::from(settings.memory_kib) * u64::from(settings.passes);
        if old.memory_kib >= own.memory_kib && cost(&old) >= cost(&own) {
            return;
        }
        let fingerprint = vault.log().fingerprint();
        let renewed = slot::relock(&fingerprint, vault.slot().0, way, &own).and_then(|lock| {
            vault.change_keys(self.now, &wait_for_others, &|draft| draft.relock_slot(id, lock.clone()))?;
            vault.remove_older_generations()
        });
        if renewed.is_ok() {
            self.note(
                "note: the slot was locked anew: in copies of the vault made from now on, guessing its passphrase \
                 costs what it should",
            );
        }
    }

    /// Remembers the state of a vault that was just checked. A state folder that can't be written,
    /// on a rescue system for instance, is no reason not to restore.
    pub fn pin_quietly(&self, machine: &Machine, locked: &LockedVault) {
        if locked.store().is_sealed_file() {
            return;
        }
        match machine.pin(locked) {
            Err(error @ Error::State { .. }) => {
                self.warn(&format!("{error}; this state of the vault will not be remembered"));
            }
            Err(error) => self.warn(&error.to_string()),
            Ok(()) => {}
        }
    }

    /// The vault as this machine adds to it.
    ///
    /// # Errors
    /// `Exit::NoVault`, `Exit::Locked`, `Exit::History`, `Exit::Refused`.
    pub fn device(&self) -> Result<DeviceVault, Failure> {
        if self.is_sealed_file()? {
            return Err(Failure::usage("a backup goes into a vault, and this is a sealed file")
                .hint("`strongroom seal FOLDER` seals a folder again into its file"));
        }
        let (store, machine) = (self.store()?, self.machine()?);
        let fingerprint = match self.expected(&*store, &machine)? {
            Some(expected) => expected,
            // A place that this machine doesn't know: a drive that is mounted elsewhere than before.
            None => Log::find_fingerprint(&*store)?,
        };
        let place = store.place();
        let seen = self.vouched(&*store, &machine, Some(&fingerprint))?;
        let state = machine.vault_state(&fingerprint);
        let vault = DeviceVault::load_from(store, &fingerprint, &state, seen).map_err(|error| {
            let is_waiting = matches!(error, Error::NotApproved { .. });
            let failure = Failure::from(error);
            match DeviceKeys::load(&fingerprint, &state) {
                Ok(Some(keys)) if is_waiting => {
                    let code = Request::new(fingerprint.vault_id(), &keys).code(&keys);
                    failure.hint(format!(
                        "an owner takes it in, wherever the vault can be reached, by `strongroom device approve {code} --name \
                         NAME`; `strongroom device request` here asks once more"
                    ))
                }
                _ => failure,
            }
        })?;
        machine.remember(&place, &fingerprint)?;
        Ok(vault)
    }

    /// What the person holds: as the options say, or asked for at the terminal.
    ///
    /// # Errors
    /// `Exit::Usage` if nothing was given and there is nobody to ask.
    pub fn way(&self, locked: &LockedVault) -> Result<Way, Failure> {
        if let Some(way) = self.secrets.way()? {
            return Ok(way);
        }
        let (table, _) = locked.slot_table()?;
        let has = |wanted: fn(&Lock) -> bool| table.slots.iter().any(|slot| wanted(&slot.lock));
        if !has(|lock| matches!(lock, Lock::Passphrase(..))) {
            let mut kinds: Vec<_> = table.slots.iter().map(|slot| slot.lock.word()).collect();
            kinds.dedup();
            let what = if locked.store().is_sealed_file() { "file" } else { "vault" };
            let options = if has(|lock| !matches!(lock, Lock::Recipient)) { SECRET_OPTIONS } else { OWN_KEY };
            return Err(Failure::usage(format!(
                "this {what} opens with: {}; none was given",
                kinds.join(", ")
            ))
            .hint(other_programs_hint().unwrap_or_else(|| options.to_owned())));
        }
        if !terminal::is_there() {
            return Err(Failure::usage(
                "this takes a key, and there is no terminal to ask for a passphrase at",
            )
            .hint(other_programs_hint().unwrap_or_else(|| SECRET_OPTIONS.to_owned())));
        }
        self.ask(&prompt(locked))
    }

    fn ask(&self, prompt: &str) -> Result<Way, Failure> {
        Ok(Way {
            passphrase: Some(secrets::ask_passphrase(prompt)?),
            allow_expensive_kdf: self.secrets.allow_expensive_kdf,
            ..Way::default()
        })
    }

    /// What draws progress on standard error, if it is to be drawn.
    #[must_use]
    pub fn bars(&self) -> Bars {
        Bars::new(&self.output)
    }

    /// The same for a task that asks whether it is interrupted: from here on Ctrl-C lets it end in order.
    #[must_use]
    pub fn watched_bars(&self) -> Bars {
        watch_interrupts();
        self.bars()
    }

    /// One line of results.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// One message for programs.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn json(&self, message: &serde_json::Value) -> Result<(), Failure> {
        self.line(&message.to_string())
    }

    /// Results as bytes.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Many lines of results, written a lot at a time.
    #[must_use]
    pub fn lines(&self) -> Lines {
        Lines { out: io::BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    /// Something of a snapshot or a target that is not as it should be, on standard error.
    pub fn problem(&self, path: &[u8], text: &str) {
        if !self.output.json {
            return self.warn(text);
        }
        let mut message = serde_json::json!({
            "message_type": "error",
            "schema": 1,
            "error": { "message": one_line(text) },
        });
        if let Some(fields) = message.as_object_mut() {
            render::put_path(fields, "item", path);
        }
        say(&format!("{message}\n"));
    }

    /// Something good to know, on standard error; `-q` leaves it out.
    pub fn note(&self, text: &str) {
        if !self.output.quiet && !self.output.json {
            say(&format!("{text}\n"));
        }
    }

    /// Something that needs attention, on standard error, always.
    pub fn warn(&self, text: &str) {
        if self.output.json {
            let message =
                serde_json::json!({ "message_type": "warning", "schema": 1, "message": one_line(text) });
            say(&format!("{message}\n"));
        } else {
            say(&format!("warning: {}\n", one_line(text)));
        }
    }
}

/// Standard output, for many lines.
pub struct Lines {
    out: io::BufWriter<io::StdoutLock<'static>>,
}

impl Lines {
    /// One line.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Writes out what is still here.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }
}

/// How a passphrase is asked for.
fn prompt(locked: &LockedVault) -> String {
    let place = one_line(&locked.store().place());
    let what = if locked.store().is_sealed_file() { "" } else { "the vault in " };
    format!("Passphrase for {what}{place}: ")
}

fn of_kind(is_file: bool, failure: Failure) -> Failure {
    if is_file { failure.of_sealed_file() } else { failure }
}

/// What to give where only people's own keys open it.
const OWN_KEY: &str = "give `-i FILE`, your own key as `age-keygen -pq -o FILE` made it";

/// What to give when there is nobody to ask.
const SECRET_OPTIONS: &str = "give --password-file, --password-command, --password-fd, --key-file, --recovery-code-file, --card-file or --identity";

/// Waits a little, and longer with each loss, by chance: of two owners who keep meeting, one goes first.
pub fn wait_for_others(lost: u32) {
    let [chance] = random::bytes::<1>();
    let most_ms = 50_u64 << lost.min(5);
    std::thread::sleep(Duration::from_millis(most_ms * u64::from(chance) / 256));
}

/// Now, in nanoseconds since 1970 UTC.
#[must_use]
pub fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes to standard error; nobody can be told if that fails.
pub fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// `path` without links, what isn't there yet left as it is: the same place must have the same name every
/// time, however it is reached and whether or not it is there, for pins hang on it.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find(|each| each.exists()).unwrap_or(&absolute);
    let mut canonical = std::fs::canonicalize(there)?;
    // Joining nothing would add a slash.
    canonical.extend(absolute.strip_prefix(there).unwrap_or(Path::new("")));
    Ok(canonical)
}

/// The folder that `variable` names, or `below` the home folder.
fn home_folder(variable: &str, below: &str) -> Result<PathBuf, Failure> {
    let given = |name: &str| std::env::var_os(name).filter(|value: &OsString| Path::new(value).is_absolute());
    given(variable)
        .map(PathBuf::from)
        .or_else(|| given("HOME").map(|home| Path::new(&home).join(below)))
        .ok_or_else(|| {
            Failure::usage(format!("neither {variable} nor HOME names a folder"))
                .hint("services often have no HOME: set it, or XDG_STATE_HOME and XDG_DATA_HOME")
        })
}
