"""Frozen autoencoders stay as they are; latents computed once are those of every step."""

import functools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from gaussian import Gaussian
from PIL import Image

from diffusion_jax import config
from diffusion_jax.cli.modes import report
from diffusion_jax.cli.report import collect, sections_trained
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.sharding import make_mesh
from diffusion_jax.sampling.edits._masks import latent_mask
from diffusion_jax.training import latent_cache, state as state_lib, step
from diffusion_jax.training.tasks.diffusion import make_recipe
from diffusion_jax.training.time_sampling.uniform import Uniform
from diffusion_jax.types import Terms

CONV = (
    "conv(widths=(8, 8), channels=2, attention=False, head=categorical(), checkpoint='x', "
    "sha256='0')"
)


@pytest.mark.slow
def test_a_frozen_autoencoder(tmp_path):
    c = config.base()
    c.data, c.prediction, c.autoencoder, c.batch = "digits()", "v", CONV, 8
    c.network = "dit(width=8, depth=1, heads=1, patch=1, skip=False, fourier=False)"
    c.ema, c.optimizer, c.lr, c.warmup = (0.9,), "adamw(weight_decay=0.1)", 0.1, 0
    run = Experiment(c, tmp_path)
    recipe = make_recipe(run)
    assert recipe.frozen == ("autoencoder",)
    params = jax.jit(lambda: run.model.init(jax.random.key(0), (8, 8, 1)))()
    state = state_lib.init(params, recipe.optimizer, (0.9,), recipe.proposal.init(), recipe.frozen)
    names = {p[0].key for p, _ in jax.tree_util.tree_leaves_with_path(state.params)}
    assert "autoencoder" in names

    images = np.random.default_rng(0).integers(0, 17, (20, 8, 8, 1)).astype(np.uint8)
    split = Split("some", images, np.zeros(20, np.int32), 17, 0)
    how = Pass(make_mesh(jax.devices()[:1]), 8, quiet=True)
    state = latent_cache.standardised(run.model, state, split, how)
    stored = latent_cache.cached(run.model, state.params, split, how, 2**20)
    rows = stored.everything()
    assert set(rows) == {"image", "label", "mean", "std"}
    # Of y_0: noise of the encoder and of the least gamma included.
    variance = rows["mean"].var((0, 1, 2)) + np.square(rows["std"]).mean((0, 1, 2))
    scale = state.params["autoencoder"]["standard"]["scale"]
    noise = np.exp(-5.0) / np.square(scale)
    np.testing.assert_allclose(variance + noise, 1.0, rtol=1e-4)
    np.testing.assert_allclose(rows["mean"].mean((0, 1, 2)), 0.0, atol=1e-4)

    step, same = jax.jit(recipe.update), np.testing.assert_array_equal
    near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    # In the places where they were encoded: bit for bit. In others their own last bits differ.
    for which, check in ((np.arange(8), same), (np.asarray([3, 17, 1, 0, 12, 8, 5, 9]), near)):
        batches = [jax.tree.map(jnp.asarray, s.take(which)) for s in (split, stored)]
        (a, first), (b, second) = (step(state, batch) for batch in batches)
        jax.tree.map(check, a.params, b.params)
        check(first["loss"], second["loss"])
    before = state.params["autoencoder"]
    for tree in (a.params, a.ema["0.9"]):
        jax.tree.map(np.testing.assert_array_equal, tree["autoencoder"], before)
    moved = jax.tree.map(lambda p, q: float(jnp.abs(p - q).max()), a.params, state.params)
    assert max(jax.tree.leaves(moved["network"])) > 0.0


def test_reconstructions_are_shown_beside_the_images(tmp_path):
    c = config.base()
    c.data, c.prediction, c.network = "digits()", "v", "standard_normal()"
    c.autoencoder = "conv(widths=(8, 8), channels=2, attention=False, head=categorical())"
    run = Experiment(c, tmp_path)
    params = jax.jit(lambda: run.model.init(jax.random.key(0), (8, 8, 1)))()
    report.illustrate(run, params, {"step": 7}, animate=False)
    found = json.loads((tmp_path / "report" / "7_reconstructions.json").read_text())
    picture = np.asarray(Image.open(tmp_path / "report" / "7_reconstructions.png").convert("L"))
    step = (picture.shape[1] + 64) // 10 - 6  # tiles of 64 pixels, with gaps between
    tiles = [[picture[i * step + 4 : i * step + 64 : 8, j * step + 4 : j * step + 64 : 8]
              for j in range(10)] for i in range(2)]  # fmt: skip
    images, decoded = np.round(np.asarray(tiles) / 255.0 * 16)
    assert np.array_equal(images, run.source.split("test").images[:10, ..., 0])
    error = np.abs(decoded - images)
    assert found["mean_absolute_error"] == pytest.approx(error.mean())
    assert found["exact"] == pytest.approx((error == 0).mean()) and found["exact"] < 0.5
    section = sections_trained.reconstructions(collect.read(tmp_path))
    assert f"{found['exact']:.1%} of the values" in str(section.body)


