"""Templates on a torus: correlations by hand, and the exact denoiser of shifted images."""

import itertools

import empirical
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from weights import moved

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.backbones.templates import correlations, placed
from diffusion_jax.process.parameterization import to_pred
from diffusion_jax.runtime.sharding import replicated
from diffusion_jax.types import diffuse

SHIFTS = [*itertools.product(range(6), range(6))]


def built(spec="templates(count=5)", **changes):
    given = {"channels": 4, "levels": 2, "gamma_min": -6.0, "gamma_max": 5.0}
    return registry.build("backbones", spec, **(given | changes))


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def decoder(levels):
    return registry.build("decoders", "categorical()", levels=levels)


@pytest.mark.parametrize("size", [(6, 6), (5, 4)])
def test_correlations_and_their_transpose_are_sums_over_shifts(size):
    images, templates = normal(0, 2, *size, 3), normal(1, 4, *size, 3)
    weights = normal(2, 2, 4, *size)
    scores, sums = np.zeros(weights.shape), np.zeros(images.shape)
    for i, j in itertools.product(*map(range, size)):
        there = np.roll(templates, (i, j), (1, 2))
        scores[:, :, i, j] = np.einsum("bhwc,khwc->bk", images, there)
        sums += np.einsum("bk,khwc->bhwc", weights[:, :, i, j], there)
    np.testing.assert_allclose(correlations(images, templates), scores, atol=1e-4)
    np.testing.assert_allclose(placed(weights, templates), sums, atol=1e-4)


@pytest.mark.parametrize("levels", [2, 3])
def test_started_from_images_it_is_the_exact_denoiser_of_all_their_shifts(levels):
    images = np.random.default_rng(0).integers(0, levels, (3, 6, 6, 2))
    every = np.concatenate([np.roll(images, shift, (1, 2)) for shift in SHIFTS])
    centres = decoder(levels).centres()
    g = jnp.asarray([-4.0, -1.0, 0.0, 1.0, 4.0])
    z = diffuse(centres[every[40:45]], g, normal(1, 5, 6, 6, 2))
    network = built("templates(count=3)", channels=2 * levels, levels=levels)
    params = network.init(jax.random.key(0), z, g, {})["params"]
    params |= network.from_examples(centres[images], {})
    out = network.apply({"params": params}, z, g, {})
    x = to_pred("levels", out, z, g, centres).x
    atoms = empirical.weights(every, levels)["network"]
    known = empirical.EmpiricalNetwork().apply({"params": atoms}, z, g, {})
    np.testing.assert_allclose(x, to_pred("eps", known, z, g).x, atol=5e-3)


def test_the_frames_it_is_given_choose_the_template():
    """At pure noise only the given image says which of two examples, and where, is meant."""
    images = jnp.asarray(np.random.default_rng(1).choice([-0.5, 0.5], (2, 6, 6, 3)))
    network = built("templates(count=2)", channels=4, low=1)
    x, cond = images[..., :2], {"low": images[..., 2:]}
    z, g = normal(0, 2, 6, 6, 2), jnp.full(2, 5.0)
    params = network.init(jax.random.key(0), z, g, cond)["params"]
    params |= network.from_examples(x, cond)
    out = network.apply({"params": params}, z, g, {"low": jnp.roll(cond["low"], 2, 1)})
    found = to_pred("levels", out, z, g, decoder(2).centres()).x
    np.testing.assert_allclose(found, jnp.roll(x, 2, 1), atol=1e-2)


def test_a_shift_of_the_input_shifts_the_output_and_given_images_move_with_it():
    network = built(low=1)
    z, low, gamma = normal(0, 2, 6, 6, 2), normal(1, 2, 6, 6, 1), jnp.asarray([-1.0, 1.0])
    apply = jax.jit(network.apply)
    params = moved(jax.jit(network.init)(jax.random.key(1), z, gamma, {"low": low}), 0.05)

    def shifted(a):
        return jnp.roll(a, (2, 5), (1, 2))

    here = apply(params, z, gamma, {"low": low})
    there = apply(params, shifted(z), gamma, {"low": shifted(low)})
    np.testing.assert_allclose(there, shifted(here), atol=1e-3)
    assert jnp.abs(apply(params, z, gamma, {"low": jnp.roll(low, 1, 1)}) - here).max() > 1e-2


def test_every_condition_matters():
    network = built(num_classes=3, augment=2)
    z, gamma = normal(0, 1, 6, 6, 2), jnp.zeros(1)
    cond = {"label": jnp.asarray([1]), "augment": jnp.zeros((1, 2))}
    apply = jax.jit(network.apply)
    params = moved(jax.jit(network.init)(jax.random.key(1), z, gamma, cond), 0.2)
    base = apply(params, z, gamma, cond)
    for change in ({"label": jnp.asarray([2])}, {"augment": jnp.ones((1, 2))}):
        assert jnp.abs(apply(params, z, gamma, cond | change) - base).max() > 1e-3


def measured(tmp_path, count, steps=0, **changes):
    """A run of toy videos before its first step or after some, and its bits per video."""
    from diffusion_jax.cli.modes.train import HANDED

    run = tiny.experiment(
        tmp_path, data="toys(glyphs=2, size=6, frames=3, velocities=((0, 1), (1, 0)))",
        network=f"stacked_frames(of=templates(count={count}))", prediction="levels",
        conditional=False, guidance="none()", gamma_min=-6.0, gamma_max=10.0,
        valid_draws=8, **changes,
    )  # fmt: skip
    task = run.task.open(run, HANDED)
    state = jax.jit(task.initial, out_shardings=replicated(run.mesh))()
    train, valid = task.load()
    state, _ = task.ready(state, train)
    if steps:
        batch, update = jax.device_put(train.take(np.arange(32))), jax.jit(task.update)
        for _ in range(steps):
            state, _ = update(state, batch)
    values = np.prod(run.model.shape(run.source.shape))
    return run, state, values * task.validate(state, valid)["bits_per_dim"]


def test_before_its_first_step_it_knows_toy_videos(tmp_path):
    """Nothing but the examples' own errors and uneven numbers is left to learn."""
    run, _, bits = measured(tmp_path, 64)
    assert -0.5 < bits - run.source.entropy[0] < 1.0


def test_before_its_first_step_it_knows_what_follows_two_frames(tmp_path):
    assert -0.1 < measured(tmp_path, 64, view="later(given=2)")[2] < 0.3


def test_training_does_not_lose_what_it_knows(tmp_path):
    _, _, bits = measured(tmp_path, 16, 20, view="later(given=2)", lr=3e-2, warmup=0)
    assert -0.1 < bits < 0.3


def test_averages_start_from_the_examples_too(tmp_path):
    _, state, _ = measured(tmp_path, 8)
    jax.tree.map(np.testing.assert_array_equal, state.params, *state.ema.values())
    table = state.params["network"]["of"]["templates"]
    assert len(np.unique(np.asarray(table), axis=0)) == 8


def test_more_templates_than_examples_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="starts from 300 training examples"):
        measured(tmp_path, 300)


def test_other_predictions_are_refused():
    with pytest.raises(ConfigError, match="prediction='levels'"):
        built(channels=2).init(jax.random.key(0), normal(0, 1, 6, 6, 2), jnp.zeros(1), {})
