"""Settings of whole runs: what is refused before anything is written, and what runs."""

import json

import pytest
import tiny

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import (
    ConfigError,
    SpecError,
    WorkdirError,
)
from diffusion_jax.experiment import workdir
from diffusion_jax.runtime import storage


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def _begun(folder, done, **changes):
    """A run's folder, as `done` steps of training leave it."""
    experiment = tiny.experiment(folder, **changes)
    (experiment.workdir / "checkpoints" / str(done)).mkdir(parents=True)
    storage.write_json(experiment.workdir / "config.json", saved_config.to_dict(experiment.config))


@pytest.mark.parametrize(
    ("old", "done", "new", "same"),
    [
        ("cosine", 6, {"steps": 12}, False),
        ("constant", 6, {"steps": 12}, True),
        ("constant", 6, {"lr_decay": "cooldown(0.5)", "steps": 12}, True),
        ("cooldown(0.5)", 3, {"steps": 12}, True),
        ("cooldown(0.5)", 3, {"lr_decay": "cooldown(0.3)"}, True),
        ("cooldown(0.5)", 6, {"steps": 12}, False),
        ("cooldown(0.5)", 4, {"lr_decay": "cosine"}, False),
        ("constant", 6, {"steps": 12, "beta_warmup": 0.5}, False),
        ("constant", 6, {"steps": 12, "lr": 1.0}, False),
    ],
)
def test_a_run_may_end_otherwise_if_no_step_already_made_would_differ(
    tmp_path, old, done, new, same
):
    start = {"lr_decay": old, "steps": 6, "warmup": 2}
    if "beta_warmup" in new:
        start["beta_warmup"] = new["beta_warmup"]
    _begun(tmp_path, done, **start)
    experiment = tiny.experiment(tmp_path, **(start | new))
    if same:
        workdir.check_config(experiment)
        return
    with pytest.raises(WorkdirError, match=r" -> .*--config.init="):
        workdir.check_config(experiment)


def test_a_gan_whose_penalty_falls_cannot_be_lengthened(tmp_path):
    start = {"task": "gan(width=4)", "lr_decay": "constant", "steps": 6}
    _begun(tmp_path, 3, **start)
    with pytest.raises(WorkdirError, match=r"steps: 6 -> 12.*would have been different"):
        workdir.check_config(tiny.experiment(tmp_path, **(start | {"steps": 12})))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 12}, "not divisible by 8 devices"),
        ({"network": "vdm_unett()"}, "did you mean 'vdm_unet'"),
        ({"sampler": "ddim(eta=2.0)"}, r"eta=2\.0 must be a number from 0 to 1"),
        ({"conditional": False}, "unconditional"),
        ({"optimizer": "adamww()"}, "optax has no optimizer"),
        ({"optimizer": "adamw(b9=1)"}, "b9"),
        ({"lr_decay": "sine"}, "allowed: constant, cosine, linear"),
        ({"prediction": "noise"}, "allowed: eps, v, x"),
        ({"gamma_min": 6.0}, "must be below"),
        ({"dtype": "float16"}, "allowed: float32, bfloat16"),
        ({"ema": ()}, "one or more decays"),
        ({"class_dropout": 1.5}, "class_dropout"),
        ({"steps": 0}, "steps=0"),
        ({"eval": {"weights": "params"}}, "eval.weights='params': training measures"),
        ({"eval": {"checkpoint": "best"}}, "eval.checkpoint='best': training measures"),
        ({"eval": {"likelihood": "ode()"}}, r"eval.likelihood='ode\(\)': training measures"),
        ({"decay_mask": "some"}, "decay_mask"),
        ({"network": "unet(width=16, mults=(1,1,1,1))"}, "cannot be halved"),
    ],
    ids=lambda v: str(v)[:40] if isinstance(v, dict) else "",
)
def test_bad_settings_write_nothing(folder, changes, message):
    experiment = tiny.experiment(folder, "refused", **changes)
    with pytest.raises(ValueError, match=message):
        train.run(experiment)
    assert not experiment.workdir.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"network": "unet(width=16, mults=(1,2), blocks=1, attention=(2,))", "prediction": "v",
         "dtype": "bfloat16", "augment": "dihedral()"},
        {"schedule": "learned_mlp(features=16)", "prediction": "x", "per_dispatch": 2,
         "resident_mib": 0, "clip": 1.0, "lr_decay": "cosine"},
        {"objective": "discrete(timesteps=10)", "schedule": "cosine()", "conditional": False,
         "guidance": "none()", "optimizer": "lion(weight_decay=0.1)", "accumulate": 2},
    ],
    ids=("unet", "mlp", "discrete"),
)  # fmt: skip
def test_other_settings_run_too(folder, changes):
    experiment = tiny.experiment(folder, "-".join(changes), **{"save_every": 0, **changes})
    train.run(experiment)
    report = json.loads((experiment.workdir / "eval" / "6.json").read_text())
    assert 0.5 < report["result"]["bits_per_dim"] < 20


