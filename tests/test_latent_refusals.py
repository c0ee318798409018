"""What does not go with latents is refused in one line, before anything is computed."""

import numpy as np
import pytest
from command import main

from diffusion_jax import config, registry, saved_config
from diffusion_jax.errors import UserError
from diffusion_jax.experiment import Experiment, latents
from diffusion_jax.runtime.storage import write_json
from diffusion_jax.sampling import method
from diffusion_jax.training.tasks.diffusion import Training, make_recipe

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
        (
            {"autoencoder": f"{CONV}, noise='fixed')", "schedule": "linear(gamma_min=-13.3)"},
            "gamma_min=-13.3.*each latent would carry 9.6 bits; use about -5",
        ),
        ({"autoencoder": "conv(head=bernoulli())"}, "these data have 17 levels"),
        ({"prediction": "levels"}, "prediction='levels'.*latents of an autoencoder, not pixels"),
    ],
)
def test_backbones(tmp_path, changes, says):
    with pytest.raises(UserError, match=says) as raised:
        experiment(tmp_path, **changes).model  # noqa: B018
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("spec", ["threshold(cfg(w=2.0))", "rescale(clip_denoised(cfg(w=2.0)))"])
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
        ({"objective": "weighted()"}, "weights are for training the prior"),
        ({"beta": -1.0}, "beta=-1.0 must be at least 0"),
        ({"autoencoder": "pixels()", "beta_warmup": 0.5}, "for training an autoencoder"),
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
    with pytest.raises(UserError, match="no folder nowhere; djax train --config=digits_latent"):
        latents.settle(run)
    other = experiment(tmp_path, autoencoder="pixels()")
    with pytest.raises(UserError, match="a network of pixels, this model one of latents"):
        latents.check_same(run.config, other.config, "runs/classifier")


@pytest.mark.parametrize(
    ("theirs", "asked", "says"),
    [
        ({"autoencoder": "pixels()"}, "conv(", "cannot score images given latents: train an auto"),
        ({"data": "small"}, "conv(", "was trained on images with shape \\(4, 4, 1\\), these have"),
        ({"data": "coarse"}, "conv(", "was trained on images with levels 5, these have 17"),
        ({}, "conv(channels=3, ", "channels=3, but .* was trained with 2; leave it out"),
        ({}, "conv(blocks=2, ", "blocks=2, but .* was trained with 1; leave it out"),
        ({}, "conv(noise='fixed', ", "noise='fixed', but .* was trained with 'learned'; leave"),
        ({}, "conv(attention=False, ", "attention=False, but .* was trained with True; leave it"),
        ({}, "conv((8,), ", r"widths=\(8,\), but .* was trained with \(8, 8\); leave it out"),
        ({}, "pixels(", r"holds conv\(\), not pixels\(\)"),
    ],
)
def test_checkpoints_that_do_not_fit(tmp_path, theirs, asked, says):
    for name, size in (("small", 4), ("coarse", 8)):
        image = np.zeros((2, size, size, 1), np.uint8)
        np.savez(tmp_path / f"{name}.npz", train_image=image, test_image=image)
    if "data" in theirs:
        theirs = {"data": f"npz(path={str(tmp_path / (theirs['data'] + '.npz'))!r}, levels=5)"}
    vae = experiment(tmp_path / "vae", **theirs)
    vae.workdir.mkdir()
    write_json(vae.workdir / "config.json", saved_config.to_dict(vae.config))
    run = experiment(tmp_path, autoencoder=f"{asked}checkpoint={str(vae.workdir)!r})")
    with pytest.raises(UserError, match=says) as raised:
        latents.settle(run)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_that_changed_since_the_run_began(tmp_path, monkeypatch):
    run = experiment(tmp_path, autoencoder=f"{CONV}, checkpoint='runs/vae', sha256='0')")
    monkeypatch.setattr(latents, "_weights", lambda *_: {"w": np.zeros(2)})
    with pytest.raises(UserError, match="in runs/vae have changed since this run began"):
        latents.read(run, {})


