//! Sealed objects: packs, indexes, snapshot bodies, messages and log entries, each to a public key.
//!
//! ```text
//! off   len   field
//! 0     8     "SRPACK" 01 00
//! 8     16    vault id
//! 24    16    device id
//! 40    4     epoch
//! 44    1     kind
//! 45    3     zero
//! 48    32    salt = BLAKE3-keyed(hedge, 32 random bytes || D || bytes 0..48)
//! 80    1120  X-Wing ciphertext
//! 1200  32    commitment
//! 1232  ..    segments: 65,536 bytes of plaintext + 16 of tag each, the last 1..65,536 + 16
//!
//! k(32) || base nonce(12) || commitment(32) = KDF(shared secret || psk, salt, "pack", F || bytes 0..1200)
//! nonce of segment i = base nonce XOR (00 00 00 || i, 8 bytes big-endian || 01 if last else 00)
//! ```
//!
//! Where an object belongs (vault, device, epoch, kind) goes into its key, so elsewhere it doesn't
//! open (R-8); a segment's index and whether it is the last go into its nonce (R-20). There is one key
//! an object and no nonce state (R-10).

use std::fmt;
use std::ops::Range;

use crate::crypto::aead;
use crate::crypto::derive;
use crate::crypto::digest;
use crate::crypto::digest::Digester;
use crate::crypto::kem;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::kem::KemSecretKey;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::id::DeviceId;
use crate::id::Digest;
use crate::id::Epoch;
use crate::id::Fingerprint;
use crate::id::VaultId;

/// Bytes before the first segment.
pub const HEAD_BYTES: usize = 1232;

/// Bytes of plaintext in every segment but the last, which may have fewer.
pub const SEGMENT_BYTES: usize = 65_536;

/// Bytes that such a segment takes in the object.
pub const SEALED_SEGMENT_BYTES: usize = SEGMENT_BYTES + aead::TAG_BYTES;

/// The most plaintext in one object, padding included.
pub const PLAINTEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

const MAGIC: &[u8; 6] = b"SRPACK";
const VERSION: [u8; 2] = [1, 0];
/// What says whose an object is, in the clear: all that comes before the salt.
pub const HEADER_BYTES: usize = 48;
const SALT_AT: usize = 48;
const CIPHERTEXT_AT: usize = 80;
const COMMITMENT_AT: usize = 1200;
const COMMITMENT_BYTES: usize = 32;
const KEYS_BYTES: usize = 32 + aead::NONCE_BYTES + COMMITMENT_BYTES;

/// `HEAD_BYTES` and its like as lengths of objects, which are `u64`.
const HEAD: u64 = HEAD_BYTES as u64;
const SEGMENT: u64 = SEGMENT_BYTES as u64;
const SEALED_SEGMENT: u64 = SEALED_SEGMENT_BYTES as u64;
const TAG: u64 = aead::TAG_BYTES as u64;

/// What an object holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A pack of chunks.
    Data = 1,
    /// Which pack holds which chunk.
    Index = 2,
    /// A snapshot's body.
    Body = 3,
    /// A message to a device.
    Message = 4,
    /// An entry in a person's log.
    Log = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Data, Self::Index, Self::Body, Self::Message, Self::Log]
            .into_iter()
            .find(|&kind| kind as u8 == byte)
    }

    /// The least plaintext of this kind, in bytes, padding included.
    #[must_use]
    pub fn plaintext_bytes_min(self) -> u64 {
        match self {
            Self::Data => 64 * 1024,
            Self::Index | Self::Body | Self::Message | Self::Log => 4 * 1024,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data pack",
            Self::Index => "index",
            Self::Body => "snapshot body",
            Self::Message => "message",
            Self::Log => "log entry",
        })
    }
}

/// Where an object belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The vault it was made for.
    pub vault: VaultId,
    /// The device whose series it is part of; a message's receiver; a log entry's slot.
    pub device: DeviceId,
    /// From 1; of a message, the epoch whose pre-shared key the device holds already, 0 for none.
    pub epoch: Epoch,
    /// What it holds.
    pub kind: Kind,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..6].copy_from_slice(MAGIC);
        bytes[6..8].copy_from_slice(&VERSION);
        bytes[8..24].copy_from_slice(self.vault.as_bytes());
        bytes[24..40].copy_from_slice(self.device.as_bytes());
        bytes[40..44].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[44] = self.kind as u8;
        bytes
    }
}

/// A field in which a header differs from what its referrer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The vault id.
    Vault,
    /// The device id.
    Device,
    /// The epoch.
    Epoch,
    /// The kind.
    Kind,
    /// The three bytes that are always zero.
    Reserved,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vault => "vault",
            Self::Device => "device",
            Self::Epoch => "epoch",
            Self::Kind => "kind",
            Self::Reserved => "reserved bytes",
        })
    }
}

/// Why an object, or a part of one, doesn't open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// It ends before what it must hold.
    TooShort,
    /// It doesn't begin as a sealed object does.
    NotSealed,
    /// Its version or kind is none that this program knows.
    NewerVersion,
    /// It is a sealed object, but not the one that was expected here; the first field that differs.
    OtherHeader {
        /// That field.
        field: Field,
    },
    /// It was sealed to another key, or its head is damaged: the commitment differs.
    WrongKey,
    /// The key is right and this segment is not what was sealed there.
    Damaged {
        /// Its index, from 0.
        segment: u64,
    },
    /// Its length is none that sealing gives.
    Length,
    /// What was just sealed opens to other bytes.
    Unfaithful {
        /// In which segment, from 0.
        segment: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "the object is too short"),
            Self::NotSealed => write!(f, "the object is not a sealed one"),
            Self::NewerVersion => write!(f, "the object was made by a newer strongroom"),
            Self::OtherHeader { field } => write!(f, "the object is another one: its {field} differs"),
            Self::WrongKey => write!(f, "the key does not open the object"),
            Self::Damaged { segment } => write!(f, "segment {segment} of the object is damaged"),
            Self::Length => write!(f, "the object has a length that none of its kind has"),
            Self::Unfaithful { segment } => {
                write!(f, "segment {segment} of the object does not hold what was sealed")
            }
        }
    }
}

