"""Compressed files whose checksums are right and whose content is not; names that are paths."""

import dataclasses
import zlib
from pathlib import Path

import numpy as np
import pytest
import test_codec_models as models
from fuzzing import at_most
from PIL import Image

from diffusion_jax.compression import coder as coding, container, files, header as headers
from diffusion_jax.errors import CodecError, DataError

MIB = 1 << 20
COUNT = 13
SHA = "0" * 64


@pytest.fixture(scope="module")
def written():
    """A coder, the images, and a header and groups as `compress` writes them."""
    net = models.network(batch=4)
    x = models.images(COUNT)
    coder, coded = models.code(net, x, 3, group=8)
    header = {
        "images": COUNT, "shape": list(models.SHAPE), "levels": models.LEVELS, "timesteps": 3,
        "order": coder.order, "batch": 4, "group": 8, "groups": 2, "seed": 0, "labels": "none",
        "schedule": "", "model": "", "step": 1, "weights": "ema", "machine": {}, "sha256": SHA,
        "names": [f"{i}.png" for i in range(COUNT)],
    }  # fmt: skip
    return coder, x, header, coded.groups


def read(data, coder):
    """What `--mode=decompress` does once the weights are there."""
    header, groups = container.unpack(data, "f")
    headers.check(header, groups, models.SHAPE, coder.lanes, "f")
    net = coder.chain.network
    made = coding.make(
        net, header["timesteps"], header["order"], header["group"], header["seed"]
    ) if header["batch"] == net.batch else coder  # fmt: skip
    return coding.decode(made, groups, header["images"])[0]


def test_what_was_written_is_read(written):
    coder, x, header, groups = written
    np.testing.assert_array_equal(read(container.pack(header, groups), coder), x)


HOSTILE = {
    "images": (1 << 40, 0, -1, True, "8", 1.0, None, 14, 80),
    "shape": ([1 << 20, 1 << 20, 3], [], "4x4", [4, 4, 2.0, 1], None),
    "timesteps": (1 << 31, 100_001, 0, -3, "3"),
    "batch": (1 << 30, 8, 0, None),
    "group": (1 << 40, 7, 0, [8]),
    "groups": (3, 0, -1, 1 << 62, "2", None),
    "seed": (-1, 1 << 130, 0.5, "0", None),
    "order": ("sideways", ["bitswap"], None, {}),
    "labels": ("some", [], None),
    "machine": ([], None, "tpu"),
    "sha256": ("x", 7, None),
    "names": (["a.png"], [1] * COUNT, "x" * COUNT, {"a": 1}),
    "gammas": ([[0.0, 1.0]], [[3.0, 2.0, 1.0, 0.0]], [[0, 1, 2, 3]], [[0.0, 1.0, 2.0, 1e9]], "x",
               [[0.0, 1.0, 2.0, float("nan")]], [3.0], None),
    "step": ("1", None), "model": (3,), "weights": ([],), "schedule": (None,), "levels": ("256",),
}  # fmt: skip


@pytest.mark.parametrize("field", HOSTILE)
def test_headers_that_do_not_fit_their_file(written, field):
    coder, _, header, groups = written
    for value in HOSTILE[field]:
        data = container.pack({**header, field: value}, groups)
        with at_most(4 * MIB), pytest.raises(CodecError, match=r"^f[ :]") as e:
            read(data, coder)
        assert "\n" not in str(e.value) and len(str(e.value)) < 300
    if field not in ("names", "gammas"):
        data = container.pack({k: v for k, v in header.items() if k != field}, groups)
        with pytest.raises(CodecError, match=r"^f[ :]"):
            read(data, coder)


def raw(text):
    start = container._START.pack(b"DJXC", container.VERSION, len(text)) + text
    return start + container._CRC.pack(zlib.crc32(start))


@pytest.mark.parametrize(
    "text",
    [
        zlib.compress(b" " * (1 << 27)),  # unpacks to a thousand times its size
        zlib.compress(b"[" * 100_000),
        zlib.compress(b"[]"),
        zlib.compress(b'{"groups": 1' + b"0" * 5000 + b"}"),
        zlib.compress(b"\xff\xfe"),
        zlib.compress(b'{"groups": 0}')[:-6],
        b"nonsense",
    ],
)
def test_headers_that_cannot_be_read(text):
    with at_most(200 * MIB), pytest.raises(CodecError, match="header that cannot be read"):
        container.unpack(raw(text), "f")


