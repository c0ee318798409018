"""Files from strangers run nothing, cost no memory they cannot fill, and fail in one line."""

import io
import itertools
import json
import pickle
import struct
import zipfile

import flax.serialization
import numpy as np
import pytest
import test_state_dicts as state_dicts
from fuzzing import at_most, mutated, rezipped

from diffusion_jax import registry
from diffusion_jax.cli import user_images
from diffusion_jax.data.base import Split
from diffusion_jax.data.datasets import _imagenet, _memory_mapped
from diffusion_jax.errors import CheckpointError, DataError
from diffusion_jax.evaluation.features import _state_dict
from diffusion_jax.networks.published import diffenc, vdm
from diffusion_jax.runtime import untrusted

torch = state_dicts.torch
MIB = 1 << 20


def batch(protocol=4, **more):
    data = np.arange(2 * 12, dtype=np.uint8).reshape(2, 12)
    return pickle.dumps({"data": data, "labels": [3, 1000], "mean": np.ones(12), **more}, protocol)


def read_batch(folder, data):
    (folder / "val_data").write_bytes(data)
    return _imagenet._batch(folder / "val_data")


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_protocol(tmp_path, protocol):
    data, labels = read_batch(tmp_path, batch(protocol))
    np.testing.assert_array_equal(data, np.arange(24).reshape(2, 12))
    assert data.dtype == np.uint8 and labels.tolist() == [3, 1000]


def test_types_and_orders_of_arrays():
    for a in (np.arange(6.0).reshape(2, 3).T, np.arange(3, dtype=">i4"), np.array([True, False]),
              np.array(7, np.int64), np.zeros((2, 0), np.float16)):  # fmt: skip
        for protocol in (2, 4, 5):
            found = _imagenet._pickled.arrays(io.BytesIO(pickle.dumps({"a": a}, protocol)))["a"]
            np.testing.assert_array_equal(found, a)
            assert found.dtype == a.dtype and found.shape == a.shape


def test_a_batch_that_python_2_wrote(tmp_path):
    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(%b"
             b"tcnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
             b"\xffK\x00tb\x89U%c%btb") % (b"K\x02K\x03", 6, b"abc\xff\x00f")  # fmt: skip
    data, labels = read_batch(tmp_path, b"\x80\x02}(U\x04data%bU\x06labels](K\x01K\x02eu." % array)
    assert data.tolist() == [[97, 98, 99], [255, 0, 102]] and labels.tolist() == [1, 2]


class Canary:
    """An object that notices when numpy takes a forged buffer for a list of objects."""

    def __init__(self):
        self.woken = False

    def __int__(self):
        self.woken = True
        return 1


