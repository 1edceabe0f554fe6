//! What can go wrong with a vault, told apart by what a person has to do about it.

use std::fmt;
use std::sync::Arc;

use data_encoding::HEXLOWER;

use crate::crypto::text;
use crate::id::DeviceId;
use crate::id::Fingerprint;
use crate::id::ObjectName;
use crate::seal::pseal;
use crate::store;
use crate::tree::path::printable;

/// Why a vault could not be used, read or added to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The store failed; a write that failed is fatal.
    Store(store::Error),
    /// The place holds no vault: it has no authority log.
    NoVault {
        /// The store's place.
        place: String,
    },
    /// A vault was begun here and never finished: it has a first record and nothing else.
    Unfinished {
        /// The store's place.
        place: String,
    },
    /// The place holds a vault already.
    VaultExists {
        /// The store's place.
        place: String,
    },
    /// An object fails its check.
    Damaged {
        /// Which.
        name: ObjectName,
        /// How, lower case: the layer beneath says it.
        what: String,
    },
    /// An object that must exist isn't there.
    Missing {
        /// Which.
        name: ObjectName,
    },
    /// A chunk is in none of the packs that could be read, and an index that might lead to it can't be
    /// used.
    Unindexed(
        /// Why it can't.
        Arc<Error>,
    ),
    /// Something that this version doesn't know.
    Newer {
        /// Which object.
        name: ObjectName,
    },
    /// Another vault than the one that was expected.
    OtherVault {
        /// What was expected.
        expected: Fingerprint,
        /// What is there.
        found: Fingerprint,
    },
    /// The vault is older than what this machine, or a receipt, has seen.
    RolledBack {
        /// What is older, lower case.
        what: String,
    },
    /// The vault tells another history than this machine, or a receipt, has seen, or two at once.
    Forked {
        /// What differs, lower case.
        what: String,
    },
    /// Two headers of a device stand at one place of its chain: two machines have its state, or had.
    ForkedChain {
        /// Which device.
        device: DeviceId,
        /// The place.
        seq: u64,
    },
    /// Two records stand at the last place of the vault's log: two owners' commands were cut off as they met.
    Rivals {
        /// The place.
        seq: u64,
    },
    /// A record stands beside one that this machine knows to be the log's.
    OtherBranch {
        /// Which.
        name: ObjectName,
    },
    /// A part of a device's signed history isn't there.
    HistoryMissing {
        /// What is missing, lower case.
        what: String,
    },
    /// No slot opens with the secrets given.
    WrongKey,
    /// The vault has no slot for the kinds of secrets given; what kinds it has.
    NoSlotForKey {
        /// Words for the kinds of slots that exist.
        kinds: Vec<&'static str>,
    },
    /// The cards given are of a set that opens nothing here.
    OtherCards {
        /// Theirs.
        given: [u8; 8],
        /// The sets that open the vault.
        known: Vec<[u8; 8]>,
    },
    /// A slot asks for a key derivation beyond the bounds.
    ExpensiveKdf {
        /// Of the slot table.
        name: ObjectName,
        /// What it asks for.
        asked: String,
    },
    /// This machine doesn't give the memory that a passphrase of this vault takes.
    Memory {
        /// In KiB.
        kib: u32,
    },
    /// The key at hand may only read.
    NotOwner,
    /// This machine holds no device key of the vault.
    NotEnrolled {
        /// The vault.
        fingerprint: Fingerprint,
    },
    /// This machine asked to join and its grant isn't there yet.
    NotApproved {
        /// The device that asked.
        device: DeviceId,
    },
    /// An owner revoked this device.
    Revoked {
        /// Which.
        device: DeviceId,
    },
    /// Another run of this device is at work.
    Locked {
        /// The lock's file.
        place: String,
    },
    /// The vault's newest header of this device is not this device's doing.
    Cloned {
        /// Which.
        device: DeviceId,
        /// The chain place that two states claim.
        seq: u64,
    },
    /// The local state of this machine is damaged.
    State {
        /// Which file.
        place: String,
        /// How, lower case.
        what: String,
    },
    /// No snapshot fits.
    NoSuchSnapshot {
        /// What was asked for.
        wanted: String,
        /// Whether several fit.
        ambiguous: bool,
    },
    /// Nothing stands at this path of the snapshot.
    NoSuchEntry {
        /// Safe to print.
        path: String,
    },
    /// What was to be stored has too many parts for the format.
    TooMuch {
        /// What there are too many of, lower case.
        what: &'static str,
    },
    /// What owners keep of slots, people and machines has a bound, and this goes beyond it.
    NoRoom {
        /// What there is no room for, lower case.
        what: &'static str,
    },
    /// The slot at hand was taken away or replaced meanwhile.
    SlotGone,
    /// No slot or device is called that.
    NoSuchLabel {
        /// What was asked for, safe to print.
        label: String,
    },
    /// A slot or a device is called that already.
    LabelTaken {
        /// As it was given.
        label: String,
    },
    /// There are as many slots with a passphrase as one passphrase is tried on.
    TooManyPassphrases,
    /// The last owner's slot can't be taken away.
    LastOwner,
    /// No request to join has this code.
    NoSuchRequest,
    /// A device that asks to join is one already.
    DeviceExists {
        /// Which.
        device: DeviceId,
    },
    /// An owner started another epoch meanwhile.
    EpochChanged,
    /// Another owner gave the machine that is to join another name meanwhile.
    Renamed,
    /// What was just sealed doesn't open to what it was made of; nothing of it was stored.
    Unfaithful(pseal::Error),
    /// Writers kept taking the next place in the log.
    Contended,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::NoVault { place } => write!(f, "there is no vault in {place}"),
            Self::Unfinished { place } => write!(f, "a vault was begun in {place} and never finished"),
            Self::VaultExists { place } => write!(f, "there is a vault in {place} already"),
            Self::Damaged { name, what } => write!(f, "object {name} is damaged: {what}"),
            Self::Missing { name } => write!(f, "object {name} is missing"),
            Self::Unindexed(index) => {
                write!(f, "{index}, and no pack that could be read holds what is looked for")
            }
            Self::Newer { name } => write!(f, "object {name} was made by a newer strongroom"),
            Self::OtherVault { expected, found } => {
                let known = |of| (text::fingerprint_base32(of), text::fingerprint_words(of));
                let ((found, words), (expected, other_words)) = (known(found), known(expected));
                write!(
                    f,
                    "this is another vault: its fingerprint is {found} ({words}), not {expected} ({other_words})"
                )
            }
            Self::RolledBack { what } => write!(f, "the vault was rolled back: {what}"),
            Self::Forked { what } => write!(f, "the vault's history was forked: {what}"),
            Self::ForkedChain { device, seq } => write!(
                f,
                "the vault's history was forked: device {} has two snapshots at place {seq}",
                device.short()
            ),
            Self::Rivals { seq } => {
                write!(
                    f,
                    "the vault's history was forked: two records stand at place {seq}, the last of its log"
                )
            }
            Self::OtherBranch { name } => {
                write!(
                    f,
                    "the vault's history was forked: record {name} is not of the log that this machine knows"
                )
            }
            Self::HistoryMissing { what } => write!(f, "the vault's history is incomplete: {what}"),
            Self::WrongKey => write!(f, "no slot of this vault opens with that key"),
            Self::NoSlotForKey { kinds } => {
                write!(f, "no slot of this vault takes that kind of key; it has: {}", kinds.join(", "))
            }
            Self::ExpensiveKdf { name, asked } => {
                write!(f, "object {name} asks for {asked} to try a passphrase, which is out of bounds")
            }
            Self::OtherCards { given, known } => {
                let known: Vec<String> = known.iter().map(|set| HEXLOWER.encode(set)).collect();
                let given = HEXLOWER.encode(given);
                write!(f, "these cards are of set {given}; this vault's are of set {}", known.join(", "))
            }
            Self::Memory { kib } => write!(
                f,
                "a passphrase of this vault takes {} MiB of memory, which this machine doesn't give",
                kib.div_ceil(1024)
            ),
            Self::NotOwner => write!(f, "that key may read and verify; this takes an owner's"),
            Self::NotEnrolled { fingerprint } => {
                write!(f, "this machine is not enrolled as a device of vault {}", fingerprint.short())
            }
            Self::NotApproved { device } => {
                write!(f, "an owner has not approved this device yet ({})", device.short())
            }
            Self::Revoked { device } => write!(f, "an owner revoked this device ({})", device.short()),
            Self::Locked { place } => write!(f, "another run of this device is at work ({place})"),
            Self::Cloned { device, seq } => write!(
                f,
                "snapshot {seq} of device {} in the vault is not this machine's doing",
                device.short()
            ),
            Self::State { place, what } => write!(f, "this machine's state in {place} is damaged: {what}"),
            Self::NoSuchSnapshot { wanted, ambiguous: false } => write!(f, "there is no snapshot {wanted}"),
            Self::NoSuchSnapshot { wanted, ambiguous: true } => {
                write!(f, "more than one snapshot begins with {wanted}")
            }
            Self::NoSuchEntry { path } => write!(f, "the snapshot holds nothing at {path}"),
            Self::TooMuch { what } => write!(f, "there are too many {what} for one snapshot"),
            Self::NoRoom { what } => write!(f, "the vault has no room for more {what}"),
            Self::SlotGone => write!(f, "the slot was taken away or replaced by an owner"),
            Self::NoSuchLabel { label } => write!(f, "nothing in this vault is called {label}"),
            Self::LabelTaken { label } => {
                write!(f, "{} is the name of another one already", printable(label.as_bytes()))
            }
            Self::TooManyPassphrases => {
                write!(f, "the vault has as many passphrase slots as are ever tried: 8")
            }
            Self::LastOwner => write!(f, "the vault would be left without an owner"),
            Self::NoSuchRequest => write!(f, "no request to join this vault has that code"),
            Self::DeviceExists { device } => {
                write!(f, "device {} is enrolled in this vault already", device.short())
            }
            Self::Renamed => write!(f, "another owner gave the machine another name at the same moment"),
            Self::EpochChanged => write!(f, "an owner started another epoch at the same moment"),
            Self::Unfaithful(error) => {
                write!(
                    f,
                    "what was just sealed does not open: {error}: this machine's memory or processor is at fault"
                )
            }
            Self::Contended => write!(f, "other owners' commands kept changing the vault at the same moment"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::Unindexed(index) => index.source(),
            _ => None,
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Missing { name } => Self::Missing { name },
            store::Error::NoVault { place } => Self::NoVault { place },
            error => Self::Store(error),
        }
    }
}
