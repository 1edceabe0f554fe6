#!/usr/bin/env python3
"""A reader of strongroom vaults and sealed files, written from docs/format.md and nothing else.

    strongroom_reader.py VAULT_OR_FILE [--key-file K] [--password-file P] [--recovery-code-file C] list
    strongroom_reader.py ... ls SNAP[:PATH]
    strongroom_reader.py ... restore SNAP[:PATH] TARGET
    strongroom_reader.py ... check

Section numbers in comments are those of docs/format.md. It reads; it never writes to a vault, and leaves no
entry in a person's log (section 25).
"""
from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import os
import re
import stat
import struct
import sys
import time
import unicodedata
from collections import OrderedDict

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MIB = 1 << 20
ZERO16, ZERO32 = bytes(16), bytes(32)


class Refused(Exception):
    """Damaged, forged, or not what it should be."""


class Newer(Refused):
    """Made by a newer strongroom."""


class OtherKey(Refused):
    """The secret is not the one for this lock."""


class Missing(Refused):
    """An object that must exist doesn't."""


def need(condition, what):
    if not condition:
        raise Refused(what)


# ---- Section 1: conventions ---------------------------------------------------------------------------


class Fields:
    """Bytes read from the front; nothing is taken that isn't there, and zero bytes must be zero."""

    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, n):
        need(0 <= n <= len(self.data) - self.at, self.what + ": cut off")
        self.at += n
        return self.data[self.at - n : self.at]

    def num(self, size, signed=False):
        return int.from_bytes(self.take(size), "little", signed=signed)

    def zeros(self, n):
        need(not any(self.take(n)), self.what + ": zero bytes aren't zero")

    def count(self, row, most=None, size=4):
        """A count, refused unless the bytes at hand hold so many rows."""
        n = self.num(size)
        need(n * row <= len(self.data) - self.at, self.what + ": a count beyond the end")
        need(most is None or n <= most, self.what + ": a count too large")
        return n

    def bytes8(self):
        return self.take(self.num(1))

    def bytes32(self):
        return self.take(self.num(4))

    def text16(self):
        return utf8(self.take(self.num(2)), self.what)

    def end(self):
        need(self.at == len(self.data), self.what + ": bytes after the end")

    def padding(self):
        rest = self.data[self.at :]
        need(rest.count(0) == len(rest), self.what + ": padding isn't zero")
        self.at = len(self.data)

    def version(self, magic, version=b"\x01\x00"):
        need(self.take(len(magic)) == magic, self.what + ": another beginning")
        if self.take(len(version)) != version:
            raise Newer(self.what + ": made by a newer strongroom")


def utf8(data, what):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(what + ": text isn't UTF-8")


def digest(data):
    return blake3(data).digest()


def ascending(keys, what):
    need(all(a < b for a, b in zip(keys, keys[1:])), what + ": not in order")


# ---- Section 2: algorithms ----------------------------------------------------------------------------


def kdf(key, salt, label, context, size=32):
    info = b"strongroom/v1/" + label.encode() + b"\0" + hashlib.sha256(context).digest()
    return HKDF(SHA256(), size, salt or None, info).derive(key)


ED_P = 2**255 - 19
# The y of the points of small order: 1 (order 1), -1 (2), 0 (4) and two more (8). Which sign the encoding
# has makes no difference.
ED_SMALL = {1, ED_P - 1, 0}
for _y in ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
           "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"):
    ED_SMALL.add(int.from_bytes(bytes.fromhex(_y), "little") & (2**255 - 1))


def ed_point(data):
    """Of full order as far as its bytes tell, and in its only encoding. That it lies on the curve is left to
    the library, which decodes it (the key) or compares it with a point that it computed (R)."""
    y = int.from_bytes(data, "little") & (2**255 - 1)
    return y < ED_P and y not in ED_SMALL