@pytest.mark.parametrize(("view", "channels"), [("high()", 3), ("high()", 1), ("from_latent()", 1)])
def test_reconstructions_of_parts_are_images(tmp_path, view, channels):
    """Parts of 9 or 3 channels with what they are given; of a decoder of latents, its draws."""
    images = np.random.default_rng(0).integers(0, 3, (2, 4, 4, channels)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", train_image=images, test_image=images)
    c = config.base()
    c.data, c.view = f"npz(path={str(tmp_path / 'a.npz')!r}, levels=3)", view
    c.autoencoder = "conv(widths=(8,), channels=1, attention=False, head=categorical())"
    c.prediction, c.network, c.sample.steps = "v", "mlp(width=4, depth=1, embed=4)", 2
    if "latent" in view:
        c.autoencoder = c.autoencoder[:-1] + ", checkpoint='x', sha256='0')"
    run = Experiment(c, tmp_path)
    params = jax.jit(lambda: run.model.init(jax.random.key(0), images.shape[1:]))()
    report.illustrate(run, params, {"step": 7}, animate="latent" in view)
    found = json.loads((tmp_path / "report" / "7_reconstructions.json").read_text())
    assert found["drawn"] == ("latent" in view) and 0.0 <= found["exact"] < 1.0
    picture = np.asarray(Image.open(tmp_path / "report" / "7_reconstructions.png").convert("RGB"))
    tiles = picture[4:64:16, 4:64:16]  # the first image, 16 times as large
    np.testing.assert_allclose(tiles / 127.5, np.broadcast_to(images[0], (4, 4, 3)), atol=0.02)


def test_masks_among_latents():
    mask = np.zeros((1, 8, 8, 1), np.float32)
    mask[0, 0, 0] = 1.0
    found = latent_mask(mask, (4, 4, 2))[0, ..., 0]
    wanted = np.zeros((4, 4))
    wanted[:2, :2] = 1.0  # its own latent, and those next to it
    np.testing.assert_array_equal(found, wanted)
    assert latent_mask(mask, (8, 8, 1), pointwise=True) is mask
    assert latent_mask(mask, (8, 8, 2))[0, :2, :2].all()  # as large, of a convolution
    mask[0, :4] = 1.0
    assert latent_mask(mask, (4, 4, 2))[0, ..., 0].sum() == 12
    mask[0, :6] = 1.0
    with pytest.raises(ConfigError, match="keeps none of the 4x4 latents"):
        latent_mask(mask, (4, 4, 2))
    assert latent_mask(np.ones((1, 8, 8, 1)), (4, 4, 2)).all()


def test_beta_weighs_all_of_the_loss_but_the_reconstruction():
    terms = Terms(*(jnp.array(v) for v in ([1.0, 3.0], [4.0, 6.0], [10.0, 20.0])))
    noise = SimpleNamespace(t=jnp.array([0.2, 0.7]))
    recipe = SimpleNamespace(model=Gaussian().model(), proposal=Uniform())
    params = {"network": {}, "schedule": {}}
    for beta, nats in ((None, 22.0), (1.0, 22.0), (0.25, 0.25 * 7.0 + 15.0), (0.0, 15.0)):
        value, found = step.measures(recipe, params, terms, noise, jnp.ones(2), 4, beta)
        assert float(value) == pytest.approx(nats / (4 * np.log(2)), rel=1e-6)
        assert float(found["diffusion"]) == pytest.approx(5.0 / (4 * np.log(2)), rel=1e-6)


def test_beta_grows_over_its_share_of_the_steps(tmp_path):
    run = tiny.experiment(
        tmp_path, autoencoder="conv(widths=(8,), channels=1, attention=False)", objective="vae()",
        network="standard_normal()", conditional=False, guidance="none()", steps=8, beta=0.5,
        beta_warmup=0.5, prediction="v",
    )  # fmt: skip
    beta = make_recipe(run).beta
    np.testing.assert_allclose([beta(s) for s in (0, 1, 3, 4, 7)], [0.125, 0.25, 0.5, 0.5, 0.5])