def test_initial_words_that_were_never_used(written):
    coder, _, header, groups = written
    bad = dataclasses.replace(groups[0], used=(1 << 32) - 1)
    with at_most(16 * MIB), pytest.raises(CodecError, match="does not decode"):
        read(container.pack(header, [bad, groups[1]]), coder)


def test_mutated_groups_are_decoded_or_refused(written):
    coder, x, header, groups = written
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(30):
        found = groups[0].heads, groups[0].tail, groups[0].symbols
        parts = [bytearray(p.tobytes()) for p in found]
        chosen = parts[rng.integers(0, 3)]
        at = int(rng.integers(0, len(chosen) - 8))
        chosen[at : at + 8] = (rng.bytes(8), b"\xff" * 8, bytes(8))[rng.integers(0, 3)]
        heads, tail, symbols = (
            np.frombuffer(p, k) for p, k in zip(parts, ("<u8", "<u2", "<u4"), strict=True)
        )
        keep = slice(0, len(tail) - int(rng.integers(0, 3)))
        heads = heads.reshape(groups[0].heads.shape)
        changed = dataclasses.replace(groups[0], heads=heads, tail=tail[keep], symbols=symbols)
        try:
            found = read(container.pack(header, [changed, groups[1]]), coder)
        except CodecError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, x)
    assert refused > 25


NAMES = [
    "/etc/passwd", "../../up.png", "..\\..\\up.png", "C:\\x.png", "c:x.png", "..", ".", "", "...",
    "a/b/../c.png", "up.png", "UP.PNG", "up", "nul.png", "x\x00y.png", "x\ny.png", "\udcff.png",
    "e\u0301.png", "\u00e9.png", "z" * 500 + ".png", "\U0001f600" * 90, ".hidden.png", "a.png ",
    "ok name-1.png", "up-1.png",
]  # fmt: skip


def test_names_are_never_paths(tmp_path):
    images = np.arange(len(NAMES), dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 2, 2, 1), np.uint8
    )
    inside = tmp_path / "deep" / "out"
    files.write_pngs(inside, files.Images("x", images, None, tuple(NAMES)))
    everything = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.parent for p in everything} == {inside} and len(everything) == len(NAMES)
    names = files.file_names(NAMES)
    assert files.file_names(names) == names  # twice is once
    assert len({n.casefold() for n in names}) == len(NAMES)
    for name, image in zip(names, images, strict=True):
        assert name == Path(name).name and name.lower().endswith(".png")
        np.testing.assert_array_equal(Image.open(inside / name), image[:, :, 0])
    assert names[NAMES.index("ok name-1.png")] == "ok name-1.png"
    with np.load(written_npz(tmp_path, images)) as found:
        assert tuple(found["name"]) == names


def written_npz(folder, images):
    files.write_npz(folder / "x.npz", files.Images("x", images, None, tuple(NAMES)))
    return folder / "x.npz"


def test_many_equal_names_take_no_time():
    names = files.file_names(["a.png"] * 20_000)
    assert len(set(names)) == 20_000 and names[:2] == ("a.png", "a-1.png")


def test_names_and_labels_of_an_npz_are_checked(tmp_path):
    image = np.zeros((2, 2, 2, 1), np.uint8)
    for changes, message in (
        ({"name": np.array(["a"])}, "name must be 2 texts"),
        ({"name": np.array([1, 2])}, "name must be 2 texts"),
        ({"name": np.array("ab")}, "name must be 2 texts"),
        ({"label": np.array(["a", "b"])}, "labels must be integers"),
        ({"label": np.array([0.5, 1.0])}, "32-bit integers"),
        ({"label": np.array([1 << 32, 1])}, "32-bit integers"),
        ({"label": np.array([np.nan, 1])}, "32-bit integers"),
    ):
        np.savez(tmp_path / "x.npz", image=image, **changes)
        with pytest.raises(DataError, match=message):
            files.read(tmp_path / "x.npz", "test", (2, 2, 1), 256, 3)
    np.savez(tmp_path / "x.npz", image=image, name=np.array(["../../a.png", "/b.png"]))
    assert files.read(tmp_path / "x.npz", "test", (2, 2, 1), 256, 0).names == ("a.png", "b.png")


def test_damaged_pictures_are_one_line(tmp_path):
    rng = np.random.default_rng(0)
    Image.new("L", (4, 4), 7).save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    for i in range(8, len(good)):
        bad = bytearray(good)
        bad[i] = rng.integers(0, 256)
        (tmp_path / "x.png").write_bytes(bad)
        try:
            files.read(tmp_path / "x.png", "test", (4, 4, 1), 256, 0)
        except DataError as e:
            assert str(e).count("\n") == 0  # noqa: PT017
