"""Tests of the reader: `python3 -m unittest test_reader` in this folder, with the packages of requirements.txt.

The sealed files here are made from the kept vault by this file alone: its objects in the order of section 26, and an
`end` signed with the authority's seed, which its owner's key file leads to.
"""
import os
import shutil
import struct
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import strongroom_reader as r  # noqa: E402

VECTORS = os.path.join(HERE, "..", "vectors")
KEPT = os.path.join(HERE, "..", "vaults", "v1")


def blocks(name):
    """The blocks of a file of vectors."""
    with open(os.path.join(VECTORS, name)) as f:
        text = "\n".join(line for line in f.read().split("\n") if not line.startswith("#"))
    for block in text.split("\n\n"):
        pairs = [line.split(" =", 1) for line in block.splitlines() if " =" in line]
        if pairs:
            yield {k: v.strip() for k, v in pairs}


def h(block, *names):
    return [bytes.fromhex(block[n]) for n in names]


class Vectors(unittest.TestCase):
    def test_kdf(self):
        for b in blocks("derive.txt"):
            key, salt, context, out = h(b, "key", "salt", "context", "output")
            self.assertEqual(r.kdf(key, salt, b["label"], context, len(out)), out)

    def test_xwing(self):
        for b in blocks("xwing.txt"):
            pair = r.XWing(h(b, "seed")[0])
            self.assertEqual([pair.public, pair.open(h(b, "ciphertext")[0])], h(b, "public", "shared"))

    def test_age(self):
        refused = 0
        for b in blocks("age.txt"):
            if "identity" in b:
                seed = r.identities("# one\n\n" + b["identity"] + "\n")[0]
                pair = r.XWing(seed)
            if "recipient" in b:
                self.assertEqual(pair.public, r.bech32(b["recipient"], "age1pq".rstrip("1")))
            if "error" in b:
                self.assertRaises(r.Refused, pair.open, h(b, "ciphertext")[0])
                refused += 1
            elif "ciphertext" in b:
                self.assertEqual(pair.open(h(b, "ciphertext")[0]), h(b, "shared")[0])
        self.assertEqual(refused, 1)

    def test_xwing_keys_refused(self):
        for b in blocks("mlkem768-keys-refused.txt"):
            self.assertRaises(r.Refused, r.xwing_public, h(b, "public")[0].ljust(1216, b"\0"), "key")

    def test_signatures(self):
        for b in blocks("sign.txt"):
            seed, signature = h(b, "seed", "signature")
            key = r.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
            self.assertTrue(r.signed(b["type"], key, b["bytes"].encode(), signature))
            self.assertFalse(r.signed("other", key, b["bytes"].encode(), signature))
        for b in blocks("ed25519-signatures-refused.txt"):
            self.assertFalse(r.ed25519(*h(b, "public", "message", "signature")), b["what"])
        for b in blocks("ed25519-keys-refused.txt"):
            self.assertFalse(r.ed25519(h(b, "public")[0], b"", bytes(64)), b["what"])
            self.assertRaises(r.Refused, r.ed_key, h(b, "public")[0], b["what"])

    def test_cseal(self):
        for b in blocks("cseal.txt"):
            key, context, plain, sealed = h(b, "key", "context", "plaintext", "sealed")
            self.assertEqual(r.cseal_open(key, b["label"], context, sealed, "x"), plain)
            for at in range(len(sealed)):
                bad = bytearray(sealed)
                bad[at] ^= 1
                self.assertRaises(r.Refused, r.cseal_open, key, b["label"], context, bytes(bad), "x")
        for b in blocks("cseal-two-keys.txt"):
            opens, refuses, context, sealed = h(b, "opens", "refuses", "context", "sealed")
            r.cseal_open(opens, b["label"], context, sealed, "x")
            self.assertRaises(r.OtherKey, r.cseal_open, refuses, b["label"], context, sealed, "x")

    def test_cards(self):
        for b in blocks("card.txt"):
            if "text" in b and "index" in b:
                want = (int(b["threshold"]), int(b["count"]), int(b["index"])) + tuple(h(b, "set", "share"))
                self.assertEqual(r.card(b["text"]), want)
        for b in blocks("shamir.txt"):
            if "count" not in b:
                continue
            shares = {i: h(b, "share %d" % i)[0] for i in range(1, int(b["count"]) + 1) if "share %d" % i in b}
            t = int(b["threshold"])
            for few in (list(shares)[:t], list(shares)[-t:]):
                self.assertEqual(r.combine({i: shares[i] for i in few}), h(b, "secret")[0])

    def test_packs(self):
        good = 0
        for name in os.listdir(os.path.join(VECTORS, "pack")):
            with open(os.path.join(VECTORS, "pack", name)) as f:
                lines = f.read().splitlines()
            data = bytes.fromhex("".join(x for x in lines if ":" not in x and x[:1] != "#"))
            data += bytes(sum(int(x[6:]) for x in lines if x.startswith("zeros:")))
            result = [x for x in lines if x.startswith("result")][0]
            wrong_ids = "is not what its id names" in result

            def read():
                p = r.Pack(data, name)
                return [p.chunk(c) for c in p.chunks]

            if wrong_ids or "chunks in" in result:  # ids are checked where a key is known: see Snapshot.chunk
                self.assertTrue(read())
                good += 1
            else:
                with self.assertRaises(r.Refused, msg=name):
                    read()
        self.assertEqual(good, 5)

    def test_padding(self):
        ok = [4096, 4352, 65536, 67584, 64 << 20]
        self.assertTrue(all(r.padded(n, 2) for n in ok))
        self.assertFalse(any(r.padded(n, 2) for n in (0, 4095, 4097, 65537, (64 << 20) + 1)))
        self.assertFalse(r.padded(4096, 1))


