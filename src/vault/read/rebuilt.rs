//! An index made anew from what packs say of themselves.

use crate::id::ChunkId;
use crate::id::Digest;
use crate::vault::Vault;
use crate::vault::history::History;
use crate::vault::index;
use crate::vault::index::Prefix;
use crate::vault::read::pack::PackReader;

/// Which packs of a device hold which chunks, as their directories say.
///
/// What indexes say stands in the packs too, so a lost index costs time and no file. Takes 20 bytes of
/// memory a chunk of the device, which is less than was read for it.
pub struct Rebuilt {
    /// As headers list them.
    packs: Vec<Digest>,
    /// Ascending; a chunk that several packs hold has an entry for each.
    entries: Vec<(Prefix, u32)>,
}

impl Rebuilt {
    /// Reads the directories of all packs that the device's valid headers list: of each pack its first
    /// segment, or as many as its directory takes.
    ///
    /// What can't be read, or is no data pack, has no chunks to offer and is passed over: whoever looks
    /// for a chunk in vain learns of it then.
    pub(super) fn load(vault: &Vault, history: &History) -> Self {
        let mut rebuilt = Self { packs: Vec::new(), entries: Vec::new() };
        for located in history.must_exist(vault.log()) {
            let Ok(pack) = PackReader::load(vault, history.device(), &located) else { continue };
            let Ok(number) = u32::try_from(rebuilt.packs.len()) else { break };
            rebuilt.packs.push(pack.listed());
            rebuilt.entries.extend(pack.directory().chunks().map(|(id, _)| (index::prefix(&id), number)));
        }
        rebuilt.entries.sort_unstable();
        rebuilt
    }

    /// The listed names of the packs that hold a chunk, as far as its id is looked at here.
    pub(super) fn find(&self, id: &ChunkId) -> impl Iterator<Item = Digest> + use<'_> {
        let wanted = index::prefix(id);
        let from = self.entries.partition_point(|(prefix, _)| *prefix < wanted);
        let same = self.entries[from..].iter().take_while(move |(prefix, _)| *prefix == wanted);
        same.map(|(_, pack)| self.packs[*pack as usize])
    }
}