class Forged:
    """Pickles as `numpy.ndarray(shape, dtype, buffer)`, which is what the attack calls."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return np.ndarray, self.args


def test_objects_over_a_forged_buffer_are_never_touched(tmp_path):
    canary = Canary()
    address = struct.pack("<q", id(canary))
    before = np.ndarray((1,), np.dtype("O"), address)  # what the file would make
    assert before.astype(np.int32)[0] == 1 and canary.woken
    canary.woken = False
    for forged in (Forged((1,), np.dtype("O"), address), np.array([canary], object)):
        if isinstance(forged, np.ndarray):
            forged[0] = None
        for key in ("labels", "data"):
            with pytest.raises(DataError, match="cannot read"):
                read_batch(tmp_path, batch(**{key: forged}))
    assert not canary.woken
    # The same bytes under a plain type's name, changed afterwards: types stay what they are.
    sneaky = batch().replace(b"\x8c\x02u1", b"\x8c\x02O8")
    assert sneaky != batch()
    with pytest.raises(DataError, match="type 'O8', not plain numbers"):
        read_batch(tmp_path, sneaky)


def test_what_a_pickle_may_call_cannot_be_changed():
    call = untrusted.Call(len)
    names = {("a", "call"): call}
    build = b"\x80\x02ca\ncall\n(N}U\x09_functionK\x01stb."  # setattr(call, "_function", 1)
    with pytest.raises(untrusted.Malformed):
        untrusted.unpickle(io.BytesIO(build), names)
    with pytest.raises(untrusted.Malformed):
        untrusted.unpickle(io.BytesIO(build.replace(b"(N}", b"}(").replace(b"stb", b"ub")), names)
    assert call("ab") == 2


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 33) + b"x.",  # 8 GiB of bytes
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"x.",  # of bytearray
        b"\x80\x02Nr" + struct.pack("<I", (1 << 31) - 1) + b".",  # a memo of 2^31 entries
        b"\x80\x02N" + b"p2147483000\n.",
    ],
)
def test_pickles_that_ask_for_gigabytes(tmp_path, bomb):
    with at_most(4 * MIB), pytest.raises(DataError, match="cannot read"):
        read_batch(tmp_path, bomb)


def npy(shape, descr="|u1", body=b"1234"):
    out = io.BytesIO()
    about = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, about)
    return out.getvalue() + body


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in members.items():
            z.writestr(f"{name}.npy", data)
    return out.getvalue()


@pytest.mark.parametrize("shape", [(1 << 33,), (1 << 32, 1 << 32), (-2, -2), (1 << 62, 4)])
def test_arrays_larger_than_their_file(tmp_path, shape):
    path = tmp_path / "x.npz"
    path.write_bytes(zipped(train_image=npy(shape), test_image=npy(shape)))
    (tmp_path / "x.npy").write_bytes(npy(shape))
    for read in (_memory_mapped.npz, lambda p: _memory_mapped.npy(p.with_suffix(".npy"))):
        with at_most(4 * MIB), pytest.raises(DataError, match=r"does not fit its \d+ bytes"):
            read(path)
    with at_most(4 * MIB), pytest.raises(DataError, match="does not fit"):
        user_images.read_images(str(path), (2, 2, 1), 256)


def test_a_zip_that_declares_more_than_it_can_hold(tmp_path):
    data = bytearray(zipped(image=npy((1 << 33,))))
    at = data.index(b"PK\x01\x02") + 24  # uncompressed size in the directory
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    (tmp_path / "x.npz").write_bytes(data)
    with at_most(4 * MIB), pytest.raises(DataError, match="more bytes than the file can hold"):
        _memory_mapped.npz(tmp_path / "x.npz")


def expanded(shape, stride):
    return _state_dict._Tensor(lambda: np.zeros(5, np.float32), 0, shape, stride)


def test_tensors_that_repeat_their_storage():
    for shape, stride in (((1 << 33,), (0,)), ((3, 3), (1, 1)), ((5, 5), (1, 0))):
        with at_most(MIB), pytest.raises(ValueError, match="twice"):
            expanded(shape, stride).array()
    assert expanded((1, 5, 1), (0, 1, 0)).array().shape == (1, 5, 1)
    assert expanded((0, 1 << 40), (1, 1)).array().shape == (0, 1 << 40)


def test_mutated_files_are_read_or_refused(tmp_path, torch):
    """Some hundred mutations for each format, with right checksums where it has any."""
    rng = np.random.default_rng(0)
    images = {f"{part}_image": np.zeros((3, 4, 4, 1), np.uint8) for part in ("train", "test")}
    labels = {f"{part}_label": np.arange(3) for part in ("train", "test")}
    legacy, modern = (state_dicts.dump(torch, state_dicts.ARRAYS, k) for k in (True, False))
    stored = state_dicts.npz(images | labels)
    one = state_dicts.npz({"image": images["test_image"], "label": np.arange(3)})

    def own_images(path):
        make = registry.build("data", f"npz(path={str(path)!r}, num_classes=3)")
        split = make.split("test")
        assert isinstance(split, Split)

    cases = [
        ("val_data", _imagenet._batch, DataError, *(batch(p) for p in (0, 2, 4, 5))),
        ("x.pth", _state_dict.read, CheckpointError, legacy, modern),
        ("x.safetensors", _state_dict.read, CheckpointError,
         state_dicts.safetensors(state_dicts.ARRAYS)),
        ("x.npz", own_images, DataError, stored),
        ("y.npz", lambda p: user_images.read_images(str(p), (4, 4, 1), 256), DataError, one),
    ]  # fmt: skip
    for name, read, error, *files in cases:
        path, refused, count = tmp_path / name, 0, 160 // len(files)
        for data in files:
            mutations = [mutated(data, rng, count // 2)]
            mutations.append((rezipped if data[:2] == b"PK" else mutated)(data, rng, count // 2))
            for changed in (m for some in mutations for m in some):
                path.write_bytes(changed)
                registry_cache_clear()
                with at_most(16 * MIB):
                    refused += fails(read, path, error)
        assert refused > 30, name


def fails(read, path, error):
    """Whether `read` refuses the file, in one line; any other exception is not caught."""
    try:
        read(path)
    except error as e:
        return str(e).count("\n") == 0
    return False


def registry_cache_clear():
    from diffusion_jax.data.datasets import npz

    npz._arrays.cache_clear()


def test_mutated_published_checkpoints(golden, tmp_path):
    """Bytes, and then structures: every leaf in turn is something else."""
    rng, path = np.random.default_rng(0), tmp_path / "x.flax"
    state = flax.serialization.msgpack_restore((golden / "vdm_checkpoint.flax").read_bytes())
    small = {"step": 3, **{k: shrunk(state[k]) for k in ("params", "ema_params")}}
    good = flax.serialization.msgpack_serialize(small)
    path.write_bytes(good)
    vdm.read(path)
    variants = list(mutated(good, rng, 60))
    odd = (None, 7, "text", {}, [], np.zeros(0, np.float32), np.int32(3), {3: 4})
    for where, k in itertools.product(leaves(small), range(3)):
        changed = replaced(small, where, odd[(len(variants) + 3 * k) % len(odd)])
        variants.append(flax.serialization.msgpack_serialize(changed))
    refused = 0
    for changed in variants:
        path.write_bytes(changed)
        for read in (vdm.read, lambda p: diffenc.read(p, "vdmv")):
            refused += fails(read, path, CheckpointError)
    assert refused > len(variants)


def shrunk(tree):
    """The same layers with at most eight values on a side."""
    if not isinstance(tree, dict):
        return np.asarray(tree)[tuple(slice(0, 8) for _ in tree.shape)]
    return {k: shrunk(v) for k, v in tree.items()}


def leaves(tree, where=()):
    """Paths to a few leaves and folders, spread over the tree."""
    for i, (k, v) in enumerate(tree.items()):
        if i % 3 == 0:
            yield (*where, k)
        if isinstance(v, dict) and len(where) < 4 and i < 4:
            yield from leaves(v, (*where, k))


def replaced(tree, where, value):
    first, *rest = where
    return {**tree, first: replaced(tree[first], rest, value) if rest else value}


def test_names_and_headers_of_safetensors(tmp_path):
    entry = lambda *v: {"a": dict(zip(("dtype", "shape", "data_offsets"), v, strict=True))}
    for header in ([], {"a": 3}, entry("F32", [1 << 40], [0, 4]), entry("F32", [1], [-4, 0]),
                   entry("O", [1], [0, 8])):  # fmt: skip
        text = json.dumps(header).encode()
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
        with at_most(MIB), pytest.raises(CheckpointError, match="cannot read"):
            _state_dict.read(path)
