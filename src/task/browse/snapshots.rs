//! Which snapshots there are, and which one a person means.

use std::sync::Arc;

use rayon::prelude::*;

use crate::id::DeviceId;
use crate::task::error::Error;
use crate::vault::Vault;
use crate::vault::body::Body;
use crate::vault::error::Error as VaultError;
use crate::vault::header::Snapshot;
use crate::vault::history::History;
use crate::vault::read::SnapshotReader;

/// A snapshot and what is known of it.
pub struct Listed {
    /// Whose it is.
    pub device: DeviceId,
    /// The device's verified chain, which it is part of.
    pub history: Arc<History>,
    /// Its header.
    pub snapshot: Snapshot,
    /// Its body: not there if it is forgotten, damaged or missing.
    pub body: Option<Body>,
    /// Whether an owner has forgotten it; it may still be there to be read.
    pub forgotten: bool,
    /// Why there is no body, though it isn't forgotten.
    pub error: Option<VaultError>,
}

impl Listed {
    /// When the backup began, in nanoseconds since 1970 UTC; of one without a body, when it ended.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.body.as_ref().map_or(self.snapshot.header.time, |body| body.begun)
    }
}

/// All snapshots of a vault.
pub struct Listing {
    /// Oldest first; those of one time by device and place in its chain.
    pub snapshots: Vec<Listed>,
    /// Devices whose chains can't be read or don't verify; none of their snapshots is listed.
    pub broken: Vec<(DeviceId, VaultError)>,
}

/// Reads the chains of all devices, and the bodies of all snapshots that aren't forgotten.
///
/// A chain or a body that is damaged is told and stops nothing.
#[must_use]
pub fn snapshots(vault: &Vault) -> Listing {
    let devices: Vec<DeviceId> = vault.log().devices().keys().copied().collect();
    let chains: Vec<_> = devices
        .into_par_iter()
        .map(|device| (device, vault.locked().history(device).map(Arc::new)))
        .collect();
    let mut listing = Listing { snapshots: Vec::new(), broken: Vec::new() };
    let mut found = Vec::new();
    for (device, chain) in chains {
        match chain {
            Err(error) => listing.broken.push((device, error)),
            Ok(history) => {
                let all = history.snapshots().iter().cloned();
                found.extend(all.map(|snapshot| (Arc::clone(&history), snapshot)));
            }
        }
    }
    listing.snapshots =
        found.into_par_iter().map(|(history, snapshot)| look_at(vault, history, snapshot)).collect();
    listing.snapshots.sort_by_key(|listed| (listed.time(), listed.device, listed.snapshot.header.seq));
    listing
}

fn look_at(vault: &Vault, history: Arc<History>, snapshot: Snapshot) -> Listed {
    let device = history.device();
    let forgotten = vault.log().is_forgotten(device, snapshot.header.seq);
    let (body, error) = if forgotten {
        (None, None)
    } else {
        match vault.body(&history, &snapshot) {
            Ok(body) => (Some(body), None),
            Err(error) => (None, Some(error)),
        }
    };
    Listed { device, history, snapshot, body, forgotten, error }
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
    /// Whether `listed` passes. One without a body passes only if nothing is asked that it would tell.
    #[must_use]
    pub fn pass(&self, listed: &Listed) -> bool {
        if self.before.is_some_and(|before| listed.time() > before) {
            return false;
        }
        let Some(body) = &listed.body else {
            return self.hosts.is_empty() && self.tags.is_empty() && self.paths.is_empty();
        };
        (self.hosts.is_empty() || self.hosts.contains(&body.host))
            && (self.tags.is_empty()
                || self.tags.iter().any(|set| set.iter().all(|tag| body.tags.contains(tag))))
            && self.paths.iter().all(|path| body.paths.contains(path))
    }
}

/// Chooses one snapshot.
///
/// The newest is chosen even if its body is damaged, unless a filter asks what the body would tell: a
/// person must not be handed an older one unawares. Forgotten ones are chosen only by their id.
///
/// # Errors
/// [`VaultError::NoSuchSnapshot`].
pub fn choose<'l>(listed: &'l [Listed], which: &Which, filters: &Filters) -> Result<&'l Listed, Error> {
    let passing = listed.iter().filter(|listed| filters.pass(listed));
    let none = |ambiguous| Err(Error::Vault(VaultError::NoSuchSnapshot { wanted: which.words(), ambiguous }));
    match which {
        Which::Latest { back } => {
            let newest_first = passing.filter(|listed| !listed.forgotten).collect::<Vec<_>>();
            newest_first.into_iter().rev().nth(*back).map_or_else(|| none(false), Ok)
        }
        Which::Id(digits) => {
            let fits = |listed: &&Listed| listed.snapshot.id().to_string().starts_with(digits.as_str());
            let mut fitting = passing.filter(fits);
            match (fitting.next(), fitting.next()) {
                (Some(listed), None) => Ok(listed),
                (None, _) => none(false),
                (Some(_), Some(_)) => none(true),
            }
        }
    }
}

/// Opens a snapshot to be read.
///
/// # Errors
/// [`Error::Vault`] of its body.
pub fn reader<'v>(vault: &'v Vault, listed: &Listed) -> Result<SnapshotReader<'v>, Error> {
    Ok(SnapshotReader::load(vault, Arc::clone(&listed.history), &listed.snapshot)?)
}
