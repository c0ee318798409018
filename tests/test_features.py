"""Feature spaces: the contract of every plug-in, Inception-v3, and reading its weights."""

import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inception_state import image, random_state

from diffusion_jax import registry
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.features import _inception, _state_dict, inception

SHAPE, LEVELS = (8, 8, 1), 17


class StubClassifier:
    """Stands for a trained classifier: a linear layer of the pixels."""

    def __init__(self, seed=0):
        weights = np.random.default_rng(seed).standard_normal((64, 5)).astype(np.float32)
        self.params = {"weights": jnp.asarray(weights)}
        self.record = {"scorer": "classifier()"}

    def features(self, params, images):
        return images.reshape(len(images), -1).astype(jnp.float32) @ params["weights"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.npz"
    np.savez(path, **random_state())
    return path


# A plug-in that cannot be built from its name alone; new ones need no entry unless they are such.
EXAMPLES = {
    "classifier": "classifier(checkpoint='anywhere')",
    "inception": "inception(weights={weights!r})",
}
SLOW = {"inception"}
NAMES = [
    pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
    for n in registry.available("features")
]


def build(spec, **changes):
    context = {"shape": SHAPE, "levels": LEVELS, "open_classifier": lambda path: StubClassifier()}
    return registry.build("features", spec, **(context | changes))


@pytest.mark.parametrize("name", NAMES)
def test_contract(name, request):
    spec = EXAMPLES.get(name, name)
    if "{weights" in spec:
        spec = spec.format(weights=str(request.getfixturevalue("weights")))
    features, again = build(spec), build(spec)
    images = np.random.default_rng(0).integers(0, LEVELS, (3, *SHAPE)).astype(np.uint8)
    found = jax.jit(features.apply)(features.params, images)
    assert found.shape == (3, features.size) and found.dtype == jnp.float32
    assert np.all(np.isfinite(found)) and np.std(found) > 0
    assert features.name.isidentifier()  # it goes into file names
    assert len(features.digest) == 64 and features.digest == again.digest
    json.dumps(features.source)
    # An image's features do not depend on the images beside it.
    alone = jax.jit(features.apply)(features.params, images[::-1])
    np.testing.assert_allclose(alone[::-1], found, rtol=1e-4, atol=1e-4)


def test_pixels_are_in_model_space():
    images = np.arange(64, dtype=np.uint8).reshape(1, *SHAPE) % LEVELS
    flat = build("pixels").apply({}, images)
    assert flat.min() == -1.0 and flat.max() == 1.0
    np.testing.assert_allclose(flat[0, :17], np.linspace(-1, 1, 17), atol=1e-6)
    small = build("pixels(size=2)")
    assert small.size == 4 and small.digest != build("pixels").digest
    quarters = [flat[0].reshape(8, 8)[i : i + 4, j : j + 4].mean() for i in (0, 4) for j in (0, 4)]
    np.testing.assert_allclose(small.apply({}, images)[0], quarters, atol=1e-6)
    with pytest.raises(ConfigError, match="must divide"):
        build("pixels(size=3)")


def test_the_digest_follows_the_weights():
    spec = EXAMPLES["classifier"]
    other = build(spec, open_classifier=lambda path: StubClassifier(seed=1))
    assert other.digest != build(spec).digest
    with pytest.raises(ConfigError, match="only be opened by a mode"):
        registry.build("features", spec)


# Inception-v3


def test_inception_has_the_published_number_of_weights():
    shapes = inception.shapes()
    count = sum(a.size for a in jax.tree.leaves(shapes["params"]))
    # Without its auxiliary head the published classifier of 1,000 classes has 23,834,568.
    assert count + 2048 * 1000 + 1000 == 23_834_568
    kernels = [p for p, _ in inception._paths(shapes) if p[-1] == "kernel"]
    assert len(kernels) == 94


@pytest.mark.slow
def test_inception_agrees_with_another_implementation():
    params = inception.convert(random_state())
    found = jax.jit(_inception.Inception().apply)(params, image())
    # Keras 3.15, applications.InceptionV3 with these weights; the last block's pool branch with
    # layers.MaxPooling2D(3, 1, "same") in place of its mean.
    keras = [
        [7.89663, 0.10481, 0.03325, 16.23404, 19.91132, 1.5362, 13.75023, 0.72365],
        [7.83232, 0.13384, 0.02982, 16.17821, 19.86312, 1.55947, 13.77191, 0.77556],
    ]
    chosen = np.array([0, 319, 320, 1000, 1855, 1856, 1950, 2047])
    np.testing.assert_allclose(found[:, chosen], keras, atol=3e-4)
    np.testing.assert_allclose(found.mean(1), [7.9957113, 7.9470634], rtol=1e-5)
    np.testing.assert_allclose(found.std(1), [11.218493, 11.1428585], rtol=1e-5)


def test_inception_images_are_resized_between_pixel_centres():
    # A ramp stays a ramp; the borders, outside the outer centres, keep the outer values.
    ramp = np.broadcast_to(np.arange(0, 230, 10)[None, :, None], (1, 23, 23, 1)).astype(np.uint8)
    out = np.asarray(_inception.prepare(ramp, 256))
    assert out.shape == (1, 299, 299, 3)
    centres = (np.arange(299) + 0.5) * 23 / 299 - 0.5
    expected = 2 * np.clip(centres * 10, 0, 220) / 255 - 1
    np.testing.assert_allclose(out[0, 150, :, 2], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("Mixed_7c.branch_pool.bn.bias"), "1 arrays are missing.*Mixed_7c"),
        (lambda s: s.update(extra=np.zeros(3)), "extra of shape"),
        (lambda s: s.update({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 5, 5))}), "Conv2d_1a"),
    ],
)
def test_other_state_dicts_are_refused(change, message):
    state = random_state()
    change(state)
    with pytest.raises(CheckpointError, match=message):
        inception.convert(state)


def test_heads_and_counters_of_a_published_file_are_left_out():
    state = random_state()
    extra = {"fc.weight": np.zeros((1008, 2048)), "fc.bias": np.zeros(1008),
             "Conv2d_1a_3x3.bn.num_batches_tracked": np.int64(0)}  # fmt: skip
    plain, full = inception.convert(state), inception.convert(state | extra)
    assert jax.tree.structure(plain) == jax.tree.structure(full)


def test_inception_needs_a_file():
    with pytest.raises(ConfigError, match="needs a local copy"):
        build("inception")
    with pytest.raises(CheckpointError, match=r"cannot read .*absent"):
        build("inception(weights='/absent.pth')")
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        build("inception(weights='x')", shape=(8, 8, 2))


# State dicts

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
    kinds = {v: k for k, v in _state_dict._SAFETENSORS.items()}
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