class Kept(unittest.TestCase):
    """The vault in tests/vaults/v1: read, and refused or mended when something is wrong with it."""

    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.vault = os.path.join(self.dir, "vault")
        shutil.copytree(os.path.join(KEPT, "vault"), self.vault)
        self.key = os.path.join(KEPT, "key")
        with open(os.path.join(self.dir, "out"), "w") as self.silence:
            pass

    def run_reader(self, *args):
        old, old_err = sys.stdout, sys.stderr
        with open(os.path.join(self.dir, "out"), "w") as sys.stdout, open(os.path.join(self.dir, "err"), "w") as sys.stderr:
            try:
                return r.main([self.vault, "--key-file", self.key] + list(args))
            finally:
                sys.stdout, sys.stderr = old, old_err

    def said(self):
        with open(os.path.join(self.dir, "err")) as f:
            return f.read()

    def objects(self, *folders):
        return [n for n in r.Folder(self.vault).list("") if n[0] in folders]

    def flip(self, name, at=-1):
        with open(os.path.join(self.vault, name), "r+b") as f:
            data = bytearray(f.read())
            data[at] ^= 1
            f.seek(0)
            f.write(data)

    def test_restore(self):
        target = os.path.join(self.dir, "restored")
        self.assertEqual(self.run_reader("restore", "latest:/tmp/vf", target), 0, self.said())
        self.assertTrue(os.path.islink(os.path.join(target, "vf/source/link")))
        self.assertEqual(os.listdir(os.path.join(target, "vf/source/letters")), ["one.txt"])
        self.assertEqual(self.run_reader("restore", "latest", target), 1)
        self.assertIn("isn't empty", self.said())

    def test_one_copy_is_enough(self):
        for n in self.objects(*"akrs"):
            os.unlink(os.path.join(self.vault, n))
        self.assertEqual(self.run_reader("check"), 0, self.said())

    def test_a_damaged_copy_is_passed_over(self):
        for n in self.objects(*"akrs"):
            self.flip(n)
        self.assertEqual(self.run_reader("check"), 0, self.said())

    def test_damage(self):
        for n in self.objects(*"akrsp"):
            for at in (0, 7, 30, 50, -1):
                if n[0] != "p":
                    self.flip("2/" + n, at)
                self.flip(n, at)
                self.assertEqual(self.run_reader("check"), 1, n)
                if n[0] != "p":
                    self.flip("2/" + n, at)
                self.flip(n, at)
        self.assertEqual(self.run_reader("check"), 0, self.said())

    def test_missing(self):
        for n in self.objects(*"akrsp"):
            if n == self.objects("a")[-1] or n == self.objects("s")[-1]:
                continue  # the newest: only a receipt or pins would tell
            data = {}
            for copy in ("", "2/"):
                path = os.path.join(self.vault, copy + n)
                if os.path.exists(path):
                    with open(path, "rb") as f:
                        data[path] = f.read()
                    os.unlink(path)
            self.assertEqual(self.run_reader("check"), 1, n)
            for path, content in data.items():
                with open(path, "wb") as f:
                    f.write(content)

    def test_another_fingerprint(self):
        self.assertEqual(r.main([self.vault, "--key-file", self.key, "--fingerprint", "00" * 32, "list"]), 1)


