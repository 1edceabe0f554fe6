"""What an owner or a device with keys could do wrong, and what the reader says to it. Each of these was compared with
what strongroom itself says."""
import os
import shutil
import struct
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import strongroom_reader as r  # noqa: E402
from forge import Device, Owner, b8, b32, entry, inline, listed, references, rows, tree  # noqa: E402

KEPT = os.path.join(HERE, "..", "vaults", "v1")
KEY = os.path.join(KEPT, "key")


class Forged(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.fresh()

    def fresh(self):
        self.path = os.path.join(self.dir, "vault")
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(os.path.join(KEPT, "vault"), self.path)
        self.owner = Owner(self.path, KEY)

    def read(self, snapshot=None):
        """All that `check` with a key reads, or one snapshot; the reason if it is refused."""
        try:
            vault = r.Vault(self.path)
            with open(KEY, "rb") as f:
                keys = r.Keys(vault, r.Secrets(key=r.key_file(f.read())))
            if snapshot is None:
                vault.check()
            s = r.Snapshot(keys, vault.find(snapshot or "latest"))
            vault.check_heads(s.body.seen)
            r.need(not vault.gone, "".join(vault.gone))
            return {p: b"".join(s.content(e)) for p, e in s.walk() if e.type == 1}
        except r.Newer as e:
            return "newer: %s" % e
        except r.Refused as e:
            return str(e)

    def snapshot(self, make, wanted, **more):
        self.fresh()
        d = Device(self.owner)
        arguments = make(d)
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        snapshot, _ = d.snapshot(*arguments, **more)
        got = self.read(snapshot)
        if isinstance(wanted, str):
            self.assertIsInstance(got, str, wanted)
            self.assertIn(wanted, got)
        else:
            self.assertEqual(got, wanted)

    def test_files(self):
        a, b, big = b"a" * 500, b"b" * 525, os.urandom(5000)

        def file(make, wanted, **more):
            self.snapshot(lambda d: d.chunk("tree-id", tree(entry(1, b"f", make(d), **more))), wanted)

        def chunks(d, *all):
            return [d.chunk("chunk-id", x) for x in all]

        def top(d, kind, depth, *refs):
            return d.chunk("list-id", rows(kind, depth, *refs))

        file(lambda d: inline(b"hello"), {b"/f": b"hello"})
        file(lambda d: inline(bytes(65536)), {b"/f": bytes(65536)})
        file(lambda d: inline(bytes(65537)), "inline content")
        file(lambda d: inline(b"abc", 4), "inline content")
        file(lambda d: references(1025, *chunks(d, a, b)), {b"/f": a + b})
        file(lambda d: references(1024, *chunks(d, a, b)), "references to another length")
        file(lambda d: references(0), "references")
        file(lambda d: listed(1025, 1, top(d, 1, 1, *chunks(d, a, b))), {b"/f": a + b})
        file(lambda d: listed(1024, 1, top(d, 1, 1, *chunks(d, a, b[1:]))), "a list for so little")
        file(lambda d: listed(5000, 1, top(d, 1, 1, *chunks(d, big))), "too few rows")
        file(lambda d: listed(5500, 2, top(d, 1, 2, top(d, 1, 1, *chunks(d, big)), top(d, 1, 1, *chunks(d, a)))), {b"/f": big + a})
        file(lambda d: listed(1026, 1, top(d, 1, 1, *chunks(d, a, b))), "another length")
        file(lambda d: listed(1025, 2, top(d, 1, 1, *chunks(d, a, b))), "another kind or depth")
        file(lambda d: listed(1025, 1, top(d, 2, 1, *chunks(d, a, b))), "another kind or depth")
        # a tree's bytes never pass for a file's
        file(lambda d: references(8, d.chunk("tree-id", tree())), "another content")
        file(lambda d: inline(b"", 100, []), {b"/f": b""}, flags=4)
        file(lambda d: inline(b"", 0, []), "no hole", flags=4)
        file(lambda d: inline(b"abcde", 5, [(0, 5)]), "no hole", flags=4)
        file(lambda d: inline(b"abcde", 50, [(0, 3), (3, 2)]), "runs out of order", flags=4)
        file(lambda d: inline(b"abcde", 50, [(46, 5)]), "runs out of order", flags=4)
        file(lambda d: inline(b"abcde", 50, [(1, 3), (9, 2)]), {b"/f": b"abcde"}, flags=4)
        file(lambda d: inline(b""), "unknown flags", flags=8)
        file(lambda d: inline(b""), "no attributes", flags=2, before=b"\0\0")
        file(lambda d: inline(b""), "a mode", mode=0o10000)
        file(lambda d: inline(b""), "nanoseconds", nanos=10**9)
        file(lambda d: struct.pack("<QB", 0, 3), "unknown kind of content")

    def test_directories(self):
        def f(name):
            return entry(1, name, inline(b""))

        def root(*entries, **more):
            return lambda d: d.chunk("tree-id", tree(*entries, **more))

        def parts(*all):
            return lambda d: (d.chunk("list-id", rows(2, 1, *(b8(n) + d.chunk("tree-id", tree(*es)) for n, es in all))), 1)

        self.snapshot(root(), {})
        self.snapshot(root(f(b"a"), f(b"b")), {b"/a": b"", b"/b": b""})
        self.snapshot(root(f(b"b"), f(b"a")), "not in order")
        self.snapshot(root(f(b"a"), f(b"a")), "not in order")
        for name in (b"..", b".", b"", b"a/b", b"a\0"):
            self.snapshot(root(f(name)), "a name that isn't one")
        self.snapshot(root(version=2), "newer")
        self.snapshot(root(entry(7, b"f", b"")), "unknown type")
        self.snapshot(root(entry(3, b"l", b"\0\0")), "target")
        self.snapshot(lambda d: d.chunk("tree-id", tree() + b"\0"), "bytes after the end")
        self.snapshot(parts((b"a", [f(b"a"), f(b"b")]), (b"c", [f(b"c")])), {b"/a": b"", b"/b": b"", b"/c": b""})
        self.snapshot(parts((b"a", [f(b"a")]), (b"b", [f(b"c")])), "another first name")
        self.snapshot(parts((b"a", [f(b"a"), f(b"d")]), (b"c", [f(b"c")])), "out of order")
        self.snapshot(parts((b"", []), (b"c", [f(b"c")])), "another first name")
        self.snapshot(parts((b"a", [f(b"a")])), "too few rows")

    def test_bodies_and_headers(self):
        def empty(d):
            return d.chunk("tree-id", tree())

        self.snapshot(empty, "newer", version=2)
        self.snapshot(empty, "parts of an index", first=b"\x01" * 16)
        self.snapshot(empty, "padding", tail=b"\x01")
        self.snapshot(empty, "UTF-8", origin=b"\x01" + b32(b"\xff"))
        self.snapshot(empty, "neither there nor not", origin=b"\x02")
        self.snapshot(lambda d: (empty(d), 5), "depth")
        self.snapshot(empty, {}, index=False)  # found in the packs' directories
        self.snapshot(empty, "no snapshot", epoch=9)  # lists nothing
        self.snapshot(empty, "was there and is gone", seen=struct.pack("<I", 1) + bytes(16) + struct.pack("<Q", 1) + bytes(32))
        self.snapshot(empty, "no snapshot", auth=(0, bytes(32)))  # knew another log: its chain is unreadable

    def log(self, do, wanted):
        self.fresh()
        do(self.owner)
        got = self.read()
        if wanted is None:
            self.assertIsInstance(got, dict, got)
        else:
            self.assertIsInstance(got, str, wanted)
            self.assertIn(wanted, got)

    def test_log(self):
        none = bytes(4)
        last = self.owner.seq - 1
        before = self.owner.vault.log.records[last].prev
        device = list(self.owner.vault.log.devices)[0]
        chain = self.owner.vault.chains[device]

        def head(seq, digest):
            return device + struct.pack("<Q", seq) + digest

        self.log(lambda o: o.record(6, none), None)
        self.log(lambda o: o.record(6, none, seed=bytes(32)), "signature")
        self.log(lambda o: o.record(6, none, prev=b"\x01" * 32), "forked")
        self.log(lambda o: o.record(6, none, seq=o.seq + 1), "gap")
        self.log(lambda o: o.record(12, none), "newer")
        self.log(lambda o: o.record(6, none + b"\0"), "after the end")
        self.log(lambda o: o.record(1, bytes(64)), "seq 0")
        # beside a record that fits, others are passed over
        self.log(lambda o: o.record(6, none, seq=last, prev=b"\x01" * 32), None)
        self.log(lambda o: o.record(6, none, seq=last, prev=before, seed=bytes(32)), None)
        self.log(lambda o: o.record(6, none, seq=last, prev=before, vault=b"\x01" * 16), None)
        # two that fit are a fork, until a VOID settles it
        self.log(lambda o: o.record(6, none, seq=last, prev=before, follow=False), "forked")

        def settle(o):
            o.record(6, none, seq=last, prev=before, follow=False)
            o.record(11, o.made)

        self.log(settle, None)
        self.log(lambda o: o.record(11, b"\x07" * 32), None)
        self.log(lambda o: o.record(6, struct.pack("<I", 1) + head(2, chain[1].digest)), None)
        self.log(lambda o: o.record(6, struct.pack("<I", 1) + head(3, bytes(32))), "was there and is gone")
        self.log(lambda o: o.record(6, struct.pack("<I", 1) + head(1, bytes(32))), "forked at header 1")
        self.log(lambda o: o.record(6, struct.pack("<I", 2) + head(1, chain[0].digest) * 2), "not in order")
        self.log(lambda o: o.record(5, b"\x01" * 16 + none), "unknown device")
        self.log(lambda o: o.record(4, b"\x01" * 16 + bytes(40)), "unknown device")
        self.log(lambda o: o.record(4, head(0, b"\x01" * 32)), "zero digest")
        self.log(lambda o: o.record(4, head(1, chain[0].digest)), None)
        self.log(lambda o: o.record(4, head(7, b"\x01" * 32)), "missing")
        self.log(lambda o: (o.record(4, head(1, chain[0].digest)), o.record(4, head(2, chain[1].digest))), "earlier")
        self.log(lambda o: o.record(3, device + bytes(32) + bytes(1216) + bytes(32)), "key that is refused")

    def test_lists(self):
        v = self.owner.vault
        first, last = v.snapshots()
        (device, name), (current, length) = next(iter(v.current.items()))

        def forget(seq, name):
            return first.device + struct.pack("<Q", seq) + name

        def stands(listed, now, size):
            return device + listed + now + struct.pack("<I", size)

        gone, both, neither = forget(1, bytes(32)), forget(1, b"\x01" * 32), forget(0, bytes(32))
        self.log(lambda o: o.record(7, o.list(1, [gone])), None)
        self.log(lambda o: o.record(7, o.list(1, [gone, forget(2, bytes(32))])), "no snapshot")
        self.log(lambda o: o.record(7, o.list(1, [both])), "neither")
        self.log(lambda o: o.record(7, o.list(1, [neither])), "neither")
        self.log(lambda o: o.record(7, o.list(1, [gone, forget(0, name)])), "not in order")
        self.log(lambda o: o.record(7, o.list(3, [first.device + name])), "another type")
        self.log(lambda o: o.record(8, o.list(2, [stands(name, bytes(32), 0)])), "without an object")
        self.log(lambda o: o.record(8, o.list(2, [stands(name, current, 0)])), "without an object")
        self.log(lambda o: o.record(8, o.list(2, [stands(name, current, length), stands(name, b"\xff" * 32, length)])), "a name twice")
        self.log(lambda o: o.record(8, o.list(2, [stands(b"\x03" * 32, current, length)])), None)
        self.log(lambda o: o.record(8, o.list(2, [stands(name, current, length + 16)])), "damaged")
        self.log(lambda o: o.record(8, o.list(2, [stands(name, b"\x03" * 32, length)])), "missing")
        self.log(lambda o: o.record(10, o.list(3, [first.device + name]) + struct.pack("<Q", 1) + bytes(4)), "announced")

        def purge(heads, after=None):
            def do(o):
                seq = o.record(7, o.list(1, [forget(0, first.body_name), gone]))
                o.record(10, o.list(3, [first.device + first.body_name]) + struct.pack("<Q", seq) + heads)
                if after:
                    o.record(8, after(o))
                os.unlink(os.path.join(self.path, r.pack_name(first.device, first.body_name)))
            return do

        seen = struct.pack("<I", 1) + last.device + struct.pack("<Q", 2) + last.digest
        self.log(purge(seen), None)
        self.log(purge(seen, lambda o: o.list(2, [first.device + first.body_name + current + struct.pack("<I", length)])), None)
        self.log(purge(bytes(4)), "no snapshot")  # both headers are late


if __name__ == "__main__":
    unittest.main()
