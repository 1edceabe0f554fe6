//! `--settle-fork`: what an owner does about a log that two histories claim.

use std::sync::Arc;

use crate::cli::args::Settle;
use crate::cli::context::Context;
use crate::cli::context::wait_for_others;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::failure::one_line;
use crate::cli::terminal;
use crate::id::Digest;
use crate::id::Fingerprint;
use crate::store::Store;
use crate::vault::LockedVault;
use crate::vault::Vault;
use crate::vault::authority::Log;
use crate::vault::authority::Vouched;
use crate::vault::error::Error;
use crate::vault::fork::Branch;
use crate::vault::fork::Fork;
use crate::vault::record::Payload;
use crate::vault::slot::Way;

/// How much of a digest is shown.
const SHOWN_DIGITS: usize = 12;

impl Context {
    /// Lets one history of a forked log stand, if `--settle-fork` or the person says so; what he opened the
    /// vault with, if he was asked.
    ///
    /// # Errors
    /// `Exit::History` if two records are rivals and nobody says which is to stand, or if the one that is
    /// named isn't of the history that this machine has seen; as [`Context::unlock_owner`].
    pub(super) fn settle_fork(&self) -> Result<Option<Way>, Failure> {
        let (store, machine) = (self.store()?, self.machine()?);
        let expected = self.expected(&*store, &machine)?;
        let vouched = self.vouched(&*store, &machine, expected.as_ref())?;
        match LockedVault::load_from(Arc::clone(&store), expected.as_ref(), vouched) {
            Err(error @ Error::Rivals { .. }) => {
                self.settle_rivals(&Fork::load(&store, expected.as_ref(), vouched)?, &error)
            }
            // Whatever else is wrong, unlocking tells.
            _ if self.vault.settle_fork.is_none() => Ok(None),
            _ => self.settle_branches(&store, expected.as_ref(), vouched),
        }
    }

    /// Two records at the last place, and this machine has seen neither.
    fn settle_rivals(&self, fork: &Fork, error: &Error) -> Result<Option<Way>, Failure> {
        let way = self.secrets.way()?;
        let opened = [0, 1].map(|at| way.as_ref().and_then(|way| fork.unlock(at, way).ok()));
        let words = [0, 1].map(|at| in_words(fork, at, &opened));
        let winner = match &self.vault.settle_fork {
            Some(Settle::Record(begin)) => fork.find(begin).ok_or_else(|| no_such_record(begin))?,
            Some(_) => fork.decided().ok_or_else(|| undecided(fork, &words))?,
            None if terminal::is_there() => ask(fork, &words)?.ok_or_else(|| Failure::from(error))?,
            None => return Err(error.into()),
        };
        drop(opened);
        let locked = fork.rivals()[winner].locked().map_err(Failure::from)?;
        let is_known = self.machine()?.check(locked)?.is_some();
        let way = match way {
            Some(way) => way,
            None => self.way(locked)?,
        };
        let mut vault = fork.unlock(winner, &way).map_err(|error| Failure::unlock(error, &way))?;
        vault.admin()?;
        self.confirm_recipient(&vault, is_known)?;
        fork.settle(winner, &mut vault, self.now, &wait_for_others)?;
        self.warn(&format!(
            "two owners' commands had been cut off as they met; `{}` stands, and `{}` counts for nothing: \
             whoever gave that command gives it again",
            words[winner],
            words[1 - winner]
        ));
        Ok(Some(way))
    }

    /// Two branches, of which this machine, a receipt or the person knows the one that is the vault's.
    fn settle_branches(
        &self,
        store: &Arc<dyn Store>,
        expected: Option<&Fingerprint>,
        vouched: Option<Vouched>,
    ) -> Result<Option<Way>, Failure> {
        let named = match &self.vault.settle_fork {
            Some(Settle::Record(begin)) => match &Log::find_records(&**store, begin)?[..] {
                [head] => Some(Vouched::from(*head)),
                _ => return Err(no_such_record(begin)),
            },
            _ => None,
        };
        let Some(keep) = Vouched::newer(vouched, named) else { return Ok(None) };
        let branch = Branch::load(store, expected, keep)?;
        for known in vouched.iter().chain(&named) {
            known.check(branch.locked().log())?;
        }
        if branch.others().is_empty() {
            return Ok(None);
        }
        if branch.is_voided() && named.is_none() {
            return Err(voided(branch.locked().log()));
        }
        let is_known = self.machine()?.check(branch.locked())?.is_some();
        let way = self.way(branch.locked())?;
        let vault = Branch::load(store, expected, keep)?.into_locked().unlock(&way);
        let vault = vault.map_err(|error| Failure::unlock(error, &way))?;
        vault.admin()?;
        self.confirm_recipient(&vault, is_known)?;
        branch.remove_others()?;
        let removed: Vec<String> = branch.others().iter().map(ToString::to_string).collect();
        self.warn(&format!(
            "the vault's log was forked: what is not of the history that stands was removed: {}",
            removed.join(", ")
        ));
        Ok(Some(way))
    }
}

