"""Mode ood: the AUROC against counting, scores against closed forms, and the data it is used on."""

import dataclasses
import math

import jax
import numpy as np
import pytest
import tiny
from gaussian import Gaussian
from test_latent_bound import Linear, model_of
from test_text_runs import run as text_run

from diffusion_jax import registry
from diffusion_jax.cli.modes import ood as mode
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.likelihood import ood
from diffusion_jax.runtime.sharding import make_mesh

LARGE = "npz(path='FOLDER/large.npz', levels=5)"


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_counts_pairs(ties):
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=37), rng.normal(0.7, 1.5, size=53)
    if ties:
        inside, outside = np.round(inside), np.round(outside)
    pairs = [1.0 if b > a else 0.5 if b == a else 0.0 for a in inside for b in outside]
    found = ood.auroc(inside, outside)["auroc"]
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)
    assert ood.auroc(outside, inside)["auroc"] == pytest.approx(1.0 - found)
    assert ood.auroc(np.exp(inside), np.exp(outside))["auroc"] == pytest.approx(found)


def test_auroc_of_the_same_set_is_a_half_and_of_separate_sets_one():
    scores = np.random.default_rng(0).normal(size=200)
    assert ood.auroc(scores, scores)["auroc"] == pytest.approx(0.5)
    assert ood.auroc(scores, scores + 100.0) == {"auroc": 1.0, "standard_error": 0.0}


def test_the_error_of_an_auroc_is_its_spread():
    rng = np.random.default_rng(0)
    found = [ood.auroc(rng.normal(size=60), rng.normal(1.0, 1.0, size=90)) for _ in range(400)]
    values = [f["auroc"] for f in found]
    # Two normals one s.d. apart: Phi(1 / sqrt 2).
    assert np.mean(values) == pytest.approx(0.5 * (1 + math.erf(0.5)), abs=0.006)
    claimed = math.sqrt(np.mean([f["standard_error"] ** 2 for f in found]))
    assert np.std(values) == pytest.approx(claimed, rel=0.15)


def test_reconstruction_errors_of_gaussian_data_are_posterior_variances():
    data = Gaussian((0.1, -0.2), (0.2, 0.5))
    rng = np.random.default_rng(0)
    x = np.asarray(data.mean) + np.sqrt(data.variance) * rng.normal(size=(4000, 2))
    split = Split("gaussian", x.astype(np.float32), np.zeros(4000, np.int32), 256, 0)
    gammas = (-4.0, -1.0, 2.0)

    def measure(draws, **options):
        settings = {"batch": 4000, "quiet": True, **options}
        how = Pass(make_mesh(jax.devices()[:1]), **settings)
        params = {"network": {}, "schedule": {}}
        return ood.reconstruction_errors(data.model(), params, split, how, gammas, draws=draws)

    found = measure(3)
    a2 = 1.0 / (1.0 + np.exp(gammas))[:, None]
    v = np.asarray(data.variance)
    truth = (v * (1.0 - a2) / (a2 * v + 1.0 - a2)).mean(1)
    error = found.std(0) / math.sqrt(len(found))
    np.testing.assert_array_less(np.abs(found.mean(0) - truth), 4 * error)
    assert np.all(error < 0.03 * truth)
    np.testing.assert_allclose(measure(3, batch=1500, limit=40), found[:40], rtol=1e-4)
    assert measure(1).var(0).sum() > found.var(0).sum()  # draws are averaged


@pytest.mark.parametrize("noisy", [True, False])
def test_errors_in_latents_are_of_latents_with_their_own_noise(noisy):
    """`z = alpha m + tau n` of N(0, I), decoded as it is: `|alpha z - x|^2` in closed form."""
    auto = Linear((1.0, 1.0, 1.0), 1.0, gain=(0.8, 0.5, 1.1), std=(0.9, 0.4, 0.7), noisy=noisy)
    one = np.array([[1.0, -0.5, 0.3]], np.float32)
    split = Split("x", one.repeat(20_000, 0), np.zeros(20_000, np.int32), 256, 0)
    how = Pass(make_mesh(jax.devices()[:1]), 20_000, quiet=True)
    params, gammas = {"network": {}, "schedule": {}}, (-3.0, 0.0)
    found = ood.reconstruction_errors(model_of(auto), params, split, how, gammas, draws=1)
    a2 = 1.0 / (1.0 + np.exp(gammas))[:, None]
    mean, variance = one * auto.gain, noisy * np.square(auto.std)
    truth = (a2 * mean - one) ** 2 + a2 * (a2 * variance + 1.0 - a2)
    error = found.std(0) / math.sqrt(len(found))
    np.testing.assert_array_less(np.abs(found.mean(0) - truth.mean(1)), 4 * error)
    assert np.all(error < 0.02 * truth.mean(1))


def test_the_same_images_score_the_same_whatever_their_labels(tmp_path):
    experiment = tiny.experiment(tmp_path)
    experiment.config.ood.gammas = (0.0, 1.0)
    params = experiment.model.init(jax.random.key(0), experiment.source.shape)
    split = experiment.source.split("test")
    other = dataclasses.replace(split, labels=(split.labels + 1) % 3)
    report = mode.compare(experiment, [split, other], params, {"step": 0})
    assert list(report["result"]) == ["bits/dim", "error at gamma = 0.00", "error at gamma = 1.00"]
    assert all(v["auroc"] == pytest.approx(0.5) for v in report["result"].values())
    (path,) = (experiment.workdir / "ood").glob("*.npz")
    with np.load(path) as scores:
        assert scores["data"].shape == (13, 3)
        np.testing.assert_array_equal(scores["data"], scores["against"])


