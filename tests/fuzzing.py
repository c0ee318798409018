"""Damaged and hostile variants of good files, and a watch over the memory they are read with."""

import contextlib
import io
import tracemalloc
import zipfile


def mutated(data, rng, count):
    """`count` variants of bytes: overwritten, cut, doubled or filled in a few places."""
    for _ in range(count):
        out = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            at, n = int(rng.integers(0, len(out))), int(rng.integers(1, 9))
            kind = rng.integers(0, 5)
            if kind == 0:
                out[at : at + 1] = rng.bytes(1)
            elif kind == 1:
                out[at : at + n] = bytes([(0xFF, 0x00, 0x7F)[rng.integers(0, 3)]]) * n
            elif kind == 2 and len(out) > 2 * n:
                del out[at : at + n]
            elif kind == 3:
                out[at:at] = out[at : at + n]
            else:
                other = int(rng.integers(0, len(out)))
                out[at : at + n] = out[other : other + n]
        yield bytes(out)


def rezipped(data, rng, count):
    """Variants of a zip file whose members are mutated and whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        members = {m.filename: z.read(m) for m in z.infolist()}
    for _ in range(count):
        name = list(members)[rng.integers(0, len(members))]
        (changed,) = mutated(members[name], rng, 1)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as z:
            for k, v in members.items():
                z.writestr(k, changed if k == name else v)
        yield out.getvalue()


@contextlib.contextmanager
def at_most(size):
    """Fails if more than `size` bytes are asked for at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()
