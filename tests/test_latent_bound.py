"""The bound of models of latents, against closed forms and against itself."""

import itertools
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from gaussian import Gaussian, OptimalNetwork, legendre
from scipy import stats
from test_likelihood import pushed

from diffusion_jax import registry
from diffusion_jax.cli.modes import _records
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood import bpd
from diffusion_jax.likelihood.estimators._dequantization import WAYS
from diffusion_jax.model import Model
from diffusion_jax.runtime.sharding import make_mesh
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


def noisy_draws(auto, form, n, seed=0, times=(0.0, 1.0), ends=ENDS):
    """The terms of `n` draws of one image by a form of the bound, with t uniform in `times`."""
    run = registry.build("objectives", f"continuous(form={form!r})")
    model, params = model_of(auto, ends=ends), {"network": {}, "schedule": {}}

    @jax.jit
    def draws(key):
        keys = jax.random.split(key, 4)
        eps, eps_0 = (jax.random.normal(k, (n, 2)) for k in keys[:2])
        t = times[0] + (times[1] - times[0]) * jax.random.uniform(keys[2], (n,))
        noise = Noise(t, eps, eps_0, latent=jax.random.split(keys[3], n))
        return run(model, params, jnp.broadcast_to(X[:1], (n, 3)), {}, noise)

    return draws(jax.random.key(seed))


@pytest.mark.parametrize(("form", "per_gamma"), [("A", 1.0), ("B", 0.0)])
def test_the_least_noise_adds_to_the_variance_of_drawn_latents_only(form, per_gamma):
    """With y drawn, `|eps - eps_hat|^2 / 2` is that of eps below s^2: D / 2 for each gamma."""
    ends = (-15.0, 5.0)
    auto = Linear((1.0, 2.0), 0.5, gain=(0.3, 0.9), std=(0.5, 0.4), gamma_0=ends[0])
    found = noisy_draws(auto, form, 40_000, times=(0.0, 0.15), ends=ends)  # gamma below -12
    variance = float((found.diffusion / 20.0).var())  # gamma'(t) is 20
    assert variance == pytest.approx(per_gamma, abs=0.1 if form == "A" else 1e-3)


