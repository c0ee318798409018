"""Paired comparison of two runs."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny

from diffusion_jax.cli.modes import compare, train
from diffusion_jax.errors import ConfigError, UserError
from diffusion_jax.experiment import Experiment, exported, open_experiment
from diffusion_jax.likelihood import cascade_likelihood
from diffusion_jax.likelihood.bpd import Records, paired, summary


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    settings = {"save_every": 0, "eval_every": 0}
    for name, changes in (
        ("vdm", {}),
        ("encoded", {"encoder": "diffenc(width=8, blocks=1)", "prediction": "v"}),
    ):
        experiment = tiny.experiment(folder, name, **settings, **changes)
        experiment.config.sample.num, experiment.config.eval.timesteps = 0, ()
        train.run(experiment)
    return folder


def compared(runs, a, b, out, **changes):
    c = tiny.config(runs, **changes)
    c.compare.a, c.compare.b = str(runs / a), str(runs / b)
    compare.run(open_experiment(c, out))
    return json.loads((out / "compare" / f"{a}_{b}.json").read_text())


@pytest.mark.slow
def test_a_run_equals_itself(runs, tmp_path):
    found = compared(runs, "vdm", "vdm", tmp_path)
    assert found["difference"] == {"bits_per_dim": 0.0, "standard_error": 0.0}
    assert found["monte_carlo_se"] == 0.0


@pytest.mark.slow
def test_differences_are_those_of_the_means_and_change_sign(runs, tmp_path, capsys):
    found = compared(runs, "vdm", "encoded", tmp_path)
    means = [found[k]["bits_per_dim"] for k in "ab"]
    assert found["difference"]["bits_per_dim"] == pytest.approx(means[1] - means[0], abs=1e-9)
    parts = sum(v["bits_per_dim"] for v in found["breakdown"].values())
    assert parts == pytest.approx(found["difference"]["bits_per_dim"], abs=1e-9)
    assert found["difference"]["bits_per_dim"] != 0
    back = compared(runs, "encoded", "vdm", tmp_path)
    assert back["difference"]["bits_per_dim"] == -found["difference"]["bits_per_dim"]
    shown = capsys.readouterr().out
    assert "b - a, paired" in shown
    assert "reconstruction" in shown


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    shutil.copytree(runs / "vdm", runs / "free")
    (record,) = (runs / "free").glob("checkpoints/*/meta/metadata")
    written = record.read_text()
    record.write_text(written.replace('"conditional": true', '"conditional": false'))
    assert record.read_text() != written
    with pytest.raises(ConfigError, match="differ in conditional: True and False"):
        compared(runs, "vdm", "free", tmp_path)
    with pytest.raises(ConfigError, match="two runs"):
        compare.run(open_experiment(tiny.config(runs), tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    tiny.write_images(other / "images.npz", n=32)
    train.run(tiny.experiment(other, "vdm", save_every=0, eval_every=0))
    pair = {"compare": {"a": str(runs / "vdm"), "b": str(other / "vdm")}}
    experiment = open_experiment(tiny.config(runs, **pair), tmp_path)
    with pytest.raises(ConfigError, match="differ in data"):
        compare.run(experiment)
    assert not (tmp_path / "compare").exists()


def exported_run(folder, name, **changes):
    """A run of weights as they are drawn, without a checkpoint's optimiser."""
    run = tiny.experiment(folder, name, **changes)
    leaves, tree = jax.tree.flatten(run.shapes())
    params = tree.unflatten(np.zeros(a.shape, a.dtype) for a in leaves)
    return exported.write_folder(folder / name, run, params, {"weights": "0.9", "step": 6}, {})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"eval.draws": 3}, "draws=3"), ({"eval.weights": "0.99"}, "holds only the weights")],
)
def test_both_runs_are_there_before_the_first_is_measured(tmp_path, monkeypatch, wrong, message):
    def measure(*_, **__):
        raise AssertionError("measured")

    monkeypatch.setattr(compare.bits_per_dim, "bounds", measure)
    c = tiny.config(tmp_path)
    c.compare.a, c.compare.b = (str(exported_run(tmp_path, name)) for name in "ab")
    with pytest.raises(AssertionError, match="measured"):
        compare.run(open_experiment(c, tmp_path / "out"))
    c.update_from_flattened_dict(wrong)
    loaded = []
    with monkeypatch.context() as first:  # the first run has such an average, the second has none
        read = Experiment.weights
        first.setattr(Experiment, "weights", lambda run, name: (
            read(run, name) if loaded else loaded.append(run) or ({}, {})
        ))  # fmt: skip
        with pytest.raises(UserError, match=message):
            compare.run(open_experiment(c, tmp_path / "out"))


def test_pairing_shrinks_the_error_of_a_common_offset():
    """Two models that differ by a constant: the pair knows it exactly, the means do not."""
    rng = np.random.default_rng(0)
    draws = rng.normal(100, 20, (50, 4))
    a = Records(draws, np.ones_like(draws), draws[:, 0], draws, draws, dims=8)
    b = Records(draws, np.ones_like(draws), draws[:, 0], draws + 3.0, draws, dims=8)
    found = paired(a, b)
    assert found["difference"]["bits_per_dim"] == pytest.approx(3.0 / (8 * np.log(2)))
    assert found["difference"]["standard_error"] < 1e-9 < summary(a)["standard_error"]
    assert found["monte_carlo_se"] < 1e-9


def test_stages_together_are_their_sum():
    """Image by image and in every part; a prior that is drawn counts among the draws."""
    rng = np.random.default_rng(0)

    def stage(**more):
        a, b = rng.normal(100, 20, (2, 50, 4))
        return Records(a, np.ones_like(a), b[:, 0], a, b, dims=8, **more)

    drawn = rng.normal(10, 2, (50, 4))
    stages = [stage(), stage(auxiliary=rng.normal(size=50), prior_draws=drawn)]
    found = cascade_likelihood.together(stages)
    each = [r.per_image() for r in stages]
    for name, values in found.per_image().items():
        wanted = sum(parts.get(name, 0.0) for parts in each)
        np.testing.assert_allclose(values, wanted, rtol=1e-12)
    constant = stages[0].prior[:, None]  # the same for all draws: no part of the error
    wanted = stages[0].draws + stages[1].draws + constant
    np.testing.assert_allclose(found.draws, wanted, rtol=1e-12)
    assert summary(found)["monte_carlo_se"] > 0
