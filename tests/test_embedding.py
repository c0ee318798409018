"""Text diffusion: vectors of letters, their bound, and the transformer of sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import moved

from diffusion_jax import registry, testing
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process.parameterization import to_pred
from diffusion_jax.types import Noise

LEVELS, DIMS = 5, 4
ENDS = {"gamma_min": -5.0, "gamma_max": 9.0}
SMALL = "sequence(width=8, depth=1, heads=2, embed=8"


def model(length=2, again=False):
    decoder = registry.build("decoders", "categorical()", levels=LEVELS)
    built = Model(
        network=registry.build(
            "backbones", f"{SMALL}, self_conditioning={again})", channels=LEVELS, **ENDS
        ),
        schedule=registry.build("schedules", "linear()", **ENDS),
        decoder=decoder,
        prediction="levels",
        autoencoder=registry.build("autoencoders", f"embedding(dims={DIMS})", levels=LEVELS),
    )
    return built, jax.jit(lambda: built.init(jax.random.key(0), (1, length, 1)))()


def test_a_network_that_reads_its_own_prediction_has_the_derivative_of_what_it_computes(float64):
    """Densities by the ODE need that of the first prediction, too; training does not."""
    built, params = model(again=True)
    network, params = built.network, moved(params["network"], 0.3)
    z = jax.random.normal(jax.random.key(1), (2, 1, 2, DIMS))
    f = lambda z: network.apply({"params": params}, z, jnp.asarray([-1.0, 2.0]), {})
    way, h = jax.random.normal(jax.random.key(2), z.shape), 1e-5
    slope = jax.jvp(f, (z,), (way,))[1]
    np.testing.assert_allclose(slope, (f(z + h * way) - f(z - h * way)) / (2 * h), atol=1e-7)


def test_vectors_keep_the_contract_of_autoencoders():
    testing.check("autoencoders", "embedding(dims=4)", levels=16)


def test_vectors_have_one_length_and_letters_come_back():
    embedding = registry.build("autoencoders", f"embedding(dims={DIMS})", levels=LEVELS)
    params = embedding.init(jax.random.key(0), (1, 6, 2))
    np.testing.assert_allclose(jnp.square(embedding.vectors(params)).mean(-1), 1.0, rtol=1e-5)
    letters = jax.random.randint(jax.random.key(1), (3, 1, 6, 2), 0, LEVELS).astype(jnp.uint8)
    x = registry.build("decoders", "categorical()", levels=LEVELS).encode(letters)
    mean, std = embedding.encode(params, x)
    assert std is None and mean.shape == (3, 1, 6, 2 * DIMS)
    np.testing.assert_array_equal(embedding.decode(params, mean), letters)


def test_the_posterior_of_a_letter_is_bayes_rule():
    key = jax.random.key(0)
    built, params = model()
    vectors = np.asarray(built.space.vectors(params["autoencoder"]))
    z, logits = jax.random.normal(key, (1, 1, 1, DIMS)), jax.random.normal(key, (1, 1, 1, LEVELS))
    for gamma in (-2.0, 0.5, 3.0):
        a, s2 = 1 / np.sqrt(1 + np.exp(gamma)), 1 / (1 + np.exp(-gamma))
        p = np.exp(logits[0, 0, 0] - ((z[0, 0, 0] - a * vectors) ** 2).sum(1) / (2 * s2))
        pred = to_pred("levels", logits, z, jnp.asarray([gamma]), jnp.asarray(vectors))
        np.testing.assert_allclose(pred.x[0, 0, 0], p @ vectors / p.sum(), rtol=2e-5, atol=1e-6)


def test_the_bound_of_letters_without_structure_is_their_entropy():
    # A fresh network says nothing of other letters, which is right of uniform independent ones.
    built, params = model()
    n = 20_000
    keys = jax.random.split(jax.random.key(1), 4)
    letters = jax.random.randint(keys[0], (n, 1, 2, 1), 0, LEVELS).astype(jnp.uint8)
    shape = (n, 1, 2, DIMS)
    noise = Noise(
        (jnp.arange(n) + 0.5) / n, jax.random.normal(keys[1], shape),
        jax.random.normal(keys[2], shape),
    )  # fmt: skip
    objective = registry.build("objectives", "continuous()")
    x = built.decoder.encode(letters)
    found = jax.jit(lambda x, noise: objective(built, params, x, {}, noise).total)(x, noise)
    error = float(found.std()) / np.sqrt(n)
    assert abs(float(found.mean()) - 2 * np.log(LEVELS)) < max(4 * error, 0.03)


@pytest.mark.parametrize("again", [False, True])
def test_letters_see_one_another_and_texts_do_not(again):
    built, params = model(length=3, again=again)
    params = moved(params, 0.3)
    run = jax.jit(lambda z: built.denoiser(params)(z, jnp.asarray(0.5), {}).x)
    z = jax.random.normal(jax.random.key(3), (2, 1, 3, DIMS))
    changed = run(z.at[0, 0, 2].add(1.0)) - run(z)
    assert jnp.abs(changed[0, 0, 0]).max() > 1e-4
    assert jnp.abs(changed[1]).max() < 1e-6


def test_positions_matter_and_the_gradient_reaches_the_table():
    built, params = model(length=3)
    params = moved(params, 0.3)
    z = jax.random.normal(jax.random.key(3), (1, 1, 3, DIMS))

    @jax.jit
    def out(params, z):
        return built.denoiser(params)(z, jnp.asarray(0.5), {}).x

    turned = out(params, z[:, :, ::-1])[:, :, ::-1]
    assert jnp.abs(turned - out(params, z)).max() > 1e-4
    pull = jax.jit(jax.grad(lambda p: out(p, z).sum()))(params)
    assert float(jnp.abs(pull["autoencoder"]["table"]).max()) > 0.0


def test_sequences_alone_are_taken():
    built, _ = model()
    with pytest.raises(ConfigError, match="takes signals and texts"):
        built.network.init(jax.random.key(0), jnp.zeros((1, 2, 2, 4)), jnp.zeros(1), {})