def test_how_blocks_are_run_follows_the_devices():
    for platform, wanted in (("cpu", False), ("gpu", False), ("tpu", True)):
        network = registry.build("backbones", "vdm_unet(width=8, depth=1)", platform=platform)
        assert (network.scan, network.remat) == (wanted, wanted)
    network = registry.build("backbones", "vdm_unet(scan=False, remat=True)", platform="tpu")
    assert (network.scan, network.remat) == (False, True)
    with pytest.raises(SpecError, match="scan='yes'"):
        registry.build("backbones", "vdm_unet(scan='yes')")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "heunn()"}, "did you mean 'heun'"),
        ({"grid": "array(values=(3.0, 1.0, -2.0))"}, "2 steps, but sample.steps=3"),
        ({"grid": "array(values=(3.0, 1.0, 0.0, -9.0))"}, "range of the model's gamma"),
        ({"plan": "restart(lo=3.9, hi=4.0)"}, "the grid has no step between"),
        ({"corrector": "langevin(r=0)"}, "r=0 must be a finite number above 0"),
        ({"edit": {"method": "repaintt()"}}, "did you mean 'repaint'"),
        ({"edit": {"method": "interpolate(frames=1)"}}, "frames=1 must be"),
        ({"edit": {"method": "interpolate(solver='heunn()')"}}, "did you mean 'heun'"),
        ({"quality": {"features": "pixel()"}}, "quality.features: .*did you mean 'pixels'"),
        ({"quality": {"nearest": "inception(wieghts='x')"}}, "quality.nearest: .*'weights'"),
        ({"quality": {"metrics": ("fid",)}}, "fid"),
        ({"quality": {"split": "tset"}}, "quality.split='tset'"),
        ({"ood": {"against": "rotated(digitts())"}}, "ood.against: .*did you mean 'digits'"),
    ],
    ids=lambda v: str(v)[:50] if isinstance(v, dict) else "",
)
def test_what_comes_after_training_is_looked_at_before_it(tmp_path, changes, message):
    experiment = tiny.experiment(tmp_path, "refused", **changes)
    with pytest.raises(ConfigError, match=message):
        train.run(experiment)
    assert not experiment.workdir.exists()


FOREIGN = """
import flax.linen as nn
import jax.numpy as jnp

class Net(nn.Module):
    @nn.compact
    def __call__(self, {arguments}):
        return {result}

def make():
    return Net()
"""


@pytest.mark.parametrize(
    ("arguments", "result", "message"),
    [
        ("z, gamma", "nn.Conv(1, (3, 3))(z)", "cannot be called as init.*TypeError"),
        ("z, gamma, cond", "nn.Conv(1, (3, 3))(z)", "cannot be called as .*keys.*TypeError"),
        (
            "z, gamma, cond, keys=None",
            "nn.Dense(7)(z) @ jnp.ones((5, 1))",
            "TypeError: dot_general",
        ),
        ("z, gamma, cond, keys=None", "nn.Conv(1, (3, 3))(z).mean((1, 2, 3))", "returned shape"),
        ("z, gamma, cond, keys=None", "nn.Conv(1, (3, 3))(z)[:1]", "returned shape"),
        ("z, gamma, cond, keys=None", "nn.Conv(3, (3, 3))(z)", "returned shape"),
        ("z, gamma, cond, keys=None", "nn.Embed(2, 1)(cond['label'])", "KeyError"),
        ("z, gamma, cond, keys=None", "missing(z)", "NameError"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_a_line(
    tmp_path, monkeypatch, arguments, result, message
):
    name = f"foreign_{abs(hash((arguments, result)))}"
    (tmp_path / f"{name}.py").write_text(FOREIGN.format(arguments=arguments, result=result))
    package = tmp_path / "nets"
    package.mkdir()
    (tmp_path / f"{name}.py").rename(package / f"{name}.py")
    monkeypatch.syspath_prepend(tmp_path)
    experiment = tiny.experiment(tmp_path, "refused", network=f"nets.{name}()")
    with pytest.raises(ConfigError, match=message) as raised:
        train.run(experiment)
    assert "\n" not in str(raised.value)
    inside = "returned shape" not in message and "positional" not in str(raised.value)
    assert not inside or f"{name}.py, line" in str(raised.value)
    assert not experiment.workdir.exists()


def test_an_objective_that_fails_is_told_in_a_line(tmp_path, monkeypatch):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "own_bound.py").write_text(
        "from diffusion_jax.likelihood.objectives.continuous import Continuous\n"
        "class Own(Continuous):\n"
        "    def __call__(self, model, params, x, cond, noise):\n"
        "        return super().__call__(model, params, x.missing, cond, noise)\n"
        "def make():\n    return Own()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    experiment = tiny.experiment(tmp_path, "own", objective="mine.own_bound()", eval_every=0)
    with pytest.raises(
        ConfigError, match=r"cannot be traced: AttributeError.*own_bound.py, line 4"
    ):
        train.run(experiment)
