"""Students of runs with an encoder: what they follow is the teacher's flow, encoder and all."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from encoded_gaussian import V, alpha2, model

from diffusion_jax import registry
from diffusion_jax.cli.modes import train
from diffusion_jax.experiment import assembly, open_run, teachers


@pytest.mark.parametrize(("sampler", "order"), [("ddim()", 1), ("heun()", 2)])
def test_the_path_and_the_noisy_data_are_those_of_encoded_gaussian_data(float64, sampler, order):
    """The flow of a Gaussian scales by its deviations; solvers come to it at their order."""
    spec = f"distill(teacher='runs/x', method=segments(steps=1), sampler={sampler})"
    of = model(alpha2, 1.0)
    taught = teachers.asked(of, {"network": {}, "schedule": {}, "encoder": {}},
                            registry.build("tasks", spec), 4)  # fmt: skip
    x, eps, gamma = jnp.asarray([[[[0.7]]]]), jnp.asarray([[[[-0.2]]]]), jnp.asarray([1.5])
    a2 = 1.0 / (1.0 + np.exp(1.5))
    found = taught.noisy(taught.params, x, gamma, eps, {})
    assert found.item() == pytest.approx(a2**1.5 * 0.7 - (1.0 - a2) ** 0.5 * 0.2, abs=1e-12)
    z, error = jnp.asarray([[[[0.9]]]]), []
    for steps in (20, 40):
        gammas = jnp.linspace(3.0, -4.0, steps + 1)[:, None]
        path = taught.walk(taught.params, z, gammas, {})
        a2 = 1.0 / (1.0 + np.exp(np.asarray(gammas[:, 0])))
        spread = np.sqrt(a2**3 * V + 1.0 - a2)
        error.append(np.abs(np.asarray(path).ravel() - 0.9 * spread / spread[0]).max())
    assert error[1] < 0.05
    assert np.log2(error[0] / error[1]) == pytest.approx(order, abs=0.25)


@pytest.mark.slow
def test_a_student_of_a_diffenc_run_has_no_encoder_and_draws(tmp_path):
    teacher = tiny.experiment(tmp_path, "teacher", prediction="v", steps=4, save_every=4,
                              eval_every=0, encoder="diffenc(blocks=1, width=8)",
                              )  # fmt: skip
    teacher.config.sample.num = 0
    train.run(teacher)
    task = f"distill(teacher={str(teacher.workdir)!r}, method=segments(steps=2, inner=2))"
    run = tiny.experiment(tmp_path, "student", task=task, guidance="none()", steps=2, save_every=2,
                          eval_every=0)  # fmt: skip
    run.config.sample.num = 0
    assembly.settle(run)
    assert run.config.encoder == "identity()"
    train.run(run)
    assert open_run(run.workdir).sample(3).shape == (3, 4, 4, 1)
    assert "test/agreement" in (run.workdir / "metrics.jsonl").read_text()
