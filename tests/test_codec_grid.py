"""Coding with steps that are not equal in the schedule's time: shorter, and told by the file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_codec_models as models
import tiny

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding
from diffusion_jax.compression.files import Images
from diffusion_jax.errors import CodecError, ConfigError
from diffusion_jax.experiment import codec, codec_plans
from diffusion_jax.sampling import generate
from diffusion_jax.types import Noise


def best_plan(net, folder, steps):
    """The plan of least bound, from data to noise, of the known curve of Gaussian data."""
    gamma = np.linspace(*models.ENDS.values(), 400)
    mean = models.V / (models.V + np.exp(gamma))  # of the squared error in the noise
    path = folder / "curve.json"
    path.write_text(json.dumps({"loss_by_gamma": {"gamma": gamma.tolist(), "mean": mean.tolist()}}))
    grid = registry.build("grids", f"dp(curve={str(path)!r})")
    return generate.plan(net.model, net.params, grid, steps)[::-1]


@pytest.mark.parametrize("order", ["bitswap", "topdown"])
def test_the_best_plan_codes_shorter_by_what_its_bound_is_less(tmp_path, order):
    n, steps = 60, 24
    net, x = models.network(batch=60), models.images(n, seed=1)
    plan = best_plan(net, tmp_path, steps)
    bounds = [models.expected_at(g) for g in (plan, np.linspace(*models.ENDS.values(), steps + 1))]
    assert bounds[0] < bounds[1] - 0.05
    lengths = []
    for gammas in ([plan], ()):
        coder, coded = models.code(net, x, steps, order, gammas=gammas)
        found, bits, bound = models.rates(net, coded, n)
        assert -0.03 < bits - bound < 0.001  # at the same latents; bins lower it a little
        error = coded.bits.std() / models.VALUES / n**0.5
        assert abs(found - bounds[len(lengths)]) < 4 * error + 0.03
        lengths.append(found)
        np.testing.assert_array_equal(coding.decode(coder, coded.groups, n)[0], x)
    assert lengths[0] < lengths[1]


def test_equal_times_by_name_are_the_same_bound():
    net = models.network(batch=4)
    x = net.model.decoder.encode(jnp.asarray(models.images(4)))
    noise = Noise(
        t=jnp.array([0.1, 0.3, 0.6, 0.99], jnp.float32),
        eps=jax.random.normal(jax.random.key(1), x.shape),
        eps_0=jnp.zeros(x.shape),
    )
    gammas = tuple(np.linspace(*models.ENDS.values(), 6).tolist())
    own, named = (
        registry.build("objectives", spec)(net.model, net.params, x, {}, noise)
        for spec in ("discrete(timesteps=5)", f"discrete(timesteps=5, gammas={gammas})")
    )
    np.testing.assert_allclose(own.diffusion, named.diffusion, rtol=1e-5)
    with pytest.raises(ConfigError, match="must be 5 increasing numbers"):
        registry.build("objectives", f"discrete(timesteps=4, gammas={gammas})")


def test_a_file_tells_its_own_plan(tmp_path):
    """It is decoded by a run that knows nothing of the grid, and not with another number."""
    run = tiny.experiment(tmp_path, network="mlp(width=4, depth=1, embed=4)")
    params = run.model.init(jax.random.key(0), (4, 4, 1))
    test = run.source.split("test")
    found = Images("some", np.asarray(test.images[:3]), test.labels[:3])
    run.config.compress.update(timesteps=4, grid="karras()", batch=2)
    made = codec.encode(run, params, {"step": 1, "weights": "params"}, found)
    (plan,) = made.header["gammas"]
    assert len(plan) == 5 and np.ptp(np.diff(plan)) > 0.1
    other = tiny.experiment(tmp_path, "other", network=run.config.network)
    assert other.config.compress.grid == ""
    images, header = codec.decode(other, params, made.data, "f")
    np.testing.assert_array_equal(images.images, found.images)
    assert header["gammas"] == [plan]
    with pytest.raises(CodecError, match="gammas of 2 models, but 1 decode it"):
        codec_plans.kept({"gammas": [plan, plan]}, 1, "f")
    run.config.compress.grid = "array(values=(4.0, -5.0))"
    with pytest.raises(ConfigError, match="2 values make 1 steps"):
        codec.encode(run, params, {"step": 1, "weights": "params"}, found)