def test_monte_carlo_errors_contain_the_prior_of_drawn_latents():
    """The claimed error against the spread of figures with other seeds."""
    auto = Linear((1.0, 1.0), 20.0, gain=(2.0, 2.0), std=(0.9, 0.9))
    model = model_of(auto, ends=(-2.0, -1.5))  # most of what depends on y is in the prior
    objective = registry.build("objectives", "continuous(form='A')")
    images = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    split = Split("x", images, np.zeros(32, np.int32), 256, 0)
    mesh, params = make_mesh(jax.devices()[:1]), {"network": {}, "schedule": {}}
    found = [
        bpd.measure(model, objective, params, split, Pass(mesh, 32, s, quiet=True), draws=2)
        for s in range(60)
    ]
    means = np.array([r.per_image()["total"].mean() for r in found])
    claimed = math.sqrt(np.mean([r.monte_carlo_se() ** 2 for r in found]))
    assert means.std(ddof=1) == pytest.approx(claimed, rel=0.3)
    rest = [bpd.replicate_se(r.diffusion + r.reconstruction, r.dims) for r in found]
    assert math.sqrt(np.mean(np.square(rest))) < 0.6 * claimed  # the prior's part is large
    pair = bpd.paired(found[0], replace(found[0], prior_draws=found[1].prior_draws))
    assert pair["monte_carlo_se"] > 0.0  # and differences have it, too


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("noisy", [True, False])
def test_what_is_drawn_for_a_density_is_scored_by_its_own_law(noisy):
    auto = Linear((1.3, 0.6), 0.25, gain=(0.3, 0.9), std=(0.4, 0.7), noisy=noisy)
    params, x = {"network": {}, "schedule": {}}, jnp.asarray(X, float)
    keys = jax.random.split(jax.random.key(0), len(x))
    drawn = jax.jit(WAYS["decoder"], static_argnums=0)
    z, found = drawn(model_of(auto), params, x, jnp.asarray(ENDS[0]), keys)
    a2 = 1.0 / (1.0 + math.exp(ENDS[0]))
    tau = np.sqrt(a2 * np.square(auto.std) * noisy + 1.0 - a2)
    mean = math.sqrt(a2) * np.asarray(auto.encode({}, x)[0])
    q = stats.norm.logpdf(np.asarray(z), mean, tau).sum(1)
    seen = np.append(np.asarray(z) / math.sqrt(a2) * auto.scales, np.zeros((len(x), 1)), axis=1)
    p = stats.norm.logpdf(x, seen, math.sqrt(auto.variance)).sum(1)
    np.testing.assert_allclose(found, p - q, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_by_the_exact_posterior_every_weight_of_the_flow_is_the_evidence():
    """The flow of a linear network is affine: `p(y_0)` is normal, `pushed` in closed form."""
    variances, c, noise = (0.6, 1.4), np.asarray((1.3, 0.6)), 0.25
    _, spread = pushed(Gaussian((0.0, 0.0), variances), *ENDS)
    prior = np.square(spread) * (1.0 + math.exp(ENDS[0]))
    posterior = 1.0 / (1.0 / prior + c**2 / noise)
    gain, std = posterior * c / noise, np.sqrt(posterior - math.exp(ENDS[0]))
    auto = Linear(tuple(c), noise, gain=tuple(gain), std=tuple(std))
    model = model_of(auto, OptimalNetwork((0.0, 0.0), variances, "v"))
    ode, x = registry.build("likelihood", "ode(steps=80, k=2)"), jnp.asarray(X, float)
    found = jax.jit(lambda keys: ode(model, {"network": {}, "schedule": {}}, x, {}, keys))(
        jax.random.split(jax.random.key(0), len(x))
    )
    total = np.sqrt(noise + np.append(np.square(c) * prior, 0.0))
    evidence = stats.norm.logpdf(x, 0.0, total).sum(1)
    weights = np.asarray(found.density + found.correction)
    np.testing.assert_allclose(weights, np.stack([evidence] * 2, axis=1), atol=1e-5)


def test_a_vae_is_of_a_standard_normal():
    run = registry.build("objectives", "vae()")
    with pytest.raises(ConfigError, match="network='standard_normal"):
        run.check(replace(model_of(None), prediction="eps"))


def test_what_is_measured_may_draw_the_latent():
    found = registry.build("likelihood", "elbo(form='A')").objectives((7,))
    assert found["infinity"].draws and "7" in found
    with pytest.raises(ConfigError, match="allowed: A, B"):
        registry.build("likelihood", "elbo(form='C')")


def test_a_record_says_whether_the_latent_was_drawn(tmp_path):
    """Where latents have noise; of anything else both forms are the same bound."""
    forms = [registry.build("likelihood", f"elbo(form={form!r})") for form in "AB"]
    spec = "conv(widths=(4,), channels=2, attention=False, head=categorical(), noise={!r})"
    learned, fixed = (
        tiny.experiment(tmp_path, autoencoder=spec.format(n)) for n in ("learned", "fixed")
    )
    drawn, averaged = (_records.bound_record(learned, form) for form in forms)
    assert (drawn["form"], averaged["form"]) == ("A", "B")
    assert "latent drawn (form A)" in drawn["kind"] and "(form B)" in averaged["kind"]
    for run in (fixed, tiny.experiment(tmp_path)):
        one, other = (_records.bound_record(run, form) for form in forms)
        assert one == other and "form" not in one
    taken = spec.format("learned").replace("conv(", "conv(checkpoint='x', sha256='0', ")
    pair = SimpleNamespace(config=learned.config, stages=(
        learned, tiny.experiment(tmp_path, view="from_latent()", autoencoder=taken)
    ))  # fmt: skip
    kind = _records.bound_record(pair, forms[0])["kind"]
    assert "of a latent and of the image given it" in kind
    assert kind.endswith("discrete decoder, latent drawn (form A)")
