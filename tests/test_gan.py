"""The GAN baseline: losses in closed form, a run, and what it refuses."""

import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from checkpoint_copies import assert_identical
from command import main

from benchmarks import _judges, rivals
from diffusion_jax import registry
from diffusion_jax.baselines import r3gan
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import Experiment, open_run
from diffusion_jax.training import gan_step, restore
from diffusion_jax.training.state import State

TASK = "gan(width=8, noise=4)"


def test_the_penalty_of_a_linear_score_is_its_slope(float64):
    slope = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    x = jax.random.normal(jax.random.key(0), (5, 2, 2))
    found = r3gan.penalty(lambda x: (x * slope).sum((1, 2)), x)
    np.testing.assert_allclose(found, jnp.square(slope).sum())
    # Real and drawn images that score the same: log 2, and both penalties.
    loss = r3gan.discriminator_loss(lambda x: (x * slope).sum((1, 2)), x, x, 0.3)
    np.testing.assert_allclose(loss, np.log(2.0) + 0.3 * jnp.square(slope).sum())


def test_the_best_score_is_the_log_ratio(float64):
    """Of two Gaussians, without penalties: slope (m_1 - m_0), whatever the constant."""
    rng = np.random.default_rng(0)
    real, fake = (m + rng.normal(size=(20_000, 1)) for m in (0.6, -0.4))

    @jax.jit
    def slope(a):
        def loss(a):
            return r3gan.discriminator_loss(lambda x: a * x[:, 0], real, fake, 0.0).mean()

        return jax.grad(loss)(a)

    # By bisection: the loss is convex in the slope of a linear score.
    low, high = 0.5, 1.5
    for _ in range(20):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    np.testing.assert_allclose(low, 1.0, atol=0.05)


def test_the_generator_wants_its_images_to_score_more_than_the_data(float64):
    def score(x):
        return 2.0 * x[:, 0]

    real, fake = jnp.zeros((1, 1)), jnp.full((1, 1), np.log(3.0) / 2)
    loss, slope = jax.value_and_grad(lambda x: r3gan.generator_loss(score, real, x).sum())(fake)
    np.testing.assert_allclose(loss, np.log(4 / 3))  # softplus(-log 3)
    np.testing.assert_allclose(slope, -2.0 / 4.0)


class Constant:
    """A generator whose images have one value, its weight."""

    num_classes = 0

    def apply(self, variables, z, label):
        return jnp.broadcast_to(variables["params"]["m"], (len(z), 1, 1, 1))


class Slope:
    """A discriminator whose score is a multiple of the first pixel."""

    def apply(self, variables, x, label):
        return variables["params"]["a"] * x[:, 0, 0, 0]


def test_one_step_of_both_networks_by_hand():
    """Data at 1, images at -1, a flat score: it turns towards the data, then the images follow."""
    recipe = gan_step.Recipe(
        Constant(), Slope(), size=1, encode=lambda i: i.astype(jnp.float32), levels=10**9,
        penalty=0.5, optimizer=optax.sgd(1.0), augment=registry.build("augment", "none()"), ema=(),
        ema_warmup=False, steps=4, seed=0,
    )  # fmt: skip
    params = {"generator": {"m": jnp.float32(-1.0)}, "discriminator": {"a": jnp.float32(0.0)}}
    opt = {k: recipe.optimizer.init(v) for k, v in params.items()}
    state = State(jnp.asarray(0), params, {}, opt)
    batch = {"image": jnp.ones((4, 1, 1, 1), jnp.uint8), "label": jnp.zeros(4, jnp.int32)}
    after, _ = recipe.update(state, batch)
    # d/da softplus(a (-1 - 1)) = -2 / 2 at a = 0; then d/dm softplus(a (1 - m)) = -sigmoid(2).
    assert float(after.params["discriminator"]["a"]) == pytest.approx(1.0, abs=1e-5)
    moved = 1.0 / (1.0 + np.exp(-2.0))
    assert float(after.params["generator"]["m"]) == pytest.approx(-1.0 + moved, abs=1e-5)
    # Both penalties are a^2; their weight falls from 0.5 to a tenth of it along a cosine.
    steep = {**params, "discriminator": {"a": jnp.float32(2.0)}}
    for at, weight in ((0, 0.5), (2, 0.275), (4, 0.05)):
        _, found = recipe.update(state.replace(step=jnp.asarray(at), params=steep), batch)
        expected = np.log1p(np.exp(-4.0)) + weight * 4.0
        assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def networks():
    pair = r3gan.Generator((6, 5, 1), 8, 1, 3), r3gan.Discriminator(8, 1, 3)
    return *pair, r3gan.parameters(*pair, 4, jax.random.key(0))