impl std::error::Error for Error {}

/// The pre-shared key of those who have none: of log entries, and of messages at epoch 0.
#[must_use]
pub fn no_psk() -> Secret<32> {
    Secret::filled(|_| {})
}

/// How long a plaintext of `length` bytes is with its padding: the next Padmé size, and at least the
/// minimum of its kind. Sizes keep about as many leading bits as their logarithm has, so few differ
/// and padding is at most 12 % (3.1 % at 16 MiB).
///
/// Source: Padmé, Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication
/// with PURBs", PoPETS 2019, §4.
#[must_use]
pub fn padded_len(kind: Kind, length: u64) -> u64 {
    let length = length.max(kind.plaintext_bytes_min());
    let exponent = length.ilog2();
    let bits_kept = exponent.ilog2() + 1;
    let mask = (1_u64 << (exponent - bits_kept)) - 1;
    // Saturating: a length near 2^64 is nobody's, and then stays above every bound.
    length.saturating_add(mask) & !mask
}

/// How long the object of a plaintext of `plaintext_len` bytes, padding included, is.
#[must_use]
pub fn sealed_len(plaintext_len: u64) -> u64 {
    HEAD + plaintext_len + plaintext_len.div_ceil(SEGMENT).max(1) * TAG
}

/// How long the plaintext of an object of `object_len` bytes is, padding included.
///
/// # Errors
/// [`Error::TooShort`] if it can't hold a segment; [`Error::Length`] if its last segment would have no
/// plaintext, or all together more than 64 MiB.
pub fn plaintext_len(object_len: u64) -> Result<u64, Error> {
    let body = object_len.checked_sub(HEAD).filter(|&body| body > TAG).ok_or(Error::TooShort)?;
    let last = body % SEALED_SEGMENT;
    let length = body - body.div_ceil(SEALED_SEGMENT) * TAG;
    if (1..=TAG).contains(&last) || length > PLAINTEXT_BYTES_MAX { Err(Error::Length) } else { Ok(length) }
}

/// The whole segments that hold the bytes `range` of the plaintext: where they stand in an object of
/// `object_len` bytes, and the index of the first. The plaintext of that one begins at its index times
/// [`SEGMENT_BYTES`].
///
/// # Errors
/// As [`plaintext_len`]; [`Error::Length`] if `range` is empty or reaches past the plaintext.
pub fn segments_for(range: &Range<u64>, object_len: u64) -> Result<(Range<u64>, u64), Error> {
    if range.is_empty() || range.end > plaintext_len(object_len)? {
        return Err(Error::Length);
    }
    let first = range.start / SEGMENT;
    let end = range.end.div_ceil(SEGMENT);
    Ok((HEAD + first * SEALED_SEGMENT..(HEAD + end * SEALED_SEGMENT).min(object_len), first))
}

/// Reads the header of an object of which at least the first 48 bytes are at hand. Nothing is
/// authenticated: for listing and for telling what something claims to be.
///
/// # Errors
/// [`Error::TooShort`], [`Error::NotSealed`], [`Error::NewerVersion`], or [`Error::OtherHeader`] if the
/// bytes that are always zero aren't.
pub fn peek(head: &[u8]) -> Result<Header, Error> {
    let header = head.first_chunk::<HEADER_BYTES>().ok_or(Error::TooShort)?;
    if header[..6] != *MAGIC {
        return Err(Error::NotSealed);
    }
    if header[6..8] != VERSION {
        return Err(Error::NewerVersion);
    }
    let kind = Kind::from_byte(header[44]).ok_or(Error::NewerVersion)?;
    if header[45..] != [0; 3] {
        return Err(Error::OtherHeader { field: Field::Reserved });
    }
    Ok(Header {
        vault: VaultId(array(&header[8..24])),
        device: DeviceId(array(&header[24..40])),
        epoch: Epoch(u32::from_le_bytes(array(&header[40..44]))),
        kind,
    })
}

/// The part of a fixed layout that `bytes` is.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the parts of a fixed layout have their lengths")
}

/// What opens one object's segments.
struct Keys {
    key: Secret<32>,
    base_nonce: Secret<{ aead::NONCE_BYTES }>,
    commitment: [u8; COMMITMENT_BYTES],
}

impl Keys {
    /// `bound` is the object's first 1,200 bytes.
    fn derive(fingerprint: &Fingerprint, shared: &Secret<32>, psk: &Secret<32>, bound: &[u8]) -> Self {
        let key = shared.expose(|shared| psk.expose(|psk| Secret::<64>::concat(&[shared, psk])));
        let context = [fingerprint.as_bytes(), bound].concat();
        let salt = &bound[SALT_AT..CIPHERTEXT_AT];
        let keys: Secret<KEYS_BYTES> = key.expose(|key| derive::derive(key, salt, "pack", &context));
        Self {
            key: keys.part(0),
            base_nonce: keys.part(32),
            commitment: keys.expose(|keys| array(&keys[32 + aead::NONCE_BYTES..])),
        }
    }

    fn nonce(&self, index: u64, last: bool) -> aead::Nonce {
        let mut nonce = self.base_nonce.expose(|bytes| *bytes);
        for (byte, bits) in nonce[3..11].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= bits;
        }
        nonce[11] ^= u8::from(last);
        aead::Nonce::derived(nonce)
    }

    fn open(
        &self,
        index: u64,
        last: bool,
        buffer: &mut [u8],
        tag: &[u8; aead::TAG_BYTES],
    ) -> Result<(), Error> {
        aead::open(&self.key, &self.nonce(index, last), buffer, tag)
            .map_err(|_| Error::Damaged { segment: index })
    }
}

/// Encrypts an object's segments in order. The index moves with each call and can't be set, and
/// nothing follows the last, which takes the value: no nonce is used twice (R-9).
struct Stream<'a> {
    keys: &'a Keys,
    next: u64,
}

