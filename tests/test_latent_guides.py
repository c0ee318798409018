"""Guides of latents see the law that a model's latents have, and must be of the same latents."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from command import main
from test_latent_decoder import CONV, NORMAL, train

from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import latents
from diffusion_jax.training import state as state_lib
from diffusion_jax.training.tasks.guide import Recipe
from diffusion_jax.types import diffuse

SHAPE = (4, 4, 1)


@dataclass(frozen=True)
class Scaled:
    """Latents are the data, twice as large, with noise or none."""

    times: float = 2.0
    std: float | None = None

    def encode(self, params, x, keys=None):
        mean = self.times * x * params["one"]
        return mean, None if self.std is None else jnp.full_like(mean, self.std)


class Product:
    """A guide of one weight for each value, which compiles at once."""

    metrics = ()

    def init(self, key, shape):
        return {"network": {"w": jnp.ones(shape)}}

    def loss(self, params, z, gamma, told, keys):
        return {"loss": (params["network"]["w"] * z).sum((1, 2, 3)) * told["label"] * gamma}


def recipe(autoencoder=None):
    return Recipe(Product(), lambda image: image / 2.0 - 1.0, -5.0, 4.0, optax.sgd(0.1),
                  (("0.9", 0.9),), False, 0, autoencoder)  # fmt: skip


def test_what_it_sees_has_the_law_of_noisy_latents():
    """`q(z | x) = N(alpha m, alpha^2 s^2 + sigma^2)`."""
    own, gamma, n = recipe(Scaled(std=0.7)), jnp.asarray(-0.5), 20_000
    keys = jax.random.split(jax.random.key(0), n)
    image = jnp.full((n, 1, 1, 1), 3.0)
    y = own.data({"autoencoder": {"one": 1.0}}, image, keys)
    z = diffuse(y, gamma, jax.random.normal(jax.random.key(1), y.shape))
    a2 = 1.0 / (1.0 + np.exp(-0.5))
    assert float(z.mean()) == pytest.approx(np.sqrt(a2) * 2.0 * 0.5, abs=0.03)
    assert float(z.var()) == pytest.approx(a2 * 0.49 + 1.0 - a2, rel=0.03)


def test_latents_that_are_the_data_train_the_guide_of_pixels():
    """And the autoencoder's weights stay as they are."""
    rng = np.random.default_rng(0)
    batch = {"image": jnp.asarray(rng.integers(0, 5, (8, *SHAPE)), jnp.float32),
             "label": jnp.asarray(rng.integers(0, 3, 8))}  # fmt: skip
    after = {}
    for name, between in (("pixels", None), ("latents", Scaled(1.0))):
        own = recipe(between)
        params = own.network.init(jax.random.key(0), SHAPE)
        params |= {"autoencoder": {"one": jnp.ones(())}} if between else {}
        state = state_lib.init(params, own.optimizer, (0.9,), None, own.frozen)
        after[name], _ = jax.jit(own.update)(state, batch)
    jax.tree.map(
        np.testing.assert_array_equal,
        after["pixels"].params["network"], after["latents"].params["network"],
    )  # fmt: skip
    for tree in (after["latents"].params, after["latents"].ema["0.9"]):
        assert float(tree["autoencoder"]["one"]) == 1.0


def weights(by=0.0, scale=1.0):
    return {"autoencoder": {"w": np.full(2, by), "standard": {"scale": np.full(2, scale)}}}


class Unfinished(SimpleNamespace):
    @property
    def params(self):
        raise CheckpointError("none yet")


def test_latents_of_others_are_refused_by_the_weights_and_the_units():
    c = tiny.config_lib.base()
    c.autoencoder = "conv(checkpoint='x', train=True)"
    run = SimpleNamespace(config=c, params=weights(), workdir="runs/latent")
    latents.check_weights(run, weights(), "runs/clf")
    latents.check_weights(Unfinished(config=c), weights(by=1.0), "runs/clf")
    for other, says in ((weights(by=1.0), "another autoencoder"), (weights(scale=2.0), "units")):
        with pytest.raises(ConfigError, match=says) as raised:
            latents.check_weights(run, other, "runs/clf")
        assert "conv(checkpoint='runs/latent')" in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ("conv(checkpoint='x', sha256='b')", "latents of another autoencoder"),
        ("pixels()", "a network of pixels, this model one of latents"),
    ],
)
def test_latents_of_others_are_refused_by_their_settings(theirs, says):
    mine, other = tiny.config_lib.base(), tiny.config_lib.base()
    mine.autoencoder, other.autoencoder = "conv(checkpoint='x', sha256='a')", theirs
    with pytest.raises(ConfigError, match=says):
        latents.check_same(mine, other, "runs/clf")
    mine.view = "from_latent()"  # what diffuses are pixels
    if theirs == "pixels()":
        latents.check_same(mine, other, "runs/clf")


@pytest.mark.slow
def test_a_guide_of_latents_from_its_training_to_samples(tmp_path):
    vae = train(tmp_path, "vae", autoencoder=CONV, objective="vae()", conditional=False,
                guidance="none()", **NORMAL)  # fmt: skip
    latent = train(tmp_path, "latent", autoencoder=f"conv(checkpoint={str(vae)!r})", **NORMAL)
    guides = {}
    for name, of in (("right", latent), ("wrong", vae)):
        guides[name] = train(
            tmp_path, name, autoencoder=f"conv(checkpoint={str(of)!r})", gamma_min=None,
            task="guide(classifier(width=8, mults=(1,), blocks=1))", optimizer="sgd()",
        )  # fmt: skip
    for name, code in (("right", 0), ("wrong", 2)):
        done = main("sample", f"--workdir={latent}", "--trust", "--config.sample.num=8",
                    f"--config.guidance=classifier(checkpoint={str(guides[name])!r})")  # fmt: skip
        assert done.returncode == code, done.stderr
    assert "in other units" in done.stderr and done.stderr.count("\n") == 1
