"""Every final step found in the folder keeps the contract; what each of them makes of a latent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from closed_form import MIXTURE

from diffusion_jax import registry
from diffusion_jax.cli.modes import edit, sample as sample_mode, train
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment.sampling import run_sampler, sampling_method
from diffusion_jax.model import Model
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.final_steps.base import Final, Readout
from diffusion_jax.types import alpha

DECODER = registry.build("decoders", "categorical(levels=5)")
GAMMA = jnp.asarray(-1.0)
Z = jax.random.normal(jax.random.key(0), (6, 2))


MODEL = Model(
    network=registry.build("backbones", "standard_normal()"),
    schedule=registry.build("schedules", "linear()"),
    decoder=DECODER,
    prediction="v",
)
READER = Readout(MODEL, {}, jax.random.split(jax.random.key(1), 6))


def test_draws_have_the_law_of_the_decoder():
    y, n = jnp.full((1, 1), 0.1), 10_000
    reader = Readout(MODEL, {}, jax.random.split(jax.random.key(2), n))
    final = registry.build("final_steps", "sample()")
    z = alpha(GAMMA) * jnp.broadcast_to(y, (n, 1))
    found = np.bincount(np.asarray(final(None, z, GAMMA, reader))[:, 0], minlength=5) / n
    np.testing.assert_allclose(found, np.exp(DECODER.log_probs(y, GAMMA))[0, 0], atol=0.02)


@pytest.mark.parametrize("name", registry.available("final_steps"))
def test_contract(name):
    final, calls = registry.build("final_steps", name), []

    def denoise(z, gamma):
        calls.append(1)
        return MIXTURE.denoise(z, gamma)

    out = final(denoise, Z, GAMMA, READER)
    assert isinstance(final, Final)
    assert out.shape == Z.shape
    assert len(calls) == final.nfe


def test_levels_or_real_numbers():
    made = {n: registry.build("final_steps", n) for n in ("decode", "denoise", "identity")}
    out = {n: f(MIXTURE.denoise, Z, GAMMA, DECODER) for n, f in made.items()}
    for name, final in made.items():  # what a plug-in says is what it does
        assert getattr(final, "reals", False) == jnp.issubdtype(out[name].dtype, jnp.floating)
    np.testing.assert_array_equal(out["decode"], DECODER.decode(out["identity"]))
    np.testing.assert_allclose(out["identity"] * alpha(GAMMA), Z, rtol=1e-6)
    np.testing.assert_array_equal(out["denoise"], DECODER.decode(MIXTURE.denoise(Z, GAMMA).x))
    assert np.any(out["denoise"] != out["decode"])  # a lot of noise is left at this gamma


def test_real_numbers_are_refused_before_anything_is_drawn_or_painted(tmp_path, monkeypatch):
    monkeypatch.setattr(edit._edit_inputs, "read", lambda *_: 1 / 0)
    changes = {"final": "identity()", "guidance": "none()", "conditional": False}
    whole = tiny.experiment(tmp_path, **changes)
    run_sampler.check(whole)  # of one model they are welcome
    with pytest.raises(ZeroDivisionError):
        edit.run(whole)
    later = tiny.experiment(tmp_path, **changes, view="high(subsample())")
    with pytest.raises(ConfigError, match="which a cascade puts together: use final='decode"):
        run_sampler.check(later)
    latent = tiny.experiment(
        tmp_path, **changes, autoencoder="conv(widths=(8,))", prediction="v", network="mlp(width=8)"
    )
    cascade = dataclasses.replace(whole, stages=(whole, whole))
    for run, who in ((cascade, "a cascade"), (latent, "the source of an edited latent")):
        with pytest.raises(ConfigError, match=f"gives no levels, which {who}"):
            edit.run(run)


@pytest.mark.slow
def test_plan_corrector_and_final_from_the_configuration(tmp_path):
    experiment = tiny.experiment(tmp_path, eval_every=0, conditional=False, guidance="none()")
    experiment.config.sample.num, experiment.config.eval.timesteps = 0, ()
    train.run(experiment)
    changes = {"plan": "churn(amount=1.0)", "corrector": "langevin(r=0.1)", "final": "identity()",
               "sampler": "heun()", "conditional": False}  # fmt: skip
    experiment = tiny.experiment(tmp_path, **changes, guidance="none()")
    params, record = experiment.weights()
    method = sampling_method.build(experiment, params)
    ups = int(np.sum(np.diff(method.gammas) > 0))
    assert ups > 0
    assert method.calls(experiment.model) == 2 * (len(method.gammas) - 1 - ups)
    sample_mode.sample(experiment, params, record["step"])
    with np.load(experiment.workdir / "samples" / "6.npz") as f:
        assert f["image"].dtype == np.float32
        assert np.ptp(f["image"] * 5 % 1) > 0.5  # not rounded to levels
        assert f["gammas"].shape == method.gammas.shape
    run = generate.compile_sampler(experiment.model, method, experiment.mesh)
    assert run(params, jax.random.key(0), {}, (8, 4, 4, 1)).shape == (8, 4, 4, 1)
