"""Later frames given the first ones: the view, what networks are told, and two runs as stages."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from command import main
from kraft_sum import bounds, everything, law
from weights import moved

from diffusion_jax import registry
from diffusion_jax.data.views.base import known_bits
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import assembly, open_run

TOYS = "toys(glyphs=2, size=6, frames=4, velocities=((0, 1), (1, 0), (0, -1)))"
EVERY = 2 * 6 * 6 * 3
SHAPE = (4, 6, 6, 1)
UNET = "width=8, mults=(1,), blocks=1, attention=(), heads=2, dropout=0.0, fourier=False"
SEQUENCE = "width=8, depth=1, heads=2"


def view(text):
    return registry.build("views", text, levels=2)


@pytest.mark.parametrize("given", [1, 2, 3])
def test_both_parts_make_up_the_video(given):
    videos = np.random.default_rng(0).integers(0, 9, (5, *SHAPE)).astype(np.uint8)
    first, later = view(f"first(frames={given})"), view(f"later(given={given})")
    low, nothing = first(videos)
    part, told = later(videos)
    assert not nothing and np.array_equal(told["low"], low)
    assert np.array_equal(later.join(part, told), videos)
    assert np.array_equal(first.join(low, {}), videos[:, :given])
    assert first.shape(SHAPE) == later.given_shape(SHAPE) == (given, 6, 6, 1)
    assert later.shape(SHAPE) == (4 - given, 6, 6, 1)
    assert first.pyramid == later.pyramid != view("later(given=9)").pyramid


@pytest.mark.parametrize(
    ("text", "shape", "says"),
    [
        ("later(given=4)", SHAPE, "cut videos of 4 frames in two: allowed: 1 .. 3"),
        ("first(frames=7)", SHAPE, "allowed: 1 .. 3"),
        ("first(frames=1)", (1, 6, 6, 1), "allowed: none"),
        ("later()", (8, 8, 1), r"need videos \[T, H, W, C\], but these data are \[8, 8, 1\]"),
        ("later(given=0)", SHAPE, "given"),
    ],
)
def test_what_cannot_be_cut_is_refused(text, shape, says):
    with pytest.raises(ConfigError, match=says):
        view(text).shape(shape)


def test_what_is_known_of_toys_is_counted():
    """As many first frames as differ, so many bits: with two of them nothing is left."""
    source = registry.build("data", TOYS)
    videos = source.split("train").images
    assert len(videos) == EVERY
    for count in (1, 2, 3):
        seen = len(np.unique(videos[:, :count].reshape(EVERY, -1), axis=0))
        first, later = view(f"first(frames={count})"), view(f"later(given={count})")
        assert known_bits(first, source, False) == pytest.approx(np.log2(seen))
        assert known_bits(later, source, False) == pytest.approx(np.log2(EVERY / seen))
        assert known_bits(first, source, True) == pytest.approx(np.log2(seen / 2))
    assert known_bits(view("whole()"), source, False) == source.entropy[0]
    letters = registry.build("data", "letters()")
    assert known_bits(view("whole()"), letters, False) == letters.entropy[0]
    assert known_bits(view("later()"), registry.build("data", "moving()"), False) is None


def test_frames_that_follow_from_the_first_cost_nothing():
    """With exact denoisers: all of the bits are those of the first frame."""
    first = everything((1, 1, 2, 1), 2)
    videos = np.concatenate([first, 1 - first], axis=1)
    p = law(4)
    np.testing.assert_allclose(bounds(videos, 2, p, view="first(frames=1)"), -np.log(p), atol=0.06)
    np.testing.assert_allclose(bounds(videos, 2, p, view="later(given=1)"), 0.0, atol=0.06)


def test_frames_that_are_independent_cost_what_they_cost_alone():
    videos, one = everything((2, 1, 2, 1), 2), law(4)
    numbers = videos.reshape(16, 2, 2) @ np.array([2, 1])
    p = one[numbers[:, 0]] * one[numbers[:, 1]]
    later = bounds(videos, 2, p, view="later(given=1)")
    np.testing.assert_allclose(later, -np.log(one[numbers[:, 1]]), atol=0.06)
    np.testing.assert_allclose(np.ptp(later.reshape(4, 4), axis=0), 0.0, atol=1e-4)


def network(spec, shape, **more):
    known = {"channels": 1, "levels": 2, "num_classes": 3, "gamma_min": -6.0, "gamma_max": 10.0}
    return registry.build("backbones", spec, shape=shape, **known, **more)


def test_given_frames_are_frames_without_noise():
    """At the least noise a network that is given frames is that of whole videos, of its weights."""
    whole = network(f"video_unet({UNET})", SHAPE)
    told = network(f"video_unet({UNET})", (3, 6, 6, 1), low=1, given=1)
    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    gamma, cond = jnp.full(2, -6.0), {"label": jnp.asarray([0, 2])}
    low = cond | {"low": x[:, :1]}
    params = moved(jax.jit(told.init)(jax.random.key(1), x[:, 1:], gamma, low), 0.2)
    shapes = jax.eval_shape(whole.init, jax.random.key(1), x, gamma, cond)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    run = jax.jit(told.apply)
    out = run(params, x[:, 1:], gamma, low)
    np.testing.assert_allclose(out, jax.jit(whole.apply)(params, x, gamma, cond)[:, 1:], atol=1e-5)
    # The noise in them is told, and only that of the others is `gamma`.
    assert jnp.abs(run(params, x[:, 1:], gamma + 1.0, low) - out).max() > 1e-4
    noisy = low | {"low_gamma": jnp.asarray([-6.0, 2.0])}
    moved_by = jnp.abs(run(params, x[:, 1:], gamma, noisy) - out).max((1, 2, 3, 4))
    assert moved_by[0] == 0.0 and moved_by[1] > 1e-4
    with pytest.raises(ConfigError, match=r"is conditioned on first frames \[2, 1, 6, 6, 1\]"):
        told.init(jax.random.key(1), x[:, 1:], gamma, {"low": x[:, :2]})
    with pytest.raises(ConfigError, match="or first frames"):
        told.init(jax.random.key(1), x[:, 1:], gamma, {})


@pytest.mark.parametrize(
    "spec", ["stacked_frames(of=mlp(width=16, depth=1, embed=8))", "mlp(width=16, depth=1)"]
)
def test_networks_of_images_see_every_frame_that_is_given(spec):
    told = network(spec, (2, 6, 6, 1), low=1, given=2)
    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    low, z, gamma = x[:, :2], x[:, 2:], jnp.zeros(2)
    params = moved(jax.jit(told.init)(jax.random.key(1), z, gamma, {"low": low}), 0.2)
    run = jax.jit(told.apply)
    out = run(params, z, gamma, {"low": low})
    for frame in (0, 1):
        changed = run(params, z, gamma, {"low": low.at[0, frame].add(1.0)}) - out
        assert jnp.abs(changed[0]).max() > 1e-4 and jnp.abs(changed[1]).max() == 0.0


def train(folder, name, view):
    c = tiny.config(folder, view=view, data=TOYS, conditional=False, steps=2, eval_every=0,
                    gamma_min=-6.0, gamma_max=6.0, guidance="none()")  # fmt: skip
    (folder / f"{name}.json").write_text(c.to_json())
    done = main(f"--config={folder / name}.json", f"--workdir={folder / name}",
                "--config.eval.limit=20")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / name, done.stdout


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    return train(folder, "first", "first(frames=2)"), train(folder, "later", "later(given=2)")


def together(mode, stages, where, *more):
    names = ",".join(str(folder) for folder, _ in stages)
    return main(mode, f"--config.stages={names}", f"--workdir={where}", "--trust", *more)


def test_a_run_says_which_bits_its_part_has(stages):
    (first, of_first), (later, of_later) = stages
    assert "of the first 2 frames (first(frames=2))" in of_first
    assert "of the later frames, given the first 2 (later(given=2))" in of_later
    assert "per value of the whole video (144); per value of the part (72): " in of_later
    for folder, known in ((first, np.log2(EVERY)), (later, 0.0)):
        found = json.loads((folder / "eval" / "2.json").read_text())["result"]
        assert found["known"]["entropy_bits"] == pytest.approx(known)
        bits = found["known"]["bits"]["bits_per_dim"]
        assert bits == pytest.approx(found["bits_per_dim"] * 144)
        assert found["known"]["excess_bits"] == pytest.approx(bits - known)
    assert "bits per example; entropy of this part 0.0000; excess " in of_later


def test_bits_of_both_add_up(stages, tmp_path):
    done = together("eval", stages, tmp_path, "--config.eval.limit=20")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "eval" / "2.json").read_text())["result"]
    first, later = found["stages"]
    alone = json.loads((stages[0][0] / "eval" / "2.json").read_text())["result"]
    assert first["bits_per_dim"] == alone["bits_per_dim"]
    total = first["bits_per_dim"] + later["bits_per_dim"]
    assert found["bits_per_dim"] == pytest.approx(total)
    assert (first["values"], later["values"]) == (72, 72)
    assert found["known"]["entropy_bits"] == pytest.approx(np.log2(EVERY))
    assert found["known"]["bits"]["bits_per_dim"] == pytest.approx(144 * total)


def test_samples_begin_with_what_the_first_run_draws(stages, tmp_path):
    done = together("sample", stages, tmp_path)
    assert done.returncode == 0, done.stderr
    videos = np.load(tmp_path / "samples" / "2.npz")["image"]
    drawn = np.load(stages[0][0] / "samples" / "2.npz")["image"]
    assert videos.shape == (6, *SHAPE) and np.array_equal(videos[:, :2], drawn)
    alone = np.load(stages[1][0] / "samples" / "2.npz")["image"]
    test = open_run(stages[1][0], trust=True).source.split("test").images[:6]
    assert np.array_equal(alone[:, :2], test[:, :2])  # those of the data, without a first stage
    given = stages[0][0] / "samples" / "2.npz"
    done = main("sample", f"--workdir={stages[1][0]}", "--trust", f"--config.sample.low={given}",
                "--config.sample.low_gamma=-2.0", "--config.sample.seed=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    newest = max((stages[1][0] / "samples").glob("*.npz"), key=lambda p: p.stat().st_mtime)
    assert np.array_equal(np.load(newest)["image"][:, :2], drawn)


def test_a_file_of_both_gives_the_videos_back(stages, tmp_path):
    asked = (
        "--config.compress.timesteps=3",
        "--config.compress.limit=8",
        "--config.compress.verify",
    )
    done = together("compress", stages, tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    assert "byte-exact" in done.stdout
    done = together(
        "decompress", stages, tmp_path, f"--config.compress.output={tmp_path / 'o.npz'}"
    )
    assert done.returncode == 0, done.stderr
    test = open_run(stages[0][0], trust=True).source.split("test").images[:8]
    assert np.array_equal(np.load(tmp_path / "o.npz")["image"], test)


def test_both_paint_frames_and_keep_the_others(stages, tmp_path):
    done = together("edit", stages, tmp_path, "--config.edit.image=split:test",
                    "--config.edit.pick=(0, 1)", "--config.edit.method=replace()",
                    "--config.edit.mask=time:1:3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(next(tmp_path.glob("edits/*/results.npz"))) as f:
        assert f["mask"].shape[1] == 4 and np.array_equal(f["mask"][0, :, 0, 0, 0], [0, 1, 1, 0])
        kept = f["mask"][0, :, 0, 0, 0] == 0
        assert np.array_equal(f["image"][:, kept], f["source"][:, kept])
        assert not np.array_equal(f["image"], f["source"])


@pytest.mark.parametrize(
    ("mode", "which", "more", "says"),
    [
        ("sample", (1, 0), (), "for videos first(frames=N), then later(given=N)"),
        ("sample", (0, 1), ("--config.sample.low_gamma=7.0",), "outside the trained range"),
        ("compress", (1,), (), "whole videos with all stages, --config.stages=FIRST,LATER"),
        ("edit", (1,), ("--config.edit.image=split:test",), "models a part of each video and"),
        ("quality", (0,), (), "draws first frames and not whole examples"),
        ("sample", (1,), (), "needs first frames: give all stages, --config.stages=FIRST,LATER"),
    ],
)
def test_what_stages_cannot_do_is_refused_in_a_line(stages, tmp_path, mode, which, more, says):
    if len(which) == 1:
        done = main(mode, f"--workdir={stages[which[0]][0]}", "--trust", *more)
    else:
        done = together(mode, [stages[i] for i in which], tmp_path, *more)
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"view": "later(given=4)"}, "cut videos of 4 frames in two: allowed: 1 .. 3"),
        ({"view": "later()", "data": "digits()"}, "these data are [8, 8, 1]"),
        (
            {"view": "later()", "network": f"stacked_frames(of=sequence({SEQUENCE}))"},
            "does not accept",
        ),
        ({"view": "later()", "network": f"unet({UNET})"}, "for videos use video_unet()"),
    ],
)
def test_runs_that_cannot_be_trained_are_refused(tmp_path, changes, says):
    settings = {"data": TOYS, "conditional": False, "guidance": "none()", **changes}
    run = tiny.experiment(tmp_path, **settings)
    with pytest.raises(ConfigError) as error:
        assembly.check_call(run)
    assert says in str(error.value)
