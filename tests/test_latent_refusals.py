"""What does not go with latents is refused in one line, before anything is computed."""

import pytest
from command import main

from diffusion_jax import config, registry
from diffusion_jax.errors import UserError
from diffusion_jax.experiment import Experiment, latents
from diffusion_jax.sampling import method
from diffusion_jax.training.tasks.diffusion import make_recipe

CONV = "conv(widths=(8, 8), channels=2, head=categorical()"


def experiment(tmp_path, **changes):
    c = config.base()
    c.data, c.network, c.prediction = "digits()", "standard_normal()", "v"
    c.autoencoder = f"{CONV})"
    c.update(changes)
    return Experiment(c, tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"autoencoder": "conv(widths=(8, 8, 8, 8, 8))"}, "8x8 can be halved 3 times"),
        ({"encoder": "diffenc(width=8)"}, "encoder diffenc.*learned noise; use noise='fixed'"),
        ({"schedule": "mulan(features=4)"}, "schedule mulan.*learned noise; use noise='fixed'"),
        (
            {"autoencoder": f"{CONV}, noise='fixed')", "gamma_min": -9.5},
            "gamma_min=-9.5.*each latent would carry 6.9 bits; use about -5",
        ),
        ({"autoencoder": "conv(head=bernoulli())"}, "these data have 17 levels"),
        ({"prediction": "levels"}, "prediction='levels'.*latents of an autoencoder, not pixels"),
    ],
)
def test_models(tmp_path, changes, says):
    with pytest.raises(UserError, match=says) as raised:
        experiment(tmp_path, **changes).model  # noqa: B018
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("spec", ["threshold(cfg(w=2.0))", "rescale(clip(cfg(w=2.0)))"])
def test_guidance_that_knows_the_range_of_pixels(tmp_path, spec):
    model = experiment(tmp_path).model
    with pytest.raises(UserError, match="not pixels; latents have no range"):
        method.check_guidance(model, registry.build("guidance", spec))


@pytest.mark.parametrize(
    ("name", "says"), [("widen(left=8)", "outpaint"), ("extend(left=8)", "outpaint")]
)
def test_edits_of_windows(tmp_path, name, says):
    model = experiment(tmp_path).model
    with pytest.raises(UserError, match=says):
        registry.build("edits", name).check(model, method=None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"objective": "weighted()"}, "a weight is for the prior"),
        ({"beta": -1.0}, "beta=-1.0 must be at least 0"),
        ({"autoencoder": "pixels()", "beta_warmup": 0.5}, "for an autoencoder in training"),
    ],
)
def test_training(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        make_recipe(experiment(tmp_path, **changes))


def test_other_dequantisations(tmp_path):
    run = experiment(tmp_path)
    ode = registry.build("likelihood", "ode(dequantization='uniform')")
    with pytest.raises(UserError, match="use dequantization='decoder'"):
        ode.check(run.model)


def test_checkpoints_that_hold_no_such_autoencoder(tmp_path):
    run = experiment(tmp_path, autoencoder="conv(checkpoint='nowhere')")
    with pytest.raises(UserError, match="there is no run in 'nowhere'"):
        latents.settle(run)
    other = experiment(tmp_path, autoencoder="pixels()")
    with pytest.raises(UserError, match="a network of pixels, this model one of latents"):
        latents.check_same(run.config, other.config, "runs/classifier")


def test_guides_are_of_pixels(tmp_path):
    run = experiment(tmp_path, task="guide(classifier())")
    with pytest.raises(UserError, match="none of latents yet"):
        run.task.open(run, None)


def test_beta_is_of_training(tmp_path):
    done = main("--mode=eval", "--config=configs/digits_latent.py:smoke", f"--workdir={tmp_path}",
                "--config.beta=0.5")  # fmt: skip
    assert done.returncode == 2
    assert "beta" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
