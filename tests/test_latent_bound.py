"""The bound of models of latents, against closed forms and against itself."""

import itertools
import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian import OptimalNetwork, legendre

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.types import Noise

ENDS = (-6.0, 4.0)


@dataclass(frozen=True)
class Linear:
    """`x = W y_0 + noise` with orthogonal columns, and any Gaussian encoder."""

    scales: tuple  # of the columns of W, which are unit vectors in three dimensions
    variance: float  # of x given y_0
    gain: tuple = ()  # mean of y is `gain * x`, one for each column; empty: the exact posterior's
    std: tuple = ()
    gamma_0: float = ENDS[0]
    noisy: bool = True
    discrete: bool = False
    sequential: bool = False

    def posterior(self):
        """Gains and variances of y_0 given x, of N(0, I) for z_0."""
        a2 = 1.0 / (1.0 + math.exp(self.gamma_0))
        c = np.asarray(self.scales)
        variance = 1.0 / (a2 + c**2 / self.variance)
        return variance * c / self.variance, variance

    def latent_shape(self, shape):
        return (len(self.scales),)

    def init(self, key, shape):
        return {}

    def encode(self, params, x, keys=None):
        gain, variance = self.posterior()
        if self.gain:
            gain = np.asarray(self.gain)
        std = np.asarray(self.std) if self.std else np.sqrt(variance - math.exp(self.gamma_0))
        mean = x[:, : len(gain)] * gain
        return mean, jnp.broadcast_to(jnp.asarray(std), mean.shape) if self.noisy else None

    def log_prob(self, params, x, y_0, gamma_0, keys=None):
        miss = x.at[:, : len(self.scales)].add(-y_0 * np.asarray(self.scales))
        log_p = -0.5 * (jnp.square(miss) / self.variance + math.log(2 * math.pi * self.variance))
        return log_p.sum(1)

    def decode(self, params, y_0):
        return y_0


def model_of(autoencoder, network=None, ends=ENDS):
    return Model(
        network=network or registry.build("backbones", "standard_normal()"),
        schedule=registry.build("schedules", f"linear(gamma_min={ends[0]}, gamma_max={ends[1]})"),
        decoder=registry.build("decoders", "gaussian()"),
        prediction="v",
        autoencoder=autoencoder,
    )


X = jnp.asarray([[0.4, -1.2, 0.3], [2.0, 0.1, -0.7]])


def exact(model, objective, x, dims=2, points=200):
    """Expected terms of each x, `{name: [B]}`, by quadrature: exact for what is quadratic."""
    times, weights = legendre(points)
    nodes, w = np.polynomial.hermite_e.hermegauss(3)
    grid = np.array(list(itertools.product(nodes, repeat=dims)))
    gw = np.array([math.prod(c) for c in itertools.product(w / w.sum(), repeat=dims)])
    n = len(grid)
    t, tw = np.repeat(times, n), np.repeat(weights, n) * np.tile(gw, len(times))
    noise = Noise(
        *map(jnp.asarray, (t, np.tile(grid, (len(times), 1)), np.tile(grid, (len(times), 1))))
    )
    run = registry.build("objectives", objective) if isinstance(objective, str) else objective
    params = {"network": {}, "schedule": {}}

    x = jnp.asarray(np.asarray(x), jnp.result_type(float))

    @jax.jit
    def one(x):
        terms = run(model, params, jnp.broadcast_to(x, (len(t), len(x))), {}, noise)
        return {k: jnp.sum(tw * v) for k, v in (*terms._asdict().items(), ("total", terms.total))}

    return jax.vmap(one)(x)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("objective", ["continuous()", "vae()"])
def test_probabilistic_pca_with_its_exact_posterior_is_the_evidence(objective):
    auto = Linear((1.3, 0.6), 0.25)
    found = exact(model_of(auto), objective, X)["total"]
    a2 = 1.0 / (1.0 + math.exp(ENDS[0]))
    variance = 0.25 + np.append(np.square(auto.scales) / a2, 0.0)
    evidence = -0.5 * (np.square(X) / variance + np.log(2 * np.pi * variance)).sum(1)
    np.testing.assert_allclose(found, -evidence, atol=1e-8)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("objective", ["continuous()", "vae()"])