impl Stream<'_> {
    /// Encrypts `segment` in place and returns its tag.
    fn segment(&mut self, segment: &mut [u8]) -> [u8; aead::TAG_BYTES] {
        let index = self.next;
        assert!(
            index < PLAINTEXT_BYTES_MAX / SEGMENT,
            "an object has no more segments than its bound allows"
        );
        self.next += 1;
        aead::seal(&self.keys.key, self.keys.nonce(index, false), segment)
    }

    /// Encrypts the last segment in place and returns its tag.
    fn last(self, segment: &mut [u8]) -> [u8; aead::TAG_BYTES] {
        aead::seal(&self.keys.key, self.keys.nonce(self.next, true), segment)
    }
}

/// A plaintext in pieces, with zeros up to its padded length.
struct Pieces<'a> {
    parts: &'a [&'a [u8]],
    part: usize,
    at: usize,
    zeros: usize,
}

impl<'a> Pieces<'a> {
    fn new(parts: &'a [&'a [u8]], zeros: usize) -> Self {
        Self { parts, part: 0, at: 0, zeros }
    }

    /// Hands the next `length` bytes to `take`, in as many slices as they come in.
    fn next(&mut self, length: usize, mut take: impl FnMut(&[u8])) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut wanted = length;
        while wanted > 0 {
            if let Some(part) = self.parts.get(self.part) {
                let rest = &part[self.at..];
                let taken = rest.len().min(wanted);
                take(&rest[..taken]);
                wanted -= taken;
                if taken == rest.len() {
                    (self.part, self.at) = (self.part + 1, 0);
                } else {
                    self.at += taken;
                }
            } else {
                let taken = self.zeros.min(wanted).min(ZEROS.len());
                assert!(taken > 0, "nobody asks for more than the padded plaintext");
                take(&ZEROS[..taken]);
                wanted -= taken;
                self.zeros -= taken;
            }
        }
    }
}

/// A sealed object, ready to be stored; only sealing makes one.
pub struct Sealed {
    bytes: Vec<u8>,
    digest: Digest,
}

impl Sealed {
    /// The object.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of all of its bytes: its name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The object, to keep; its memory may serve the next one ([`Sealer::seal_into`]).
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({}, {} bytes)", self.digest, self.bytes.len())
    }
}

/// What an object is sealed with that is drawn at random.
struct Draws {
    salt: [u8; 32],
    encapsulation: Secret<64>,
}

impl Draws {
    fn generate() -> Self {
        Self { salt: random::bytes(), encapsulation: Secret::generate() }
    }
}

/// Seals objects of one vault to one public key.
pub struct Sealer {
    fingerprint: Fingerprint,
    recipient: KemPublicKey,
    psk: Secret<32>,
    hedge: Secret<32>,
}

impl Sealer {
    /// A sealer to `recipient`, whose holder also has `psk` ([`no_psk`] if there is none). `hedge` is the
    /// sealer's own secret, which makes a repeated random draw harmless.
    #[must_use]
    pub fn new(
        fingerprint: Fingerprint,
        recipient: KemPublicKey,
        psk: Secret<32>,
        hedge: Secret<32>,
    ) -> Self {
        Self { fingerprint, recipient, psk, hedge }
    }

    /// Seals the plaintext that `parts` make one after the other, padded with zeros to
    /// [`padded_len`].
    ///
    /// `commit_to` goes into the salt in place of the plaintext's digest: a pack gives its directory's,
    /// whose ids commit to the rest, and saves a pass over the blocks. Before it returns, what `check`
    /// says is opened again and compared (R-37).
    ///
    /// # Errors
    /// [`Error::Damaged`] or [`Error::Unfaithful`] if what was just sealed doesn't open to what it was
    /// made of: then this machine miscomputes, and nothing of it may be stored.
    ///
    /// # Panics
    /// If the plaintext is over 64 MiB or `header` names another vault than the sealer's, as whoever
    /// builds it sees to both.
    pub fn seal(
        &self,
        header: &Header,
        parts: &[&[u8]],
        commit_to: Option<&Digest>,
        check: Check,
    ) -> Result<Sealed, Error> {
        self.seal_into(Vec::new(), header, parts, commit_to, check)
    }

    /// As [`seal`](Self::seal), into the memory of `buffer`, whose content is lost.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn seal_into(
        &self,
        buffer: Vec<u8>,
        header: &Header,
        parts: &[&[u8]],
        commit_to: Option<&Digest>,
        check: Check,
    ) -> Result<Sealed, Error> {
        self.seal_with(&Draws::generate(), buffer, header, parts, commit_to, check)
    }

    fn seal_with(
        &self,
        draws: &Draws,
        mut out: Vec<u8>,
        header: &Header,
        parts: &[&[u8]],
        commit_to: Option<&Digest>,
        check: Check,
    ) -> Result<Sealed, Error> {
        assert!(header.vault == self.fingerprint.vault_id(), "a sealer seals for its own vault");
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let padded = padded_len(header.kind, u64::try_from(length).expect("a length fits in 64 bits"));
        assert!(padded <= PLAINTEXT_BYTES_MAX, "the plaintext of an object is at most 64 MiB");
        let padded = usize::try_from(padded).expect("64 MiB fit in memory");
        let zeros = padded - length;

        let header = header.encode();
        let committed = commit_to.copied().unwrap_or_else(|| {
            let mut digester = Digester::new();
            Pieces::new(parts, zeros).next(padded, |bytes| {
                digester.update(bytes);
            });
            digester.finish()
        });
        let salt = digest::keyed(&self.hedge, &[&draws.salt, committed.as_bytes(), &header]);
        let (ciphertext, shared) = self.recipient.encapsulate_with(&draws.encapsulation);

        out.clear();
        out.reserve_exact(HEAD_BYTES + padded + padded.div_ceil(SEGMENT_BYTES) * aead::TAG_BYTES);
        out.extend_from_slice(&header);
        out.extend_from_slice(&salt);
        out.extend_from_slice(&ciphertext);
        let keys = Keys::derive(&self.fingerprint, &shared, &self.psk, &out);
        out.extend_from_slice(&keys.commitment);

        // Each segment is copied, encrypted and hashed while it is in the cache.
        let mut digester = Digester::new();
        digester.update(&out);
        let mut stream = Stream { keys: &keys, next: 0 };
        let mut pieces = Pieces::new(parts, zeros);
        let mut left = padded;
        while left > SEGMENT_BYTES {
            let at = out.len();
            pieces.next(SEGMENT_BYTES, |bytes| out.extend_from_slice(bytes));
            let tag = stream.segment(&mut out[at..]);
            out.extend_from_slice(&tag);
            digester.update(&out[at..]);
            left -= SEGMENT_BYTES;
        }
        let at = out.len();
        pieces.next(left, |bytes| out.extend_from_slice(bytes));
        let tag = stream.last(&mut out[at..]);
        out.extend_from_slice(&tag);
        digester.update(&out[at..]);

        let sealed = Sealed { bytes: out, digest: digester.finish() };
        reopen(&keys, &sealed.bytes, parts, zeros, check.opens_all(&sealed.digest))?;
        Ok(sealed)
    }
}

