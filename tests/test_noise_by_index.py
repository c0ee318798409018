"""The sample with a given number depends on the seed alone: not on batch size or devices."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_edits import brush, grid

from diffusion_jax import registry, rng
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.evaluation import guides
from diffusion_jax.experiment.sampling.editing import paint
from diffusion_jax.runtime.sharding import make_mesh
from diffusion_jax.sampling import generate, trajectory
from diffusion_jax.sampling.edits.base import Inputs
from diffusion_jax.sampling.loop import integrate
from diffusion_jax.training.tasks.guide import Recipe
from diffusion_jax.types import alpha, expand, sigma

SHAPE, COUNT = (2, 2, 1), 100
WAYS = ((100, 1), (32, 1), (100, 2), (32, 8))  # batch, devices


@dataclass(frozen=True)
class Network:
    """`E[eps | z]` for independent pixels of variance 1/4: cheap to compile."""

    def apply(self, variables, z, gamma, cond, keys=None):
        a, s = (f(expand(gamma, z)) for f in (alpha, sigma))
        return s * z / (0.25 * a**2 + s**2)


def setting(sampler, plan="once()", corrector="none()", steps=3):
    tool = brush(Network(), grid(steps), sampler=sampler)
    method = replace(
        tool.method,
        gammas=registry.build("plans", plan)(tool.method.gammas),
        correct=registry.build("correctors", corrector),
    )
    return tool.model, tool.params, method


def drawn(model, params, method, batch, devices, num=COUNT, seed=3):
    mesh = make_mesh(jax.devices()[:devices])
    run = generate.compile_sampler(model, method, mesh)
    return generate.generate(params, run, SHAPE, None, num, batch, seed, mesh, quiet=True)


def same(found):
    """Equal but for the last bits, which a program for another batch may round otherwise."""
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=0.0, atol=2e-5)
    assert len(np.unique(found[0][:, 0, 0, 0])) == len(found[0])  # no example shares its noise


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "ancestral()"},
        pytest.param({"sampler": "dpmpp_sde()"}, marks=pytest.mark.slow),
        pytest.param({"sampler": "dpmpp_2m(eta=0.5)"}, marks=pytest.mark.slow),
        {"sampler": "ddim(eta=1.0)", "corrector": "langevin(r=0.1, repeats=2)"},
        {"sampler": "heun()", "plan": "churn(amount=1.0)"},
    ],
    ids=lambda o: " ".join(o.values()),
)
def test_samples_by_number(options):
    same([drawn(*setting(**options), *way) for way in WAYS])


def test_fewer_samples_are_the_first_ones():
    parts = setting("ancestral()")
    few, many = (drawn(*parts, 32, 1, num=n) for n in (5, 40))
    np.testing.assert_allclose(few, many[:5], rtol=0.0, atol=2e-5)


def test_levels_are_equal():
    """What is written, integers, is the same to the last one."""

    @dataclass(frozen=True)
    class Levels:
        def __call__(self, denoise, z, gamma, decoder):
            return jnp.clip(jnp.round(40.0 * z + 128.0), 0, 255).astype(jnp.uint8)

    model, params, method = setting("ancestral()")
    method = replace(method, final=Levels())
    first, *others = (drawn(model, params, method, *way) for way in WAYS)
    assert first.dtype == np.uint8
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_trajectory_is_of_the_first_samples():
    model, params, method = setting("ancestral()")
    shown = replace(method, final=registry.build("final_steps", "decode()"))
    key = rng.stream(jax.random.key(3), "sample")
    moving = trajectory.record(model, params, shown, {}, key, (4, *SHAPE), 5, 3)
    np.testing.assert_allclose(
        moving.latents[-1], drawn(model, params, shown, 32, 1)[:4], rtol=0.0, atol=2e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "masked"),
    [
        ("replace()", True),
        ("repaint(jump=2, resamplings=2)", True),
        ("sdedit(start=1.0)", False),
        ("interpolate_noise(frames=4)", False),
        ("extend(right=1, stride=1)", False),
        ("widen(right=1, stride=1)", False),
    ],
)
def test_edits_by_row(spec, masked):
    edit = registry.build("edits", spec)
    images = np.random.default_rng(0).standard_normal((10, *SHAPE)).astype(np.float32)
    mask = np.broadcast_to(np.array([0.0, 1.0]).reshape(1, 1, 2, 1), images.shape)
    layout = edit.lay_out(Inputs(images, mask if masked else None, {}, 2))
    tool = brush(Network(), edit.plan(grid(4)), sampler="ancestral()")

    def painted(batch, devices):
        mesh = make_mesh(jax.devices()[:devices])
        sample = SimpleNamespace(batch=batch, seed=1)
        return paint(tool.model, tool.params, edit, layout, tool.method, sample, mesh)

    first, *others = (painted(*way) for way in ((100, 1), (7, 2), (20, 8)))
    for other in others:
        np.testing.assert_allclose(other, first, rtol=0.0, atol=5e-5)
    if masked or "start" in spec:  # two results of one image differ
        assert np.all(np.ptp(first.reshape(10, 2, -1), axis=1).max(1) > 1e-3)


def test_guides_are_scored_by_number():
    """Each image meets the noise of its own number, not of its place in a batch."""

    class Score:
        def loss(self, params, z, gamma, told, keys):
            return {"loss": jnp.square(z).mean((1, 2, 3)) + told["label"]}

    images = np.random.default_rng(0).integers(0, 5, (COUNT, *SHAPE), dtype=np.uint8)
    split = Split("toy", images, np.arange(COUNT, dtype=np.int32) % 3, 5, 3)
    trained = {"optimizer": None, "ema": (), "ema_warmup": False, "seed": 0}
    recipe = Recipe(Score(), lambda x: x / 2.0 - 1.0, -4.0, 4.0, **trained)

    def losses(batch, devices, **options):
        how = Pass(make_mesh(jax.devices()[:devices]), batch, quiet=True, **options)
        return [row["loss"] for row in guides.measure(recipe, {}, split, how)]

    first, *others = (losses(*way) for way in WAYS)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-6)
    assert not np.allclose(losses(*WAYS[0], seed=1), first, rtol=1e-3)


def test_integrate_takes_one_key_or_one_per_example():
    model, params, method = setting("dpmpp_sde()")
    denoise = model.denoiser(params)
    z = jax.random.normal(jax.random.key(0), (6, *SHAPE))
    keys = jax.random.split(jax.random.key(1), 6)

    def end(z, key):
        call = lambda z, g: denoise(z, g, {})
        return integrate(call, method.sampler, method.gammas, z, key)

    together = end(z, keys)
    np.testing.assert_allclose(together[2:4], end(z[2:4], keys[2:4]), rtol=0.0, atol=2e-5)
    assert not np.allclose(together, end(z, keys[0]))
    # A key of the old kind, two words, is one key.
    raw = jax.random.key_data(keys[0])
    np.testing.assert_array_equal(end(z, keys[0]), end(z, raw))