def ed_key(data, what):
    """A public key in a record: a point of the curve too."""
    y = int.from_bytes(data, "little") & (2**255 - 1)
    d = -121665 * pow(121666, -1, ED_P)
    x2 = (y * y - 1) * pow(d * y * y + 1, -1, ED_P) % ED_P
    need(ed_point(data) and pow(x2, (ED_P - 1) // 2, ED_P) == 1, what + ": an Ed25519 key that is refused")
    return data


def ed25519(key, message, signature):
    """Strict: no cofactor and S < L are the library's (OpenSSL's), the rest is ed_point."""
    if len(signature) != 64 or not ed_point(key) or not ed_point(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


def signed(kind, key, data, signature):
    return ed25519(key, b"strongroom/v1/sig/" + kind.encode() + b"\0" + digest(data), signature)


class XWing:
    """A key pair from its seed: draft-connolly-cfrg-xwing-kem."""

    def __init__(self, seed):
        wide = hashlib.shake_256(seed).digest(96)
        self.m = MLKEM768PrivateKey.from_seed_bytes(wide[:64])
        self.x = X25519PrivateKey.from_private_bytes(wide[64:])
        self.x_public = self.x.public_key().public_bytes_raw()
        self.public = self.m.public_key().public_bytes_raw() + self.x_public

    def open(self, ciphertext):
        need(len(ciphertext) == 1120, "X-Wing: another length")
        ss_m = self.m.decapsulate(ciphertext[:1088])
        try:
            ss_x = self.x.exchange(X25519PublicKey.from_public_bytes(ciphertext[1088:]))
        except ValueError:  # all zero
            raise Refused("X-Wing: a ciphertext that is refused")
        need(any(ss_x), "X-Wing: a ciphertext that is refused")
        return hashlib.sha3_256(ss_m + ss_x + ciphertext[1088:] + self.x_public + b"\\.//^\\").digest()


def xwing_public(data, what):
    """The modulus check, by the library, or by hand where it leaves it out."""
    bits = int.from_bytes(data[:1152], "little")
    need(all((bits >> 12 * i) & 0xFFF < 3329 for i in range(768)), what + ": an X-Wing key that is refused")
    try:
        MLKEM768PublicKey.from_public_bytes(data[:1184])
    except ValueError:
        raise Refused(what + ": an X-Wing key that is refused")
    return data


PASSES, MEMORY = 3, 262144  # the program's own; more only if asked for


def stretch(passphrase, salt, m, t, p, expensive):
    need(65536 <= m <= 2097152 and 1 <= t <= 16 and 1 <= p <= 8 and m * t <= 8388608,
         "slot table: Argon2id settings out of bounds (R-13)")
    if (m > MEMORY or t > PASSES) and not expensive:
        raise Refused("this passphrase slot asks for %d MiB and %d passes: give --allow-expensive-kdf" % (m >> 10, t))
    return Argon2id(salt=salt, length=32, iterations=t, lanes=p, memory_cost=m).derive(passphrase)


# ---- Section 4: objects and their names ---------------------------------------------------------------

H8, H16, H32, H64 = "[0-9a-f]{8}", "[0-9a-f]{16}", "[0-9a-f]{32}", "[0-9a-f]{64}"
KINDS = [(re.compile(p.replace("D8", H16) + r"\Z"), most) for p, most in (
    ("a/" + H16 + "-D8", 1048720),
    ("c/" + H64, 64 * MIB),
    ("k/" + H8 + "-D8", MIB),
    ("r/" + H8 + r"-D8\.(?:read|admin)", 4 * MIB),
    ("s/" + H32 + "/" + H16 + "-D8", 256 + 36 * 1048576),
    ("p/" + H32 + "/[0-9a-f]{2}/[0-9a-f]{62}", 1232 + 64 * MIB + 16 * 1024),
    ("m/" + H32 + "/" + H64, 64 * MIB),
    ("q/" + H32 + "-D8", 1352),
    ("u/" + H32 + "/" + H16 + "-D8", 131072),
)]


def most_bytes(name):
    """The most that an object of this name may have; None if the name isn't an object's."""
    for pattern, most in KINDS:
        if pattern.match(name):
            return most
    return None


def named_digest(name):
    """The part of an object's digest that its name says, in hex: 16 digits or 64."""
    folder, _, rest = name.partition("/")
    if folder in "cm":
        return rest[-64:]
    if folder == "p":
        return rest[-65:-63] + rest[-62:]
    return rest.rpartition("-")[2].split(".")[0]


def pack_name(device, name):
    return "p/%s/%s/%s" % (device.hex(), name.hex()[:2], name.hex()[2:])


class Folder:
    """A vault in a directory: plain files at their names, most of them twice (R-29)."""

    sealed = False

    def __init__(self, path):
        self.path = path
        self.top = {"", "2/"}

    def list(self, folder):
        """The objects below a folder, in both copies, sorted."""
        found = set()
        for copy in self.top:
            top = os.path.join(self.path, copy + folder)
            for at, _, files in os.walk(top):
                for f in files:
                    name = os.path.relpath(os.path.join(at, f), os.path.join(self.path, copy))
                    if most_bytes(name) is not None:
                        found.add(name)
        return sorted(found)

    def copies(self, name):
        """What stands at a name, copy by copy: None for what isn't a plain file, or is too long for its name."""
        for copy in ("",) if name.startswith("p/") else ("", "2/"):
            try:
                fd = os.open(os.path.join(self.path, copy + name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            with open(fd, "rb") as f:
                info = os.fstat(f.fileno())
                if stat.S_ISREG(info.st_mode):
                    yield f.read() if info.st_size <= most_bytes(name) else None


def get(store, name, full=None, size=None):
    """An object, by its digest: the name's part, and all of it and the length where a referrer says them."""
    there = False
    for data in store.copies(name):
        there = True
        if data is None or (size is not None and len(data) != size):
            continue
        d = digest(data)
        if (d == full if full else True) and d.hex().startswith(named_digest(name)):
            return data
    if there:
        raise Refused(name + ": damaged")
    raise Missing(name + ": missing")


# ---- Section 26: sealed files, the container ----------------------------------------------------------

TAR_MAGIC = b"ustar\x0000"


def tar_header(name, size):
    """The only 512 bytes that may stand before an object."""
    need(len(name) <= 100 and size < 8**11, "sealed file: a member that doesn't fit")
    start = name.ljust(100, b"\0") + b"0000600\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    rest = b"0" + bytes(100) + TAR_MAGIC + bytes(64) + b"0000000\0" * 2 + bytes(167)
    total = sum(start) + 8 * 32 + sum(rest)
    return start + b"%06o\0 " % total + rest


class Parts:
    """One file, or the parts NAME.001, .002 .. of one."""

    def __init__(self, path):
        paths = [path]
        if path.endswith(".001"):
            while len(paths) < 999 and os.path.exists("%s%03d" % (path[:-3], len(paths) + 1)):
                paths.append("%s%03d" % (path[:-3], len(paths) + 1))
        self.files = [open(p, "rb") for p in paths]
        sizes = [os.fstat(f.fileno()).st_size for f in self.files]
        need(all(s == sizes[0] for s in sizes[:-1]) and 0 < sizes[-1] <= sizes[0], "sealed file: a part has another length")
        self.piece, self.size = sizes[0], sum(sizes)

    def read(self, at, size):
        need(at + size <= self.size, "sealed file: cut off")
        out = []
        while size > 0:
            f = self.files[min(at // self.piece, len(self.files) - 1)]
            f.seek(at - self.files.index(f) * self.piece)
            data = f.read(min(size, self.piece - f.tell()))
            need(data, "sealed file: cut off while it is read")
            out.append(data)
            at, size = at + len(data), size - len(data)
        return b"".join(out)


class Sealed:
    """A sealed file: a strict ustar stream of objects in a fixed order, then `end`."""

    sealed = True
    ORDER = {"k": 2, "r": 3, "a": 4, "c": 5, "m": 6, "p": 7, "s": 8, "u": 9}

    def __init__(self, path):
        self.file = Parts(path)
        self.members = OrderedDict()
        self.layout()

    def layout(self):
        at, before = 0, (0, "")
        while True:
            head = self.file.read(at, 512)
            if not any(head):
                break
            raw = head[:100].rstrip(b"\0")
            need(re.match(rb"[0-7]{11}\0\Z", head[124:136]), "sealed file: another size field")
            size = int(head[124:135], 8)
            need(head == tar_header(raw, size), "sealed file: a header that isn't exactly ours")
            name = raw.decode("ascii", "replace")
            if name == "end":
                place, most = (10, ""), 128
            else:
                most = most_bytes(name)
                need(most is not None and name[0] in self.ORDER, "sealed file: a member that isn't an object")
                first = name.startswith("a/" + "0" * 16 + "-")
                place = (1 if first else self.ORDER[name[0]], "" if name[0] == "p" else name)
            need(size <= most, "sealed file: a member too long for its name")
            need(name not in self.members, "sealed file: a name twice")
            need(before[0] != 10, "sealed file: a member after the end")
            # within one line ascending; packs as they come
            need(before < place or (place[0] == 7 and before <= place), "sealed file: members out of order")
            need(place[0] > 1 or not self.members, "sealed file: members out of order")
            before = place
            self.members[name] = (at + 512, size)
            after = at + 512 + size
            at = (after + 511) // 512 * 512
            need(not any(self.file.read(after, at - after)), "sealed file: padding isn't zero")
        need(before[0] == 10, "sealed file: no end")
        need(not any(self.file.read(at, 1024)), "sealed file: two empty blocks must follow the end")
        need(self.file.size == at + 1024, "sealed file: bytes after the end")
        counts = {}
        for name in self.members:
            counts[name[0]] = counts.get(name[0], 0) + 1
        rings = [n for n in self.members if n[0] == "r"]
        need(counts.get("k") == 1 and len(rings) == 2, "sealed file: not one slot table and two rings")
        need({n.rpartition(".")[2] for n in rings} == {"admin", "read"}, "sealed file: not one ring of each kind")
        need(list(self.members)[0].startswith("a/" + "0" * 16), "sealed file: GENESIS isn't first")
        # the `end`: count and digest; its signature once the log is read
        self.end = self.file.read(*self.members["end"])
        f = Fields(self.end, "end")
        f.version(b"SREND", b"\x00\x01\x00")
        self.end_vault, count, total = f.take(16), f.num(8), f.take(32)
        f.take(64)
        f.end()
        del self.members["end"]
        need(count == len(self.members), "sealed file: members are missing")
        h = blake3()
        for name, (_, size) in self.members.items():
            h.update(struct.pack("<B", len(name)) + name.encode() + struct.pack("<Q", size))
        need(h.digest() == total, "sealed file: other members than the end says")

    def check_end(self, log):
        need(self.end_vault == log.vault, "end: another vault")
        need(signed("end", log.authority, self.end[:64], self.end[64:]), "end: the signature doesn't hold")

    def list(self, folder):
        return sorted(n for n in self.members if n.startswith(folder))

    def copies(self, name):
        if name in self.members:
            yield self.file.read(*self.members[name])


# ---- Section 5: CSEAL ---------------------------------------------------------------------------------


def cseal_open(key, label, context, data, what):
    need(len(data) >= 80, what + ": cut off")
    derived = kdf(key, data[:32], label, context, 76)
    if not hmac.compare_digest(derived[44:], data[32:64]):
        raise OtherKey(what + ": another key")
    try:
        return ChaCha20Poly1305(derived[:32]).decrypt(derived[32:44], data[64:], None)
    except InvalidTag:
        raise Refused(what + ": damaged")


# ---- Section 6: PSEAL ---------------------------------------------------------------------------------

SEGMENT = 65536
LEAST = {1: 65536, 2: 4096, 3: 4096, 4: 4096, 5: 4096}


def padded(length, kind):
    if not LEAST[kind] <= length <= 64 * MIB:
        return False
    e = length.bit_length() - 1
    step = 1 << (e - e.bit_length())
    return length % step == 0


def pseal_header(data, what):
    """vault, device, epoch, kind"""
    need(len(data) > 1232 + 16, what + ": cut off")
    f = Fields(data, what)
    f.version(b"SRPACK")
    vault, device, epoch, kind = f.take(16), f.take(16), f.num(4), f.num(1)
    if kind not in LEAST:
        raise Newer(what + ": an object kind of a newer strongroom")
    f.zeros(3)
    return vault, device, epoch, kind


def pseal_open(data, fingerprint, pair, psk, what):
    """The plaintext, padding and all. Header fields and digest are checked by the caller."""
    kind = data[44]
    derived = kdf(pair.open(data[80:1200]) + psk, data[48:80], "pack", fingerprint + data[:1200], 76)
    if not hmac.compare_digest(derived[44:], data[1200:1232]):
        raise OtherKey(what + ": another key")
    count = -(-(len(data) - 1232) // (SEGMENT + 16))
    length = len(data) - 1232 - 16 * count
    need(length > SEGMENT * (count - 1), what + ": the last segment is empty")
    need(padded(length, kind), what + ": the length isn't a padded one")
    cipher, base = ChaCha20Poly1305(derived[:32]), derived[32:44]
    view, out = memoryview(data), []
    for i in range(count):
        place = bytes(3) + i.to_bytes(8, "big") + bytes([i == count - 1])
        nonce = bytes(a ^ b for a, b in zip(base, place))
        at = 1232 + i * (SEGMENT + 16)
        try:
            out.append(cipher.decrypt(nonce, view[at : at + SEGMENT + 16], None))
        except InvalidTag:
            raise Refused(what + ": damaged")
    return b"".join(out)


# ---- Section 7: the authority log ---------------------------------------------------------------------

GENESIS, KEYS, DEVICE_ADD, DEVICE_REVOKE, MESSAGE, SEEN, FORGET, SUPERSEDE, INVENTORY, PURGE, VOID = range(1, 12)


class Record:
    def __init__(self, data, what):
        f = Fields(data, what)
        f.version(b"SRAUTH")
        self.vault, self.seq, self.time, self.prev, self.type = f.take(16), f.num(8), f.num(8), f.take(32), f.num(1)
        f.zeros(3)
        length = f.num(4)
        need(length <= MIB, what + ": a payload too long")
        payload = f.take(length)
        self.signature = f.take(64)
        f.end()
        self.body, self.digest, self.what = data[:-64], digest(data), what
        self.heads, self.lists, self.messages = [], [], []
        if not GENESIS <= self.type <= VOID:
            raise Newer(what + ": a record type of a newer strongroom")
        need((self.type == GENESIS) == (self.seq == 0), what + ": GENESIS is at seq 0 and nowhere else")
        if self.type == GENESIS:
            need(self.vault == ZERO16 and self.prev == ZERO32, what + ": zero bytes aren't zero")
        self.payload(Fields(payload, what))

    def payload(self, f):
        t = self.type
        if t == GENESIS:
            self.authority, _ = ed_key(f.take(32), self.what), f.take(32)
        elif t == KEYS:
            self.generation, self.oldest, self.open, self.newest = (f.num(4) for _ in range(4))
            need(1 <= self.oldest <= self.open <= self.newest, self.what + ": epochs out of order")
            self.authority = ed_key(f.take(32), self.what)
            self.epoch_key = xwing_public(f.take(1216), self.what)
            self.owners_key = xwing_public(f.take(1216), self.what)
            self.slots, self.read, self.admin = f.take(32), f.take(32), f.take(32)
            self.heads = read_heads(f)
            self.messages = [(f.take(16), f.take(32)) for _ in range(f.count(48))]
            ascending([d for d, _ in self.messages], self.what)
        elif t == DEVICE_ADD:
            self.device, self.key, self.kem = f.take(16), ed_key(f.take(32), self.what), xwing_public(f.take(1216), self.what)
            self.messages = [(self.device, f.take(32))]
        elif t == DEVICE_REVOKE:
            self.head = (f.take(16), f.num(8), f.take(32))
            need((self.head[1] == 0) == (self.head[2] == ZERO32), self.what + ": seq 0 has a zero digest")
        elif t == MESSAGE:
            self.device = f.take(16)
            self.messages = [(self.device, f.take(32)) for _ in range(f.count(32))]
        elif t == SEEN:
            self.heads = read_heads(f)
        elif t in (FORGET, SUPERSEDE):
            self.lists = [read_reference(f)]
        elif t == INVENTORY:
            self.lists = [read_reference(f) for _ in range(f.count(40))]
            self.heads = read_heads(f)
        elif t == PURGE:
            self.lists, self.announced = [read_reference(f)], f.num(8)
            self.heads = read_heads(f)
        elif t == VOID:
            self.loser = f.take(32)
        f.end()


def read_heads(f):
    heads = [(f.take(16), f.num(8), f.take(32)) for _ in range(f.count(56))]
    ascending([d for d, _, _ in heads], f.what)
    return heads


def read_reference(f):
    return f.take(32), f.num(4), f.num(4)


class Device:
    def __init__(self, record):
        self.id, self.key, self.revoked = record.device, record.key, None


class Log:
    """The log, read and applied from GENESIS on."""

    def __init__(self, store, expected=None):
        self.store = store
        places = {}
        for name in store.list("a/"):
            places.setdefault(int(name[2:18], 16), []).append(name)
        need(places, "no vault here: nothing below a/")
        found = self.at(places, 0)
        if expected:
            found = [r for r in found if r.digest == expected]
            need(found, "the vault has another fingerprint")
        need(len(found) == 1, "more than one GENESIS: give --fingerprint")
        first = found[0]
        need(signed("authority", first.authority, first.body, first.signature), first.what + ": the signature doesn't hold")
        self.fingerprint, self.vault = first.digest, first.digest[:16]
        self.authority, self.keys, self.devices = first.authority, None, {}
        self.records, self.newest = [first], [0]
        for seq in range(1, max(places) + 1):
            need(seq in places, "the log has a gap at %d: its history is missing" % seq)
            fits = self.fitting(places, seq, self.records[-1].digest, self.authority)
            if len(fits) > 1:
                fits = self.settle(places, seq, fits)
            self.apply(fits[0])
        need(self.keys, "a log without KEYS: never finished, or its history is missing")
        self.read_lists()

    def at(self, places, seq):
        out, failed = [], None
        for name in places.get(seq, []):
            try:
                r = Record(get(self.store, name), name)
                need(r.seq == seq, name + ": another seq")
                out.append(r)
            except Newer:
                raise
            except Refused as e:
                failed = e
        if not out and failed:
            raise failed
        return out

    def fitting(self, places, seq, prev, authority):
        """The records at a place that follow `prev`. What doesn't fit is passed over beside what does."""
        good, why = [], Refused("the log has a gap at %d" % seq)
        for r in self.at(places, seq):
            if not signed("authority", authority, r.body, r.signature):
                why = Refused(r.what + ": the signature doesn't hold")
            elif r.vault != self.vault:
                why = Refused(r.what + ": another vault")
            elif r.prev != prev:
                why = Refused("the log is forked at %d" % seq)
            else:
                good.append(r)
        if not good:
            raise why
        return good

    def settle(self, places, seq, fits):
        """Step 4: a VOID at the place after decides between two."""
        winners = []
        for r in fits if len(fits) == 2 else []:
            other = [o for o in fits if o is not r][0]
            authority = r.authority if r.type == KEYS else self.authority
            for v in self.at(places, seq + 1):
                if (v.type == VOID and v.prev == r.digest and v.loser == other.digest
                        and signed("authority", authority, v.body, v.signature)):
                    winners.append(r)
        need(len(winners) == 1, "the log is forked at %d" % seq)
        return winners

    def apply(self, r):
        t = r.type
        if t == KEYS:
            if self.keys is None:
                need(r.generation == 1, r.what + ": the first generation isn't 1")
            else:
                k = self.keys
                need(r.generation == k.generation + 1, r.what + ": the generation isn't the next one")
                need(r.oldest >= k.oldest and r.open >= k.open and r.newest >= k.newest, r.what + ": an epoch falls")
            self.raises = getattr(self, "raises", [])
            if self.keys and r.oldest > self.keys.oldest:
                self.raises.append(r)
            self.keys, self.authority = r, r.authority
        elif t == DEVICE_ADD:
            need(r.device not in self.devices, r.what + ": a device twice")
            self.devices[r.device] = Device(r)
        elif t == DEVICE_REVOKE:
            need(r.head[0] in self.devices, r.what + ": an unknown device")
            d = self.devices[r.head[0]]
            need(d.revoked is None or r.head[1] < d.revoked[0] or r.head[1:] == d.revoked, r.what + ": not an earlier header")
            d.revoked = r.head[1:]
        elif t == PURGE:
            a = r.announced
            need(a < r.seq and self.records[a].type == FORGET, r.what + ": no FORGET announced it")
        elif t == MESSAGE:
            need(r.device in self.devices, r.what + ": an unknown device")
        for device, _ in r.messages:
            need(device in self.devices, r.what + ": a message to an unknown device")
        self.records.append(r)
        self.newest.append(self.keys.newest if self.keys else 0)

    # -- Section 8: lists

    def read_lists(self):
        self.forgotten, self.announced, total = set(), {}, 0
        last = max([r.seq for r in self.records if r.type == INVENTORY], default=0)
        self.map = OrderedDict()  # (device, listed name) -> (current name, length), or None once purged
        self.purged, self.wanted_lists = set(), []
        for r in self.records:
            if not (r.type == FORGET or (r.type in (SUPERSEDE, INVENTORY, PURGE) and r.seq >= last)):
                continue
            total += sum(rows for _, _, rows in r.lists)
            need(total <= 4194304, "lists: too many rows together")
            names = set()
            for reference in r.lists:
                self.wanted_lists.append(reference[0])
                for row in self.read_list(reference, {FORGET: 1, PURGE: 3}.get(r.type, 2)):
                    if r.type == FORGET:
                        self.announced.setdefault(r.seq, set()).add(row[0])
                        if row[2] == ZERO32:
                            self.forgotten.add(row[:2])
                        continue
                    key = row[:2]
                    need(key not in names, r.what + ": a name twice")
                    names.add(key)
                    if r.type == PURGE:
                        self.map[key] = None
                        self.purged.add(key)
                    else:
                        nothing = row[2] == ZERO32
                        need(nothing == (row[3] == 0), r.what + ": a length without an object")
                        need(not nothing or r.type == INVENTORY, r.what + ": a row without an object")
                        if key in self.purged:
                            continue
                        if nothing:
                            self.purged.add(key)
                        self.map[key] = None if nothing else row[2:]

    def read_list(self, reference, kind):
        full, length, rows = reference
        name = "c/" + full.hex()
        f = Fields(get(self.store, name, full, length), name)
        f.version(b"SRLIST")
        need(f.take(16) == self.vault, name + ": another vault")
        need(f.num(1) == kind, name + ": another type of list")
        f.zeros(3)
        need(f.count({1: 56, 2: 84, 3: 48}[kind]) == rows, name + ": another number of rows")
        out = []
        for _ in range(rows):
            if kind == 1:
                row = (f.take(16), f.num(8), f.take(32))
                need((row[1] == 0) != (row[2] == ZERO32), name + ": neither a snapshot nor an object")
            elif kind == 2:
                row = (f.take(16), f.take(32), f.take(32), f.num(4))
            else:
                row = (f.take(16), f.take(32))
            out.append(row)
        f.end()
        ascending(out, name)
        return out


# ---- Section 11: headers; section 17: what must exist -------------------------------------------------


class Header:
    def __init__(self, data, what):
        f = Fields(data, what)
        f.version(b"SRSNAP")
        self.vault, self.device, self.epoch, n = f.take(16), f.take(16), f.num(4), f.num(4)
        need(n <= 1048576, what + ": too many objects")
        self.seq, self.time, self.prev = f.num(8), f.num(8), f.take(32)
        self.auth_seq, self.auth_head, self.body_name = f.num(8), f.take(32), f.take(32)
        need(n * 36 + 64 == len(data) - f.at, what + ": another length")
        self.objects = [(f.take(32), f.num(4)) for _ in range(n)]
        ascending([o[0] for o in self.objects], what)
        need(self.body_name in {o[0] for o in self.objects}, what + ": the body isn't among the objects")
        self.body, self.signature, self.digest, self.what = data[:-64], data[-64:], digest(data), what
        self.lists = True  # False: stays in the chain and lists nothing
        self.id = self.digest[:16]


class Vault:
    """Everything that can be known without a key."""

    def __init__(self, path, expected=None):
        self.store = Folder(path) if os.path.isdir(path) else Sealed(path)
        self.log = Log(self.store, expected)
        self.fingerprint, self.vault = self.log.fingerprint, self.log.vault
        if self.store.sealed:
            self.store.check_end(self.log)
        self.read_keys()
        self.chains, self.broken = {}, {}
        for device in self.log.devices.values():
            try:
                self.chains[device.id] = self.chain(device)
            except Refused as e:
                self.broken[device.id] = e
        self.gone = []
        for record in self.log.records:
            self.check_heads(record.heads)
        # section 17: listed names and what they are now
        self.current = {}
        for device, chain in self.chains.items():
            for h in chain:
                for name, length in h.objects if h.lists else ():
                    self.current.setdefault((device, name), (name, length))
        for key, now in self.log.map.items():
            if key in self.current:
                self.current[key] = now

    def read_keys(self):
        """Section 18, step 2: the digest first, then the layout."""
        k = self.log.keys
        name = "%08x-%s" % (k.generation, "%s")
        self.table = get(self.store, "k/" + name % k.slots.hex()[:16], k.slots)
        self.read_ring = get(self.store, "r/%s.read" % (name % k.read.hex()[:16]), k.read)
        self.admin_ring = get(self.store, "r/%s.admin" % (name % k.admin.hex()[:16]), k.admin)
        self.slots = parse_table(self.table, self.vault, k.generation)

    def chain(self, device):
        folder, places = "s/%s/" % device.id.hex(), {}
        for name in self.store.list(folder):
            places.setdefault(int(name[len(folder) : len(folder) + 16], 16), []).append(name)
        chain = []
        if device.revoked:  # back from the head that counts
            seq, wanted = device.revoked
            while seq:
                names = [n for n in places.get(seq, []) if wanted.hex().startswith(named_digest(n))]
                need(names, "device %s: header %d is missing" % (device.id.hex(), seq))
                h = Header(get(self.store, names[0], wanted), names[0])
                chain.insert(0, h)
                seq, wanted = seq - 1, h.prev
        else:
            for seq in range(1, max(places, default=0) + 1):
                need(seq in places, "device %s: header %d is missing" % (device.id.hex(), seq))
                # once: another that is whole is a fork, and one that isn't makes the chain unreadable as well
                found = [Header(get(self.store, n), n) for n in places[seq]]
                need(len(found) == 1, "device %s: forked at header %d" % (device.id.hex(), seq))
                chain.append(found[0])
        before, auth_seq = ZERO32, 0
        for i, h in enumerate(chain):
            need(signed("snapshot", device.key, h.body, h.signature), h.what + ": the signature doesn't hold")
            need(h.vault == self.vault and h.device == device.id, h.what + ": another vault or device")
            need(h.seq == i + 1, h.what + ": another seq")
            need(h.prev == before, "device %s: forked at header %d" % (device.id.hex(), h.seq))
            need(h.auth_seq < len(self.log.records) and self.log.records[h.auth_seq].digest == h.auth_head,
                 h.what + ": knew another log")
            before = h.digest
            if h.auth_seq < auth_seq or h.epoch != self.log.newest[h.auth_seq] or self.late(h):
                h.lists = False
            auth_seq = max(auth_seq, h.auth_seq)
        return chain

    def late(self, h):
        for r in self.log.records:
            if r.type == PURGE:
                if h.device not in self.log.announced.get(r.announced, ()):
                    continue
                announced = r.announced
            elif r in self.log.raises:
                announced = min(k.seq for k in self.log.records if k.type == KEYS and k.open >= r.oldest)
            else:
                continue
            seen = {d: s for d, s, _ in r.heads}.get(h.device, 0)
            if h.seq > seen and h.auth_seq < announced:
                return True
        return False

    def check_heads(self, heads):
        """What somebody has seen and signed for must still be there, but for what a revocation ended."""
        for device, seq, head in heads:
            if seq == 0 or device in self.broken:
                continue
            who = "device %s: " % device.hex()
            revoked = self.log.devices[device].revoked if device in self.log.devices else None
            chain = self.chains.get(device, [])
            if revoked and seq > revoked[0]:
                continue
            if seq > len(chain):
                self.gone.append(who + "header %d was there and is gone: rolled back" % seq)
            elif chain[seq - 1].digest != head and not revoked:
                self.gone.append(who + "forked at header %d" % seq)

    def snapshots(self):
        """Those that people see, oldest first."""
        out = [h for c in self.chains.values() for h in c if h.lists and (h.device, h.seq) not in self.log.forgotten]
        return sorted(out, key=lambda h: (h.time, h.device))

    def find(self, word):
        found = self.snapshots()
        need(found, "no snapshot here")
        if word == "latest":
            return found[-1]
        need(re.match(r"[0-9a-f]{1,32}\Z", word), "not a snapshot's id: " + word)
        fits = [h for h in found if h.id.hex().startswith(word)]
        need(len(fits) == 1, ("no snapshot %s" if not fits else "more than one snapshot %s") % word)
        return fits[0]

    def check(self):
        """All that must exist does, and is what its name says; in a sealed file there is nothing else."""
        for e in self.broken.values():
            raise e
        for why in self.gone:
            raise Refused(why)
        accounted, notes = set(), []
        for record in self.log.records:
            accounted.add(record.what)
        k = self.log.keys
        for folder, full, end in (("k", k.slots, ""), ("r", k.read, ".read"), ("r", k.admin, ".admin")):
            accounted.add("%s/%08x-%s%s" % (folder, k.generation, full.hex()[:16], end))
        for record in self.log.records:
            accounted.update("c/" + full.hex() for full, _, _ in record.lists)
            for device, full in record.messages:
                name = "m/%s/%s" % (device.hex(), full.hex())
                accounted.add(name)
                vault, to, _, kind = pseal_header(get(self.store, name, full), name)
                need((vault, to, kind) == (self.vault, device, 4), name + ": another vault, device or kind")
        for chain in self.chains.values():
            accounted.update(h.what for h in chain)
        for (device, _), now in self.current.items():
            if now:
                self.object(device, *now)
                accounted.add(pack_name(device, now[0]))
        logs = {s.id: s.log_key for s in self.slots}
        for name in self.store.list("u/"):  # section 25
            accounted.add(name)
            try:
                self.entry(name, logs)
            except Refused as e:
                need(not self.store.sealed, str(e))
                notes.append(str(e))
        for name in self.store.list("") if self.store.sealed else ():
            need(name in accounted, name + ": nothing in this file accounts for it")
        return notes

    def entry(self, name, logs):
        data = get(self.store, name)
        f = Fields(data, name)
        f.version(b"SRUSER")
        place = (f.take(16), f.take(16), f.num(8))
        need(place == (self.vault, bytes.fromhex(name[2:34]), int(name[35:51], 16)), name + ": another place")
        f.take(8)
        prev = f.take(32)
        need((prev == ZERO32) == (place[2] == 1), name + ": prev is zero at seq 1 and nowhere else")
        inner = f.bytes32()
        signature = f.take(64)
        f.end()
        key = logs.get(place[1])
        need(key is None or signed("user", key, data[:-64], signature), name + ": the signature doesn't hold")
        vault, slot, _, kind = pseal_header(inner, name)
        need((vault, slot, kind) == (self.vault, place[1], 5), name + ": another vault, slot or kind")

    def object(self, device, name, length):
        """Section 18, a whole object, as far as no key is needed: length, digest, version, vault, device."""
        where = pack_name(device, name)
        data = get(self.store, where, name, length)
        vault, whose, epoch, kind = pseal_header(data, where)
        need(vault == self.vault and whose == device and kind in (1, 2, 3), where + ": another vault, device or kind")
        return data, epoch, kind


# ---- Section 9: slot table ----------------------------------------------------------------------------


class Slot:
    def __init__(self, f):
        start = f.at
        self.kind, self.role = f.num(1), f.num(1)
        if not 1 <= self.kind <= 6 or self.role not in (1, 2):
            raise Newer("slot table: a slot of a newer strongroom")
        f.zeros(2)
        self.id, self.log_key, self.ciphertext = f.take(16), ed_key(f.take(32), "slot table"), f.take(1120)
        self.wrap = f.take(176)
        between = f.at
        if self.kind in (1, 2):
            self.m, self.t, self.p = f.num(4), f.num(1), f.num(1)
            f.zeros(2)
            self.salt = f.take(32)
        elif self.kind == 5:
            self.set, self.threshold, self.count = f.take(8), f.num(1), f.num(1)
            f.zeros(6)
        self.between = f.data[between : f.at]
        self.lock = f.take(144) if self.kind != 6 else None
        self.first = f.data[start : start + 1172]

    def unwrap(self, kek, fingerprint, generation):
        """K_read, K_admin, log seed. OtherKey: the secret is another slot's."""
        context = fingerprint + bytes([self.kind, self.role]) + self.id + self.between
        secret = cseal_open(kek, "slot-lock", context, self.lock, "slot")
        need(len(secret) == 64, "slot: another length")
        return self.open_with(secret[:32], secret[32:], fingerprint, generation)

    def open_with(self, seed, psk, fingerprint, generation):
        pair = XWing(seed)
        context = fingerprint + struct.pack("<I", generation) + self.first + pair.public
        try:
            keys = cseal_open(pair.open(self.ciphertext) + psk, "slot-wrap", context, self.wrap, "slot")
        except OtherKey:
            if self.kind == 6:
                raise
            raise Refused("slot: damaged behind its lock")
        need(len(keys) == 96, "slot: another length")
        need((keys[32:64] == ZERO32) == (self.role == 2), "slot: another role than it says")
        return keys[:32], keys[32:64], keys[64:]


def parse_table(data, vault, generation):
    f = Fields(data, "slot table")
    f.version(b"SRSLOT")
    need(f.take(16) == vault, "slot table: another vault")
    need(f.num(4) == generation, "slot table: another generation")
    count = f.num(1)
    f.zeros(3)
    slots = [Slot(f) for _ in range(count)]
    f.take(32)
    f.end()
    return slots


# ---- Sections 3 and 21: keys, and the text that people handle -----------------------------------------


def base32(text, size, what):
    try:
        raw = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        raise Refused(what + ": not base32")
    # one spelling alone, and so no odd bits at the end
    again = base64.b32encode(raw).decode().lower().rstrip("=")
    need(len(raw) == size and again == text.lower(), what + ": not %d bytes of base32" % size)
    return raw


def crockford(text, what):
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    text = re.sub(r"[\s-]", "", text).upper().translate(str.maketrans("OIL", "011"))
    need(text and all(c in digits for c in text), what + ": not its digits")
    return [digits.index(c) for c in text]


def bits(values):
    n = 0
    for v in values:
        n = n << 5 | v
    return n


def key_file(data):
    what = "key file"
    m = re.match(rb"strongroom-key-1:([a-z2-7]{56})(?:\r?\n)?\Z", data)
    need(m, what + ": not one of strongroom's")
    raw = base32(m.group(1).decode(), 35, what)
    need(hashlib.sha256(b"strongroom/key-file/1\0" + raw[:32]).digest()[:3] == raw[32:], what + ": its check is wrong")
    return raw[:32]


def recovery_code(text):
    what = "recovery code"
    digits = crockford(text, what)
    need(len(digits) == 36, what + ": not 36 digits")
    code = bits(digits[:32]).to_bytes(20, "big")
    check = hashlib.sha256(b"strongroom/recovery-code/1\0" + code).digest()
    need(int.from_bytes(check[:3], "big") >> 4 == bits(digits[32:]), what + ": its check is wrong, look for a slip")
    return code


def by_lines(read, text):
    """Files may hold the page around a code or a card: the lines that are one count."""
    out, why = [], None
    for line in text.splitlines():
        try:
            out.append(read(line))
        except Newer:
            raise
        except Refused as e:
            # the reason for a line that nearly is one is the more telling
            why = e if why is None or "check" in str(e) else why
    if not out:
        raise why or Refused("an empty file in place of a code")
    return out


def card(text):
    what = "card"
    text = text.strip()
    if text.upper().startswith("STRONGROOM-CARD-"):
        head, _, text = text.partition(":")
        if head.upper() != "STRONGROOM-CARD-1":
            raise Newer(what + ": made by a newer strongroom")
    d = crockford(text, what)
    need(len(d) == 72, what + ": not 72 digits")
    body = bits(d[3:67]).to_bytes(40, "big")
    check = hashlib.sha256(b"strongroom/card/1\0" + bytes(d[:3]) + body).digest()
    need(int.from_bytes(check[:4], "big") >> 7 == bits(d[67:]), what + ": its check is wrong, look for a slip")
    need(2 <= d[0] <= d[1] and 1 <= d[2] <= d[1], what + ": out of bounds")
    return d[0], d[1], d[2], body[:8], body[8:]


def gf_mul(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def combine(shares, x=0):
    """Lagrange's formula at x over {index: share}."""
    out = bytearray(32)
    for i, share in shares.items():
        factor = 1
        for j in shares:
            if j != i:
                inverse = next(v for v in range(1, 256) if gf_mul(v, i ^ j) == 1)
                factor = gf_mul(factor, gf_mul(x ^ j, inverse))
        for n in range(32):
            out[n] ^= gf_mul(share[n], factor)
    return bytes(out)


def bech32(text, prefix):
    """BIP-173 without its limit of length."""
    what = "identity"
    need(text in (text.lower(), text.upper()), what + ": letters of both cases")
    head, _, data = text.lower().rpartition("1")
    charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    need(head == prefix.lower() and len(data) >= 6 and all(c in charset for c in data), what + ": not one of age's hybrid ones")
    values = [charset.index(c) for c in data]
    check = 1
    for v in [ord(c) >> 5 for c in head] + [0] + [ord(c) & 31 for c in head] + values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ v
        for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= g if top >> i & 1 else 0
    need(check == 1, what + ": its check is wrong")
    values = values[:-6]
    spare = 5 * len(values) % 8
    n = bits(values)
    need(spare < 5 and n & ((1 << spare) - 1) == 0, what + ": odd bits at the end")
    return (n >> spare).to_bytes(5 * len(values) // 8, "big")


def identities(text):
    out = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            need(line.startswith("AGE-SECRET-KEY-PQ-1"), "identity file: a line that isn't an identity")
            seed = bech32(line, "AGE-SECRET-KEY-PQ-")
            need(len(seed) == 32, "identity: another length")
            out.append(seed)
    need(out, "identity file: no identity in it")
    return out


class Secrets:
    """What a person gave."""

    def __init__(self, passphrase=None, key=None, code=None, cards=(), seeds=(), expensive=False):
        self.passphrase, self.key, self.code, self.cards, self.seeds = passphrase, key, code, cards, seeds
        self.expensive = expensive

    def any(self):
        return any(x for x in (self.passphrase, self.key, self.code, self.cards, self.seeds))

    def keks(self, slot, fingerprint):
        if slot.kind in (1, 2) and self.passphrase is not None and (slot.kind == 1 or self.key is not None):
            out = stretch(self.passphrase, slot.salt, slot.m, slot.t, slot.p, self.expensive)
            return [out if slot.kind == 1 else kdf(out + self.key, b"", "joint", fingerprint)]
        if slot.kind == 3 and self.key is not None:
            return [self.key]
        if slot.kind == 4 and self.code is not None:
            return [kdf(self.code, b"", "code", fingerprint)]
        if slot.kind == 5:
            mine = {c[2]: c[4] for c in self.cards if c[:2] == (slot.threshold, slot.count) and c[3] == slot.set}
            if len(mine) >= slot.threshold:
                few = dict(list(mine.items())[: slot.threshold])
                need(all(combine(few, i) == s for i, s in mine.items()), "cards: one of them isn't of this set")
                return [combine(few)]
        return []

    def unlock(self, vault):
        """Section 9, to open a slot. Returns K_read, K_admin, and the slot."""
        tries = 0
        for slot in vault.slots:
            keys = None
            if slot.kind == 6:
                for seed in self.seeds:
                    try:
                        keys = slot.open_with(seed, ZERO32, vault.fingerprint, vault.log.keys.generation)
                    except OtherKey:
                        pass
            else:
                if slot.kind in (1, 2) and self.passphrase is not None:
                    tries += 1
                    if tries > 8:
                        continue
                for kek in self.keks(slot, vault.fingerprint):
                    try:
                        keys = slot.unwrap(kek, vault.fingerprint, vault.log.keys.generation)
                    except OtherKey:
                        pass
            if keys is None:
                continue
            mac_key = kdf(keys[0], b"", "slots-mac", vault.fingerprint)
            mac = blake3(vault.table[:-32], key=mac_key).digest()
            need(hmac.compare_digest(mac, vault.table[-32:]), "slot table: its mac doesn't hold")
            log_key = Ed25519PrivateKey.from_private_bytes(keys[2]).public_key().public_bytes_raw()
            need(log_key == slot.log_key, "slot: another log key than its seed's")
            return keys[0], keys[1], slot
        raise OtherKey("wrong key: it opens no slot of this vault")


# ---- Section 10: rings --------------------------------------------------------------------------------


class Keys:
    """An unlocked vault."""

    def __init__(self, vault, secrets):
        self.vault, f32 = vault, vault.fingerprint
        self.k_read, self.k_admin, self.slot = secrets.unlock(vault)
        generation = struct.pack("<I", vault.log.keys.generation)
        plain = cseal_open(self.k_read, "read-ring", f32 + generation, vault.read_ring, "read ring")
        need(len(plain) % 4096 == 0, "read ring: not padded")
        f = Fields(plain, "read ring")
        self.dedup_root = f.take(32)
        rows = [(f.num(4), f.take(32), f.take(32)) for _ in range(f.count(68))]
        ascending([r[0] for r in rows], "read ring")
        f.padding()
        self.epochs = {e: (XWing(seed), root) for e, seed, root in rows}
        k = vault.log.keys
        need(k.newest in self.epochs, "read ring: the newest epoch isn't in it")
        need(self.epochs[k.newest][0].public == k.epoch_key, "read ring: another key than the log's")
        if self.k_admin != ZERO32:
            plain = cseal_open(self.k_admin, "admin-ring", f32 + generation, vault.admin_ring, "admin ring")
            self.admin(plain)

    def admin(self, plain):
        need(len(plain) % 4096 == 0, "admin ring: not padded")
        f, k = Fields(plain, "admin ring"), self.vault.log.keys
        authority = Ed25519PrivateKey.from_private_bytes(f.take(32)).public_key().public_bytes_raw()
        need(authority == k.authority, "admin ring: another authority than the log's")
        owners = [f.take(32) for _ in range(f.count(32))]
        need(owners and XWing(owners[-1]).public == k.owners_key, "admin ring: another owners' key than the log's")
        self.slot_names = {}
        for _ in range(f.count(16)):
            slot, _, _, _ = f.take(16), f.take(1216), f.take(32), f.take(32)
            self.slot_names[slot] = f.text16()
        self.device_names = {}
        for _ in range(f.count(18)):
            device = f.take(16)
            self.device_names[device] = f.text16()
        own = f.bytes32()
        for _ in range(f.count(50)):
            f.take(16), f.take(32), f.text16()
        f.padding()
        if own:  # section 26: the device of a sealed file
            g = Fields(own, "a sealed file's own device")
            device, ed, kem, _ = g.take(16), g.take(32), g.take(32), g.take(32)
            g.end()
            need(device in self.vault.log.devices, "admin ring: an own device that the log doesn't know")
            key = Ed25519PrivateKey.from_private_bytes(ed).public_key().public_bytes_raw()
            need(key == self.vault.log.devices[device].key, "admin ring: another key than the own device's")
            self.own_messages(device, XWing(kem))

    def psk(self, device, epoch):
        need(epoch in self.epochs, "sealed under epoch %d, whose keys are gone" % epoch)
        return kdf(self.epochs[epoch][1], b"", "device-psk", self.vault.fingerprint + device)

    def dedup(self, device):
        return kdf(self.dedup_root, b"", "dedup", self.vault.fingerprint + device)

    # -- Section 12: messages, where the own device's key is at hand

    def own_messages(self, device, pair):
        psks = {}
        for record in self.vault.log.records:
            for to, full in record.messages:
                if to != device:
                    continue
                name = "m/%s/%s" % (device.hex(), full.hex())
                try:
                    data = get(self.vault.store, name, full)
                except Missing:
                    continue
                vault, whom, epoch, kind = pseal_header(data, name)
                need((vault, whom, kind) == (self.vault.vault, device, 4), name + ": another vault, device or kind")
                if epoch and epoch not in psks:
                    continue  # its key came in a message that is gone, or its epoch is
                psk = psks[epoch] if epoch else ZERO32
                f = Fields(pseal_open(data, self.vault.fingerprint, pair, psk, name), name)
                kind = f.num(1)
                if kind == 1:
                    need(f.take(32) == self.vault.fingerprint, name + ": another vault")
                    epoch, psk, dedup = f.num(4), f.take(32), f.take(32)
                    need(dedup == self.dedup(device), name + ": another dedup secret than the ring's")
                elif kind == 2:
                    epoch, psk = f.num(4), f.take(32)
                elif kind == 3:
                    continue
                else:
                    raise Newer(name + ": a message of a newer strongroom")
                f.padding()
                psks[epoch] = psk
                need(epoch not in self.epochs or psk == self.psk(device, epoch), name + ": another secret than the ring's")

    # -- Section 18: whole objects

    def open(self, device, listed, kinds):
        """A whole object by the name that a header lists: its kind and its plaintext."""
        now = self.vault.current.get((device, listed))
        need(now, pack_name(device, listed) + ": no header lists it, or it is purged")
        data, epoch, kind = self.vault.object(device, *now)
        where = pack_name(device, now[0])
        need(kind in kinds, where + ": another kind")
        psk = self.psk(device, epoch)
        try:
            return kind, pseal_open(data, self.vault.fingerprint, self.epochs[epoch][0], psk, where)
        except OtherKey:
            raise Refused(where + ": its commitment is another key's")

    def open_everything(self):
        """Section 26: every pack whole under its digest and its own commitment, before anything is released."""
        for (device, listed), now in self.vault.current.items():
            if now:
                kind, plain = self.open(device, listed, (1, 2, 3))
                {1: Pack, 2: Index, 3: Body}[kind](plain, pack_name(device, now[0]))


# ---- Section 13: data packs ---------------------------------------------------------------------------


class Pack:
    def __init__(self, plain, what):
        f = Fields(plain, what)
        length, b, n = f.num(4), f.num(4), f.num(4)
        need(1 <= b <= n <= 65536, what + ": counts out of bounds")
        need(length == 12 + 16 * b + 36 * n and length <= len(plain), what + ": another directory")
        rows, at = [], length
        for _ in range(b):
            stored, size, chunks, flags = f.num(4), f.num(4), f.num(4), f.num(1)
            f.zeros(3)
            need(flags in (0, 1), what + ": unknown flags")
            need(chunks >= 1 and 1 <= size <= 8 * MIB, what + ": a block out of bounds")
            need(1 <= stored <= len(plain) - at, what + ": a block beyond the end")
            need(stored == size if flags == 0 else stored < size, what + ": a block's stored length")
            rows.append((at, stored, size, chunks, flags))
            at += stored
        need(sum(r[3] for r in rows) == n, what + ": another number of chunks")
        self.chunks = {}
        for block, row in enumerate(rows):
            inside = 0
            for _ in range(row[3]):
                chunk, size = f.take(32), f.num(4)
                need(size >= 1, what + ": an empty chunk")
                need(chunk not in self.chunks, what + ": an id twice")
                self.chunks[chunk] = (block, inside, size)
                inside += size
            need(inside == row[2], what + ": a block isn't the sum of its chunks")
        f.at = at
        f.padding()
        self.rows, self.plain, self.what, self.last = rows, plain, what, (None, b"")

    def block(self, i):
        if self.last[0] != i:
            at, stored, size, _, flags = self.rows[i]
            data = self.plain[at : at + stored]
            self.last = (i, unzstd(data, size, self.what) if flags else data)
        return self.last[1]

    def chunk(self, chunk):
        block, at, size = self.chunks[chunk]
        return self.block(block)[at : at + size]


def unzstd(data, size, what):
    """One frame, of a declared length, without a dictionary, and nothing after it."""
    need(data[:4] == b"\x28\xb5\x2f\xfd", what + ": not a zstd frame")
    try:
        header = zstandard.get_frame_parameters(data)
        need(header.content_size == size and header.dict_id == 0, what + ": another frame than declared")
        need(header.window_size <= 8 * MIB, what + ": a frame with too large a window")
        out = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Refused(what + ": a block that doesn't decompress")
    need(len(out) == size, what + ": a block of another length")
    return out


# ---- Section 14: indexes ------------------------------------------------------------------------------


class Index:
    def __init__(self, plain, what):
        f = Fields(plain, what)
        k, n = f.num(4), f.num(4)
        need(k <= n <= 1048576 and 32 * k + 20 * n <= len(plain) - 8, what + ": counts out of bounds")
        self.packs = [f.take(32) for _ in range(k)]
        self.rows, before = {}, b""
        for _ in range(n):
            short, pack = f.take(16), f.num(4)
            need(short > before, what + ": not in order")
            need(pack < k, what + ": a pack that isn't there")
            before = short
            self.rows[short] = pack
        f.padding()

    def find(self, short):
        pack = self.rows.get(short)
        return None if pack is None else self.packs[pack]


# ---- Section 15: snapshot bodies ----------------------------------------------------------------------


class Body:
    def __init__(self, plain, what):
        need(len(plain) <= 16 * MIB, what + ": too long")
        f = Fields(plain, what)
        if f.num(4) != 1:
            raise Newer(what + ": made by a newer strongroom")
        f.take(16)
        self.paths = [f.bytes32() for _ in range(f.count(4))]
        self.depth = f.num(1)
        need(self.depth <= 4, what + ": depth out of bounds")
        self.root = (f.take(32), f.num(4))
        self.counts = [f.num(8) for _ in range(11)]
        for _ in range(f.count(8, 1000)):
            f.bytes32(), utf8(f.bytes32(), what)
        self.host, self.begun, _, _ = f.text16(), f.num(8), f.num(8), f.text16()
        self.tags = [f.text16() for _ in range(f.count(2))]
        self.indexes = [(f.take(32), f.take(16)) for _ in range(f.count(48, 64))]
        for before, (_, first) in zip([None] + self.indexes, self.indexes):
            need(first == ZERO16 if before is None else first == ZERO16 or first > before[1], what + ": parts of an index out of order")
        for _ in range(f.count(8)):
            f.num(8)
        self.seen = read_heads(f)
        self.origin = self.optional(f)
        self.sender = self.optional(f)
        if self.origin is not None:
            utf8(self.origin, what)
        f.padding()

    @staticmethod
    def optional(f):
        there = f.num(1)
        need(there in (0, 1), f.what + ": neither there nor not")
        return f.bytes32() if there else None


def sealed_by(sender, body, fingerprint):
    """Section 26, the proof of who sealed a file: the fingerprint of his vault and the device."""
    f = Fields(sender, "sender")
    device = f.take(16)
    raw = [f.bytes32() for _ in range(f.count(4))]
    signature = f.take(64)
    f.end()
    need(len(raw) >= 2, "sender: cut off")
    records = [Record(r, "sender") for r in raw]
    need(records[0].type == GENESIS and records[-1].type == DEVICE_ADD, "sender: another chain of records")
    need(all(r.type == KEYS for r in records[1:-1]), "sender: another chain of records")
    theirs, authority = records[0].digest, records[0].authority
    ascending([r.seq for r in records], "sender")
    for r in records:
        need(r.type == GENESIS or r.vault == theirs[:16], "sender: another vault")
        need(signed("authority", authority, r.body, r.signature), "sender: a signature doesn't hold")
        if r.type == KEYS:
            authority = r.authority
    need(records[-1].device == device, "sender: another device")
    root = body.root[0] + struct.pack("<IB", body.root[1], body.depth)
    need(signed("sealed-by", records[-1].key, fingerprint + theirs + root, signature), "sender: the signature doesn't hold")
    return theirs, device


# ---- Section 16: trees and lists of chunks ------------------------------------------------------------


class Entry:
    def __init__(self, f):
        self.type, flags, self.name = f.num(1), f.num(1), f.bytes8()
        need(1 <= self.type <= 6, "tree: an unknown type of entry")
        need(flags & ~7 == 0 and not (flags & 4 and self.type != 1), "tree: unknown flags")
        name = self.name
        need(name and b"\0" not in name and b"/" not in name and name not in (b".", b".."), "tree: a name that isn't one")
        self.mode = f.num(2)
        need(self.mode <= 0o7777, "tree: a mode out of bounds")
        self.uid, self.gid = f.num(4), f.num(4)
        for _ in range(2):
            need("\0" not in utf8(f.bytes8(), "tree"), "tree: a NUL in a name")
        seconds, self.nanos = f.num(8, signed=True), f.num(4)
        need(self.nanos < 10**9, "tree: nanoseconds out of bounds")
        self.mtime = seconds * 10**9 + self.nanos
        self.group = f.take(16) if flags & 1 else None
        need(not (self.group and self.type == 2), "tree: a directory in a link group")
        self.xattrs = self.attributes(f) if flags & 2 else []
        self.runs = None
        if self.type == 1:
            self.file(f, flags & 4)
        elif self.type == 2:
            self.depth, self.reference = f.num(1), reference(f)
            need(self.depth <= 4, "tree: depth out of bounds")
        elif self.type == 3:
            self.target = f.take(f.num(2))
            need(1 <= len(self.target) <= 4095 and b"\0" not in self.target, "tree: a link's target out of bounds")
        elif self.type in (5, 6):
            self.device = f.num(4), f.num(4)

    @staticmethod
    def attributes(f):
        rows = []
        for _ in range(f.count(6, size=2)):
            rows.append((f.bytes8(), f.bytes32()))
            need(rows[-1][0] and b"\0" not in rows[-1][0], "tree: an attribute's name")
        need(rows, "tree: no attributes")
        ascending([r[0] for r in rows], "tree")
        need(sum(len(n) + len(v) for n, v in rows) <= 512 * 1024, "tree: attributes too long")
        return rows

    def file(self, f, sparse):
        self.size = f.num(8)
        need(self.size < 2**63, "tree: a size out of bounds")
        self.length = self.size
        if sparse:
            self.runs, at = [], -1
            for _ in range(f.count(16, 4096)):
                offset, length = f.num(8), f.num(8)
                need(length and offset > at and offset + length <= self.size, "tree: runs out of order")
                at = offset + length
                self.runs.append((offset, length))
            self.length = sum(r[1] for r in self.runs)
            need(self.length < self.size, "tree: runs that leave no hole")
        self.how = f.num(1)
        if self.how == 0:
            self.inline = f.bytes32()
            need(len(self.inline) <= 65536 and len(self.inline) == self.length, "tree: inline content of another length")
        elif self.how == 1:
            self.references = [reference(f) for _ in range(f.count(36, 1024, size=2))]
            need(self.references and sum(r[1] for r in self.references) == self.length, "tree: references to another length")
        elif self.how == 2:
            self.depth, self.reference = f.num(1), reference(f)
            need(1 <= self.depth <= 4, "tree: depth out of bounds")
            need(self.length > 1024, "tree: a list for so little")
        else:
            raise Refused("tree: an unknown kind of content")


def reference(f):
    row = f.take(32), f.num(4)
    need(1 <= row[1] <= 8 * MIB, f.what + ": a reference's length")
    return row


def parse_tree(data):
    f = Fields(data, "tree")
    if f.num(1) != 1:
        raise Newer("tree: made by a newer strongroom")
    f.zeros(3)
    entries = [Entry(f) for _ in range(f.count(25))]
    f.end()
    ascending([e.name for e in entries], "tree")
    return entries


def parse_list(data, kind, depth, top):
    f = Fields(data, "list")
    if f.num(1) != 1:
        raise Newer("list: made by a newer strongroom")
    need(f.num(1) == kind and f.num(1) == depth, "list: another kind or depth")
    f.zeros(1)
    n = f.count(36, 32768)
    need(n >= (2 if top else 1), "list: too few rows")
    rows = [reference(f) if kind == 1 else (f.bytes8(),) + reference(f) for _ in range(n)]
    f.end()
    if kind == 2:
        ascending([r[0] for r in rows], "list")
    return rows


class Snapshot:
    """Section 18, steps 4 and 5: a body, and what hangs on its root."""

    def __init__(self, keys, header):
        self.keys, self.header, self.device = keys, header, header.device
        _, plain = keys.open(self.device, header.body_name, (3,))
        self.body = Body(plain, header.what + ", body")
        self.indexes, self.packs, self.all = None, OrderedDict(), None
        secret = keys.dedup(self.device)
        labels = ("chunk-id", "tree-id", "list-id")
        self.id_keys = {label: kdf(secret, b"", label, keys.vault.fingerprint) for label in labels}

    def pack(self, listed):
        if listed not in self.packs:
            self.packs[listed] = Pack(self.keys.open(self.device, listed, (1,))[1], listed.hex())
            if len(self.packs) > 6:
                self.packs.popitem(last=False)
        self.packs.move_to_end(listed)
        return self.packs[listed]

    def places(self, chunk):
        """Packs that may hold a chunk: by the indexes, and at last by all directories."""
        if self.indexes is None:
            self.indexes = []
            for name, _ in self.body.indexes:
                try:
                    self.indexes.append(Index(self.keys.open(self.device, name, (2,))[1], name.hex()))
                except Newer:
                    raise
                except Refused as e:
                    print("note: %s" % e, file=sys.stderr)
        for index in self.indexes:
            pack = index.find(chunk[:16])
            if pack is not None:
                yield pack
        if self.all is None:
            self.all = {}
            for (device, listed), now in list(self.keys.vault.current.items()):
                if device != self.device or not now:
                    continue
                try:
                    kind, plain = self.keys.open(device, listed, (1, 2, 3))
                    if kind == 1:
                        for c in Pack(plain, listed.hex()).chunks:
                            self.all.setdefault(c, []).append(listed)
                except Refused as e:
                    print("note: %s" % e, file=sys.stderr)
        for pack in self.all.get(chunk, ()):
            yield pack

    def chunk(self, label, ref):
        """A chunk counts once its keyed digest and its length are those of the reference."""
        chunk, length = ref
        why = Missing("chunk %s: no pack has it" % chunk.hex()[:16])
        for listed in self.places(chunk):
            try:
                pack = self.pack(listed)
                need(chunk in pack.chunks, "chunk %s: its pack doesn't have it" % chunk.hex()[:16])
                data = pack.chunk(chunk)
                found = blake3(data, key=self.id_keys[label]).digest()
                need(len(data) == length and hmac.compare_digest(found, chunk), "chunk %s: another content" % chunk.hex()[:16])
                return data
            except Newer:
                raise
            except Refused as e:
                why = e
        raise why

    def entries(self, depth, ref):
        """The entries of a directory, through its parts."""
        last = b""
        for e in self.parts(depth, ref, None, True):
            need(e.name > last, "tree: parts out of order")
            last = e.name
            yield e

    def parts(self, depth, ref, first, top):
        if depth == 0:
            need(ref[1] <= MIB, "tree: too long")
            rows = parse_tree(self.chunk("tree-id", ref))
            need(first is None or (rows and rows[0].name == first), "tree: a part with another first name")
            yield from rows
            return
        need(ref[1] <= 5 * MIB // 4, "list: too long")
        rows = parse_list(self.chunk("list-id", ref), 2, depth, top)
        need(first is None or rows[0][0] == first, "list: a part with another first name")
        for name, chunk, length in rows:
            yield from self.parts(depth - 1, (chunk, length), name, False)

    def content(self, e):
        """A file's content, chunk by chunk."""
        if e.how == 0:
            if e.inline:
                yield e.inline
            return
        total = 0
        for ref in e.references if e.how == 1 else self.leaves(e.depth, e.reference, True):
            total += ref[1]
            need(total <= e.length, "list: chunks of another length")
            yield self.chunk("chunk-id", ref)
        need(total == e.length, "list: chunks of another length")

    def leaves(self, depth, ref, top):
        need(ref[1] <= 5 * MIB // 4, "list: too long")
        for row in parse_list(self.chunk("list-id", ref), 1, depth, top):
            if depth == 1:
                yield row
            else:
                yield from self.leaves(depth - 1, row, False)

    def walk(self, path=b"", depth=None, ref=None):
        if ref is None:
            depth, ref = self.body.depth, self.body.root
        for e in self.entries(depth, ref):
            yield path + b"/" + e.name, e
            if e.type == 2:
                yield from self.walk(path + b"/" + e.name, e.depth, e.reference)

    def at(self, path):
        """The entry at a path; None for the root."""
        entry, depth, ref = None, self.body.depth, self.body.root
        for part in [p for p in path.split(b"/") if p]:
            need(entry is None or entry.type == 2, "no such path in the snapshot")
            found = [e for e in self.entries(depth, ref) if e.name == part]
            need(found, "no such path in the snapshot")
            entry = found[0]
            if entry.type == 2:
                depth, ref = entry.depth, entry.reference
        return entry


# ---- Restoring: beneath the target alone --------------------------------------------------------------


class Restore:
    """Regular files, directories, symbolic links; mode without setuid and setgid, and times. Not: owners, extended
    attributes, pipes and devices."""

    def __init__(self, snapshot, target):
        self.snapshot, self.left_out, self.linked = snapshot, 0, {}
        os.makedirs(target, exist_ok=True)
        need(not os.listdir(target), "the target isn't empty")
        self.root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)

    def run(self, path):
        s = self.snapshot
        e = s.at(path)
        if e is None:
            self.directory(self.root, s.body.depth, s.body.root, ())
        else:
            self.entry(self.root, e, (e.name,))

    def directory(self, fd, depth, ref, path):
        for e in self.snapshot.entries(depth, ref):
            self.entry(fd, e, path + (e.name,))

    def entry(self, fd, e, path):
        if e.type == 2:
            os.mkdir(e.name, 0o700, dir_fd=fd)
            inner = os.open(e.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                self.directory(inner, e.depth, e.reference, path)
                os.fchmod(inner, e.mode & 0o1777)
                os.utime(inner, ns=(e.mtime, e.mtime))
            finally:
                os.close(inner)
        elif e.type == 1:
            self.file(fd, e, path)
        elif e.type == 3:
            os.symlink(e.target, e.name, dir_fd=fd)
            os.utime(e.name, ns=(e.mtime, e.mtime), dir_fd=fd, follow_symlinks=False)
        else:
            self.left_out += 1

    def file(self, fd, e, path):
        same = (e.group, e.size, e.mode, e.mtime, e.runs, e.how, getattr(e, "inline", None), getattr(e, "references", None),
                getattr(e, "reference", None))
        if e.group:
            for other, there in self.linked.get(e.group, ()):
                if other == same:
                    os.link(b"/".join(there), e.name, src_dir_fd=self.root, dst_dir_fd=fd, follow_symlinks=False)
                    return
            self.linked.setdefault(e.group, []).append((same, path))
        out = os.open(e.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=fd)
        try:
            with open(out, "wb") as f:
                runs = list(e.runs if e.runs is not None else [(0, e.length)] if e.length else [])
                at, left = runs[0] if runs else (0, 0)
                for data in self.snapshot.content(e):
                    while data:
                        if left == 0:
                            runs.pop(0)
                            at, left = runs[0]
                        f.seek(at)
                        n = f.write(data[:left])
                        data, at, left = data[n:], at + n, left - n
                f.truncate(e.size)
                f.flush()
                os.fchmod(f.fileno(), e.mode & 0o1777)
                os.utime(f.fileno(), ns=(e.mtime, e.mtime))
        except BaseException:
            os.unlink(e.name, dir_fd=fd)
            raise


# ---- Command line -------------------------------------------------------------------------------------


def shown(data):
    """Text for a terminal: no control bytes."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return "".join(c if c.isprintable() else "\\u%04x" % ord(c) for c in text)


def fingerprint_text(f):
    return base64.b32encode(f).decode().lower().rstrip("=")


def parse_fingerprint(text):
    if re.match(r"[0-9a-fA-F]{64}\Z", text):
        return bytes.fromhex(text)
    return base32(text, 32, "fingerprint")


def check_receipt(vault, text):
    """Section 21: the vault goes at least as far as the receipt."""
    text = re.sub(r"\s", "", text).lower()
    need(text.startswith("strongroom1:"), "receipt: not one")
    raw = base32(text[12:], 75, "receipt")
    need(digest(b"strongroom/receipt/1\0" + raw[:72])[:3] == raw[72:], "receipt: its check is wrong")
    vault_id, seq, head, device, number, newest = struct.unpack("<16sI16s16sI16s", raw[:72])
    need(vault_id == vault.vault, "receipt: of another vault")
    need(seq < len(vault.log.records), "receipt: the log was rolled back")
    need(vault.log.records[seq].digest[:16] == head, "receipt: the log is another one")
    revoked = vault.log.devices[device].revoked if device in vault.log.devices else None
    if number and not (revoked and number > revoked[0]):
        chain = vault.chains.get(device, [])
        need(number <= len(chain), "receipt: newest snapshots are gone")
        need(chain[number - 1].id == newest, "receipt: the snapshots are others")


def read_file(path):
    with open(path, "rb") as f:
        return f.read()


def run(args):
    vault = Vault(args.vault, parse_fingerprint(args.fingerprint) if args.fingerprint else None)
    if args.receipt:
        check_receipt(vault, args.receipt)
    secrets = Secrets(expensive=args.allow_expensive_kdf)
    if args.password_file:
        text = utf8(re.sub(rb"\r?\n\Z", b"", read_file(args.password_file)), "passphrase")
        secrets.passphrase = unicodedata.normalize("NFC", text).encode()
    if args.key_file:
        secrets.key = key_file(read_file(args.key_file))
    if args.recovery_code_file:
        text = utf8(read_file(args.recovery_code_file), "recovery code")
        try:
            secrets.code = recovery_code(text)
        except Refused:
            secrets.code = by_lines(recovery_code, text)[0]
    for path in args.card_file:
        secrets.cards += tuple(by_lines(card, utf8(read_file(path), "card")))
    for path in args.identity:
        secrets.seeds += tuple(identities(utf8(read_file(path), "identity")))
    if vault.store.sealed or args.command == "check":
        for note in vault.check():
            print("note: " + note, file=sys.stderr)
    if args.command == "check" and not secrets.any():
        print("fingerprint %s" % fingerprint_text(vault.fingerprint))
        print("%d records, %d headers, %d objects: signed, in order, there and whole"
              % (len(vault.log.records), sum(map(len, vault.chains.values())), sum(1 for n in vault.current.values() if n)))
        return
    need(secrets.any(), "give a way in: --key-file, --password-file, --recovery-code-file, --card-file or -i")
    keys = Keys(vault, secrets)
    if vault.store.sealed or args.command == "check":
        keys.open_everything()
    if args.command == "check":
        files = size = 0
        for h in vault.snapshots():
            s = Snapshot(keys, h)
            vault.check_heads(s.body.seen)
            if s.body.sender:
                sealed_by(s.body.sender, s.body, vault.fingerprint)
            for _, e in s.walk():
                if e.type == 1:
                    files, size = files + 1, size + sum(map(len, s.content(e)))
        for why in vault.gone:
            raise Refused(why)
        print("%d snapshots, %d files, %d bytes read and verified" % (len(vault.snapshots()), files, size))
    elif args.command == "list":
        for h in vault.snapshots():
            try:
                b = Snapshot(keys, h).body
            except Newer:
                raise
            except Refused as e:
                vault.gone.append("snapshot %s: %s" % (h.id.hex()[:8], e))
                continue
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(h.time // 10**9))
            by = ""
            if b.sender:
                theirs, device = sealed_by(b.sender, b, vault.fingerprint)
                by = "  sealed by device %s of %s" % (device.hex(), fingerprint_text(theirs))
            print("%s  %s  %s  %d files  %d bytes  %s%s" % (h.id.hex(), when, shown(b.host), b.counts[0], b.counts[3],
                                                          ", ".join(map(shown, b.paths)), by))
    else:
        word, _, path = args.snapshot.partition(":")
        s = Snapshot(keys, vault.find(word))
        if s.body.sender:
            sealed_by(s.body.sender, s.body, vault.fingerprint)
        path = os.fsencode(path)
        if args.command == "ls":
            top = s.at(path)
            start = b"".join(b"/" + p for p in path.split(b"/") if p)
            if top is None or top.type == 2:
                walk = s.walk() if top is None else s.walk(start, top.depth, top.reference)
            else:
                walk = [(start, top)]
            for name, e in walk:
                print(shown(name) + ("/" if e.type == 2 else ""))
        else:
            r = Restore(s, args.target)
            r.run(path)
            if r.left_out:
                print("note: %d pipes and devices left out" % r.left_out, file=sys.stderr)
    for why in vault.gone:
        raise Refused(why)
    for device, e in vault.broken.items():
        raise Refused("device %s: %s" % (device.hex(), e))


def main(argv=None):
    p = argparse.ArgumentParser(description="Reads strongroom vaults and sealed files.")
    p.add_argument("vault", help="the vault's folder, or a sealed file, or its part .001")
    p.add_argument("--key-file")
    p.add_argument("--password-file")
    p.add_argument("--recovery-code-file")
    p.add_argument("--card-file", action="append", default=[])
    p.add_argument("-i", "--identity", action="append", default=[])
    p.add_argument("--fingerprint", help="in base32 or hex")
    p.add_argument("--receipt")
    p.add_argument("--allow-expensive-kdf", action="store_true")
    c = p.add_subparsers(dest="command", required=True)
    c.add_parser("list")
    c.add_parser("check", help="without a key: signatures, chains, existence and digests; with one: every file too")
    c.add_parser("ls").add_argument("snapshot", metavar="SNAP[:PATH]")
    r = c.add_parser("restore")
    r.add_argument("snapshot", metavar="SNAP[:PATH]")
    r.add_argument("target")
    args = p.parse_args(argv)
    sys.setrecursionlimit(10000)
    try:
        run(args)
    except (Refused, OSError) as e:
        print("strongroom_reader: %s" % e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