/// How much of what was just sealed is opened again before it can be stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// The last segment and one drawn at random; of one object in sixteen, as its digest falls, all.
    Sample,
    /// All of it.
    Whole,
}

impl Check {
    fn opens_all(self, object: &Digest) -> bool {
        self == Self::Whole || object.0[0] < 16
    }
}

/// Opens all segments of what was just sealed, or the last and one drawn at random, and holds them
/// against the plaintext (R-37).
fn reopen(keys: &Keys, object: &[u8], parts: &[&[u8]], zeros: usize, all: bool) -> Result<(), Error> {
    let segments = object[HEAD_BYTES..].len().div_ceil(SEALED_SEGMENT_BYTES);
    let drawn = u64::from_le_bytes(random::bytes()) % u64::try_from(segments).expect("segments are few");
    let drawn = usize::try_from(drawn).expect("a segment's index is that of a part of memory");
    let mut pieces = Pieces::new(parts, zeros);
    for (index, sealed) in object[HEAD_BYTES..].chunks(SEALED_SEGMENT_BYTES).enumerate() {
        let last = index + 1 == segments;
        if !all && !last && index != drawn {
            pieces.next(SEGMENT_BYTES, |_| {});
            continue;
        }
        let (ciphertext, tag) = sealed.split_last_chunk().expect("each segment has a tag");
        let mut opened = ciphertext.to_vec();
        let segment = u64::try_from(index).expect("segments are few");
        keys.open(segment, last, &mut opened, tag)?;
        let mut rest = &opened[..];
        let mut is_same = true;
        pieces.next(opened.len(), |bytes| {
            let (head, tail) = rest.split_at(bytes.len());
            is_same &= head == bytes;
            rest = tail;
        });
        if !is_same {
            return Err(Error::Unfaithful { segment });
        }
    }
    Ok(())
}

/// Opens the segments of one object, in any order.
pub struct Opener {
    keys: Keys,
}

impl Opener {
    /// Opens the head of an object, its first 1,232 bytes; what follows them in `head` isn't looked at.
    ///
    /// # Errors
    /// As [`peek`]; [`Error::OtherHeader`] unless the header is `expected` and of the vault of
    /// `fingerprint`; [`Error::WrongKey`] if the key encapsulation is refused or the commitment isn't
    /// the derived key's, which is compared in constant time and before any decryption (R-12).
    pub fn new(
        fingerprint: &Fingerprint,
        secret: &KemSecretKey,
        psk: &Secret<32>,
        expected: &Header,
        head: &[u8],
    ) -> Result<Self, Error> {
        let header = peek(head)?;
        let fields = [
            (Field::Vault, header.vault == expected.vault && header.vault == fingerprint.vault_id()),
            (Field::Device, header.device == expected.device),
            (Field::Epoch, header.epoch == expected.epoch),
            (Field::Kind, header.kind == expected.kind),
        ];
        if let Some(&(field, _)) = fields.iter().find(|(_, same)| !same) {
            return Err(Error::OtherHeader { field });
        }
        let head = head.first_chunk::<HEAD_BYTES>().ok_or(Error::TooShort)?;
        let ciphertext: &[u8; kem::CIPHERTEXT_BYTES] =
            head[CIPHERTEXT_AT..COMMITMENT_AT].try_into().expect("the head has a fixed layout");
        let shared = secret.decapsulate(ciphertext).map_err(|_| Error::WrongKey)?;
        let keys = Keys::derive(fingerprint, &shared, psk, &head[..COMMITMENT_AT]);
        if digest::equal(&keys.commitment, &head[COMMITMENT_AT..]) {
            Ok(Self { keys })
        } else {
            Err(Error::WrongKey)
        }
    }

    /// Opens one segment: `index` from 0, and whether it is the `last`, which follows from the object's
    /// length as a signed list gives it.
    ///
    /// # Errors
    /// [`Error::TooShort`] if there is no room for a byte and a tag; [`Error::Length`] if it is longer
    /// than a segment, or shorter and not the last; [`Error::Damaged`] if the tag doesn't match: none
    /// of the plaintext is returned then.
    pub fn segment(&self, index: u64, last: bool, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plaintext = Vec::new();
        self.append(index, last, sealed, &mut plaintext)?;
        Ok(plaintext)
    }