@pytest.mark.slow
def test_the_gradient_of_the_penalty_is_that_of_differences(float64, networks):
    """Backward through a backward pass, at two sizes and padded edges."""
    _, network, params = networks
    params = jax.tree.map(lambda a: a.astype(float) + 0.1, params["discriminator"])
    x, label = jax.random.normal(jax.random.key(1), (2, 6, 5, 1)), jnp.array([0, 2])

    @jax.jit
    def loss(params):
        return r3gan.penalty(lambda x: network.apply({"params": params}, x, label), x).mean()

    along = jax.tree.map(
        lambda a: jnp.cos(jnp.arange(a.size, dtype=float)).reshape(a.shape), params
    )
    ends = [loss(jax.tree.map(lambda p, d: p + s * 1e-5 * d, params, along)) for s in (-1, 1)]
    slope = sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.jit(jax.grad(loss))(params), along))))
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / 2e-5, rtol=1e-6)


def test_shapes_and_classes(networks):
    generator, discriminator, params = networks
    z, label = jax.random.normal(jax.random.key(2), (3, 4)), jnp.arange(3)
    x = generator.apply({"params": params["generator"]}, z, label)
    assert x.shape == (3, 6, 5, 1)
    score = discriminator.apply({"params": params["discriminator"]}, x, label)
    other = discriminator.apply({"params": params["discriminator"]}, x, label[::-1])
    assert score.shape == (3,) and (score != other)[jnp.array([0, 2])].all()
    alone = discriminator.apply({"params": params["discriminator"]}, x[1:2], label[1:2])
    np.testing.assert_allclose(alone, score[1:2], atol=1e-5)


