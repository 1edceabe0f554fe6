//! What the machine says of owners, and allows to be held open.

use std::collections::HashMap;
use std::sync::Arc;

use nix::unistd::Gid;
use nix::unistd::Group;
use nix::unistd::Uid;
use nix::unistd::User;

use crate::tree::entry::Owner;

/// How deep directories are walked into, however many files may be open. Whoever reads a snapshot holds
/// a part of each directory on the way down, up to some 100 KB, so this bounds what a tree that somebody
/// made to do harm costs him: deeper than anything that serves a purpose.
const DEPTH_MAX: usize = 4_096;

/// Names of users and groups, looked up once each.
#[derive(Default)]
pub struct Owners {
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
}

impl Owners {
    /// Nobody looked up yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The owner with these numbers, and with their names where this machine knows them.
    pub fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        let user = self.users.entry(uid).or_insert_with(|| {
            keepable(User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name))
        });
        let group = self.groups.entry(gid).or_insert_with(|| {
            keepable(Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name))
        });
        Owner { uid, gid, user: Arc::clone(user), group: Arc::clone(group) }
    }
}

/// The number of a user, if this machine knows the name.
#[must_use]
pub fn user_number(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// The number of a group, if this machine knows the name.
#[must_use]
pub fn group_number(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// A name that an entry can keep; the empty one in place of any other.
pub(super) fn keepable(name: Option<String>) -> Arc<str> {
    name.filter(|name| name.len() <= 255 && !name.contains('\0')).unwrap_or_default().into()
}

/// Lets this process open as many files as it may: a handle is held for each directory that it is in.
///
/// Gives how many that are; `None` if there is no limit.
pub fn raise_open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // It stays as it was if this fails, and is told as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// How many directories deep a walk may go in this process: each on the way is held open, and a quarter
/// of the files that may be open is left for everything else, such as the store.
#[must_use]
pub fn depth_max() -> usize {
    use rustix::process::{Resource, getrlimit};
    depth_within(getrlimit(Resource::Nofile).current)
}

pub(super) fn depth_within(open_files: Option<u64>) -> usize {
    let held = open_files.map_or(u64::MAX, |limit| limit - limit / 4);
    usize::try_from(held).unwrap_or(usize::MAX).min(DEPTH_MAX)
}
