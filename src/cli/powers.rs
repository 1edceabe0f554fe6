//! What whoever takes this machine over could do to the vault, with nothing but its access to the storage.

use crate::cli::context::Context;
use crate::id::Fingerprint;
use crate::store::Rights;
use crate::store::Store;
use crate::vault::device::DeviceKeys;
use crate::vault::join;
use crate::vault::join::Request;

/// Folders whose objects tell what the access allows: the vault's records, and the heads of its snapshots.
const TELLING: [&str; 2] = ["a/", "s/"];

/// What this machine's access to a store allows.
#[derive(Clone, Copy)]
pub struct Powers {
    /// To what the vault holds, whoever put it.
    pub held: Rights,
    /// To what this machine puts.
    pub own: Rights,
}

impl Powers {
    /// What the access allows, as far as the store can tell by itself.
    #[must_use]
    pub fn over(store: &dyn Store) -> Self {
        let listed = TELLING.iter().flat_map(|folder| store.list(folder).unwrap_or_default());
        let held = listed.fold(Rights::default(), |held, object| {
            // What is gone since it was listed tells nothing.
            held.or(store.rights(&object.name).unwrap_or_default())
        });
        Self { held, own: Rights::default() }
    }

    /// The same, and what is found out by trying: with this machine's own request, which is put back.
    #[must_use]
    pub fn tried(keys: &DeviceKeys, fingerprint: &Fingerprint, store: &dyn Store) -> Self {
        Self { own: try_own(keys, fingerprint, store), ..Self::over(store) }
    }

    /// Whether anything of the vault could be deleted, and overwritten.
    #[must_use]
    pub fn all(self) -> Rights {
        self.held.or(self.own)
    }

    /// Says what could be done, if anything, and what to do about it.
    pub fn tell(self, context: &Context) {
        let (rights, what) =
            if self.held.any() { (self.held, "what the vault holds") } else { (self.own, "what it adds") };
        let can = match (rights.remove, rights.overwrite) {
            (true, true) => "delete and overwrite",
            (true, false) => "delete",
            (false, true) => "overwrite",
            (false, false) => return,
        };
        context.note(&format!(
            "note: this machine can {can} {what}, and so can whoever takes it over: `strongroom verify` shows it, nothing \
             undoes it. Where the storage allows it, give the machine access that only adds"
        ));
    }
}

fn try_own(keys: &DeviceKeys, fingerprint: &Fingerprint, store: &dyn Store) -> Rights {
    let Ok(waiting) = join::requests(store, fingerprint) else { return Rights::default() };
    let own = waiting
        .into_iter()
        .find(|each| matches!(&each.request, Ok((request, _)) if request.device == keys.device));
    let Some(own) = own else { return Rights::default() };
    let overwrite = store.rights(&own.name).is_ok_and(|rights| rights.overwrite);
    let remove = store.remove(&own.name.second()).is_ok();
    // If it can't be put back there is the first copy.
    let _ = Request::put(fingerprint, keys, store);
    Rights { remove, overwrite }
}