def test_the_same_images_score_the_same_whatever_their_texts(tmp_path):
    experiment = text_run(tmp_path)
    experiment.config.ood.gammas, experiment.config.eval.limit = (0.0,), 5
    params = experiment.model.init(jax.random.key(0), experiment.source.shape)
    params = jax.tree.map(lambda a: a + 0.05, params)  # so that texts matter
    split = experiment.source.split("test")
    bare = dataclasses.replace(split, captions=None)
    report = mode.compare(experiment, [split, bare], params, {"step": 0})
    assert all(v["auroc"] == pytest.approx(0.5) for v in report["result"].values())
    with pytest.raises(ConfigError, match=r"without labels and texts.*text_dropout"):
        mode.run(text_run(tmp_path, text_dropout=0.0, ood={"data": "", "against": "digits()"}))


@pytest.mark.parametrize(
    ("sets", "changes", "message"),
    [
        (("", ""), {}, "--config.ood.against=DATA"),
        (("", "digits()"), {}, "has 17 levels, the model needs 5"),
        (("digits()", "digits()"), {}, "the model needs"),
        (("", LARGE), {}, r"shape \(8, 8, 1\), the model needs \(4, 4, 1\); .*size=4, channels=1"),
        (("", "rotated(digit())"), {}, "did you mean 'digits'"),
        (("", "rotated(3)"), {}, "must be a plug-in"),
        (("", "noise(digits(), how='loud')"), {}, "allowed: uniform, shuffled"),
        (("", "resized(digits(), size=4)"), {}, "only 256"),
        (("", "digits()"), {"class_dropout": 0.0}, r"has no null class .*class_dropout=0"),
    ],
)
def test_refused(tmp_path, sets, changes, message):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "large.npz", train_image=images, test_image=images)
    own, against = (text.replace("FOLDER", str(tmp_path)) for text in sets)
    experiment = tiny.experiment(tmp_path, ood={"data": own, "against": against}, **changes)
    with pytest.raises((ConfigError, DataError), match=message):
        mode.run(experiment)
    assert not experiment.workdir.exists()


def data(text):
    return registry.build("data", text)


def test_four_quarter_turns_are_none_and_one_turn_moves_a_corner():
    plain = data("digits()").split("test")
    np.testing.assert_array_equal(
        data("rotated(rotated(digits(), turns=3))").split("test").images, plain.images
    )
    turned = data("rotated(digits())").split("test")
    # Counterclockwise: the top right corner becomes the top left one.
    np.testing.assert_array_equal(turned.images[:, 0, 0], plain.images[:, 0, -1])
    np.testing.assert_array_equal(turned.labels, plain.labels)
    assert turned.fingerprint() != plain.fingerprint()


def test_images_that_are_not_square_turn_only_by_halves(tmp_path):
    images = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6, 1)
    np.savez(tmp_path / "a.npz", train_image=images, test_image=images)
    text = f"npz(path={str(tmp_path / 'a.npz')!r})"
    with pytest.raises(DataError, match="4x6 images change their shape"):
        data(f"rotated({text})")
    found = data(f"rotated({text}, turns=2)").split("test")
    np.testing.assert_array_equal(found.images, images[:, ::-1, ::-1])


def test_noise_has_the_levels_or_the_histograms_of_its_model():
    plain = data("digits()").split("test")
    uniform = data("noise(digits())").split("test")
    counts = np.bincount(uniform.images.ravel(), minlength=17)
    assert len(counts) == 17 and uniform.images.shape == plain.images.shape
    expected = uniform.images.size / 17
    assert np.square(counts - expected).sum() / expected < 45  # chi square, 16 degrees of freedom
    shuffled = data("noise(digits(), how='shuffled')").split("test")
    rows = [np.sort(s.images.reshape(297, -1), axis=1) for s in (plain, shuffled)]
    np.testing.assert_array_equal(*rows)
    assert not np.array_equal(shuffled.images, plain.images)
    again, other = (data(f"noise(digits(), seed={s})").split("test").images for s in (0, 1))
    np.testing.assert_array_equal(again, uniform.images)
    assert not np.array_equal(other, uniform.images)


def test_colour_becomes_grey_of_another_size(tmp_path):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, :2] = (255, 0, 0)
    images[1] = (10, 200, 30)
    np.savez(tmp_path / "a.npz", train_image=images, test_image=images)
    text = f"npz(path={str(tmp_path / 'a.npz')!r})"
    found = data(f"resized({text}, size=2, channels=1)")
    split = found.split("test")
    assert found.shape == split.shape == (2, 2, 1)
    # Luminance of ITU-R 601; every new pixel is the mean of four.
    np.testing.assert_allclose(split.images[0, :, :, 0], [[76, 76], [0, 0]], atol=1)
    grey = 0.299 * 10 + 0.587 * 200 + 0.114 * 30
    np.testing.assert_allclose(split.images[1], grey, atol=1)
    same = data(f"resized({text}, size=4)").split("test")
    np.testing.assert_array_equal(same.images, images)


@pytest.mark.parametrize("gammas", [(100.0,), (0.0, -5.5)])
def test_noise_that_the_model_has_not_seen_is_refused(tmp_path, monkeypatch, gammas):
    data = tiny.config(tmp_path).data
    experiment = tiny.experiment(tmp_path, ood={"against": data}, conditional=False)
    experiment.__dict__["loaded"] = experiment.model.init(jax.random.key(0), (4, 4, 1)), {}
    monkeypatch.setattr(mode, "compare", lambda *_: None)
    experiment.config.ood.gammas = (-5.0, 0.0, 4.0)
    mode.run(experiment)
    experiment.config.ood.gammas = gammas
    with pytest.raises(ConfigError, match=r"outside the trained range, from -5\.00 to 4\.00"):
        mode.run(experiment)
