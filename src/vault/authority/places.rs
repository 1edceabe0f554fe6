//! The names below `a/`, by their places in the log, and which of them a vouched record leaves.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashSet;

use crate::crypto::digest;
use crate::id::ObjectName;
use crate::store::Store;
use crate::vault::authority::LogHead;
use crate::vault::authority::Vouched;
use crate::vault::authority::read::fetch_record;
use crate::vault::authority::read::gap;
use crate::vault::error::Error;
use crate::vault::fetch;
use crate::vault::name::Place;

/// What a store lists of a log.
pub(super) struct Places {
    names: BTreeMap<u64, Vec<ObjectName>>,
    /// Records with a second copy.
    copied: BTreeSet<ObjectName>,
}

impl Places {
    /// Lists them.
    ///
    /// # Errors
    /// [`Error::NoVault`] if there are none; [`Error::Store`].
    pub(super) fn load(store: &dyn Store) -> Result<Self, Error> {
        let mut places = Self { names: BTreeMap::new(), copied: BTreeSet::new() };
        for (name, is_copied) in fetch::list_copies(store, "a/")? {
            let Some(Place::Record { seq, .. }) = Place::parse(&name) else { continue };
            if is_copied {
                places.copied.insert(name.clone());
            }
            places.names.entry(seq).or_default().push(name);
        }
        if places.names.is_empty() { Err(Error::NoVault { place: store.place() }) } else { Ok(places) }
    }

    /// The names at one place.
    pub(super) fn at(&self, seq: u64) -> &[ObjectName] {
        self.names.get(&seq).map_or(&[], Vec::as_slice)
    }

    /// All names, with their places.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &ObjectName)> {
        self.names.iter().flat_map(|(seq, names)| names.iter().map(|name| (*seq, name)))
    }

    /// The last place.
    pub(super) fn last(&self) -> u64 {
        self.names.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Whether nobody is in the midst of adding to the log: a writer puts a record's second copy only once
    /// he has seen that no other one stands at its place. Where the record before lacks it too, somebody has
    /// taken second copies away, and nothing can be told.
    pub(super) fn is_settled(&self) -> bool {
        let is_copied = |seq| self.at(seq).iter().all(|name| self.copied.contains(name));
        let last = self.last();
        is_copied(last) || last == 0 || !is_copied(last - 1)
    }

    /// Leaves, at the places up to a vouched record, the chain that ends in it and nothing else, and takes away
    /// what follows other records than those of the chain; the names of all that.
    ///
    /// What follows a rival of the vouched record itself stays: if that has gone further, an owner may have
    /// settled a fork in its favour, and whoever has seen the loser must stop.
    ///
    /// # Errors
    /// [`Error::RolledBack`], [`Error::Forked`] or [`Error::HistoryMissing`] if that chain isn't there; what
    /// reading it says.
    pub(super) fn keep_chain(&mut self, store: &dyn Store, to: Vouched) -> Result<Vec<ObjectName>, Error> {
        self.keep(store, to, to.seq())
    }

    /// The same, and what follows a rival of the vouched record is taken away too.
    ///
    /// # Errors
    /// As [`Places::keep_chain`].
    pub(super) fn keep_branch(&mut self, store: &dyn Store, to: Vouched) -> Result<Vec<ObjectName>, Error> {
        self.keep(store, to, to.seq() + 1)
    }

    /// Keeps the chain that leads to a record, and what doesn't follow another one at a place before `until`.
    fn keep(&mut self, store: &dyn Store, to: Vouched, until: u64) -> Result<Vec<ObjectName>, Error> {
        if self.names.range(..=to.seq()).all(|(_, names)| names.len() == 1) {
            // Whether it is that chain is seen as it is read.
            return Ok(Vec::new());
        }
        let chain = self.chain(store, to)?;
        let (mut aside, mut others) = (Vec::new(), HashSet::new());
        for (seq, names) in &mut self.names {
            aside.extend(names.extract_if(.., |name| {
                let record = fetch_record(store, name, None).ok().filter(|_| !chain.contains(name));
                let is_other = record.is_some_and(|(record, bytes)| {
                    let is_other = *seq < until || others.contains(&record.prev);
                    is_other && others.insert(digest::digest(&bytes))
                });
                is_other || *seq <= to.seq() && !chain.contains(name)
            }));
        }
        self.names.retain(|_, names| !names.is_empty());
        Ok(aside)
    }

    /// The names of the chain that leads back from a vouched record.
    fn chain(&self, store: &dyn Store, to: Vouched) -> Result<BTreeSet<ObjectName>, Error> {
        let mut chain = BTreeSet::new();
        let mut wanted = to;
        loop {
            let seq = wanted.seq();
            let name = self.at(seq).iter().find(|name| match Place::parse(name) {
                Some(Place::Record { digest, .. }) => wanted.fits_name(&digest),
                _ => false,
            });
            let Some(name) = name else {
                return Err(match seq == to.seq() {
                    false => gap(seq),
                    true if self.at(seq).is_empty() => to.ends_before(self.last()),
                    true => to.is_another(),
                });
            };
            let (record, bytes) = fetch_record(store, name, None)?;
            if !wanted.fits(&digest::digest(&bytes)) {
                return Err(wanted.is_another());
            }
            chain.insert(name.clone());
            if seq == 0 {
                return Ok(chain);
            }
            wanted = Vouched::from(LogHead { seq: seq - 1, digest: record.prev });
        }
    }
}