    /// Opens consecutive segments, from `first` on, of an object of `object_len` bytes: what
    /// [`segments_for`] told to fetch. The plaintext begins at `first` times [`SEGMENT_BYTES`].
    ///
    /// # Errors
    /// As [`segment`](Self::segment) and [`plaintext_len`]; [`Error::Length`] if `sealed` doesn't end
    /// where a segment of the object does.
    pub fn range(&self, object_len: u64, first: u64, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let count = plaintext_len(object_len)?.div_ceil(SEGMENT);
        let mut plaintext = Vec::with_capacity(sealed.len());
        for (index, segment) in (first..).zip(sealed.chunks(SEALED_SEGMENT_BYTES)) {
            let last = index + 1 == count;
            let length = if last { object_len - HEAD - index * SEALED_SEGMENT } else { SEALED_SEGMENT };
            if index >= count || u64::try_from(segment.len()) != Ok(length) {
                return Err(Error::Length);
            }
            self.append(index, last, segment, &mut plaintext)?;
        }
        Ok(plaintext)
    }

    fn append(&self, index: u64, last: bool, sealed: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Error> {
        let (ciphertext, tag) = sealed.split_last_chunk().ok_or(Error::TooShort)?;
        if ciphertext.is_empty() {
            return Err(Error::TooShort);
        }
        if ciphertext.len() > SEGMENT_BYTES || (ciphertext.len() < SEGMENT_BYTES && !last) {
            return Err(Error::Length);
        }
        let at = plaintext.len();
        plaintext.extend_from_slice(ciphertext);
        self.keys.open(index, last, &mut plaintext[at..], tag)
    }
}

/// Opens a whole object whose length and digest the caller has held against the signed list that names
/// it. The plaintext still has its padding, for the parser of its kind to check.
///
/// # Errors
/// As [`plaintext_len`], [`Opener::new`] and [`Opener::range`]; [`Error::Length`] if the plaintext has
/// none of the lengths that padding gives. None of the plaintext is returned unless all segments open.
pub fn open(
    fingerprint: &Fingerprint,
    secret: &KemSecretKey,
    psk: &Secret<32>,
    expected: &Header,
    object: &[u8],
) -> Result<Vec<u8>, Error> {
    let opener = Opener::new(fingerprint, secret, psk, expected, object)?;
    let object_len = u64::try_from(object.len()).map_err(|_| Error::Length)?;
    let length = plaintext_len(object_len)?;
    if padded_len(expected.kind, length) != length {
        return Err(Error::Length);
    }
    opener.range(object_len, 0, &object[HEAD_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;
    use crate::crypto::vectors::Case;

    const KINDS: [Kind; 5] = [Kind::Data, Kind::Index, Kind::Body, Kind::Message, Kind::Log];

    fn usize_of(number: u64) -> usize {
        usize::try_from(number).unwrap()
    }

    /// What an object of the vectors was sealed with.
    struct Setting {
        fingerprint: Fingerprint,
        seed: [u8; 32],
        psk: [u8; 32],
        hedge: [u8; 32],
        header: Header,
    }

    impl Setting {
        fn of(common: &Case<'_>, case: &Case<'_>) -> Self {
            let fingerprint = Fingerprint(common.array("fingerprint"));
            let header = Header {
                vault: fingerprint.vault_id(),
                device: DeviceId(common.array("device")),
                epoch: Epoch(case.number("epoch")),
                kind: kind(case.text("kind")),
            };
            let (seed, hedge) = (common.array("seed"), common.array("hedge"));
            Self { fingerprint, seed, psk: case.array("psk"), hedge, header }
        }

        fn fixed(kind: Kind) -> Self {
            let fingerprint = Fingerprint([0x46; 32]);
            let header =
                Header { vault: fingerprint.vault_id(), device: DeviceId([0xd1; 16]), epoch: Epoch(3), kind };
            Self { fingerprint, seed: [0x5e; 32], psk: [0x50; 32], hedge: [0x4e; 32], header }
        }

        fn secret(&self) -> KemSecretKey {
            KemSecretKey::from_seed(Secret::take(&mut self.seed.clone()))
        }

        fn psk(&self) -> Secret<32> {
            Secret::take(&mut self.psk.clone())
        }

        fn sealer(&self) -> Sealer {
            let hedge = Secret::take(&mut self.hedge.clone());
            Sealer::new(self.fingerprint, self.secret().public(), self.psk(), hedge)
        }

        fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
            self.sealer().seal(&self.header, &[plaintext], None, Check::Sample).unwrap().into_bytes()
        }

        fn opener(&self, head: &[u8]) -> Result<Opener, Error> {
            Opener::new(&self.fingerprint, &self.secret(), &self.psk(), &self.header, head)
        }

        fn open(&self, object: &[u8]) -> Result<Vec<u8>, Error> {
            open(&self.fingerprint, &self.secret(), &self.psk(), &self.header, object)
        }
    }

    fn kind(name: &str) -> Kind {
        match name {
            "data" => Kind::Data,
            "index" => Kind::Index,
            "body" => Kind::Body,
            "message" => Kind::Message,
            "log" => Kind::Log,
            _ => panic!("{name} is no kind"),
        }
    }

    /// The objects of `pseal.txt`: name, setting, object, plaintext.
    fn vector_objects() -> Vec<(String, Setting, Vec<u8>, Vec<u8>)> {
        let cases = vectors::cases(include_str!("../../tests/vectors/pseal.txt"));
        let (common, cases) = cases.split_first().unwrap();
        let seal = |case: &Case<'_>| {
            let setting = Setting::of(common, case);
            let mut plaintext = vectors::pattern(case.number("plaintext_bytes"));
            let draws = Draws {
                salt: common.array("random"),
                encapsulation: Secret::take(&mut common.array("encapsulation")),
            };
            let commit_to = case.has("commit_to").then(|| Digest(case.array("commit_to")));
            // In uneven pieces, of which one is empty: they make no difference.
            let (start, rest) = plaintext.split_at(plaintext.len() / 3);
            let parts = [start, &[], &rest[..1], &rest[1..]];
            let sealed = setting
                .sealer()
                .seal_with(&draws, Vec::new(), &setting.header, &parts, commit_to.as_ref(), Check::Whole)
                .unwrap();
            assert_eq!(sealed.bytes().len(), case.number::<usize>("object_bytes"));
            assert_eq!(sealed.bytes()[SALT_AT..CIPHERTEXT_AT], case.bytes("salt"));
            assert_eq!(sealed.bytes()[COMMITMENT_AT..HEAD_BYTES], case.bytes("commitment"));
            assert!(sealed.bytes().ends_with(&case.bytes("last_tag")));
            assert_eq!(sealed.digest().0, case.array("digest"));
            assert_eq!(sealed.digest(), digest::digest(sealed.bytes()));
            plaintext.resize(usize_of(padded_len(setting.header.kind, plaintext.len() as u64)), 0);
            (case.text("name").to_owned(), setting, sealed.into_bytes(), plaintext)
        };
        cases.iter().map(seal).collect()
    }

    #[test]
    fn objects_are_those_of_the_vectors_and_open() {
        for (name, setting, object, plaintext) in vector_objects() {
            assert_eq!(peek(&object), Ok(setting.header));
            assert_eq!(setting.open(&object).unwrap(), plaintext, "{name}");
        }
    }

    /// Makes the change that a block of `pseal-refused.txt` names.
    fn change(setting: &mut Setting, object: &mut Vec<u8>, what: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        let segment = |object: &[u8], index: usize| {
            object[HEAD_BYTES..].chunks(SEALED_SEGMENT_BYTES).nth(index).unwrap().to_vec()
        };
        let rebuild = |object: &mut Vec<u8>, order: &[usize]| {
            let segments: Vec<Vec<u8>> = order.iter().map(|&index| segment(object, index)).collect();
            object.truncate(HEAD_BYTES);
            object.extend(segments.concat());
        };
        let segments = object.len().saturating_sub(HEAD_BYTES).div_ceil(SEALED_SEGMENT_BYTES);
        let mut order: Vec<usize> = (0..segments).collect();
        match words[0] {
            "truncate" => object.truncate(number(1)),
            "append" => object.resize(object.len() + number(1), 0),
            "flip" => object[number(1)] ^= 1,
            "zero" => object[number(1)..number(2)].fill(0),
            "swap" => {
                order.swap(number(1), number(2));
                rebuild(object, &order);
            }
            "repeat" => {
                order.insert(number(1), number(1));
                rebuild(object, &order);
            }
            "drop" => {
                order.remove(number(1));
                rebuild(object, &order);
            }
            "expect-other" => match words[1] {
                "vault" => setting.header.vault.0[15] ^= 1,
                "device" => setting.header.device.0[15] ^= 1,
                "epoch" => setting.header.epoch.0 += 1,
                "kind" => setting.header.kind = Kind::Body,
                _ => panic!("{what}"),
            },
            "open-with-other" => match words[1] {
                "fingerprint" => setting.fingerprint.0[31] ^= 1,
                "psk" => setting.psk[0] ^= 1,
                "seed" => setting.seed[0] ^= 1,
                _ => panic!("{what}"),
            },
            _ => panic!("{what}"),
        }
    }

    #[test]
    fn each_changed_object_is_refused_with_the_error_that_tells_why() {
        for case in vectors::cases(include_str!("../../tests/vectors/pseal-refused.txt")) {
            let (name, what) = (case.text("name"), case.text("change"));
            let mut objects = vector_objects();
            let (_, setting, object, _) =
                objects.iter_mut().find(|(object, ..)| object == name).expect("the object is in pseal.txt");
            change(setting, object, what);
            let answer = setting.open(object).map_err(|error| error.to_string());
            assert_eq!(answer, Err(case.text("result").to_owned()), "{name}, {what}");
        }
    }

    #[test]
    fn an_object_made_for_two_keys_opens_under_the_one_it_commits_to() {
        let pseal = vectors::cases(include_str!("../../tests/vectors/pseal.txt"));
        let mut setting = Setting::of(&pseal[0], &pseal[1]);
        let encapsulation = Secret::take(&mut pseal[0].array("encapsulation"));
        let (ciphertext, shared) = setting.secret().public().encapsulate_with(&encapsulation);
        for case in vectors::cases(include_str!("../../tests/vectors/pseal-two-keys.txt")) {
            let mut segment = case.bytes("ciphertext_start");
            segment.resize(4096, 0);
            let bound = [&setting.header.encode()[..], &case.bytes("salt"), &ciphertext].concat();
            let object = [&bound[..], &case.bytes("commitment"), &segment, &case.bytes("tag")].concat();

            setting.psk = case.array("opens");
            assert_eq!(setting.open(&object).map(|plaintext| plaintext.len()), Ok(4096));
            setting.psk = case.array("refuses");
            assert_eq!(setting.open(&object), Err(Error::WrongKey));
            // The cipher alone would take this key as well.
            let keys = Keys::derive(&setting.fingerprint, &shared, &setting.psk(), &bound);
            assert_eq!(keys.open(0, true, &mut segment, &case.array("tag")), Ok(()));
        }
    }

    #[test]
    fn two_equal_segments_encrypt_differently() {
        let setting = Setting::fixed(Kind::Data);
        let object = setting.seal(&vec![0x55; 3 * SEGMENT_BYTES]);
        let segments: Vec<&[u8]> = object[HEAD_BYTES..].chunks(SEALED_SEGMENT_BYTES).collect();
        assert_eq!(segments.len(), 3);
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let same = segments[one].iter().zip(segments[other]).filter(|(one, other)| one == other).count();
            // Random bytes agree once in 256; keystream used twice would agree everywhere.
            assert!(same < SEALED_SEGMENT_BYTES / 128, "segments {one} and {other} agree in {same} bytes");
        }
    }

