"""The sum of `exp(-bound)` over all images there can be; images have two to four values.

Means over noise are those of quasi-random points.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    """E[x | z, low] of images with probabilities `p`: nothing is left to learn.

    With an encoder it says what makes the mean of the bound's bracket zero, the mean of
    `x_t - dx_t/dgamma` over the images that z may come from, over `1 + c sigma^2`.
    """

    points: Any  # [N, ...], in model space
    low: Any  # [N, ...] or None
    p: Any
    prediction: str = "eps"
    wrong: float = 0.0  # added to the noise prediction
    moved: Callable | None = None  # x_t and its derivative in gamma, of all images at each gamma
    c: float = 0.0

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        g = expand(gamma, z)
        a, s = alpha(g), sigma(g)
        axes = tuple(range(2, z.ndim + 1))
        x_t, slope = self.moved(gamma) if self.moved else (self.points[None], 0.0)
        distance = jnp.square((z[:, None] - a[:, None] * x_t) / s[:, None]).sum(axes)
        logits = jnp.log(self.p) - 0.5 * distance
        if self.low is not None:
            other = jnp.abs(cond["low"][:, None] - self.low).max(axes) > 1e-3
            logits = jnp.where(other, -jnp.inf, logits)
        weight = jax.nn.softmax(logits)
        weight = weight.reshape(*weight.shape, *[1] * (z.ndim - 1))
        x = (weight * (x_t - slope)).sum(1) / (1.0 + self.c * jnp.square(s))
        eps = (z - a * x) / s + self.wrong
        return from_pred(self.prediction, Pred((z - s * eps) / a, eps), gamma)


def bounds(images, levels, p, *, objective="continuous()", schedule="linear()", decoder=None,
           encoder="identity()", view="whole()", prediction="eps", wrong=0.0,
           network=None, points=POINTS, itself=False, rough=0.05):  # fmt: skip
    """The bound on each of `images`, nats; `itself`: the objective, not the bound behind it.

    `rough` is the noise in the weights of what has some.
    """
    shape = images.shape[1:]
    seen = registry.build("views", view, levels=levels)
    own = seen.shape(shape)
    known = {**ENDS, "levels": levels, "shape": own, "channels": own[-1]}
    decoder = registry.build("decoders", decoder or "categorical()", **known)
    part, given = seen(jnp.asarray(images))
    low = decoder.encode(given["low"]) if given else None
    model = Model(
        network or Exact(decoder.encode(part), low, jnp.asarray(p), prediction, wrong),
        registry.build("schedules", schedule, **known), decoder, prediction,
        encoder=registry.build("encoders", encoder, **known), view=seen,
    )  # fmt: skip
    if network is None and getattr(model.encoder, "time_dependent", True):
        model = replace(model, network=of_encoder(model, random_weights(model, shape, rough)))
    objective = registry.build("objectives", objective)
    return bounds_of(model, objective if itself else bound_of(objective), images, points, rough)


def of_encoder(model, params):
    """The exact denoiser of a model whose encoder has these weights."""
    points = model.network.points

    def moved(gamma):
        x = jnp.tile(points, (len(gamma), *[1] * (points.ndim - 1)))
        found = model.encode(params, x, jnp.repeat(gamma, len(points)), {}, None)
        return [a.reshape(len(gamma), *points.shape) for a in found]

    return replace(model.network, moved=moved, c=model.traits.mean_coefficient)


def random_weights(model, shape, rough=0.05):
    """Initial weights with some noise, so that none is zero."""
    params = jax.jit(lambda key: model.init(key, shape))(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    moved = [v + rough * jax.random.normal(jax.random.key(i), jnp.shape(v))
             for i, v in enumerate(leaves)]  # fmt: skip
    return jax.tree.unflatten(tree, moved)


def bounds_of(model, objective, images, points=POINTS, rough=0.05):
    """The bound on each of `images` of a model with random weights, nats."""
    params = random_weights(model, images.shape[1:], rough)
    return np.asarray(jax.jit(lambda p: over_noise(objective, model, p, images, points))(params))


def over_noise(objective, model, params, images, count):
    """The mean of a bound over noise, the same evenly spread points for every image, `[N]`."""
    own = model.z_shape(images.shape[1:])
    n, d = len(images), int(np.prod(own))
    points = qmc.Sobol(1 + 2 * d, seed=0).random(count)
    eps, eps_0 = (norm.ppf(points[:, 1 + i * d : 1 + (i + 1) * d]) for i in range(2))

    def tiled(a):
        return jnp.tile(jnp.asarray(a, jnp.float32), (n, *[1] * (np.ndim(a) - 1)))

    keys = jax.random.split(jax.random.key(1), n * count)
    noise = (tiled(a.reshape(count, *own)) for a in (eps, eps_0))
    noise = Noise(tiled(points[:, 0]), *noise, None, keys)
    x, cond = model.examples({"image": jnp.repeat(jnp.asarray(images), count, axis=0)})
    return objective(model, params, x, cond, noise).total.reshape(n, -1).mean(1)


def kraft(total):
    return float(np.exp(-total).sum())