@pytest.mark.parametrize("width", [8, (8, 5)])
def test_every_size_has_its_width(width):
    """At the start all blocks are the identity, so that 4x4 images pass unchanged in width."""
    pair = r3gan.Generator((7, 6, 2), width, 1, 0), r3gan.Discriminator(width, 1, 0)
    shapes = jax.eval_shape(lambda: r3gan.parameters(*pair, 4, jax.random.key(0)))
    last = width if isinstance(width, int) else width[-1]
    generator, discriminator = shapes["generator"], shapes["discriminator"]
    assert generator["basis"].shape == discriminator["basis"].shape == (4, 4, 8)
    assert generator["out"]["kernel"].shape == (1, 1, last, 2)
    assert discriminator["in"]["kernel"].shape == (1, 1, 2, last)
    assert ("widen1" in generator) == ("widen1" in discriminator) == (last != 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from diffusion_jax.cli.modes import train

    run = tiny.experiment(
        tmp_path_factory.mktemp("gan"), task=TASK, steps=4, save_every=2, eval_every=2,
        lr_decay="cosine",
    )  # fmt: skip
    train.run(run)
    return run


def test_a_gan_is_a_run_that_draws(trained):
    run = open_run(trained.workdir)
    images = run.sample(7, labels=(0, 2))
    assert images.shape == (7, 4, 4, 1) and images.dtype == np.uint8 and images.max() < 5
    np.testing.assert_array_equal(images[:3], run.sample(3, labels=(0, 2), batch=2))
    with pytest.raises(ConfigError, match="steps=9: gan"):
        run.sample(1, steps=9)
    assert (trained.workdir / "samples" / "4.npz").exists()
    assert "valid/held_out_gap" in (trained.workdir / "metrics.jsonl").read_text()
    done = main("--mode=quality", f"--workdir={trained.workdir}", "--config.sample.num=40",
                "--config.quality.metrics=('frechet',)")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = main("--mode=report", f"--workdir={trained.workdir}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_it_goes_on_bit_for_bit(trained, tmp_path):
    from diffusion_jax.cli.modes import train

    half = Experiment(trained.config, tmp_path / "half")
    shutil.copytree(trained.workdir, half.workdir)
    shutil.rmtree(half.workdir / "checkpoints" / "4")
    train.run(half)
    both = (tiny.saved_arrays(r.workdir / "checkpoints" / "4") for r in (trained, half))
    assert_identical(*both)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mode=eval"], "has no likelihood, it only draws samples"),
        (["--mode=audit"], "give its samples, --config.quality.samples=FILE"),
        (["--mode=compress"], "not a diffusion model: train it or sample it"),
        (["--mode=edit"], "not a diffusion model"),
        (["--mode=sample", "--config.sample.labels=(7,)"], "7 is out of range"),
        (["--mode=sample", "--config.sampler=ddim()"], "sampler='ddim()': gan(width=8"),
        (["--mode=sample", "--config.guidance=cfg(w=3.0)"], "draws in one step, without it"),
        (["--mode=sample", "--config.sample.steps=7"], "sample.steps=7: "),
        (["--mode=quality", "--config.grid=karras()"], "grid='karras()'"),
        (
            ["--mode=audit", "--config.audit.against=x", "--config.quality.samples=."],
            "compares two diffusion models",
        ),
    ],
)
def test_what_a_gan_cannot_do_is_one_line(trained, words, says):
    done = main(*words, f"--workdir={trained.workdir}")
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"accumulate": 2}, "accumulate=1"),
        ({"lr_decay": "constant"}, "depend on the length of the training"),
        ({"augment": "dihedral()"}, "which a GAN does not support"),
        ({"view": "subsample()"}, "a GAN draws whole images"),
        ({"task": "gan(width=(8, 4))"}, r"images of 4x4 have sizes of 4; give a width for each"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, changes, says):
    from diffusion_jax.cli.modes import train

    run = tiny.experiment(tmp_path, **{"task": TASK, "lr_decay": "cosine", **changes})
    with pytest.raises(ConfigError, match=says):
        run.task.open(run, train.HANDED)


