"""Every network in the folder, through the same contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import moved

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.networks.layers.embed import fourier_features, timestep_embedding
from diffusion_jax.networks.layers.patches import sincos
from diffusion_jax.process.parameterization import from_pred, to_pred
from diffusion_jax.types import Pred, alpha, sigma

SMALL = {
    "vdm_unet": "vdm_unet(width=16, depth=1, embed=8, dropout=0.3)",
    "unet": "unet(width=16, mults=(1, 2), blocks=1, attention=(4,), dropout=0.3)",
    "dit": "dit(width=16, depth=2, heads=2, dropout=0.3)",
    "uvit": "uvit(width=16, depth=2, heads=2, dropout=0.3)",
    "fno": "fno(width=16, depth=2, embed=8, dropout=0.3)",
    "mlp": "mlp(width=16, depth=2, embed=8, dropout=0.3)",
    "prior": "prior(width=16, depth=2, heads=2, embed=8, dropout=0.3)",
}
FIXED = {"standard_normal"}  # nothing is learned and nothing matters: see the tests of latents
VIDEO = {"video_unet", "stacked_frames", "sequence"}  # see test_video_networks, test_sequences
LOGITS = {"templates"}  # for prediction='levels' alone; see test_templates
LEARNED = [name for name in registry.available("backbones") if name not in FIXED | VIDEO | LOGITS]
SHAPE = (4, 8, 8, 3)


@pytest.fixture(scope="module", params=LEARNED)
def network(request):
    assert request.param in SMALL, "give the new network a small setting here"
    return registry.build(
        "backbones", SMALL[request.param], channels=3, levels=17, num_classes=5, augment=2,
        gamma_min=-8.0, gamma_max=5.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def variables(network):
    return jax.jit(lambda key: network.init(key, jnp.zeros(SHAPE), jnp.zeros(4), {}))(
        jax.random.key(0)
    )


@pytest.fixture(scope="module")
def apply(network):
    """The network, compiled once for every kind of input."""
    return jax.jit(network.apply)


@pytest.fixture(scope="module")
def ready(apply, variables):
    """The network with weights that matter."""
    return functools.partial(apply, moved(variables, 0.2))


@pytest.fixture(scope="module")
def z():
    return jax.random.normal(jax.random.key(2), SHAPE)


def test_a_fresh_network_returns_z_and_says_so(network, apply, variables, z):
    assert network.skip
    np.testing.assert_array_equal(apply(variables, z, jnp.zeros(4), {}), z)


def test_output_has_the_shape_and_type_of_z(ready, z):
    out = ready(z, jnp.zeros(4), {})
    assert out.shape == z.shape and out.dtype == z.dtype


def test_every_input_matters_and_examples_do_not_mix(ready, z):
    label = jnp.asarray([0, 1, 2, 3])
    cond = {"label": label, "augment": jnp.zeros((4, 2))}
    base = ready(z, jnp.zeros(4), cond)
    changed = {
        "z": ready(z.at[0].add(1.0), jnp.zeros(4), cond),
        "gamma": ready(z, jnp.zeros(4).at[0].set(2.0), cond),
        "label": ready(z, jnp.zeros(4), {**cond, "label": label.at[0].set(4)}),
        "augment": ready(z, jnp.zeros(4), {**cond, "augment": jnp.zeros((4, 2)).at[0].set(1.0)}),
    }
    for name, out in changed.items():
        assert jnp.abs(out - base)[0].max() > 1e-3, name
        np.testing.assert_allclose(out[1:], base[1:], atol=2e-5, err_msg=name)


def test_no_label_is_the_null_class_and_differs_from_every_class(ready, z):
    def labelled(k):
        return ready(z, jnp.zeros(4), {"label": jnp.full(4, k), "augment": jnp.zeros((4, 2))})

    null = labelled(5)
    np.testing.assert_array_equal(ready(z, jnp.zeros(4), {}), null)
    for k in range(5):
        assert jnp.abs(labelled(k) - null).max() > 1e-3


def test_dropout_only_with_keys(ready, z):
    keys = jax.random.split(jax.random.key(3), 4)
    once = ready(z, jnp.zeros(4), {}, keys)
    np.testing.assert_array_equal(once, ready(z, jnp.zeros(4), {}, keys))
    assert jnp.abs(once - ready(z, jnp.zeros(4), {})).max() > 1e-3
    np.testing.assert_array_equal(ready(z, jnp.zeros(4), {}), ready(z, jnp.zeros(4), {}))


@pytest.mark.slow
def test_bfloat16_keeps_weights_and_output_in_float32(network, variables, z):
    low = network.clone(dtype=jnp.dtype("bfloat16"))
    shapes = jax.eval_shape(lambda: low.init(jax.random.key(0), z, jnp.zeros(4), {}))
    assert {a.dtype for a in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    weights = moved(variables, 0.1)
    out, exact = (jax.jit(n.apply)(weights, z, jnp.zeros(4), {}) for n in (low, network))
    assert out.dtype == jnp.float32
    assert 0 < float(jnp.abs(out - exact).max()) < 0.1 * float(jnp.abs(exact).max())


@pytest.mark.slow
def test_remat_changes_nothing(network, variables, z):
    if not hasattr(network, "remat"):
        pytest.skip("too small to have anything to recompute")

    @functools.partial(jax.jit, static_argnums=0)
    def grad(network, variables):
        return jax.grad(lambda v: jnp.square(network.apply(v, z, jnp.zeros(4), {})).sum())(
            variables
        )

    both = (grad(n, variables) for n in (network, network.clone(remat=True)))
    for a, b in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()) + 1e-8)


@pytest.mark.parametrize(
    ("spec", "context", "parameters"),
    [
        # Counted in the published code; its learned linear schedule adds 2.
        ("vdm_unet(width=128, depth=32, scalar=True)", {}, 30_578_179),
        ("vdm_unet(width=128, depth=8, scalar=True)", {}, 8_905_219),
        ("vdm_unet(width=128, depth=8, scalar=True)", {"channels": 1, "levels": 256}, 8_891_393),
        ("vdm_unet(width=256, depth=32, scalar=True)", {}, 122_137_603),
        ("vdm_unet(width=256, depth=32, scalar=True, attention=True)", {}, 139_279_877 - 3_074),
        ("vdm_unet(width=256, depth=64, scalar=True)", {}, 237_603_845 - 2),
    ],
)
def test_published_parameter_counts(spec, context, parameters):
    spec = spec.replace(")", ", scan=True)")  # traced faster
    network = registry.build("backbones", spec, **context)
    z = jnp.zeros((1, 8, 8, context.get("channels", 3)))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), z, jnp.zeros(1), {}))
    assert sum(a.size for a in jax.tree.leaves(shapes)) == parameters


def test_images_that_cannot_be_halved_are_refused():
    network = registry.build("backbones", "unet(width=16, mults=(1, 2, 2))", channels=1, levels=17)
    with pytest.raises(ConfigError, match="cannot be halved"):
        network.init(jax.random.key(0), jnp.zeros((1, 6, 6, 1)), jnp.zeros(1), {})
    network = registry.build(
        "backbones", "unet(width=8, mults=(1, 2), patch=2)", channels=1, levels=9
    )
    for shape, said in (((1, 5, 6, 1), "not covered"), ((1, 6, 6, 1), "3x3 patches cannot be")):
        with pytest.raises(ConfigError, match=said):
            network.init(jax.random.key(0), jnp.zeros(shape), jnp.zeros(1), {})


@pytest.mark.slow
def test_a_unet_on_patches_gives_each_pixel_its_own_output():
    network = registry.build(
        "backbones", "unet(width=8, mults=(1,), blocks=1, patch=2, level_features=3)", channels=3,
        levels=5,
    )  # fmt: skip
    z, gamma = jax.random.normal(jax.random.key(0), (2, 4, 6, 3)), jnp.zeros(2)
    params = network.init(jax.random.key(1), z, gamma, {})["params"]
    assert jax.tree.map(jnp.shape, params["conv_in"])["kernel"] == (3, 3, 4 * 3 * (5 + 3), 8)
    params["conv_out"]["bias"] = jnp.arange(12.0)
    out = network.apply({"params": params}, z, gamma, {}) - z
    square = jnp.arange(12.0).reshape(2, 2, 3)  # the pixels of a patch, row by row
    np.testing.assert_allclose(out, jnp.tile(square, (2, 2, 3, 1)), atol=1e-5)


@pytest.mark.parametrize("levels", [17, 256])
def test_fourier_features_have_periods_of_two_levels_and_one(levels):
    z = jnp.asarray([[0.123]])
    base = fourier_features(z, levels)
    assert base.shape == (1, 5)
    two = fourier_features(z + 2 * 2 / levels, levels)
    one = fourier_features(z + 2 / levels, levels)
    np.testing.assert_allclose(two[:, 1:], base[:, 1:], atol=2e-4)
    np.testing.assert_allclose(one[:, [2, 4]], base[:, [2, 4]], atol=2e-4)
    assert jnp.abs(one[:, 1] - base[:, 1]).max() > 0.1


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("prediction", ["eps", "v", "x", "velocity", "edm"])
def test_parameterizations_are_inverses_and_consistent(prediction):
    gamma = jnp.asarray([-13.3, -5.0, 0.0, 5.0])
    z, out = jax.random.normal(jax.random.key(0), (2, 4, 3, 3, 1))
    pred = to_pred(prediction, out, z, gamma)
    g = gamma[:, None, None, None]
    np.testing.assert_allclose(alpha(g) * pred.x + sigma(g) * pred.eps, z, atol=1e-9)
    np.testing.assert_allclose(from_pred(prediction, pred, gamma), out, rtol=1e-8, atol=1e-9)


def test_alpha_and_sigma_at_the_ends():
    gamma = jnp.asarray(-13.3)
    assert float(sigma(gamma) ** 2) == pytest.approx(1.67449e-6, rel=1e-5)
    assert float(alpha(gamma) ** 2 + sigma(gamma) ** 2) == pytest.approx(1.0, rel=1e-6)


def test_gamma_per_pixel_reaches_the_network_as_its_mean():
    seen = []

    class Spy:
        def apply(self, variables, z, gamma, cond, keys=None):
            seen.append(gamma)
            return z

    model = Model(Spy(), None, None, "eps")
    per_pixel = jnp.arange(8.0).reshape(2, 2, 2, 1)
    pred = model.denoiser({"network": {}})(jnp.ones((2, 2, 2, 1)), per_pixel, {})
    np.testing.assert_allclose(seen[0], [1.5, 5.5])
    assert isinstance(pred, Pred) and pred.x.shape == (2, 2, 2, 1)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_time_embedding_that_is_too_short_is_refused(size):
    with pytest.raises(ConfigError, match="use 4 or more"):
        timestep_embedding(jnp.zeros(2), size)


def test_a_unet_is_told_places_by_what_is_added_to_its_input():
    """A learned table of zeros says nothing; one of sines and cosines is the fixed one."""
    z = jax.random.normal(jax.random.key(0), (2, 6, 4, 1))

    def network(how):
        spec = f"unet(width=8, mults=(1,), blocks=1, attention=(), position={how!r})"
        return registry.build("backbones", spec, channels=1, levels=17)

    def told(how, params):
        return network(how).apply({"params": params}, z, jnp.zeros(2), {})

    plain = moved(network("none").init(jax.random.key(1), z, jnp.zeros(2), {}), 0.2)["params"]
    learned = network("learned").init(jax.random.key(1), z, jnp.zeros(2), {})["params"]
    assert learned.keys() - plain.keys() == {"position"}
    table = learned["position"]
    assert table.shape == (24, 8)
    base = told("none", plain)
    np.testing.assert_array_equal(told("learned", {**plain, "position": 0.0 * table}), base)
    waves = told("sincos", plain)
    assert jnp.abs(waves - base).max() > 1e-2
    same = told("learned", {**plain, "position": sincos((6, 4), 8)})
    np.testing.assert_allclose(same, waves, atol=1e-6)
    with pytest.raises(ConfigError, match="allowed: none, sincos, learned"):
        network("rope")