def test_a_checkpoint_says_what_it_leaves_unwritten(tmp_path, monkeypatch):
    vae = experiment(tmp_path / "vae")
    vae.workdir.mkdir()
    write_json(vae.workdir / "config.json", saved_config.to_dict(vae.config))
    monkeypatch.setattr(latents, "_weights", lambda *_: {"w": np.zeros(2)})
    where = f"checkpoint={str(vae.workdir)!r}"
    run = experiment(tmp_path, autoencoder=f"conv([8, 8], blocks=1, train=True, {where})")
    latents.settle(run)
    built = run.model.autoencoder
    assert (built.widths, built.blocks, built.channels, built.trained) == ((8, 8), 1, 2, True)


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"w": np.zeros((2, 3))}, r"autoencoder/w is \(2, 3\) in runs/vae and \(2,\) in conv"),
        ({}, r"autoencoder/w is absent in runs/vae and \(2,\) in conv"),
        ({"w": np.zeros(2), "v": np.zeros(1)}, r"autoencoder/v is \(1,\) in runs/vae and absent"),
    ],
)
def test_arrays_that_are_not_those_of_the_autoencoder(tmp_path, monkeypatch, theirs, says):
    spec = f"{CONV}, checkpoint='runs/vae', sha256={latents.digest(theirs)!r})"
    monkeypatch.setattr(latents, "_weights", lambda *_: theirs)
    with pytest.raises(UserError, match=says):
        latents.read(experiment(tmp_path, autoencoder=spec), {"autoencoder": {"w": np.zeros(2)}})
    same = {"w": np.zeros(2)}
    monkeypatch.setattr(latents, "_weights", lambda *_: same)
    spec = f"{CONV}, checkpoint='runs/vae', sha256={latents.digest(same)!r})"
    run = experiment(tmp_path, autoencoder=spec)
    assert list(latents.read(run, {"autoencoder": same})) == ["autoencoder/w"]


def test_channels_of_latents_are_not_those_of_images(tmp_path):
    """What is not written has the documented default, whoever builds the autoencoder."""
    run = experiment(tmp_path, autoencoder="conv(widths=(8, 8))")
    assert run.model.z_shape((8, 8, 1)) == (4, 4, 8)
    frozen = "conv(widths=(8, 8), checkpoint='x', sha256='0')"
    told = experiment(
        tmp_path, autoencoder=frozen, view="from_latent()", network="mlp(width=8)", prediction="eps"
    )
    assert told.offered()["low"] == 8 and told.model.given_shape((8, 8, 1)) == (4, 4, 8)
    guide = experiment(tmp_path, autoencoder=frozen, task="guide(classifier(width=8))")
    assert guide.task.shapes(guide)["autoencoder"]["standard"]["scale"].shape == (8,)


def test_noise_predictions_do_not_start_from_the_normal(tmp_path):
    def note(**changes):
        run = experiment(tmp_path, **changes)
        return Training(run, None, make_recipe(run)).note

    dit = "dit(width=8, depth=1, heads=1, patch=1, fourier=False"
    assert "with prediction='eps' the untrained model's latents are not N(0, I)" in note(
        prediction="eps"
    )
    said = "with prediction='v' and a network that adds z the untrained model's latents are not"
    assert said in note(network=f"{dit})") and said in note(network="mlp(width=8)")
    assert "N(0, I)" not in note(network=f"{dit}, skip=False)")
    assert "N(0, I)" not in note()


def test_guides_see_latents_of_an_autoencoder_that_is_there(tmp_path):
    run = experiment(tmp_path, task="guide(classifier())")
    with pytest.raises(UserError, match="a guide needs an autoencoder that is already trained"):
        run.task.open(run, None)


def test_beta_is_of_training(tmp_path):
    done = main("--mode=eval", "--config=configs/digits_latent.py:smoke", f"--workdir={tmp_path}",
                "--config.beta=0.5")  # fmt: skip
    assert done.returncode == 2
    assert "beta" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