def test_a_table_of_rivals(trained, tmp_path, capsys, monkeypatch):
    """Rows by name, means and the worst over seeds; a measured row is not measured again."""
    row = {"recall": 0.5, "frechet": 1.0, "kid": 0.1, "precision": 0.9, "accuracy": 0.8,
           "ms_for_one": 2.0, "images_per_s": 10.0, "core_s": 3.0, "bits_per_dim": None,
           "density": 0.7, "coverage": 0.6, "calls": 1, "weights": 7, "name": "GAN"}  # fmt: skip
    other = {
        **row,
        "frechet": 3.0,
        "recall": 0.1,
        "modes": {"found": 50, "modes": 100, "floor_found": 99, "kl": 0.7, "floor_kl": 0.1},
    }
    shown = rivals.show([row, other])
    assert "| GAN | 1 | 2 +- 0 | 10 +- 0 | 3 +- 0 | 7 | 2 +- 1 | 3 |" in shown
    assert "50 of 100" in shown and "none | 1 of 2 |" in shown
    runs = [{**row, "run": r, "frechet": f} for r, f in (("a", 1.0), ("a", 3.0), ("b", 4.0))]
    assert "| 3 +- 1 | 4 |" in rivals.show(runs)  # of runs, 2 and 4, not of sets
    assert "| 2 +- 1 | 3 |" in rivals.show(runs[:2])  # of the sets of one run
    plan = {"sampler": "heun()", "sample.steps": 8}
    for how, guidance in (("", "none()"), (";cfg(w=1.5)", "cfg(w=1.5)")):
        found = rivals.parse(f"a=b,c;heun();8{how}")
        assert found == ("a", ["b", "c"], {**plan, "guidance": guidance})
    path = str(trained.workdir)
    monkeypatch.setattr(rivals, "measure", lambda *args: dict(row))
    args = ["x", f"--row=tiny GAN={path}", f"--judge={path}", f"--out={tmp_path}"]
    monkeypatch.setattr("sys.argv", args)
    rivals.main()
    monkeypatch.setattr(rivals, "measure", lambda *args: pytest.fail("measured twice"))
    rivals.main()
    assert capsys.readouterr().out.count("| tiny GAN | 1 |") == 2
    drawn = []
    monkeypatch.setattr(rivals, "measure", lambda *args: drawn.append(args[-1]) or dict(row))
    monkeypatch.setattr("sys.argv", [*args, "--sets=3"])
    rivals.main()
    assert drawn == [1, 2] and "| tiny GAN | 1 |" in capsys.readouterr().out  # the first is there
    monkeypatch.setattr("sys.argv", args)
    # A run that was trained further is measured again.
    log = tmp_path / "rows.jsonl"
    newest = restore.locate(trained.workdir)[0].name
    log.write_text(log.read_text().replace(f'"checkpoint": "{newest}"', '"checkpoint": "1"'))
    monkeypatch.setattr(rivals, "measure", lambda *args: {**row, "calls": 2})
    rivals.main()
    assert "| tiny GAN | 2 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("stacks", [False, True])
def test_a_row_is_measured(trained, tmp_path, stacks):
    """Of images that the judge knows, and of three of them as channels."""
    judge = tiny.experiment(
        tmp_path, "judge", task="guide(classifier(width=8, mults=(1,), blocks=1), clean=True)",
        steps=2, save_every=2, eval_every=0,
    )  # fmt: skip
    train.run(judge)
    run = trained
    if stacks:
        run = tiny.experiment(
            tmp_path, "stacked", task=TASK, steps=2, save_every=2, eval_every=0,
            lr_decay="cosine", conditional=False, data=f"stacked(of={judge.config.data}, size=90)",
        )  # fmt: skip
        train.run(run)
    out = tmp_path / "out"
    out.mkdir()
    args = SimpleNamespace(judge=judge.workdir, num=120, batch=60, data_dir="", out=out)
    row = rivals.measure(str(run.workdir), {}, args)
    assert 0.0 <= row["judge_errs"] <= 1.0 and row["frechet"] is not None
    assert all(row[k] >= 0.0 for k in ("density", "coverage", "recall"))
    assert ("modes" in row) is stacks and ("variation" in row) is not stacks
    if stacks:
        assert row["modes"]["modes"] == 27 and row["modes"]["samples"] == 120
        known = _judges.features_by_channel(judge.workdir)
        bench = _judges.bench_of(rivals.opened(str(run.workdir), {}, args), judge.workdir)
        assert bench.features.size == known.size == bench.reference.size
    rivals.show([{**row, **rivals.bits(str(run.workdir), 2), "name": "GAN"}])


def test_media_that_are_no_images_and_the_best_of_nothing_are_refused(trained, tmp_path):
    run = tiny.experiment(tmp_path, task=TASK, data="signals()", conditional=False)
    with pytest.raises(ConfigError, match="trained on images, and these are signals"):
        run.task.open(run, train.HANDED)
    with pytest.raises(CheckpointError, match=r"eval\.checkpoint='best'.*use latest"):
        restore.restore_newest(trained.workdir, restore.read_meta, best=True)
