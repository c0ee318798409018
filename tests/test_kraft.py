"""Kraft's inequality: `exp(-bound)`, summed over ALL images there can be, is at most 1.

It holds for every bound on a negative log-probability, whatever the network, and fails where
something is counted twice, with a wrong sign or scale, or where the model sees what a receiver
would not. With the exact denoiser of a known law the sum is near 1: too little shows as well.
Images have two or four values; means over noise are those of quasi-random points.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, qmc

from diffusion_jax import registry
from diffusion_jax.likelihood.objectives.base import bound_of
from diffusion_jax.model import Model
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.types import Noise, Pred, alpha, expand, sigma

ENDS = {"gamma_min": -5.0, "gamma_max": 5.5}
POINTS = 8192  # of noise


def everything(shape, levels):
    """All images of `shape`."""
    values = [*itertools.product(range(levels), repeat=int(np.prod(shape)))]
    return np.array(values, np.uint8).reshape(-1, *shape)


def law(count):
    """Some probabilities of all images, none of them small."""
    p = np.random.default_rng(3).dirichlet(np.full(count, 4.0)) + 0.2 / count
    return p / p.sum()


@dataclass(frozen=True)
class Exact:
    """E[x | z, low] of images with probabilities `p`: nothing is left to learn."""

    points: Any  # [N, ...], in model space
    low: Any  # [N, ...] or None
    p: Any
    prediction: str = "eps"
    wrong: float = 0.0  # added to the noise prediction

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        axes = tuple(range(2, z.ndim + 1))
        distance = jnp.square((z[:, None] - a[:, None] * self.points) / s[:, None]).sum(axes)
        logits = jnp.log(self.p) - 0.5 * distance
        if self.low is not None:
            other = jnp.abs(cond["low"][:, None] - self.low).max(axes) > 1e-3
            logits = jnp.where(other, -jnp.inf, logits)
        weight = jax.nn.softmax(logits)
        x = jnp.einsum("bn,n...->b...", weight, self.points)
        eps = (z - a * x) / s + self.wrong
        return from_pred(self.prediction, Pred((z - s * eps) / a, eps), gamma)


def bounds(images, levels, p, *, objective="continuous()", schedule="linear()", decoder=None,
           encoder="identity()", view="whole()", prediction="eps", wrong=0.0,
           points=POINTS, itself=False):  # fmt: skip
    """The bound on each of `images`, nats; `itself`: the objective, not the bound behind it."""
    shape = images.shape[1:]
    seen = registry.build("views", view, levels=levels)
    own = seen.shape(shape)
    known = {**ENDS, "levels": levels, "shape": own, "channels": own[-1]}
    decoder = registry.build("decoders", decoder or "categorical()", **known)
    part, given = seen(jnp.asarray(images))
    low = decoder.encode(given["low"]) if given else None
    model = Model(
        Exact(decoder.encode(part), low, jnp.asarray(p), prediction, wrong),
        registry.build("schedules", schedule, **known), decoder, prediction,
        encoder=registry.build("encoders", encoder, **known), view=seen,
    )  # fmt: skip
    params = jax.jit(lambda key: model.init(key, shape))(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    moved = [v + 0.05 * jax.random.normal(jax.random.key(i), jnp.shape(v))
             for i, v in enumerate(leaves)]  # fmt: skip
    params = jax.tree.unflatten(tree, moved)
    objective = registry.build("objectives", objective)
    objective = objective if itself else bound_of(objective)
    return np.asarray(jax.jit(lambda p: over_noise(objective, model, p, images, points))(params))


def over_noise(objective, model, params, images, count):
    """The mean of a bound over noise, the same evenly spread points for every image, `[N]`."""
    n, d = len(images), int(np.prod(model.shape(images.shape[1:])))
    points = qmc.Sobol(1 + 2 * d, seed=0).random(count)
    eps, eps_0 = (norm.ppf(points[:, 1 + i * d : 1 + (i + 1) * d]) for i in range(2))
    own = (count, *model.shape(images.shape[1:]))

    def tiled(a):
        return jnp.tile(jnp.asarray(a, jnp.float32), (n, *[1] * (np.ndim(a) - 1)))

    keys = jax.random.split(jax.random.key(1), n * count)
    noise = Noise(tiled(points[:, 0]), tiled(eps.reshape(own)), tiled(eps_0.reshape(own)), None,
                  keys)  # fmt: skip
    x, cond = model.examples({"image": jnp.repeat(jnp.asarray(images), count, axis=0)})
    return objective(model, params, x, cond, noise).total.reshape(n, -1).mean(1)


def kraft(total):
    return float(np.exp(-total).sum())


CASES = [
    *({"objective": o} for o in ("continuous()", "discrete(timesteps=300)",
                                 "weighted(weight=sigmoid())")),
    *({"schedule": s} for s in ("linear()", "cosine()", "linear_beta()", "learned_linear()",
                                "learned_mlp(features=8)")),
    *({"prediction": p} for p in ("v", "x", "velocity")),
]  # fmt: skip
LOOSE = [  # valid, but not the denoiser that this process or so few steps would need
    {"objective": "discrete(timesteps=3)"},
    {"schedule": "mulan(features=8, latent=2)"},
    {"encoder": "diffenc_nt()"},
    pytest.param(
        {"encoder": "diffenc(kind='unet', blocks=1, width=8)", "points": 1024},
        marks=pytest.mark.slow,
    ),
    {"objective": "vae()", "itself": True},  # the standard normal, of data that are not normal
    {"wrong": 0.5},
    {"wrong": -0.5, "encoder": "diffenc_nt()"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_exact_denoiser_spends_all_of_its_mass(case):
    images = everything((1, 2, 1), 3)
    # The ends of the schedule and 300 steps cost up to 0.03 nats.
    assert 0.96 < kraft(bounds(images, 3, law(9), **case)) < 1.02


@pytest.mark.parametrize("case", LOOSE, ids=str)
def test_no_bound_spends_more_than_there_is(case):
    size = (2, 2, 1) if "diffenc(" in case.get("encoder", "") else (1, 2, 1)
    images = everything(size, 2)
    assert kraft(bounds(images, 2, law(len(images)), **case)) < 1.03


def test_every_plugin_that_makes_a_bound_is_here():
    """A new one is to be added above."""
    told = str(CASES + LOOSE) + "identity categorical"
    for kind in ("objectives", "schedules", "encoders"):
        for name in registry.available(kind):
            assert name in told, f"add {kind} {name} to the cases of this file"
    discrete = [n for n in registry.available("decoders")
                if hasattr(registry.build("decoders", n, levels=3), "log_probs")]  # fmt: skip
    assert discrete == ["categorical"], "add the new decoder to the cases of this file"


@pytest.fixture(scope="module", params=registry.available("pyramids"))
def cascade(request):
    """The bounds of both stages on all 2x2 images, with the exact denoiser of each."""
    images, p = everything((2, 2, 1), 2), law(16)
    stages = [bounds(images, 2, p, view=f"{part}({request.param}())") for part in ("low", "high")]
    return request.param, p, stages


def test_stages_add_up_to_the_probability_of_the_image(cascade):
    """The chain rule, image by image: nothing is rescaled, and the sum over all images is 1."""
    _, p, (low, high) = cascade
    np.testing.assert_allclose(low + high, -np.log(p), atol=0.06)
    assert abs(float((p * (low + high + np.log(p))).sum())) < 0.03
    assert abs(kraft(low + high) - 1.0) < 0.03


def test_a_low_band_counted_at_a_quarter_is_found_out(cascade):
    """As where the target is the mean of four pixels and not the orthonormal band."""
    name, _, (low, high) = cascade
    if name == "average":
        return
    assert kraft(0.25 * low + high) > 1.3
    assert kraft(low + 0.75 * high) > 1.1


def test_a_network_that_is_not_told_the_low_image_pays_for_it():
    images, p = everything((2, 2, 1), 2), law(16)
    p = np.where(images.reshape(16, 4).sum(1) % 4 == 0, p + 0.4, p)  # all equal: low says it all
    p /= p.sum()
    told = bounds(images, 2, p, view="high()")
    part = registry.build("views", "high()", levels=2)(images)[0].reshape(16, 3)
    same = (part[:, None] == part[None]).all(-1)
    untold = -np.log((same * p[None]).sum(1))
    assert float((p * untold).sum() - (p * told).sum()) > 0.1
