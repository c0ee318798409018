"""`prediction="levels"`: Bayes' rule per value; a bound that adds up to a probability."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.layers.embed import LevelEmbedding
from diffusion_jax.process.parameterization import outputs, to_pred
from diffusion_jax.types import alpha, sigma

CENTRES = jnp.asarray([-0.75, -0.25, 0.25, 0.75])


@pytest.mark.usefixtures("float64")
def test_the_prediction_is_the_posterior_mean_by_quadrature_over_data():
    """Draw data from the prior the logits state, and noise: the mean of x near a given z."""
    prior = np.asarray([0.1, 0.2, 0.3, 0.4])
    gamma, rng = 0.7, np.random.default_rng(0)
    a, s = float(alpha(jnp.asarray(gamma))), float(sigma(jnp.asarray(gamma)))
    x = rng.choice(np.asarray(CENTRES), 400_000, p=prior)
    z = a * x + s * rng.normal(size=x.size)
    at = np.asarray([-0.8, 0.1, 0.9])
    near = [x[np.abs(z - v) < 0.05] for v in at]
    wanted = np.asarray([v.mean() for v in near])
    error = np.asarray([v.std() / np.sqrt(v.size) for v in near])
    out = jnp.broadcast_to(jnp.log(prior), (3, 1, 1, 4))
    pred = to_pred("levels", out, jnp.asarray(at)[:, None, None, None], jnp.asarray(gamma), CENTRES)
    np.testing.assert_array_less(np.abs(np.ravel(pred.x) - wanted), 4 * error + 1e-3)
    g = jnp.asarray(gamma)
    np.testing.assert_allclose(alpha(g) * pred.x[:, 0, 0, 0] + sigma(g) * pred.eps[:, 0, 0, 0], at,
                               rtol=1e-12)  # fmt: skip


def test_at_little_noise_the_level_is_known_and_at_much_the_network_decides():
    out = jnp.tile(jnp.log(jnp.asarray([0.1, 0.2, 0.3, 0.4])), (2, 1, 1, 3))
    z = jnp.broadcast_to(CENTRES[1], (2, 1, 1, 3))
    low, high = (to_pred("levels", out, z, jnp.asarray(g), CENTRES).x for g in (-12.0, 25.0))
    np.testing.assert_allclose(low, CENTRES[1], atol=1e-6)
    np.testing.assert_allclose(high, 0.1 * -0.75 + 0.2 * -0.25 + 0.3 * 0.25 + 0.4 * 0.75, atol=1e-3)


def test_level_features_are_the_mean_of_an_embedding_over_what_z_leaves_open():
    layer, table = LevelEmbedding(size=3, levels=4), jnp.arange(12.0).reshape(4, 3) ** 2
    prior = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    params = {"params": {"table": table, "marginal": jnp.log(prior) / 10}}
    level = jnp.asarray([[3, 0], [1, 2]])
    z = jnp.broadcast_to(CENTRES[level], (2, 1, 2, 2))
    out = layer.apply(params, z, jnp.asarray([-12.0, 30.0])).reshape(2, 1, 2, 2, 3)
    np.testing.assert_allclose(out[0, 0], table[level], rtol=1e-5)
    np.testing.assert_allclose(out[1, 0], jnp.broadcast_to(prior @ table, (2, 2, 3)), rtol=1e-5)


def test_level_features_tell_all_levels_apart_from_the_start():
    params = LevelEmbedding(16, 256).init(jax.random.key(0), jnp.zeros((1, 1, 1, 1)), jnp.zeros(1))
    table = np.asarray(params["params"]["table"])
    apart = np.linalg.norm(table[:, None] - table[None], axis=-1) + 9 * np.eye(256)
    assert apart.min() > 0.5


def test_the_network_has_as_many_outputs_as_the_data_have_levels(tmp_path):
    experiment = tiny.experiment(tmp_path, prediction="levels")
    model, shape = experiment.model, experiment.source.shape
    params = jax.jit(lambda: model.init(jax.random.key(0), shape))()
    assert outputs("levels", experiment.source.levels) == 5
    assert params["network"]["out"]["kernel"].shape[-1] == 5 * math.prod(shape)
    z = jax.random.normal(jax.random.key(1), (2, *shape))
    pred = jax.eval_shape(model.denoiser(params), z, jnp.zeros(2), {})
    assert pred.x.shape == z.shape


@pytest.mark.parametrize("changes", [{"encoder": "diffenc(width=8)"}, {"decoder": "gaussian()"}])
def test_data_off_their_levels_are_refused(tmp_path, changes):
    with pytest.raises(ConfigError, match="prediction='levels'"):
        _ = tiny.experiment(tmp_path, prediction="levels", **changes).model
