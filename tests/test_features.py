"""Feature spaces: the contract of every plug-in, Inception-v3, and reading its weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inception_state import image, random_state
from linear_clip import clip

from diffusion_jax import registry
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.evaluation.extract import extractor
from diffusion_jax.evaluation.features import _inception, inception
from diffusion_jax.evaluation.features.base import Features
from diffusion_jax.runtime.sharding import make_mesh

SHAPE, LEVELS = (8, 8, 1), 17


class StubClassifier:
    """Stands for a trained classifier: a linear layer of the pixels."""

    def __init__(self, seed=0):
        weights = np.random.default_rng(seed).standard_normal((64, 5)).astype(np.float32)
        self.params = {"weights": jnp.asarray(weights)}
        self.record = {"task": "guide(classifier())"}

    def features(self, params, images):
        return images.reshape(len(images), -1).astype(jnp.float32) @ params["weights"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.npz"
    np.savez(path, **random_state())
    return path


def test_features_are_the_same_bits_on_any_number_of_devices():
    """At the same batch per device: what is computed from images may be data."""
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 1, 8))

    def apply(params, images):
        found = jax.lax.conv_general_dilated(
            jnp.float32(images), params, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.tanh(found).mean((1, 2))

    images = np.random.default_rng(1).integers(0, LEVELS, (40, *SHAPE), np.uint8)
    features = Features("conv", 8, apply, "", kernel)
    one, two = (
        np.concatenate([*extractor(features, make_mesh(jax.devices()[:n]), 8 * n)(images)])
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


# A plug-in that cannot be built from its name alone; new ones need no entry unless they are such.
EXAMPLES = {
    "classifier": "classifier(checkpoint='anywhere')",
    "clip": "clip(checkpoint='anywhere')",
    "inception": "inception(weights={weights!r})",
}
SLOW = {"inception"}
NAMES = [
    pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n
    for n in registry.available("features")
]


def build(spec, **changes):
    context = {"shape": SHAPE, "levels": LEVELS, "open_classifier": lambda path: StubClassifier(),
               "open_clip": lambda path: clip(SHAPE, LEVELS)}  # fmt: skip
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
    with pytest.raises(ConfigError, match="only be opened by a run"):
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
