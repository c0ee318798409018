"""A prior draws what a CLIP would see, a decoder images of it: their law, and what is refused."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from linear_clip import clip
from linear_gaussian import MAP, MEAN, NOISE, SPREAD, TOTAL
from scipy.stats import multivariate_normal

import diffusion_jax as dj
from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import (
    _edit_inputs,
    edit as edit_mode,
    inform as inform_mode,
    sample as sample_mode,
)
from diffusion_jax.data import vectors
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import assembly, clip_model, open_run, prepare_workdir
from diffusion_jax.experiment.measures import embedding_information, judges
from diffusion_jax.experiment.sampling import priors, run_sampler
from diffusion_jax.training import checkpoint, state
from diffusion_jax.training.tasks.diffusion import make_recipe

SIZE = 3
TEXT = "bytes(length=3, width=8, depth=1, heads=2)"


def images(folder):
    rng = np.random.default_rng(0)
    image = {f"{part}_image": rng.integers(0, 5, (n, 1, 2, 1), np.uint8) for part, n in
             (("train", 60), ("test", 20))}  # fmt: skip
    text = {k.replace("image", "text"): np.asarray(["a", "b"] * (len(v) // 2))
            for k, v in image.items()}  # fmt: skip
    np.savez(folder / "images.npz", **image, **text)
    return f"npz(path={str(folder / 'images.npz')!r}, levels=5, holdout=8)"


def start(folder, name, **changes):
    """A run that knows all from the start."""
    settings = {
        "conditional": False, "text": TEXT, "guidance": "none()", "gamma_min": -9.0,
        "gamma_max": 9.0, "schedule": "linear()", "sampler": "dpmpp_2m()",
    }  # fmt: skip
    run = tiny.experiment(folder, name, **(settings | changes))
    run.config.sample.steps, run.config.sample.batch = 30, 1000
    assembly.settle(run)
    with prepare_workdir(run):
        pass
    recipe, kept = make_recipe(run), checkpoint.Checkpoints(run.workdir)
    params = run.model.init(jax.random.key(0), run.source.shape)
    kept.save(
        state.init(params, recipe.optimizer, tuple(run.config.ema), recipe.proposal.init()),
        {"config": saved_config.to_dict(run.config)}, {},
    )  # fmt: skip
    kept.close()
    return str(run.workdir)


def opened(name, *_):
    """Two CLIPs, of the same images."""
    return clip((1, 2, 1), 5, SIZE, digest=("2" if "other" in name else "1") * 64)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Priors and decoders, by name."""
    folder = tmp_path_factory.mktemp("unclip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_model, "opened", opened)
        data = images(folder)

        def vector(name, of="runs/clip", **changes):
            return start(folder, name, data=f"embeddings(checkpoint='{of}', of={data})",
                         network="tests.linear_gaussian(vector=True)", **changes)  # fmt: skip

        def image(name, **changes):
            settings = {"network": "tests.linear_gaussian(vector=False)", "embedding": "runs/clip"}
            return start(folder, name, data=data, **(settings | changes))

        yield {
            "prior": vector("prior"),
            "other": vector("other", of="other"),
            "silent": vector("silent", text=""),
            "decoder": image("decoder"),
            "deaf": image("deaf", text=""),
            "plain": image("plain", embedding=""),
            "reader": image(
                "reader", embedding="", network="dit(width=8, depth=1, heads=1, patch=1)"
            ),
        }


def decoder(runs, name="decoder", **settings):
    run = open_run(runs[name], trust=True)
    with run.config.unlocked():
        for field, value in settings.items():
            run.config.sample[field] = value
    return run


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setenv("DIFFUSION_JAX_TRUST", "1")


@pytest.mark.parametrize("name", ["decoder", "deaf"])
@pytest.mark.parametrize("letter", ["a", "b"])
def test_two_stages_have_the_law_of_both(runs, name, letter):
    """By total covariance; also of a decoder that reads no text itself."""
    n = 4000
    run = decoder(runs, name, num=n, captions=(letter,), prior=runs["prior"])
    run.config.final = "identity()"
    made = run_sampler.compiled(run, run.params)
    x = made(3, quiet=True).reshape(n, 2)
    mean, total = MAP @ MEAN[letter], SPREAD * MAP @ MAP.T + NOISE * np.eye(2)
    error = np.sqrt(np.diag(total) / n)
    assert (np.abs(x.mean(0) - mean) < 4 * error + 0.004).all()
    spread = np.sqrt((total**2 + np.outer(np.diag(total), np.diag(total))) / n)
    assert (np.abs(np.cov(x.T) - total) < 4 * spread + 0.002).all()
    assert set(made.captions) == {letter}
    assert made.describe()["prior"]["run"] == runs["prior"]


def told(runs, **settings):
    """What a decoder is told of, `(seed, attempt) -> [8, SIZE + 1]`."""
    settings = {"prior": runs["prior"], "captions": ("a", "b"), "num": 8} | settings
    draw, _ = priors.opened(decoder(runs, **settings)).ready()
    return lambda seed=0, attempt=0: draw(seed, True, attempt)


@pytest.fixture(scope="module")
def one(runs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUSION_JAX_TRUST", "1")
        return told(runs)


def test_what_is_drawn_depends_on_the_seed_and_the_try_alone(runs, one):
    base = one()
    assert base.shape == (8, SIZE + 1) and (base[:, -1] == 1).all()
    np.testing.assert_array_equal(base[:5], told(runs, num=5, batch=3)())
    assert (np.abs(base - one(seed=1)).max(0)[:-1] > 0).all()
    assert (np.abs(base - one(attempt=1)).max(0)[:-1] > 0).all()


def test_the_best_of_several_is_the_one_most_like_its_text(runs, one):
    embedder = priors.embeddings.of(decoder(runs))
    tries = np.stack([embedder.raw(one(attempt=k)) for k in range(3)])
    like = embedder.clip.texts(["a", "b"] * 4)
    kept = embedder.raw(told(runs, prior_samples=3)())
    cosine = lambda v: (vectors.unit(v) * vectors.unit(like)).sum(-1)
    np.testing.assert_allclose(cosine(kept), cosine(tries).max(0), atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_choice_among_directions_shifts_their_mean_as_known(k):
    """The cosine of a random direction in space is uniform: the best of K is K - 1 in K + 1."""
    rng = np.random.default_rng(0)
    tries, to = rng.normal(size=(k, 20000, 3)), np.asarray([[0.0, 0.0, 2.0]])
    kept = vectors.unit(vectors.most_alike(tries, np.repeat(to, 20000, 0)))
    assert kept[:, 2].mean() == pytest.approx((k - 1) / (k + 1), abs=0.015)
    np.testing.assert_allclose(kept[:, :2].mean(0), 0.0, atol=0.015)


def test_vectors_of_real_images_and_of_captions(runs):
    run = decoder(runs, prior="split:test", num=25)
    source = priors.opened(run)
    split = run.source.split("test")
    draw, record = source.ready()
    np.testing.assert_array_equal(draw(0, True, 0), split.embedding[np.arange(25) % len(split)])
    assert [*source.captions] == [split.captions.strings()[i % 20] for i in range(25)]
    assert record == {"run": "split:test"}
    run = decoder(runs, prior="captions", num=2, captions=("b", "a"))
    embedder = priors.embeddings.of(run)
    found = priors.opened(run).ready()[0](0, True, 0)[:, :-1]
    scale, highest = embedder.scale, vectors.SPAN * (1 - 1 / vectors.LEVELS)
    like = scale.length * vectors.unit(embedder.clip.texts(["b", "a"]))
    standard = (like - np.asarray(scale.mean)) / np.asarray(scale.std)
    np.testing.assert_allclose(found, np.clip(standard, -highest, highest), atol=0.047)
    train = run.data.split("train").images
    raw = embedder.clip.images(train)
    assert scale.length == pytest.approx(np.sqrt(np.square(raw).sum(1).mean()), rel=1e-5)


def test_from_python_and_from_the_command_line(runs):
    run = dj.open_run(runs["decoder"], trust=True)
    images = run.sample(4, captions=("a", "b"), prior=runs["prior"])
    assert images.shape == (4, 1, 2, 1) and images.dtype == np.uint8
    run = decoder(runs, prior=runs["prior"], num=4, captions=("a", "b"), preview=False)
    sample_mode.run(run)
    with np.load(run.workdir / "samples/0.npz") as found:
        np.testing.assert_array_equal(found["image"], images)
        assert json.loads(str(found["method"]))["prior"]["run"] == runs["prior"]
        assert [*found["caption"]] == ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [("decoder", {"prior": ""}, r"embeddings of /.*runs/clip: .*=runs/prior; or split:test"),
     ("plain", {"prior": "prior"}, "this run is not conditioned on CLIP embeddings"),
     ("decoder", {"prior": "split:tset"}, "the splits are train, valid, test"),
     ("decoder", {"prior": "plain"}, r"plain' models npz.*, not CLIP embeddings: train a prior"),
     ("decoder", {"prior": "other"}, r"another CLIP \(22222222..\) than .*/clip \(11111111..\)"),
     ("decoder", {"prior": "silent"}, "was trained without text"),
     ("deaf", {"prior": "silent", "prior_samples": 2}, "similar to its text.* trained without"),
     ("decoder", {"prior": "prior", "captions": ("aaaa",)}, "takes 4 bytes, the model reads 1"),
     ("decoder", {"prior": "prior", "prior_guidance": "cgf()"}, "unknown guidance 'cgf'"),
     ("decoder", {"prior": "absent"}, "no folder absent, and it is neither split:test nor cap")],
)  # fmt: skip
def test_mistakes_are_one_line(runs, name, settings, says):
    where = runs.get(settings["prior"], settings["prior"])
    with pytest.raises(ConfigError, match=says) as e:
        sample_mode.run(decoder(runs, name, **(settings | {"prior": where})))
    assert "\n" not in str(e.value)


def test_the_clip_that_a_decoder_is_told_by_does_not_judge(runs):
    run = decoder(runs)
    run.config.quality.clip = "runs/clip"
    with pytest.raises(ConfigError, match="is also used by embedding"):
        judges.check_apart(run)


@pytest.mark.slow
def test_edits_of_a_users_pictures(runs, tmp_path):
    """From files to files; a judge says what of the captions is kept."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "two.npz", image=rng.integers(0, 5, (2, 1, 2, 1), np.uint8))
    for method in ("vary()", "between(frames=3)", "textdiff('a', 'b')", "sdedit()"):
        run = decoder(runs)
        run.config.edit.method, run.config.edit.image = method, str(tmp_path / "two.npz")
        edit_mode.run(run)
        name = method.partition("(")[0]
        with np.load(run.workdir / f"edits/0_{name}_two/results.npz") as found:
            assert found["image"].shape == (3 if "between" in method else 2, 1, 2, 1)
            told = priors.embeddings.of(run).of_images(found["source"])
            np.testing.assert_array_equal(found["embedding"], told)
    run.config.edit.method, run.config.edit.judge = "vary()", "names()"
    with pytest.raises(ConfigError, match=r"two.npz has none"):
        edit_mode.run(run)


def test_where_a_part_is_painted_nothing_is_told(runs):
    run = decoder(runs, captions=("a",))
    run.config.edit.image, run.config.edit.pick = "split:test", (0, 1)
    whole, part = (registry.build("edits", s) for s in ("sdedit()", "repaint()"))
    given, hidden = (_edit_inputs.read(run, e)[0] for e in (whole, part))
    split = run.source.split("test")
    np.testing.assert_array_equal(given.cond["embedding"], split.embedding[:2])
    assert not hidden.cond["embedding"].any() and hidden.cond["embedding"].shape == (2, SIZE + 1)
    np.testing.assert_array_equal(given.cond["text"], split.take(np.asarray([0, 0]))["text"][:, 0])
    assert [*given.captions] == split.captions.strings()[:2]


def test_bits_of_a_vector_are_those_of_the_laws_with_and_without(runs):
    """A bound by exact predictions is tight for every image, whether or not it is of the law."""
    run = decoder(runs)
    run.config.eval.draws, run.config.eval.batch = 128, 20
    split = run.source.split("test")
    found = embedding_information.measured(run, run.params, split, len(split))
    with pytest.raises(ConfigError, match="two images or more"):
        embedding_information.measured(run, run.params, split, 1)
    x = np.asarray(run.model.decoder.encode(jnp.asarray(split.images))).reshape(-1, 2)
    told = split.embedding[:, :-1] @ MAP.T
    known = [multivariate_normal.logpdf(x, cov=TOTAL)]
    known += [multivariate_normal.logpdf(x - m, cov=NOISE * np.eye(2))
              for m in (told, np.roll(told, 1, 0))]  # fmt: skip
    none, own, other = np.asarray(known) / np.log(2.0)
    for name, bits in (("own", own - none), ("other", none - other)):
        error = found[name]["monte_carlo_se"]
        assert error < 0.05 * abs(bits.mean()) + 0.3
        assert found[name]["bits"] == pytest.approx(bits.mean(), abs=4 * error + 0.05)


def test_a_decoder_in_training_draws_what_it_is_told_of_real_images(runs):
    run = decoder(runs, num=3, preview=False)
    run.config.eval.split = "valid"
    sample_mode.sample(run, run.params, 0, quiet=True)
    made = sorted((run.workdir / "samples").glob("*.npz"), key=lambda p: p.stat().st_mtime)[-1]
    with np.load(made) as found:
        assert json.loads(str(found["method"]))["prior"] == {"run": "split:valid"}
        assert [*found["caption"]] == run.data.split("valid").captions.strings()[:3]


def test_a_prior_is_informed_without_pictures(runs):
    """Vectors are no images: their maps of bits are not drawn."""
    prior = open_run(runs["prior"], trust=True)
    shown = np.zeros((2, 1, 1, SIZE), np.uint8)
    found = SimpleNamespace(bits=np.ones(2), maps=np.ones((2, 2, 1, 1)))
    assert inform_mode._picture(prior, shown, found) is None
