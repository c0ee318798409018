"""Kraft's inequality for models of latents: every head, every autoencoder, both forms of the bound.

A reading that hardly looks at the latent, and a latent that hardly looks at the image, waste next
to nothing: the sum is near 1, and what is counted wrongly shows.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kraft_sum import bounds_of, everything, kraft, law, over_noise
from test_latent_bound import model_of

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.networks.heads.base import levels_of
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.types import Noise, Pred, alpha, expand, sigma

HEADS = registry.available("heads")
# Each with the share of a latent that reading and writing see: near 0 nothing is lost.
LITTLE, MUCH = 0.15, 2.0


@dataclass(frozen=True)
class Linear:
    """One latent of two values; mean, deviation and the head's outputs are linear in what is seen.

    `count` counts log-probabilities wrongly where it is not 1.
    """

    head: Any
    strength: float
    std: float | None = 0.9
    count: float = 1.0
    discrete: bool = True
    gamma_min: float = -5.0

    @property
    def noisy(self):
        return self.std is not None

    @property
    def sequential(self):
        return self.head.sequential

    def latent_shape(self, shape):
        return (1, 1, 2)

    def init(self, key, shape):
        return {}

    def encode(self, params, x, keys=None):
        flat = x.reshape(len(x), -1)
        mean = self.strength * flat @ _fixed(0, (flat.shape[1], 2))
        mean = mean.reshape(-1, 1, 1, 2)
        return mean, None if self.std is None else jnp.full_like(mean, self.std)

    def _out(self, x, y):
        n = self.head.outputs(x.shape[-1])
        seen = self.strength * y.reshape(len(y), -1) @ _fixed(1, (2, x[0, ..., 0].size * n))
        return (seen + _fixed(2, seen.shape[1:])).reshape(*x.shape[:-1], n)

    def log_prob(self, params, x, y, gamma_0, keys=None):
        log_p = self.head.log_prob(self._out(x, y), levels_of(x, self.head.levels))
        return self.count * log_p.reshape(len(x), -1).sum(1)

    def log_probs(self, params, x, y, gamma_0):
        return self.head.log_probs(self._out(x, y), levels_of(x, self.head.levels))

    def decode(self, params, y):
        raise AssertionError("no bound decodes")


def _fixed(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def head_of(name, channels):
    """A head of three levels, or of two where it takes no more."""
    try:
        return registry.build("heads", f"{name}()", levels=3, channels=channels)
    except ConfigError:
        return registry.build("heads", f"{name}()", levels=2, channels=channels)


def sum_of(autoencoder, levels, shape, objective="continuous()", points=1024):
    """The sum of `exp(-bound)` of a model that has N(0, I) for its latents."""
    schedule = registry.build("schedules", "linear(gamma_min=-5.0, gamma_max=5.5)")
    decoder = registry.build("decoders", "categorical()", levels=levels)
    network = registry.build("backbones", "standard_normal()")
    model = Model(network, schedule, decoder, "v", autoencoder=autoencoder)
    objective = registry.build("objectives", objective)
    return kraft(bounds_of(model, objective, everything(shape, levels), points))


@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 1, 3)], ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_heads(name, shape):
    head = head_of(name, shape[-1])
    total = sum_of(Linear(head, LITTLE), head.levels, shape)
    assert 0.8 < total < 1.005
    assert sum_of(Linear(head, MUCH), head.levels, shape) < min(total, 1.0)
    assert sum_of(Linear(head, LITTLE, count=0.75), head.levels, shape) > 1.1


@pytest.mark.parametrize("std", [None, 0.9])
@pytest.mark.parametrize(
    "objective", ["continuous()", "continuous(form='A')", "discrete(timesteps=1000)", "vae()"]
)
def test_objectives(objective, std):
    """A deterministic latent says where it is to one part in 20: that is lost here, not won."""
    head = head_of("categorical", 1)
    total = sum_of(Linear(head, LITTLE, std), 3, (1, 2, 1), objective)
    assert total < 1.005
    assert std is None or total > 0.8


def test_an_entropy_counted_twice_is_found_out():
    """`1/2 log(1 + s^2 e^{-gamma_0})` of each latent, of form A."""
    head = head_of("categorical", 1)
    total = sum_of(Linear(head, LITTLE), 3, (1, 2, 1), "continuous(form='A')")
    once = np.log1p(0.9**2 * np.exp(5.0))  # of two latents
    assert total * np.exp(once) > 50.0


@dataclass(frozen=True)
class Mixture:
    """E[y | z] where y is one of `N(mean_i, std_i^2)` with probability `p_i`, as v."""

    mean: Any  # [N, ...]
    std: Any
    p: Any

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        g = expand(gamma, z)[:, None]
        a, s = alpha(g), sigma(g)
        miss, variance = z[:, None] - a * self.mean, jnp.square(a * self.std) + jnp.square(s)
        axes = tuple(range(2, miss.ndim))
        distance = (jnp.square(miss) / variance + jnp.log(variance)).sum(axes)
        weight = jax.nn.softmax(jnp.log(self.p) - 0.5 * distance)
        y = self.mean + a * jnp.square(self.std) / variance * miss
        x = jnp.einsum("bn,bn...->b...", weight, y)
        return from_pred("v", Pred(x, (z - a[:, 0] * x) / s[:, 0]), gamma)


def taught(autoencoder, x, gamma_0, steps=200):
    """Weights by which every image can be read from its latent: the rest is the mixture's."""
    tx, noise = optax.adam(0.02), math.exp(0.5 * gamma_0)

    def loss(params, key):
        mean, std = autoencoder.encode(params, x)
        spread = noise if std is None else jnp.hypot(std, noise)
        y_0 = mean + spread * jax.random.normal(key, mean.shape)
        return -autoencoder.log_prob(params, x, y_0, jnp.asarray(gamma_0)).mean()

    def step(state, key):
        params, inner = state
        updates, inner = tx.update(jax.grad(loss)(params, key), inner)
        return (optax.apply_updates(params, updates), inner), None

    @jax.jit
    def run(key):
        params = autoencoder.init(key, x.shape[1:])
        keys = jax.random.split(key, steps)
        return jax.lax.scan(step, (params, tx.init(params)), keys)[0][0]

    return run(jax.random.key(0))