    #[test]
    fn a_repeated_random_draw_still_gives_other_plaintext_or_place_another_salt_and_key() {
        let setting = Setting::fixed(Kind::Body);
        let sealed = |header: &Header, plaintext: &[u8], hedge: u8| {
            let draws = Draws { salt: [7; 32], encapsulation: Secret::take(&mut [9; 64]) };
            let sealer = Sealer { hedge: Secret::take(&mut [hedge; 32]), ..setting.sealer() };
            sealer
                .seal_with(&draws, Vec::new(), header, &[plaintext], None, Check::Whole)
                .unwrap()
                .into_bytes()
        };
        let next_epoch = Header { epoch: Epoch(4), ..setting.header };
        let objects = [
            sealed(&setting.header, b"one", 1),
            sealed(&setting.header, b"two", 1),
            sealed(&setting.header, b"one", 2),
            sealed(&next_epoch, b"one", 1),
        ];
        for (at, one) in objects.iter().enumerate() {
            for other in &objects[at + 1..] {
                assert_eq!(one[CIPHERTEXT_AT..COMMITMENT_AT], other[CIPHERTEXT_AT..COMMITMENT_AT]);
                assert_ne!(one[SALT_AT..CIPHERTEXT_AT], other[SALT_AT..CIPHERTEXT_AT]);
                assert_ne!(one[COMMITMENT_AT..HEAD_BYTES], other[COMMITMENT_AT..HEAD_BYTES]);
            }
        }
        assert_eq!(objects[0], sealed(&setting.header, b"one", 1), "or else this test proves nothing");
    }

