//! Which snapshots there are, and which one a person means.

use std::sync::Arc;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::id::DeviceId;
use crate::task::error::Error;
use crate::vault::Vault;
use crate::vault::body::Body;
use crate::vault::error::Error as VaultError;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::read::SnapshotReader;
use crate::vault::witness::Whole;

/// A snapshot as its header tells of it, and its body once that is asked for.
pub struct Listed<'v> {
    vault: &'v Vault,
    /// Whose it is.
    pub device: DeviceId,
    /// The device's verified chain, which it is part of.
    pub history: Arc<History>,
    /// Its header.
    pub snapshot: Snapshot,
    /// Whether an owner has forgotten it; it may still be there to be read.
    pub forgotten: bool,
    body: OnceLock<Result<Body, VaultError>>,
}

impl Listed<'_> {
    /// When the backup began, in nanoseconds since 1970 UTC.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.snapshot.header.time
    }

    /// Its body, read when it is first asked for.
    ///
    /// # Errors
    /// As [`Vault::body`].
    pub fn body(&self) -> Result<&Body, &VaultError> {
        self.body.get_or_init(|| self.vault.body(&self.history, &self.snapshot)).as_ref()
    }
}

/// All snapshots of a vault.
pub struct Listing<'v> {
    /// Oldest first; those of one time by device and place in its chain.
    pub snapshots: Vec<Listed<'v>>,
    /// Devices whose chains can't be read, or don't verify, to their end.
    pub broken: Vec<Broken>,
}

/// A chain that can't be read to its end.
pub struct Broken {
    /// Whose.
    pub device: DeviceId,
    /// The first place of it that isn't listed, nor is any after it.
    pub from: u64,
    /// Why.
    pub error: VaultError,
}

impl Listing<'_> {
    /// Reads the bodies of all snapshots that aren't forgotten, at once: for whoever needs them all.
    pub fn read_bodies(&self) {
        self.snapshots.par_iter().filter(|listed| !listed.forgotten).for_each(|listed| {
            // Whoever asks for it is told if it can't be read.
            let _ = listed.body();
        });
    }
}

/// Reads the chains of all devices; bodies are read when they are asked for.
///
/// A chain that is damaged or forked is told and stops nothing: what is before that place is listed.
#[must_use]
pub fn snapshots(vault: &Vault) -> Listing<'_> {
    let devices: Vec<DeviceId> = vault.log().devices().keys().copied().collect();
    let chains: Vec<_> =
        devices.into_par_iter().map(|device| (device, vault.locked().whole_history(device))).collect();
    let mut listing = Listing { snapshots: Vec::new(), broken: Vec::new() };
    for (device, chain) in chains {
        let Whole { history, hindrance, .. } = match chain {
            Ok(whole) => whole,
            Err(error) => {
                listing.broken.push(Broken { device, from: 1, error });
                continue;
            }
        };
        if let Some(error) = hindrance {
            let from = history.head().map_or(0, |head| head.seq) + 1;
            listing.broken.push(Broken { device, from, error });
        }
        let history = Arc::new(history);
        listing.snapshots.extend(history.snapshots().iter().map(|snapshot| Listed {
            vault,
            device,
            history: Arc::clone(&history),
            snapshot: snapshot.clone(),
            forgotten: vault.log().is_forgotten(device, snapshot.header.seq),
            body: OnceLock::new(),
        }));
    }
    listing.snapshots.sort_by_key(|listed| (listed.time(), listed.device, listed.snapshot.header.seq));
    listing
}

/// Which snapshot is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// The newest that passes the filters, or the one so many before it.
    Latest {
        /// How many newer ones are passed over.
        back: usize,
    },
    /// The one whose id begins with these hex digits.
    Id(String),
}

impl Which {
    /// Reads `latest`, `latest~N` or the beginning of an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest { back: 0 });
        }
        if let Some(back) = text.strip_prefix("latest~") {
            return back.parse().ok().map(|back| Self::Latest { back });
        }
        let is_hex =
            !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| Self::Id(text.to_ascii_lowercase()))
    }

    fn words(&self) -> String {
        match self {
            Self::Latest { back: 0 } => "latest".to_owned(),
            Self::Latest { back } => format!("latest~{back}"),
            Self::Id(digits) => digits.clone(),
        }
    }
}

/// What a snapshot must have to be listed or chosen; nothing is asked by default.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Filters {
    /// One of these hosts, if any are given.
    pub hosts: Vec<String>,
    /// All tags of one of these sets, if any are given.
    pub tags: Vec<Vec<String>>,
    /// All of these paths among those that were backed up.
    pub paths: Vec<Vec<u8>>,
    /// Begun at this time or before, in nanoseconds since 1970 UTC.
    pub before: Option<u64>,
}

impl Filters {
    /// Whether `listed` passes; its body is read only if one of these asks for what it tells. One whose
    /// body can't be read doesn't pass then.
    #[must_use]
    pub fn pass(&self, listed: &Listed<'_>) -> bool {
        if self.before.is_some_and(|before| listed.time() > before) {
            return false;
        }
        if self.hosts.is_empty() && self.tags.is_empty() && self.paths.is_empty() {
            return true;
        }
        let Ok(body) = listed.body() else { return false };
        (self.hosts.is_empty() || self.hosts.contains(&body.host))
            && (self.tags.is_empty()
                || self.tags.iter().any(|set| set.iter().all(|tag| body.tags.contains(tag))))
            && self.paths.iter().all(|path| body.paths.contains(path))
    }
}

/// Chooses one snapshot. Time and id stand in headers; only as many bodies are read as `filters` ask for,
/// from the newest on.
///
/// The newest is chosen even if its body is damaged, unless a filter asks what the body would tell: a
/// person must not be handed an older one unawares. Forgotten ones are chosen only by their id.
///
/// # Errors
/// [`VaultError::NoSuchSnapshot`].
pub fn choose<'l, 'v>(
    listed: &'l [Listed<'v>],
    which: &Which,
    filters: &Filters,
) -> Result<&'l Listed<'v>, Error> {
    let none = |ambiguous| Err(Error::Vault(VaultError::NoSuchSnapshot { wanted: which.words(), ambiguous }));
    match which {
        Which::Latest { back } => {
            let mut newest_first =
                listed.iter().rev().filter(|listed| !listed.forgotten && filters.pass(listed));
            newest_first.nth(*back).map_or_else(|| none(false), Ok)
        }
        Which::Id(digits) => {
            let fits = |listed: &&Listed<'_>| listed.snapshot.id().to_string().starts_with(digits.as_str());
            let mut fitting = listed.iter().filter(fits).filter(|listed| filters.pass(listed));
            match (fitting.next(), fitting.next()) {
                (Some(listed), None) => Ok(listed),
                (None, _) => none(false),
                (Some(_), Some(_)) => none(true),
            }
        }
    }
}

/// Opens a snapshot to be read; a body that was read to choose it isn't read again.
///
/// # Errors
/// [`Error::Vault`] of its body.
pub fn reader<'v>(vault: &'v Vault, listed: &Listed<'_>) -> Result<SnapshotReader<'v>, Error> {
    let history = Arc::clone(&listed.history);
    Ok(match listed.body.get() {
        Some(Ok(body)) => SnapshotReader::new(vault, history, &listed.snapshot, body.clone()),
        _ => SnapshotReader::load(vault, history, &listed.snapshot)?,
    })
}
