//! What this machine knows of whoever signed a sealed file.

use std::path::Path;
use std::sync::Arc;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::crypto::sign::VerifyingKey;
use crate::crypto::text;
use crate::store::Local;
use crate::store::Store;
use crate::vault::LockedVault;
use crate::vault::machine::Machine;
use crate::vault::sender::Sender;

/// What the vault that a signer names says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is a device there, by this key.
    Device,
    /// An owner has shut it out.
    Revoked,
    /// No device there has this name and key: somebody who once was an owner may have signed for it.
    Stranger,
    /// This machine doesn't reach the vault, or finds an older state of it than it has seen.
    Unchecked,
}

/// Whoever signed a file.
pub struct Known {
    /// Who.
    pub sender: Sender,
    /// Whether this machine has seen the vault that it names.
    pub is_vault_known: bool,
    /// Whether `--from` names that vault.
    pub is_named: bool,
    /// What that vault says.
    pub standing: Standing,
}

impl Known {
    /// Looks into the vault that `sender` names, where this machine has seen it; `bytes` are what was signed with,
    /// and `is_named` says whether the person named that vault.
    ///
    /// # Errors
    /// If this machine's memory can't be read.
    pub fn find(context: &Context, sender: Sender, bytes: &[u8], is_named: bool) -> Result<Self, Failure> {
        let machine = context.machine()?;
        let is_vault_known = machine.pins(&sender.vault)?.is_some();
        let mut standing = Standing::Unchecked;
        if let Ok(key) = crate::vault::sender::key_in(bytes) {
            for place in machine.places_of(&sender.vault)? {
                standing = standing_at(context, &machine, &place, &sender, &key).unwrap_or(standing);
                if standing != Standing::Unchecked {
                    break;
                }
            }
        }
        Ok(Self { sender, is_vault_known, is_named, standing })
    }

    /// Whether the signature counts for who it names.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.standing, Standing::Device | Standing::Unchecked)
    }

    /// The same in a word, for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.standing {
            Standing::Device => "device",
            Standing::Revoked => "revoked",
            Standing::Stranger => "stranger",
            Standing::Unchecked => "unchecked",
        }
    }

    /// The same in a line, for people.
    #[must_use]
    pub fn line(&self) -> String {
        let words = text::fingerprint_words(&self.sender.vault);
        let vault = format!("{words} ({})", text::fingerprint_base32(&self.sender.vault));
        let device = self.sender.device.short();
        let sealed = match (self.standing, self.is_vault_known, self.is_named) {
            (Standing::Revoked, ..) => {
                return format!(
                    "sender unverified: signed by device {device}, which was shut out of the vault {vault}"
                );
            }
            (Standing::Stranger, ..) => {
                return format!(
                    "sender unverified: signed by device {device}, which the vault {vault} doesn't have"
                );
            }
            (_, true, _) => format!("sealed by device {device} of a vault that this machine knows: {vault}"),
            (_, false, true) => format!("sealed by device {device} of the vault that was named: {vault}"),
            (_, false, false) => format!("sender unverified: signed by device {device} of the vault {vault}"),
        };
        match self.standing {
            Standing::Unchecked => format!("{sealed}; whether it was shut out since was not checked"),
            _ => sealed,
        }
    }
}

/// What the vault at `place` says, if it is there, and not older than this machine has seen it.
fn standing_at(
    context: &Context,
    machine: &Machine,
    place: &str,
    sender: &Sender,
    key: &VerifyingKey,
) -> Option<Standing> {
    let store: Arc<dyn Store> = Arc::new(Local::load(Path::new(place)).ok()?);
    let vouched = context.vouched(&*store, machine, Some(&sender.vault)).ok()?;
    let locked = LockedVault::load_from(store, Some(&sender.vault), vouched).ok()?;
    machine.check(&locked).ok()?;
    Some(match locked.log().devices().get(&sender.device) {
        Some(device) if device.verifying_key != *key => Standing::Stranger,
        Some(device) if device.revoked.is_some() => Standing::Revoked,
        Some(_) => Standing::Device,
        None => Standing::Stranger,
    })
}
