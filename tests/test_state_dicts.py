"""Weights from files that others write."""

import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from diffusion_jax.errors import CheckpointError
from diffusion_jax.evaluation.features import _state_dict
from diffusion_jax.runtime import safetensors as safetensors_lib

ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.bias": np.arange(5, dtype=np.float64) / 7,
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "count": np.array(7, np.int64),
}
TYPES = {"<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "<i8": "LongStorage"}


class Stored:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


@pytest.fixture
def torch(monkeypatch):
    """Modules with the names that PyTorch's pickles refer to."""
    fakes = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in TYPES.values():
        setattr(fakes[0], name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    def _rebuild_tensor_v2(*args):
        raise AssertionError("the reader calls its own")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    fakes[1]._rebuild_tensor_v2 = _rebuild_tensor_v2
    fakes[0]._utils = fakes[1]
    for fake in fakes:
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return fakes[0]


def dump(torch, arrays, legacy):
    """The bytes of a .pth file, in the format since torch 1.6 or the one before it."""

    class Tensor:
        def __init__(self, name):
            self.name, self.array = name, arrays[name]

        def __reduce__(self):
            a = self.array
            kind = getattr(torch, TYPES[a.dtype.str])
            strides = tuple(s // a.itemsize for s in a.strides)
            args = (Stored(kind, self.name, a.size), 0, a.shape, strides, False, {})
            return torch._utils._rebuild_tensor_v2, args

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Stored):
                return None
            record = ("storage", thing.kind, thing.key, "cpu", thing.count)
            return (*record, None) if legacy else record

    out = io.BytesIO()
    if legacy:
        for thing in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(thing, out, 2)
    body = out if legacy else io.BytesIO()
    Pickler(body, 2).dump({name: Tensor(name) for name in arrays})
    if legacy:
        pickle.dump(list(arrays), out, 2)
        for a in arrays.values():
            out.write(struct.pack("<q", a.size) + a.tobytes())
        return out.getvalue()
    with zipfile.ZipFile(out, "w") as f:
        f.writestr("archive/data.pkl", body.getvalue())
        f.writestr("archive/byteorder", "little")
        for name, a in arrays.items():
            f.writestr(f"archive/data/{name}", a.tobytes())
    return out.getvalue()


def safetensors(arrays):
    kinds = {v: k for k, v in safetensors_lib.TYPES.items()}
    header, numbers = {"__metadata__": {"format": "pt"}}, b""
    for name, a in arrays.items():
        span = [len(numbers), len(numbers) + a.nbytes]
        header[name] = {
            "dtype": kinds[a.dtype.str],
            "shape": list(a.shape),
            "data_offsets": span,
        }
        numbers += a.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def npz(arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.mark.parametrize("form", ["zip.pth", "legacy.pth", "x.safetensors", "x.npz"])
def test_every_format_holds_the_same_arrays(form, tmp_path, torch):
    data = {
        "zip.pth": lambda: dump(torch, ARRAYS, legacy=False),
        "legacy.pth": lambda: dump(torch, ARRAYS, legacy=True),
        "x.safetensors": lambda: safetensors(ARRAYS),
        "x.npz": lambda: npz(ARRAYS),
    }[form]()
    path = tmp_path / form
    path.write_bytes(data)
    found = _state_dict.read(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
    path.write_bytes(data[: len(data) - 60])
    with pytest.raises(CheckpointError, match="cannot read"):
        _state_dict.read(path)


def test_tensors_that_are_transposed_views(tmp_path, torch):
    path = tmp_path / "view.pth"
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    # The storage is written in memory order, the strides say how to read it.
    whole = dump(torch, arrays, legacy=True)
    arrays["a"] = arrays["a"].T
    view = dump(torch, arrays, legacy=True)
    path.write_bytes(view[: -6 * 4] + whole[-6 * 4 :])
    np.testing.assert_array_equal(_state_dict.read(path)["a"], arrays["a"])


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    for name, data in {
        "zip.pth": None,
        "legacy.pth": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(Attack(), 2),
        "bare.pth": pickle.dumps(Attack(), 2),
    }.items():
        path = tmp_path / name
        if data is None:
            with zipfile.ZipFile(path, "w") as f:
                f.writestr("archive/data.pkl", pickle.dumps({"a": Attack()}, 2))
        else:
            path.write_bytes(data)
        with pytest.raises(CheckpointError, match="mkdir"):
            _state_dict.read(path)
    assert not (tmp_path / "owned").exists()


def test_a_tensor_may_not_reach_beyond_its_storage():
    tensor = _state_dict._Tensor(lambda: np.zeros(5, np.float32), 0, (2, 3), (3, 1))
    with pytest.raises(ValueError, match="beyond"):
        tensor.array()
    with pytest.raises(ValueError, match="negative"):
        replace_offset(tensor).array()


def replace_offset(tensor):
    return tensor._replace(offset=-1, shape=(2,), stride=(1,))