@pytest.mark.parametrize("name", registry.available("autoencoders"))
def test_autoencoders(name):
    """Taught to tell all images apart, with the exact denoiser of their latents."""
    levels, images = 3, everything((1, 2, 1), 3)
    settings = {"conv": "widths=(8,), attention=False, channels=1, head=categorical()",
                "embedding": "dims=2"}.get(name, "")  # fmt: skip
    decoder = registry.build("decoders", "categorical()", levels=levels)
    made = registry.build("autoencoders", f"{name}({settings})", levels=levels, shape=(1, 2, 1),
                          decoder=decoder)  # fmt: skip
    schedule = registry.build("schedules", "linear(gamma_min=-5.0, gamma_max=5.5)")
    x = decoder.encode(jnp.asarray(images))
    params = taught(made, x, -5.0)
    mean, std = jax.jit(made.encode)(params, x)
    p = law(len(images))
    network = Mixture(mean, jnp.zeros_like(mean) if std is None else std, jnp.asarray(p))
    model = Model(network, schedule, decoder, "v", autoencoder=made)
    params = {"network": {}, "schedule": {}, "autoencoder": params}
    objective = registry.build("objectives", "continuous()")
    total = jax.jit(lambda params: over_noise(objective, model, params, images, 16384))(params)
    assert 0.96 < kraft(np.asarray(total)) < 1.02
    np.testing.assert_allclose(total, -np.log(p), atol=0.1)
    assert kraft(0.75 * np.asarray(total)) > 1.3


def signed(auto, draws=16):
    """The sum over all images of exp(-bound), draws averaged in the exponent; and a wrong one."""
    decoder = registry.build("decoders", "categorical(levels=3)")
    model = replace(model_of(auto, ends=(-5.0, 5.0)), decoder=decoder)
    x = jnp.repeat(decoder.encode(jnp.asarray(everything((2, 2, 1), 3))), draws, axis=0)
    run = registry.build("objectives", "vae()")
    shape = auto.latent_shape((2, 2, 1))
    eps = jnp.tile(jax.random.normal(jax.random.key(1), (draws, *shape)), (81, 1, 1, 1))
    noise = Noise(jnp.zeros(len(x)), eps, eps)

    @jax.jit
    def sums(params):
        terms = run(model, {"network": {}, "schedule": {}, "autoencoder": params}, x, {}, noise)
        signs = (terms.reconstruction + s * terms.prior for s in (1.0, -1.0))
        return [jnp.exp(-total.reshape(81, draws).mean(1)).sum() for total in signs]

    return lambda params: [float(a) for a in sums(params)]


@pytest.mark.parametrize("noise", ["learned", "fixed"])
@pytest.mark.parametrize(
    "head", ["categorical()", pytest.param("logistic(mixtures=2)", marks=pytest.mark.slow)]
)
def test_convolutions_and_a_wrong_sign(head, noise):
    spec = f"conv(widths=(8,), attention=False, channels=1, noise={noise!r}, head={head})"
    auto = registry.build("autoencoders", spec, levels=3, shape=(2, 2, 1))
    params = jax.jit(lambda: auto.init(jax.random.key(0), (2, 2, 1)))()
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    rough = jax.tree.unflatten(
        tree, [a + 0.1 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    )
    sums = signed(auto)
    found, *_ = sums(rough)
    assert found < 1.0
    if noise == "fixed":
        return
    # Latents that say nothing, of a decoder that hardly listens: all of the probability is used.
    own = params["encoder"]
    quiet = {"kernel": jnp.zeros_like(own["mean"]["kernel"]), "bias": jnp.zeros(1)}
    unit = {**quiet, "bias": jnp.full(1, math.atanh(2.5 / 3.5))}
    decoder = {
        **params["decoder"],
        "out": jax.tree.map(lambda a: 0.2 * a, params["decoder"]["out"]),
    }
    params = {**params, "decoder": decoder}
    near = {**params, "encoder": {**own, "mean": quiet, "log_std": unit}}
    found, _ = sums(near)
    assert 0.97 < found < 1.0 + 1e-3
    loud = {
        **params,
        "encoder": {**own, "mean": {**quiet, "bias": jnp.full(1, 3.0)}, "log_std": unit},
    }
    found, wrong = sums(loud)
    assert found < 0.1  # 4.5 nats of divergence are paid for by every image ...
    assert wrong > 1.0  # ... and the test sees a wrong sign