class SealedFile(Kept):
    """The same vault as a sealed file."""

    def setUp(self):
        super().setUp()
        vault = r.Vault(self.vault)
        with open(self.key, "rb") as f:
            keys = r.Keys(vault, r.Secrets(key=r.key_file(f.read())))
        k = vault.log.keys
        context = vault.fingerprint + struct.pack("<I", k.generation)
        ring = r.cseal_open(keys.k_admin, "admin-ring", context, vault.admin_ring, "admin ring")
        self.authority = r.Ed25519PrivateKey.from_private_bytes(ring[:32])
        names = vault.store.list("")
        first = [n for n in names if n.startswith("a/" + "0" * 16)]
        order = first
        for folder in "kracmpsu":
            order = order + [n for n in names if n[0] == folder and n not in first]
        self.members = [(n, r.get(vault.store, n)) for n in order]
        self.id, self.folder = vault.vault, self.vault
        self.vault = os.path.join(self.dir, "vault.strongroom")
        self.write(self.members)

    def end(self, members):
        digest = r.blake3()
        for name, data in members:
            digest.update(bytes([len(name)]) + name.encode() + struct.pack("<Q", len(data)))
        end = b"SREND\x00\x01\x00" + self.id + struct.pack("<Q", len(members)) + digest.digest()
        return end + self.authority.sign(b"strongroom/v1/sig/end\0" + r.digest(end))

    def tar(self, members):
        return b"".join(r.tar_header(n.encode(), len(d)) + d + bytes(-len(d) % 512) for n, d in members)

    def write(self, members, end=None, after=bytes(1024)):
        with open(self.vault, "wb") as f:
            f.write(self.tar(members) + self.tar([("end", end or self.end(members))]) + after)

    def refused(self, reason):
        self.assertEqual(self.run_reader("list"), 1)
        self.assertIn(reason, self.said())

    # what a folder has and a file hasn't
    test_one_copy_is_enough = test_a_damaged_copy_is_passed_over = test_missing = None

    def test_tar_is_what_others_read(self):
        import tarfile

        with tarfile.open(self.vault) as t:
            self.assertEqual([m.name for m in t], [n for n, _ in self.members] + ["end"])
            for m in t:
                self.assertEqual((m.mode, m.type), (0o600, b"0"))
                own = r.tar_header(m.name.encode(), m.size)
                info = tarfile.TarInfo(m.name)
                info.size, info.mode = m.size, 0o600
                self.assertEqual(info.chksum, 0)
                self.assertEqual(int(own[148:154], 8), tarfile.calc_chksums(own)[0])

    def test_every_header_bit(self):
        with open(self.vault, "rb") as f:
            whole = bytearray(f.read())
        for at in list(range(0, 512)) + list(range(len(whole) - 1024 - 640, len(whole), 7)):
            whole[at] ^= 4
            with open(self.vault, "wb") as f:
                f.write(whole)
            self.assertEqual(self.run_reader("list"), 1, at)
            whole[at] ^= 4

    def test_damage(self):
        with open(self.vault, "rb") as f:
            whole = bytearray(f.read())
        for at in range(100, len(whole), len(whole) // 150):
            whole[at] ^= 1
            with open(self.vault, "wb") as f:
                f.write(whole)
            self.assertEqual(self.run_reader("list"), 1, at)
            whole[at] ^= 1

    def test_cut_off_anywhere(self):
        with open(self.vault, "rb") as f:
            whole = f.read()
        for size in list(range(0, len(whole), 5113)) + [len(whole) - 512, len(whole) - 1]:
            with open(self.vault, "wb") as f:
                f.write(whole[:size])
            self.assertEqual(self.run_reader("list"), 1, size)

    def test_bytes_after(self):
        self.write(self.members, after=bytes(1536))
        self.refused("bytes after the end")
        self.write(self.members, after=bytes(512))
        self.refused("sealed file")

    def test_order(self):
        m = self.members
        self.write([m[1], m[0]] + m[2:])
        self.refused("out of order")
        rings = [i for i, x in enumerate(m) if x[0][0] == "r"]
        swapped = list(m)
        swapped[rings[0]], swapped[rings[1]] = m[rings[1]], m[rings[0]]
        self.write(swapped)
        self.refused("out of order")
        self.write(m[:1] + m)
        self.refused("a name twice")

    def test_packs_in_any_order_that_the_end_binds(self):
        packs = [x for x in self.members if x[0][0] == "p"]
        other = iter(packs[::-1])
        order = [next(other) if x[0][0] == "p" else x for x in self.members]
        self.write(order)
        self.assertEqual(self.run_reader("list"), 0, self.said())
        self.write(order, end=self.end(self.members))
        self.refused("other members than the end says")

    def test_members_missing_or_too_many(self):
        for i, (name, _) in enumerate(self.members):
            self.write(self.members[:i] + self.members[i + 1 :])
            if name in ([n for n, _ in self.members if n[0] == "a"][-1], [n for n, _ in self.members if n[0] == "s"][-1]):
                continue  # a whole earlier state, but for what nothing accounts for then
            self.assertEqual(self.run_reader("list"), 1, name)
        at = [i for i, x in enumerate(self.members) if x[0][0] == "s"][0]
        data = bytes(100)
        stray = r.pack_name(bytes(16), r.digest(data))
        self.write(self.members[:at] + [(stray, data)] + self.members[at:])
        self.refused("nothing in this file accounts for it")
        for name in ("README.txt", "q/" + "0" * 32 + "-" + "0" * 16, "../x", "2/" + self.members[0][0], "end/x"):
            self.write(self.members + [(name, b"x")])
            self.refused("isn't an object")

    def test_end(self):
        good = self.end(self.members)
        for at in range(len(good)):
            bad = bytearray(good)
            bad[at] ^= 1
            self.write(self.members, end=bytes(bad))
            self.assertEqual(self.run_reader("list"), 1, at)
        self.write(self.members, end=good[:-1])
        self.refused("cut off")

    def test_parts(self):
        with open(self.vault, "rb") as f:
            whole = f.read()
        size = len(whole) // 3 + 7
        for i in range(3):
            with open("%s.%03d" % (self.vault, i + 1), "wb") as f:
                f.write(whole[i * size : (i + 1) * size])
        self.vault += ".001"
        self.assertEqual(self.run_reader("check"), 0, self.said())
        os.unlink(self.vault[:-1] + "3")
        self.assertEqual(self.run_reader("check"), 1)


class Text(unittest.TestCase):
    def test_recovery_code(self):
        with open(os.path.join(KEPT, "recovery-code.txt")) as f:
            page = f.read()
        line = [x.strip() for x in page.splitlines() if x.count("-") == 5][0]
        code = r.by_lines(r.recovery_code, page)[0]
        self.assertEqual(code, r.recovery_code(line.lower().replace("-", " ").replace("0", "o").replace("1", "l")))
        for i, c in enumerate(line):
            if c != "-":
                wrong = line[:i] + ("A" if c != "A" else "B") + line[i + 1 :]
                self.assertRaises(r.Refused, r.recovery_code, wrong)

    def test_key_file(self):
        with open(os.path.join(KEPT, "key"), "rb") as f:
            data = f.read()
        self.assertEqual(len(r.key_file(data)), 32)
        for bad in (data[:-2], data + b"\n", b"\n" + data, data.upper(), data.replace(b"-1:", b"-2:"), data[:30] + b"a" + data[31:]):
            if bad != data:
                self.assertRaises(r.Refused, r.key_file, bad)


if __name__ == "__main__":
    unittest.main()