def test_unused_latents_cost_nothing(objective):
    auto = Linear((0.0, 0.0), 1.0, gain=(0.0, 0.0), std=(1.0, 1.0))
    found = exact(model_of(auto), objective, X)
    np.testing.assert_allclose(found["prior"] + found["diffusion"], 0.0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_the_closed_form_of_a_vae_is_the_continuous_bound():
    auto = Linear((1.0, 2.0), 0.5, gain=(0.3, 0.9), std=(0.2, 0.05))
    a, b = (exact(model_of(auto), name, X) for name in ("continuous()", "vae()"))
    np.testing.assert_allclose(a["prior"] + a["diffusion"], b["prior"], atol=1e-8)
    np.testing.assert_allclose(a["reconstruction"], b["reconstruction"], atol=1e-12)


@pytest.mark.parametrize("objective", ["continuous(form='A')", "discrete(timesteps=2000)"])
def test_drawing_the_latent_or_averaging_it_out_is_one_bound(objective):
    auto = Linear((1.0, 2.0), 0.5, gain=(0.3, 0.9), std=(0.4, 0.7))
    network = OptimalNetwork((0.1, -0.3), (0.5, 1.5), "v", wrong=0.05)
    model, n = model_of(auto, network), 400_000
    found = exact(model, "continuous()", X[:1])
    run, params = registry.build("objectives", objective), {"network": {}, "schedule": {}}

    @jax.jit
    def draws(key):
        keys = jax.random.split(key, 4)
        eps, eps_0 = (jax.random.normal(k, (n, 2)) for k in keys[:2])
        t = (jnp.arange(n) + jax.random.uniform(keys[2])) / n
        noise = Noise(t, eps, eps_0, latent=jax.random.split(keys[3], n))
        return run(model, params, jnp.broadcast_to(X[:1], (n, 3)), {}, noise)

    terms = draws(jax.random.key(0))
    error = float(terms.total.std()) / math.sqrt(n)
    slack = 0.01 if "discrete" in objective else 0.0  # T = 2000 is not infinity
    assert abs(float(terms.total.mean()) - float(found["total"][0])) < 4 * error + slack
    assert error < 0.02
    assert float(terms.auxiliary.mean()) < -1.0


def test_without_noise_both_forms_are_todays_bound():
    auto = Linear((1.0, 2.0), 0.5, gain=(0.3, 0.9), noisy=False)
    network = OptimalNetwork((0.1, -0.3), (0.5, 1.5), "v")
    model = model_of(auto, network)
    plain = replace(model, autoencoder=None)
    noise = Noise(
        jnp.asarray([0.2, 0.7]), *(jax.random.normal(jax.random.key(i), (2, 2)) for i in (0, 1))
    )
    params = {"network": {}, "schedule": {}}
    for form in ("continuous()", "continuous(form='A')", "discrete(timesteps=5)"):
        run = registry.build("objectives", form)
        ours = run(model, params, X, {}, noise)
        latents = run(plain, params, auto.encode({}, X)[0], {}, noise)
        np.testing.assert_array_equal(ours.diffusion, latents.diffusion)
        np.testing.assert_array_equal(ours.prior, latents.prior)
        assert float(jnp.abs(jnp.asarray(ours.auxiliary)).max()) == 0.0


@pytest.mark.usefixtures("float64")
def test_the_least_noise_does_not_matter_where_latents_have_more():
    def total(gamma_0):
        auto = Linear((1.0, 2.0), 0.5, gain=(0.3, 0.9), std=(0.5, 0.4), gamma_0=gamma_0)
        return exact(model_of(auto, ends=(gamma_0, 4.0)), "continuous()", X, points=400)["total"]

    assert np.abs(total(-9.0) - total(-12.0)).max() < 1e-3


def test_a_vae_is_of_a_standard_normal():
    run = registry.build("objectives", "vae()")
    with pytest.raises(ConfigError, match="network='standard_normal"):
        run.check(replace(model_of(None), prediction="eps"))


IMAGES = jnp.asarray(list(itertools.product(range(3), repeat=4))).reshape(-1, 2, 2, 1)


def kraft(auto, draws=16):
    """The sum over all images of exp(-bound), draws averaged in the exponent; and a wrong one."""
    decoder = registry.build("decoders", "categorical(levels=3)")
    model = replace(model_of(auto, ends=(-5.0, 5.0)), decoder=decoder)
    x = jnp.repeat(decoder.encode(IMAGES), draws, axis=0)
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
def test_kraft(head, noise):
    spec = f"conv(widths=(8,), attention=False, channels=1, noise={noise!r}, head={head})"
    auto = registry.build("autoencoders", spec, levels=3, shape=(2, 2, 1))
    params = jax.jit(lambda: auto.init(jax.random.key(0), (2, 2, 1)))()
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    rough = jax.tree.unflatten(
        tree, [a + 0.1 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)]
    )
    sums = kraft(auto)
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


def test_what_is_measured_may_draw_the_latent():
    found = registry.build("likelihood", "elbo(form='A')").objectives((7,))
    assert found["infinity"].draws and "7" in found
    with pytest.raises(ConfigError, match="allowed are A, B"):
        registry.build("likelihood", "elbo(form='C')")
