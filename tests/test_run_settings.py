"""Settings of whole runs: what is refused before anything is written, and what runs."""

import json

import pytest
import tiny

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import (
    SpecError,
    WorkdirError,
)
from diffusion_jax.runtime import storage


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def test_a_run_with_a_schedule_of_lr_says_why_it_cannot_be_lengthened(tmp_path):
    for steps in (6, 12):
        experiment = tiny.experiment(tmp_path, lr_decay="cosine", steps=steps)
        if steps == 6:
            experiment.workdir.mkdir()
            storage.write_json(
                experiment.workdir / "config.json", saved_config.to_dict(experiment.config)
            )
    with pytest.raises(WorkdirError, match=r"steps: 6 -> 12.*depends on steps.*--config.init="):
        train.run(experiment)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 12}, "not divisible by 8 devices"),
        ({"network": "vdm_unett()"}, "did you mean 'vdm_unet'"),
        ({"sampler": "ddim(eta=2.0)"}, r"eta=2\.0 must be a number from 0 to 1"),
        ({"conditional": False}, "unconditional"),
        ({"optimizer": "adamww()"}, "optax has no optimizer"),
        ({"optimizer": "adamw(b9=1)"}, "b9"),
        ({"lr_decay": "sine"}, "allowed are constant, cosine, linear"),
        ({"prediction": "noise"}, "allowed are eps, v, x"),
        ({"gamma_min": 6.0}, "must be below"),
        ({"dtype": "float16"}, "allowed are float32, bfloat16"),
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
        network = registry.build("models", "vdm_unet(width=8, depth=1)", platform=platform)
        assert (network.scan, network.remat) == (wanted, wanted)
    network = registry.build("models", "vdm_unet(scan=False, remat=True)", platform="tpu")
    assert (network.scan, network.remat) == (False, True)
    with pytest.raises(SpecError, match="scan='yes'"):
        registry.build("models", "vdm_unet(scan='yes')")
