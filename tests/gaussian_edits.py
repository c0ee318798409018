"""Painting images of Gaussian pixels and labelled mixtures: exact networks and a brush."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from closed_form import MIXTURE

from diffusion_jax import registry
from diffusion_jax.model import Model
from diffusion_jax.process.encoders.identity import Identity
from diffusion_jax.sampling.edits.base import Brush, Inputs
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.method import Method
from diffusion_jax.types import alpha, expand, sigma

KEY = jax.random.key(0)
ENDS = (-12.0, 9.0)


@dataclass(frozen=True)
class Network:
    """`E[eps | z]` for images ~ N(mean, cov), pixels in reading order."""

    cov: tuple
    mean: float = 0.0

    def apply(self, variables, z, gamma, cond, keys=None):
        cov = jnp.asarray(self.cov)
        g = expand(gamma, z.reshape(len(z), -1))
        a, s = (f(g).ravel()[:1] for f in (alpha, sigma))  # one gamma for the batch
        off = z.reshape(len(z), -1) - a * self.mean
        total = a[0] ** 2 * cov + s[0] ** 2 * jnp.eye(len(cov))
        return (s * jnp.linalg.solve(total, off.T).T).reshape(z.shape)


@dataclass(frozen=True)
class Classes:
    """`E[x | z]` for the two pixels of a labelled mixture."""

    def apply(self, variables, z, gamma, cond, keys=None):
        return MIXTURE.conditional(z.reshape(-1, 2), gamma, cond).x.reshape(z.shape)


def brush(network, gammas, sampler="dpmpp_2m()", prediction="eps", classes=0, encoder=None):
    model = Model(
        network=network,
        schedule=registry.build("schedules", "linear()", gamma_min=ENDS[0], gamma_max=ENDS[1]),
        decoder=registry.build("decoders", "gaussian()"),
        prediction=prediction,
        num_classes=classes,
        encoder=encoder or Identity(),
    )
    method = Method(
        guidance=registry.build("guidance", "none()"),
        sampler=registry.build("samplers", sampler),
        gammas=gammas,
        final=registry.build("final_steps", "identity()"),
    )
    return Brush(model, {"network": {}, "schedule": {}}, method, Context())


def grid(steps):
    return np.linspace(ENDS[1], ENDS[0], steps + 1)


def edited(spec, network, images, mask=None, steps=40, each=1, cond=None, **options):
    """What an edit makes of images `[N, H, W, 1]`."""
    edit = registry.build("edits", spec) if isinstance(spec, str) else spec
    masks = None if mask is None else np.broadcast_to(mask, (len(images), *mask.shape))
    layout = edit.lay_out(Inputs(np.asarray(images), masks, cond or {}, each))
    tool = brush(network, edit.plan(grid(steps)), **options)
    edit.check(tool.model, tool.method)
    tool = replace(tool, shared=layout.shared)
    canvas = jax.tree.map(jnp.asarray, layout.canvas)
    return np.asarray(jax.jit(lambda c, k: edit.paint(tool, c, k))(canvas, KEY))


# Two pixels of correlation 0.8; the first is known.
PAIR = Network(((1.0, 0.8), (0.8, 1.0)))
MASK = np.array([0.0, 1.0]).reshape(1, 2, 1)
KNOWN = 1.5


def mean_error(monkeypatch, spec, network=PAIR, **options):
    """Error of the unknown pixel's mean: steps are affine, so it is that of a run without noise."""
    with monkeypatch.context() as m:
        m.setattr(jax.random, "normal", lambda key, shape, dtype=float: jnp.zeros(shape, dtype))
        end = edited(spec, network, np.array([KNOWN, 9.0]).reshape(1, 1, 2, 1), MASK, **options)
    return abs(end[0, 0, 1, 0] - 0.8 * KNOWN)


@dataclass(frozen=True)
class Squared:
    """The encoder `x_gamma = alpha^2 x`: a fresh DiffEnc's."""

    mean_coefficient: float = 1.0

    def __call__(self, params, x, gamma, cond, keys):
        a2 = alpha(expand(gamma, x)) ** 2
        return a2 * x, -a2 * (1.0 - a2) * x
