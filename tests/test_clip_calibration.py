"""What a CLIP learns where the answer is known: two captions, of dark images and of bright ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion_jax import registry
from diffusion_jax.networks.guides.base import unit
from diffusion_jax.networks.text_encoders.base import encode
from diffusion_jax.process.parameterization import alpha, sigma

pytestmark = pytest.mark.slow
LOW, HIGH, BRIGHT, N, SHAPE = -4.0, 4.0, 0.2, 128, (2, 2, 1)
BASE = 1 / N + (N - 1) / (2 * N)  # how often a caption of the batch is true of an image


def draw(key, n=N, gamma=None):
    """Noisy images that are BRIGHT or its negative everywhere, and which caption each has."""
    a, b, c = jax.random.split(key, 3)
    which = jax.random.bernoulli(a, shape=(n,)).astype(int)
    gamma = jax.random.uniform(b, (n,), minval=LOW, maxval=HIGH) if gamma is None else gamma
    gamma = jnp.broadcast_to(gamma, (n,))
    x = BRIGHT * (2 * which - 1)
    noise = jax.random.normal(c, (n, *SHAPE))
    z = (alpha(gamma) * x)[:, None, None, None] + sigma(gamma)[:, None, None, None] * noise
    return z, gamma, which


@pytest.fixture(scope="module")
def made():
    text = registry.build("text_encoders", "bytes(length=8, width=8, depth=0, heads=2)")
    built = registry.build(
        "guides", "clip(width=16, mults=(1,), blocks=1, size=4, dropout=0.0)", text=text,
        gamma_min=LOW, gamma_max=HIGH,
    )  # fmt: skip
    ids = jnp.asarray(encode(text, ("dark", "bright")))
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, 600))

    @jax.jit
    def taught(shuffled):
        def step(state, key):
            params, memory = state
            z, gamma, which = draw(key)
            which = jnp.where(shuffled, jax.random.permutation(key, which), which)
            told = {"text": ids[which], "caption": which, "captions": which[:, None]}
            pull = jax.grad(lambda p: built.loss(p, z, gamma, told, None)["loss"].mean())(params)
            updates, memory = adam.update(pull, memory)
            return (optax.apply_updates(params, updates), memory), None

        params = built.init(jax.random.key(0), SHAPE)
        keys = jax.random.split(jax.random.key(1), 600)
        return jax.lax.scan(step, (params, adam.init(params)), keys)[0][0]

    @jax.jit
    def logits(params, z, gamma):
        g = built.texts(params, {"text": ids})
        return built.logits(params, unit(built.embed_image(params, z, gamma)), g, gamma)

    return functools.cache(lambda shuffled: taught(shuffled)), logits


def says(made, gamma, shuffled=False, n=1024):
    """Probabilities that each caption is true, and which is, and the known ones."""
    z, gamma, which = draw(jax.random.key(2), n, gamma)
    taught, logits = made
    found = jax.nn.sigmoid(logits(taught(shuffled), z, gamma))
    for_bright = 2 * alpha(gamma) * BRIGHT / sigma(gamma) ** 2 * z.sum((1, 2, 3))
    p = jax.nn.sigmoid(jnp.stack([-for_bright, for_bright], 1))
    # A pair of image and caption is the image's own one time in N, else independent.
    true = p * (1 / N + (1 - 1 / N) / 2) / (p / N + (1 - 1 / N) / 2)
    return np.asarray(found), np.asarray(which), np.asarray(true)


def test_at_the_most_noise_the_answer_is_the_base_rate(made):
    found, _, true = says(made, HIGH)
    assert true.std() < 0.06  # nearly nothing is left to see
    np.testing.assert_allclose(found.mean(0), BASE, atol=0.02)


@pytest.mark.parametrize("gamma", [-3.0, -1.5, 0.0])
def test_probabilities_are_those_of_bayes_rule(made, gamma):
    found, _, true = says(made, gamma)
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.97
    assert np.abs(found - true).mean() < 0.06
    for low in (0.0, 0.25, 0.5, 0.75):  # of those called so likely, so many are so
        part = (found >= low) & (found < low + 0.25)
        assert part.sum() < 100 or found[part].mean() == pytest.approx(true[part].mean(), abs=0.08)


def test_exchanged_captions_cost_likelihood(made):
    found, which, _ = says(made, LOW, n=N)
    rng = np.random.default_rng(0)

    def loss(which):
        pairs = np.log(found[:, which]), np.log1p(-found[:, which])
        return -np.where(which[:, None] == which, *pairs)

    def paired(order):  # image i gets the caption of another
        true = which[order][:, None] == which[order][None]
        p = found[:, which[order]]
        return -np.where(true, np.log(p), np.log1p(-p)).mean()

    own = paired(np.arange(N))
    assert own == pytest.approx(loss(which).mean())
    assert min(paired(rng.permutation(N)) for _ in range(1000)) > own


def test_who_learns_from_exchanged_captions_knows_nothing(made):
    found, which, _ = says(made, LOW, shuffled=True)
    np.testing.assert_allclose(found, BASE, atol=0.1)
    mine = found[np.arange(len(which)), which]
    other = found[np.arange(len(which)), 1 - which]
    assert abs((mine - other).mean()) < 0.02