    #[test]
    fn the_same_plaintext_sealed_twice_shares_nothing_but_its_header() {
        let setting = Setting::fixed(Kind::Index);
        let (one, other) = (setting.seal(b"same"), setting.seal(b"same"));
        assert_eq!(one[..HEADER_BYTES], other[..HEADER_BYTES]);
        assert_ne!(one[SALT_AT..CIPHERTEXT_AT], other[SALT_AT..CIPHERTEXT_AT]);
        assert_ne!(one[CIPHERTEXT_AT..COMMITMENT_AT], other[CIPHERTEXT_AT..COMMITMENT_AT]);
        assert_ne!(one[COMMITMENT_AT..HEAD_BYTES], other[COMMITMENT_AT..HEAD_BYTES]);
    }

    #[test]
    fn any_range_is_read_through_whole_segments() {
        let setting = Setting::fixed(Kind::Data);
        let mut plaintext = vectors::pattern(200_000);
        let object = setting.seal(&plaintext);
        plaintext.resize(usize_of(padded_len(Kind::Data, 200_000)), 0);
        let (length, object_len) = (plaintext.len() as u64, object.len() as u64);
        assert_eq!(plaintext_len(object_len), Ok(length));
        let opener = setting.opener(&object[..HEAD_BYTES]).unwrap();
        let edges = [0, 1, 65_535, 65_536, 65_537, 131_072, 196_607, 196_608, length - 1, length];
        for start in edges {
            for end in edges {
                let answer = segments_for(&(start..end), object_len);
                if start >= end {
                    assert_eq!(answer, Err(Error::Length));
                    continue;
                }
                let (fetch, first) = answer.unwrap();
                let whole = (fetch.start - HEAD).is_multiple_of(SEALED_SEGMENT)
                    && ((fetch.end - HEAD).is_multiple_of(SEALED_SEGMENT) || fetch.end == object_len);
                assert!(whole, "{start}..{end} fetches {fetch:?}");
                let opened = opener
                    .range(object_len, first, &object[usize_of(fetch.start)..usize_of(fetch.end)])
                    .unwrap();
                let at = usize_of(start - first * SEGMENT);
                let wanted = &plaintext[usize_of(start)..usize_of(end)];
                assert_eq!(&opened[at..at + wanted.len()], wanted, "{start}..{end}");
            }
        }
        assert_eq!(segments_for(&(0..length + 1), object_len), Err(Error::Length));
    }

    #[test]
    fn a_segment_opens_at_its_own_place_alone() {
        let setting = Setting::fixed(Kind::Data);
        let object = setting.seal(&vectors::pattern(140_000));
        let opener = setting.opener(&object).unwrap();
        let segments: Vec<&[u8]> = object[HEAD_BYTES..].chunks(SEALED_SEGMENT_BYTES).collect();
        for (sealed_as, segment) in (0..).zip(&segments) {
            for opened_as in 0..4 {
                for last in [false, true] {
                    let right = opened_as == sealed_as && last == (sealed_as == 2);
                    let answer = opener.segment(opened_as, last, segment);
                    let short = sealed_as == 2 && !last;
                    match answer {
                        Ok(_) => assert!(right),
                        Err(error) if short => assert_eq!(error, Error::Length),
                        Err(error) => {
                            assert_eq!((error, right), (Error::Damaged { segment: opened_as }, false))
                        }
                    }
                }
            }
        }
        assert_eq!(opener.segment(0, true, &[0; 16]), Err(Error::TooShort));
        assert_eq!(opener.segment(0, true, &[0; 15]), Err(Error::TooShort));
        assert_eq!(opener.segment(0, false, &[0; 100]), Err(Error::Length));
        assert_eq!(opener.segment(0, true, &vec![0; SEALED_SEGMENT_BYTES + 1]), Err(Error::Length));
    }

    #[test]
    fn a_range_that_is_not_whole_segments_of_the_object_is_refused() {
        let setting = Setting::fixed(Kind::Data);
        let object = setting.seal(&vectors::pattern(140_000));
        let object_len = object.len() as u64;
        let opener = setting.opener(&object).unwrap();
        let body = &object[HEAD_BYTES..];
        assert!(opener.range(object_len, 0, body).is_ok());
        assert_eq!(opener.range(object_len, 0, &body[..body.len() - 1]), Err(Error::Length));
        assert_eq!(opener.range(object_len, 0, &body[..100]), Err(Error::Length));
        assert_eq!(opener.range(object_len, 3, &body[..100]), Err(Error::Length));
        assert_eq!(opener.range(object_len - 1, 0, body), Err(Error::Length));
        assert_eq!(opener.range(object_len, 1, body), Err(Error::Damaged { segment: 1 }));
        assert_eq!(
            opener.range(object_len, 1, &body[SEALED_SEGMENT_BYTES..]).map(|part| part.len()),
            Ok(77_824)
        );
    }

