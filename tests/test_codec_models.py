"""The codec on models known in closed form: exact round trips, and lengths that must come out."""

import dataclasses
import math

import encoded_gaussian as eg
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding
from diffusion_jax.compression.model_functions import Network
from diffusion_jax.errors import CodecError, ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process.encoders.identity import Identity
from diffusion_jax.types import Noise

SHAPE, LEVELS, V = (4, 4, 2), 64, 0.05
ENDS = {"gamma_min": -8.0, "gamma_max": 5.0}
VALUES = math.prod(SHAPE)
# Of a value of N(0, V) cut into bins of width 2 / LEVELS.
ENTROPY = 0.5 * math.log2(2 * math.pi * math.e * V) - math.log2(2 / LEVELS)


def network(f=eg.identity, c=0.0, batch=8, v=V):
    model = eg.model(f, c, network=eg.Linear(f, c, v))
    encoder = Identity() if f is eg.identity and not c else model.encoder
    model = dataclasses.replace(
        model,
        encoder=encoder,
        schedule=registry.build("schedules", "linear()", **ENDS),
        decoder=registry.build("decoders", f"categorical(levels={LEVELS})"),
    )
    params = model.init(jax.random.key(0), SHAPE)
    return Network(model, params, SHAPE, batch)


def images(n, seed=0):
    x = np.random.default_rng(seed).normal(0.0, math.sqrt(V), (n, *SHAPE))
    return np.clip(np.floor((x + 1.0) * (LEVELS / 2)), 0, LEVELS - 1).astype(np.uint8)


def code(net, x, timesteps, order="auto", **more):
    c = coding.make(net, timesteps, order, **more)
    return c, coding.encode(c, x, None)


def rates(net, coded, n):
    dims = n * VALUES
    return coded.net_bits / dims, coded.bits.sum() / dims, coded.nats.sum() / dims / math.log(2)


MODELS = {
    "bitswap": (eg.identity, 0.0),
    "topdown": (eg.identity, 0.0),
    "topdown, encoder": (eg.alpha2, 1.0),
    "topdown, crude correction": (eg.half, 0.7),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(m, marks=pytest.mark.slow if m == "topdown, encoder" else ()) for m in MODELS],
)
def test_round_trip_and_code_length(name):
    f, c = MODELS[name]
    n = 45  # the last batch is short, and so is the last group
    net, x = network(f, c), images(n)
    coder, coded = code(net, x, 50, name.split(",")[0], group=24)
    assert len(coded.groups) == 2
    found, labels = coding.decode(coder, coded.groups, n)
    np.testing.assert_array_equal(found, x)
    assert labels is None
    net_bits, bits, bound = rates(net, coded, n)
    # The stacks lose nothing but the two ends of constriction's.
    assert 0 <= net_bits - bits < 2 * 40 / (n * VALUES)
    # Binned latents against densities at the same latents: no Monte-Carlo noise. Bins can only
    # lower the divergence between posterior and model, by little.
    assert -0.01 < bits - bound < 0.001


def expected_length(timesteps):
    """Of a value of N(0, V), bits: the T-step bound with the optimal network, in closed form."""
    return expected_at(np.linspace(*ENDS.values(), timesteps + 1))


def expected_at(gamma):
    """The same of steps between any gammas, from data to noise."""
    snr = np.exp(-gamma)
    steps = 0.5 * np.sum((snr[:-1] - snr[1:]) * V / (1 + snr[1:] * V))
    a2 = snr[-1] / (1 + snr[-1])
    prior = 0.5 * (a2 * V - a2 - np.log1p(-a2))
    eps, w = np.polynomial.hermite_e.hermegauss(60)
    off = np.arange(-LEVELS, LEVELS + 1)[:, None] * (2 / LEVELS)  # other levels, from the true one
    noise = eps * np.exp(0.5 * gamma[0])
    logits = -0.5 * np.square(noise - off) / np.exp(gamma[0])
    right = 0.5 * np.square(eps) + np.log(np.exp(logits).sum(0))
    return (steps + prior + np.sum(w * right) / w.sum()) / math.log(2)


@pytest.mark.parametrize("order", ["bitswap", "topdown"])
def test_code_length_is_the_bound_of_the_optimal_model(order):
    n, timesteps = 240, 60
    net, x = network(batch=60), images(n, seed=1)
    _, coded = code(net, x, timesteps, order)
    found, _, _ = rates(net, coded, n)
    # Per image: the data's own spread and one draw of the latents.
    error = coded.bits.std() / VALUES / math.sqrt(n)
    assert abs(found - expected_length(timesteps)) < 4 * error + 0.01
    assert found > ENTROPY - 4 * error


@pytest.mark.parametrize("name", ["topdown, encoder", "topdown, crude correction"])
def test_code_length_is_the_bound_that_is_evaluated(name):
    n, timesteps = 240, 20
    net, x = network(*MODELS[name], batch=60), images(n, seed=2)
    _, coded = code(net, x, timesteps)
    objective = registry.build("objectives", f"discrete(timesteps={timesteps})")
    data = net.model.decoder.encode(jnp.asarray(x))

    @jax.jit
    def nats(i):
        keys = jax.random.split(jax.random.key(i), 2)
        eps, eps_0 = (jax.random.normal(k, data.shape) for k in keys)
        noise = Noise(jnp.full(n, (i + 0.5) / timesteps), eps, eps_0)
        return objective(net.model, net.params, data, {}, noise).total

    bound = np.mean([nats(i) for i in range(timesteps)], axis=0) / VALUES / math.log(2)
    gap = coded.nats / VALUES / math.log(2) - bound
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(n) + 0.01


