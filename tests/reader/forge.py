"""Makes what a device and an owner of the kept vault could make, rightly or wrongly: for test_forged.py alone."""
import hashlib
import os
import struct

import strongroom_reader as r


def b8(data):
    return bytes([len(data)]) + data


def b32(data):
    return struct.pack("<I", len(data)) + data


def t16(data):
    return struct.pack("<H", len(data)) + data


def sign(seed, kind, data):
    key = r.Ed25519PrivateKey.from_private_bytes(seed)
    return data + key.sign(b"strongroom/v1/sig/" + kind + b"\0" + r.digest(data))


def encapsulate(public):
    secret, ciphertext = r.MLKEM768PublicKey.from_public_bytes(public[:1184]).encapsulate()
    x = r.X25519PrivateKey.generate()
    ours = x.public_key().public_bytes_raw()
    shared = x.exchange(r.X25519PublicKey.from_public_bytes(public[1184:]))
    return hashlib.sha3_256(secret + shared + ours + public[1184:] + b"\\.//^\\").digest(), ciphertext + ours


class Owner:
    """Puts records and lists; opened with the kept vault's key file."""

    def __init__(self, path, key):
        self.path = path
        self.vault = v = r.Vault(path)
        with open(key, "rb") as f:
            self.keys = r.Keys(v, r.Secrets(key=r.key_file(f.read())))
        context = v.fingerprint + struct.pack("<I", v.log.keys.generation)
        self.seed = r.cseal_open(self.keys.k_admin, "admin-ring", context, v.admin_ring, "admin ring")[:32]
        self.seq, self.head = len(v.log.records), v.log.records[-1].digest

    def put(self, name, data, second=True):
        for copy in ("", "2/") if second else ("",):
            path = os.path.join(self.path, copy + name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)

    def record(self, kind, payload, seq=None, prev=None, seed=None, vault=None, follow=True):
        seq = self.seq if seq is None else seq
        data = b"SRAUTH\x01\x00" + (vault or self.vault.vault) + struct.pack("<QQ", seq, 1) + (prev or self.head)
        data = sign(seed or self.seed, b"authority", data + bytes([kind, 0, 0, 0]) + b32(payload))
        self.put("a/%016x-%s" % (seq, r.digest(data).hex()[:16]), data)
        self.made = r.digest(data)
        if follow:
            self.seq, self.head = seq + 1, self.made
        return seq

    def list(self, kind, rows):
        data = b"SRLIST\x01\x00" + self.vault.vault + bytes([kind, 0, 0, 0]) + struct.pack("<I", len(rows)) + b"".join(rows)
        self.put("c/" + r.digest(data).hex(), data)
        return r.digest(data) + struct.pack("<II", len(data), len(rows))

    def pseal(self, kind, plain, device, public, psk, epoch, folder):
        size = max(len(plain), r.LEAST[kind])
        while not r.padded(size, kind):
            size += 1
        plain = plain.ljust(size, b"\0")
        shared, ciphertext = encapsulate(public)
        head = b"SRPACK\x01\x00" + self.vault.vault + device + struct.pack("<IB", epoch, kind) + bytes(3)
        head += os.urandom(32) + ciphertext
        derived = r.kdf(shared + psk, head[48:80], "pack", self.vault.fingerprint + head, 76)
        out, count = [head, derived[44:]], -(-size // 65536)
        for i in range(count):
            place = bytes(3) + i.to_bytes(8, "big") + bytes([i == count - 1])
            nonce = bytes(a ^ b for a, b in zip(derived[32:44], place))
            out.append(r.ChaCha20Poly1305(derived[:32]).encrypt(nonce, plain[i * 65536 : (i + 1) * 65536], None))
        data = b"".join(out)
        name = r.digest(data)
        if folder == "m":
            self.put("m/%s/%s" % (device.hex(), name.hex()), data)
        else:
            self.put(r.pack_name(device, name), data, second=False)
        return name, len(data)


class Device:
    """A device that the owner adds, with one snapshot after the other."""

    def __init__(self, owner):
        self.owner, self.id, self.seed, self.kem = owner, os.urandom(16), os.urandom(32), r.XWing(os.urandom(32))
        keys = owner.keys
        self.epoch = keys.vault.log.keys.newest
        self.psk, self.dedup = keys.psk(self.id, self.epoch), keys.dedup(self.id)
        grant = b"\x01" + keys.vault.fingerprint + struct.pack("<I", self.epoch) + self.psk + self.dedup
        message, _ = owner.pseal(4, grant, self.id, self.kem.public, bytes(32), 0, "m")
        key = r.Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        owner.record(3, self.id + key + self.kem.public + message)
        self.chunks, self.chain = {}, []

    def chunk(self, label, data):
        name = r.blake3(data, key=r.kdf(self.dedup, b"", label, self.owner.vault.fingerprint)).digest()
        self.chunks[name] = data
        return name + struct.pack("<I", len(data))

    def seal(self, kind, plain):
        return self.owner.pseal(kind, plain, self.id, self.owner.keys.epochs[self.epoch][0].public, self.psk, self.epoch, "p")

    def snapshot(self, root, depth=0, version=1, first=bytes(16), seen=bytes(4), origin=b"\0", tail=b"", epoch=None, auth=None,
                 extra=(), index=True):
        c, n = self.chunks, len(self.chunks)
        pack = struct.pack("<III", 12 + 52 * n, n, n)
        pack += b"".join(struct.pack("<IIIB", len(d), len(d), 1, 0) + bytes(3) for d in c.values())
        pack += b"".join(name + struct.pack("<I", len(d)) for name, d in c.items()) + b"".join(c.values())
        objects = [self.seal(1, pack)]
        rows = b"".join(short + bytes(4) for short in sorted(name[:16] for name in c))
        objects.append(self.seal(2, struct.pack("<II", 1, n) + objects[0][0] + rows))
        body = struct.pack("<I", version) + bytes(16) + struct.pack("<I", 1) + b32(b"/x") + bytes([depth]) + root + bytes(92)
        body += t16(b"host") + struct.pack("<QQ", 7, 1) + t16(b"program") + bytes(4)
        body += (struct.pack("<I", 1) + objects[1][0] + first if index else bytes(4)) + bytes(4) + seen + origin + b"\0" + tail
        objects.append(self.seal(3, body))
        name = objects[-1][0]
        objects = sorted(objects + list(extra))
        seq, head = (self.owner.seq - 1, self.owner.head) if auth is None else auth
        prev = r.digest(self.chain[-1]) if self.chain else bytes(32)
        data = b"SRSNAP\x01\x00" + self.owner.vault.vault + self.id + struct.pack("<II", epoch or self.epoch, len(objects))
        data += struct.pack("<QQ", len(self.chain) + 1, 7) + prev + struct.pack("<Q", seq) + head + name
        data = sign(self.seed, b"snapshot", data + b"".join(o + struct.pack("<I", size) for o, size in objects))
        self.chain.append(data)
        self.owner.put("s/%s/%016x-%s" % (self.id.hex(), len(self.chain), r.digest(data).hex()[:16]), data)
        self.chunks = {}
        return r.digest(data).hex()[:32], name


def entry(kind, name, rest, flags=0, before=b"", mode=0o644, nanos=0):
    head = bytes([kind, flags]) + b8(name) + struct.pack("<HII", mode, 0, 0) + b8(b"") + b8(b"")
    return head + struct.pack("<qI", 1700000000, nanos) + before + rest


def tree(*entries, version=1):
    return bytes([version, 0, 0, 0]) + struct.pack("<I", len(entries)) + b"".join(entries)


def rows(kind, depth, *references):
    return bytes([1, kind, depth, 0]) + struct.pack("<I", len(references)) + b"".join(references)


def inline(data, size=None, runs=None):
    sparse = b"" if runs is None else struct.pack("<I", len(runs)) + b"".join(struct.pack("<QQ", *x) for x in runs)
    return struct.pack("<Q", len(data) if size is None else size) + sparse + b"\0" + b32(data)


def references(size, *refs):
    return struct.pack("<QBH", size, 1, len(refs)) + b"".join(refs)


def listed(size, depth, ref):
    return struct.pack("<QBB", size, 2, depth) + ref