    #[test]
    fn lengths_fit_each_other_and_those_that_sealing_never_gives_are_refused() {
        for length in [1, 4096, 65_535, 65_536, 65_537, 131_072, 131_073, PLAINTEXT_BYTES_MAX] {
            assert_eq!(plaintext_len(sealed_len(length)), Ok(length));
        }
        for object_len in [0, HEAD, HEAD + TAG] {
            assert_eq!(plaintext_len(object_len), Err(Error::TooShort));
        }
        for spare in 1..=TAG {
            assert_eq!(plaintext_len(HEAD + SEALED_SEGMENT + spare), Err(Error::Length));
        }
        assert_eq!(plaintext_len(sealed_len(PLAINTEXT_BYTES_MAX) + 17), Err(Error::Length));
        assert_eq!(plaintext_len(u64::MAX), Err(Error::Length));
    }

    #[test]
    fn padding_is_small_canonical_and_never_passes_the_bound() {
        for kind in KINDS {
            assert_eq!(padded_len(kind, 0), kind.plaintext_bytes_min());
            assert_eq!(padded_len(kind, kind.plaintext_bytes_min()), kind.plaintext_bytes_min());
            assert_eq!(padded_len(kind, PLAINTEXT_BYTES_MAX), PLAINTEXT_BYTES_MAX);
            assert_eq!(padded_len(kind, PLAINTEXT_BYTES_MAX - 1), PLAINTEXT_BYTES_MAX);
            for length in (1..PLAINTEXT_BYTES_MAX).step_by(99_991) {
                let padded = padded_len(kind, length);
                assert!(padded >= length && padded <= PLAINTEXT_BYTES_MAX);
                assert_eq!(padded_len(kind, padded), padded, "padding of {length} is a size of its own");
                let least = kind.plaintext_bytes_min();
                assert!(
                    length < least || (padded - length) * 1000 < length * 121,
                    "{length} becomes {padded}"
                );
            }
        }
        // Source for these: 2^24 + 1 has exponent 24, keeps 5 bits after the first, so steps are 2^19.
        assert_eq!(padded_len(Kind::Data, (1 << 24) + 1), (1 << 24) + (1 << 19));
        assert_eq!(padded_len(Kind::Index, 4097), 4096 + 256);
        assert_eq!(padded_len(Kind::Index, u64::MAX), padded_len(Kind::Index, u64::MAX - 1));
    }

    #[test]
    fn memory_of_another_object_serves_again_and_leaves_no_trace() {
        let setting = Setting::fixed(Kind::Body);
        let used = vec![0xee; 100_000];
        let capacity = used.capacity();
        let sealed =
            setting.sealer().seal_into(used, &setting.header, &[b"body"], None, Check::Sample).unwrap();
        let bytes = sealed.into_bytes();
        assert_eq!(bytes.capacity(), capacity);
        assert!(setting.open(&bytes).unwrap().starts_with(b"body\0"));
    }

    #[test]
    #[should_panic(expected = "at most 64 MiB")]
    fn more_than_64_mib_are_not_sealed() {
        let setting = Setting::fixed(Kind::Data);
        let part = vec![0; 1024 * 1024 + 1];
        let _ = setting.sealer().seal(&setting.header, &[&part[..]; 64], None, Check::Sample);
    }

    #[test]
    #[should_panic(expected = "its own vault")]
    fn a_sealer_does_not_seal_for_another_vault() {
        let setting = Setting::fixed(Kind::Data);
        let _ = setting.sealer().seal(
            &Header { vault: VaultId([0; 16]), ..setting.header },
            &[],
            None,
            Check::Sample,
        );
    }

    #[test]
    fn an_object_that_came_out_wrong_is_not_handed_over() {
        let setting = Setting::fixed(Kind::Data);
        let plaintext = vectors::pattern(padded_len(Kind::Data, 400_000).try_into().unwrap());
        let good = setting.seal(&plaintext);
        let keys = setting.opener(&good).unwrap().keys;
        let opens = |object: &[u8], all| reopen(&keys, object, &[&plaintext], 0, all);
        assert_eq!((opens(&good, true), opens(&good, false)), (Ok(()), Ok(())));
        let segments = (good.len() - HEAD_BYTES).div_ceil(SEALED_SEGMENT_BYTES);
        assert!(segments > 6);
        for segment in 0..segments {
            let mut object = good.clone();
            object[HEAD_BYTES + segment * SEALED_SEGMENT_BYTES] ^= 1;
            assert_eq!(opens(&object, true), Err(Error::Damaged { segment: segment as u64 }));
        }
        let mut object = good;
        *object.last_mut().unwrap() ^= 1;
        let last = segments as u64 - 1;
        assert_eq!(opens(&object, false), Err(Error::Damaged { segment: last }), "the last is always opened");
    }

    #[test]
    fn an_object_of_another_plaintext_is_not_handed_over() {
        let setting = Setting::fixed(Kind::Data);
        let plaintext = vectors::pattern(200_000);
        let object = setting.seal(&plaintext);
        let keys = setting.opener(&object).unwrap().keys;
        let zeros = usize_of(padded_len(Kind::Data, 200_000)) - 200_000;
        let compare = |plaintext: &[u8]| reopen(&keys, &object, &[plaintext], zeros, true);
        assert_eq!(compare(&plaintext), Ok(()));
        for at in [0, 65_535, 65_536, 199_999] {
            let mut other = plaintext.clone();
            other[at] ^= 1;
            assert_eq!(compare(&other), Err(Error::Unfaithful { segment: at as u64 / 65_536 }));
        }
    }

    #[test]
    fn one_object_in_sixteen_is_opened_whole_and_all_if_that_is_wanted() {
        let digests: Vec<Digest> = (0..=255).map(|first| Digest([first; 32])).collect();
        let opened = |check: Check| digests.iter().filter(|digest| check.opens_all(digest)).count();
        assert_eq!((opened(Check::Sample), opened(Check::Whole)), (16, 256));
    }
}