def test_the_mean_of_a_model_with_an_encoder_is_right_to_second_order():
    # Data x ~ N(0, V), x_t = alpha_t^2 x: the best mean of z_s given z_t is a multiple of z_t,
    # Cov(z_s, z_t) / Var z_t, and a step of size d may miss it by d^2.
    def worst(timesteps):
        chain = coding.make(network(eg.alpha2, 1.0), timesteps).chain
        f, a, s = chain.alpha**3, chain.alpha, chain.sigma  # z_t = f x + s eps
        errors = []
        for i in (timesteps // 4, timesteps // 2, 3 * timesteps // 4):
            k = np.full((1, VALUES), round(0.5 / chain.grids[i].width))
            slope = (chain.predict(k, i, None).mean / chain.latent(k, i))[0, 0]
            together = f[i - 1] * f[i] * V + a[i] / a[i - 1] * s[i - 1] ** 2
            errors.append(abs(slope - together / (f[i] ** 2 * V + s[i] ** 2)))
        return np.array(errors)

    ratio = worst(40) / worst(80)
    assert np.all(ratio > 3.3) and np.all(ratio < 4.7), ratio


def test_initial_bits_grow_with_timesteps_in_one_order_only():
    net, x = network(), images(8)
    initial = {
        (order, t): code(net, x, t, order)[1].initial_bits[0] / (8 * VALUES)
        for order in ("bitswap", "topdown")
        for t in (10, 40)
    }
    assert abs(initial["bitswap", 40] - initial["bitswap", 10]) < 2.0
    assert initial["bitswap", 40] < 15.0
    assert initial["topdown", 40] > 3.0 * initial["topdown", 10]


def test_without_whitening_the_latents_wander():
    net, x = network(), images(64)
    c = coding.make(net, 20)
    lengths = [coding.encode(dataclasses.replace(c, whiten=w), x, None).bits.mean() for w in (1, 0)]
    assert lengths[1] > 1.1 * lengths[0]


def test_another_network_is_noticed():
    x = images(16)
    coder, coded = code(network(), x, 10)
    other = coding.make(network(v=V * 1.001), 10)
    with pytest.raises(CodecError, match=r"does not decode|end too early|without prob|damaged"):
        coding.decode(other, coded.groups, 16)
    assert np.array_equal(coding.decode(coder, coded.groups, 16)[0], x)


def test_images_of_one_group_do_not_depend_on_the_others():
    net, x = network(), images(32)
    coder, coded = code(net, x, 8, group=16)
    alone, _ = coding.decode(coder, coded.groups[:1], 16)
    np.testing.assert_array_equal(alone, x[:16])


def test_an_encoder_has_no_bitswap():
    with pytest.raises(ConfigError, match="has an encoder"):
        coding.make(network(eg.half, 1.0), 10, "bitswap")
    assert coding.make(network(eg.half, 1.0), 10).order == "topdown"
    assert coding.make(network(), 10).order == "bitswap"
    with pytest.raises(ConfigError, match="allowed: auto, bitswap, topdown"):
        coding.make(network(), 10, "sideways")
    with pytest.raises(ConfigError, match="timesteps=0"):
        coding.make(network(), 0)


def test_backbones_that_cannot_be_coded_with_are_refused():
    with pytest.raises(ConfigError, match="categorical"):
        Network(eg.model(), {}, SHAPE, 4)
    mulan = registry.build("schedules", "mulan(latent=2, features=4)", shape=SHAPE)
    with pytest.raises(ConfigError, match="mulan"):
        Network(dataclasses.replace(network().model, schedule=mulan), {}, SHAPE, 4)


def test_noise_too_fine_for_the_codec_is_named():
    net = network()
    fine = registry.build("schedules", "linear(gamma_min=-40.0, gamma_max=5.0)")
    net.model = dataclasses.replace(net.model, schedule=fine)
    with pytest.raises(ConfigError, match=r"gamma=-40.0 needs .* bins.*larger gamma_min"):
        coding.make(net, 10, "topdown")


@dataclasses.dataclass(frozen=True)
class OfClass:
    """A network for images that their class determines: it predicts x, 0 without a class."""

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        known = jnp.asarray([-0.8, 0.0, 0.8, 0.0])
        label = cond.get("label", jnp.full(len(z), 3))
        return jnp.broadcast_to(known[label][:, None, None, None], z.shape)


def test_images_that_their_class_determines_cost_nothing_given_the_class():
    model = Model(
        network=OfClass(),
        schedule=registry.build("schedules", "linear(gamma_min=-9.0, gamma_max=9.0)"),
        decoder=registry.build("decoders", "categorical(levels=5)"),
        prediction="x",
        num_classes=3,
    )
    labels = np.arange(6, dtype=np.int32) % 3
    x = np.broadcast_to(np.array([0, 2, 4], np.uint8)[labels, None, None, None], (6, 2, 2, 1))
    net = Network(model, {"network": {"params": {}}, "schedule": {}}, (2, 2, 1), 4)
    coder = coding.make(net, 10, coded_labels=True)
    right, wrong = (coding.encode(coder, x, k).bits / 4 for k in (labels, (labels + 1) % 3))
    assert right.max() < 0.1 and wrong.min() > 3.0
    found, decoded = coding.decode(coder, coding.encode(coder, x, labels).groups, 6)
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(decoded, labels)
