"""Optimisers by string, masks, rates, averages (published numbers: test_golden_diffenc)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.training import optimizer


def test_default_mask_spares_biases_scales_and_the_schedule():
    params = {
        "network": {"conv": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
                    "norm": {"scale": jnp.ones(2)},
                    "stack": {"norm": {"scale": jnp.ones((3, 2)), "bias": jnp.ones((3, 2))}}},
        "schedule": {"w": jnp.ones(()), "shape": jnp.ones((3, 3))},
    }  # fmt: skip
    made = optimizer.make("adamw(weight_decay=0.5)", optax.constant_schedule(1.0))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = made.update(zero, made.init(params), params)
    moved = jax.tree.map(lambda u: bool(jnp.any(u != 0)), updates)
    assert moved["network"]["conv"] == {"kernel": True, "bias": False}
    spared = (moved["network"]["norm"], moved["network"]["stack"], moved["schedule"])
    assert not any(jax.tree.leaves(spared))


@pytest.mark.parametrize("spec", ["adam()", "lion()", "sgd(momentum=0.9)", "lamb()",
                                  "contrib.prodigy()", "adamw(b2=0.99)"])  # fmt: skip
def test_any_optax_optimiser_descends(spec):
    params = {"network": {"kernel": jnp.full((3, 3), 2.0)}}
    made = optimizer.make(spec, optax.constant_schedule(0.1), clip=1.0)
    state = made.init(params)
    for _ in range(3):
        grads = jax.tree.map(lambda p: 2 * p, params)
        updates, state = made.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    assert float(jnp.square(params["network"]["kernel"]).sum()) < 36.0


def test_unknown_optimisers_are_refused():
    for spec in ("nothing()", "sub.adam()", "chain()()"):
        with pytest.raises(SpecError):
            optimizer.make(spec, optax.constant_schedule(0.1))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("adamw(b1=2)", "b1=2 must be a number, at least 0 and below 1"),
        ("adamw(b1='a')", "b1=a must be"),
        ("adamw(b1=nan)", "b1=nan.* must be"),
        ("adamw(eps=-1)", "eps=-1 must be a finite number, at least 0"),
        ("adamw(weight_decay=-1)", "weight_decay=-1 must be"),
        ("sgd(momentum=3)", "momentum=3 must be"),
        ("muon(beta=2)", "beta=2 must be"),
        ("muon(ns_steps=0)", "ns_steps=0 must be a whole number, at least 1"),
        ("soap(every=0)", "every=0 must be a whole number, at least 1"),
        ("adamw(learning_rate=3)", "the learning rate is --config.lr"),
        ("adamw(nothing=3)", "it takes learning_rate, b1"),
        ("lbfgs()", "cannot make a step: TypeError"),
        ("chain()", "is not valid"),
        ("adamw(mu_dtype='float3')", "cannot make a step|is none|not understood"),
    ],
)
def test_what_cannot_make_a_step_is_refused_before_training(spec, says):
    with pytest.raises(ConfigError, match=says):
        optimizer.make(spec, optax.constant_schedule(0.1))


def test_average_with_warmup_forgets_the_start():
    ema, params = {"p": jnp.zeros(())}, {"p": jnp.ones(())}
    slow, quick = ema, ema
    for n in range(1, 101):
        slow = optimizer.ema_update(slow, params, 0.9999, jnp.asarray(n), warmup=False)
        quick = optimizer.ema_update(quick, params, 0.9999, jnp.asarray(n), warmup=True)
    assert float(slow["p"]) == pytest.approx(1 - 0.9999**100, rel=1e-3)
    assert float(quick["p"]) > 0.99


@pytest.mark.parametrize("decay", ["constant", "cosine", "linear"])
def test_rates(decay):
    rate = optimizer.learning_rate(1.0, 10, decay, 100)
    assert float(rate(0)) == 0.0
    assert float(rate(10)) == pytest.approx(1.0)
    end = {"constant": 1.0, "cosine": 0.01, "linear": 0.0}[decay]
    assert float(rate(100)) == pytest.approx(end, abs=1e-6)


def test_rates_between_the_ends():
    for decay, wanted in (("constant", 1.0), ("cosine", 0.505), ("linear", 0.5)):
        rate = optimizer.learning_rate(1.0, 10, decay, 110)
        assert float(rate(5)) == pytest.approx(0.5)
        assert float(rate(60)) == pytest.approx(wanted)


def test_gradients_are_clipped_before_the_optimiser_sees_them():
    made = optimizer.make("sgd()", optax.constant_schedule(0.5), clip=2.0)
    for size, kept in ((10.0, 2.0), (1.0, 1.0)):
        grads = {"network": {"a": size * jnp.array([0.6, 0.0]), "b": size * jnp.array([0.8])}}
        updates, _ = made.update(grads, made.init(grads), grads)
        np.testing.assert_allclose(updates["network"]["a"], [-0.5 * kept * 0.6, 0.0], rtol=1e-6)
        np.testing.assert_allclose(updates["network"]["b"], [-0.5 * kept * 0.8], rtol=1e-6)


def test_a_group_of_weights_learns_at_its_own_rate():
    rates = {"autoencoder": 0.25}
    made = optimizer.make("adam()", optax.constant_schedule(1.0), 0.0, "kernels", rates)
    grads = {"network": {"w": jnp.ones(2)}, "autoencoder": {"w": jnp.ones(2)}}
    updates, _ = made.update(grads, made.init(grads), grads)
    np.testing.assert_allclose(updates["network"]["w"], -1.0, rtol=1e-4)
    np.testing.assert_allclose(updates["autoencoder"]["w"], -0.25, rtol=1e-4)