/// Has a person choose; none if he doesn't.
fn ask(fork: &Fork, words: &[String; 2]) -> Result<Option<usize>, Failure> {
    let [first, second] = words;
    terminal::tell(&format!(
        "Two owners' commands were cut off as they met, and both stand at place {} of the vault's log:\n\n    \
         {first}\n    {second}\n\nOne of them can stand; the other one will have been as if it was never given.\n",
        fork.seq()
    ));
    if let Some(winner) = fork.decided() {
        let which = if winner == 0 { "first" } else { "second" };
        let answer = terminal::ask_line(&format!("Type yes to let the {which} stand: "))?;
        return Ok(answer.eq_ignore_ascii_case("yes").then_some(winner));
    }
    terminal::tell(&format!("{WHO_DECIDES}.\n"));
    let answer = terminal::ask_line("Type the first digits of the one that is to stand: ")?;
    Ok(fork.find(&answer.trim().to_ascii_lowercase()))
}

const WHO_DECIDES: &str = "one of them changes the key that owners sign with, so the other may be the doing of \
     somebody whom it shuts out: ask the other owners, or a machine that has seen the vault since";

fn undecided(fork: &Fork, words: &[String; 2]) -> Failure {
    let [first, second] = words;
    let seq = fork.seq();
    Failure::new(
        Exit::History,
        format!("two records stand at place {seq} of the vault's log, and nothing says which is right: {first}; or {second}"),
    )
    .hint(format!(
        "{WHO_DECIDES}; then say which is to stand: `--settle-fork={}` or `--settle-fork={}`, or a receipt in place \
         of the digits",
        shown(&fork.rivals()[0].digest()),
        shown(&fork.rivals()[1].digest())
    ))
}

fn voided(log: &Log) -> Failure {
    let head = log.head();
    let digits = shown(&head.digest);
    let what = format!(
        "record {} of the vault's log ({digits}), the last that this machine has seen, was voided by somebody who \
         could sign for the vault",
        head.seq
    );
    Failure::new(Exit::History, what).hint(format!(
        "ask the other owners: if one of them settled a fork, remove this machine's pins and look again; if not, \
         `--settle-fork={digits}` keeps that record and removes what voids it"
    ))
}

fn no_such_record(begin: &str) -> Failure {
    Failure::new(
        Exit::History,
        format!("not one record of the vault's log alone has a digest that begins with {begin}"),
    )
    .hint("`--settle-fork` alone says which there are to choose from")
}

fn shown(digest: &Digest) -> String {
    digest.to_string()[..SHOWN_DIGITS].to_owned()
}

/// What one of two rivals says, for a person who has to choose or to do it again; with the labels of slots if
/// an owner opened the vault.
fn in_words(fork: &Fork, at: usize, opened: &[Option<Vault>; 2]) -> String {
    let rival = &fork.rivals()[at];
    let mut words = vec![format!("{} {}", shown(&rival.digest()), rival.payload().word())];
    words.extend(payload_in_words(rival.payload()));
    if rival.renews_authority() {
        words.push("another key that owners sign with".to_owned());
    }
    words.extend(slots_in_words(fork, at, opened));
    if rival.is_known() {
        words.push("known to a device's newest snapshot".to_owned());
    }
    if rival.has_begun() {
        words.push("objects that it removes are gone".to_owned());
    }
    if rival.locked().is_err() {
        words.push("what it rests on is gone".to_owned());
    }
    words.join(", ")
}

fn payload_in_words(payload: &Payload) -> Vec<String> {
    match payload {
        Payload::Keys(keys) => {
            vec![format!("generation {}", keys.generation), format!("epoch {} the newest", keys.newest)]
        }
        Payload::DeviceAdd { device, .. } | Payload::Message { device, .. } => {
            vec![format!("device {}", device.short())]
        }
        Payload::DeviceRevoke { head } => {
            vec![format!("device {} after its snapshot {}", head.device.short(), head.seq)]
        }
        _ => Vec::new(),
    }
}

/// Which slots are there with a record and aren't with the other one.
fn slots_in_words(fork: &Fork, at: usize, opened: &[Option<Vault>; 2]) -> Vec<String> {
    let table = |at: usize| fork.rivals()[at].locked().ok().and_then(|locked| locked.slot_table().ok());
    let (Some((own, _)), Some((other, _))) = (table(at), table(1 - at)) else { return Vec::new() };
    let alone = own.slots.iter().filter(|slot| other.slots.iter().all(|other| other.id != slot.id));
    alone
        .map(|slot| {
            let label = opened.iter().flatten().find_map(|vault| vault.slot_label(slot.id));
            let name = label.map_or_else(|| slot.id.short(), one_line);
            format!(
                "with the slot {name} ({}, {}) that the other one lacks",
                slot.role.word(),
                slot.lock.word()
            )
        })
        .collect()
}
