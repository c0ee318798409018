"""Data sets of videos, whose entropy is known or whose motion is."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image

from diffusion_jax import registry, testing
from diffusion_jax.data.media.video import film
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.training import step as step_lib
from diffusion_jax.training.tasks.diffusion import make_recipe

UNET = "width=8, mults=(1,), blocks=1, attention=(), heads=2, dropout=0.0, fourier=False"
TINY = "toys(glyphs=2, size=6, frames=3, velocities=((0, 1), (1, 0)))"


def test_every_toy_is_another_and_two_frames_tell_the_rest():
    source = registry.build("data", "toys(glyphs=3, size=7, frames=3)")
    found = source.split("train").images
    assert np.isclose(2.0 ** source.entropy[0], len(found))
    assert np.isclose(2.0 ** source.entropy[1] * 3, len(found))
    for shown in (found, found[:, :2]):
        assert len(np.unique(shown.reshape(len(found), -1), axis=0)) == len(found)


def test_toys_have_the_entropy_that_is_announced():
    assert round(registry.build("data", "toys()").entropy[0], 2) == 14.32


def test_a_toy_moves_by_its_velocity_around_the_torus():
    found = registry.build("data", "toys(glyphs=2, size=9, frames=4, velocities=((2, -1),))")
    for video in found.split("test").images[:20]:
        for before, after in itertools.pairwise(video):
            np.testing.assert_array_equal(np.roll(before, (2, -1), axis=(0, 1)), after)


def test_toys_are_a_data_set():
    testing.check("data", "toys(glyphs=2, size=6, frames=2)")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("toys(velocities=((0, 1), (0, 17)))", "all different"),
        ("toys(frames=1)", "no velocity"),
        ("toys(glyphs=11)", "there are only 10"),
        ("toys(size=4)", "at least 6"),
    ],
)
def test_toys_that_would_not_be_distinct_are_refused(text, says):
    with pytest.raises(DataError, match=says):
        registry.build("data", text)


def moving(text):
    return registry.build("data", f"moving(of=digits(), videos=40, {text})")


def test_images_move_in_straight_lines_around_the_torus():
    found = moving("size=11, frames=4").split("train")
    for video in found.take(np.arange(8))["image"]:
        shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
        steps = [
            {s for s in shifts if np.array_equal(np.roll(a, s, (0, 1)), b)}
            for a, b in itertools.pairwise(video)
        ]
        assert len(set.intersection(*steps)) == 1


def test_between_walls_images_stay_whole():
    source = moving("size=9, frames=12, torus=False")
    digits = np.asarray(registry.build("data", "digits()").split("train").images).reshape(-1, 64)
    total = {int(d.sum()) for d in digits}
    for video in source.split("train").take(np.arange(8))["image"]:
        sums = {int(frame.sum()) for frame in video}
        assert len(sums) == 1 and sums <= total


def test_moving_images_are_a_data_set():
    testing.check("data", "moving(of=digits(), size=9, frames=2, videos=40)")


def test_a_folder_of_films_and_of_frames(tmp_path):
    rng = np.random.default_rng(0)
    videos = {f"{i}.gif": rng.integers(0, 256, (5, 4, 6, 1)).astype(np.uint8) for i in range(3)}
    for name, video in videos.items():
        (tmp_path / name).write_bytes(film(video, "gif"))
    (tmp_path / "._0.gif").write_bytes(b"what another system keeps beside a file")
    (tmp_path / "frames").mkdir()
    still = rng.integers(0, 256, (2, 4, 6)).astype(np.uint8)
    for i, picture in enumerate(still):
        Image.fromarray(picture).save(tmp_path / "frames" / f"{i}.png")
    how = "frames=2, size=(4, 6), channels=1, valid=0.0, test=0.0"
    source = registry.build("data", f"videos({str(tmp_path)!r}, {how})")
    wanted = [v[k : k + 2] for v in videos.values() for k in (0, 2)] + [still[..., None]]
    np.testing.assert_array_equal(source.split("train").images, np.stack(wanted))


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(DataError, match="no videos of 8 frames"):
        registry.build("data", f"videos({str(tmp_path)!r})")
    with pytest.raises(DataError, match=r"valid=0.5, test=0.5: must be fractions of 1 that leave"):
        registry.build("data", f"videos({str(tmp_path)!r}, valid=0.5, test=0.5)")


def test_unrelated_images_are_told_from_videos():
    source = registry.build("data", f"joint(of={TINY}, share=0.25)")
    train, videos = source.split("train"), registry.build("data", TINY).split("train").images
    assert len(train) == round(len(videos) / 0.75)
    known = {v.tobytes() for v in videos}
    frames = {f.tobytes() for v in videos for f in v}
    for row in train.take(np.arange(len(train)))["image"][len(videos) - 5 :]:
        assert all(f.tobytes() in frames for f in row)
    whole = np.asarray([v.tobytes() in known for v in train.images[:]])
    assert whole[train.labels == 0].all() and not whole[train.labels == 1].all()
    assert (source.split("test").labels == 0).all()
    assert source.entropy[1] == registry.build("data", TINY).entropy[0]


def test_the_label_of_unrelated_images_is_never_dropped(tmp_path):
    """They would see one another by the null class; those of videos all become it here."""
    run = tiny.experiment(tmp_path, data=f"joint(of={TINY})", network=f"video_unet({UNET})",
                          class_dropout=1.0)  # fmt: skip
    label = jnp.arange(8) % 2
    batch = {"image": jnp.zeros((8, *run.source.shape), jnp.uint8), "label": label}
    _, cond, _ = step_lib.prepare(make_recipe(run), batch, jnp.asarray(0))
    wanted = jnp.where(label == run.source.stills, label, run.model.num_classes)
    np.testing.assert_array_equal(cond["label"], wanted)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, None),
        (
            {"conditional": False},
            "only their class distinguishes them from videos: set --config.conditional",
        ),
        ({"network": f"stacked_frames(of=unet({UNET}))"}, "mixes all frames: use"),
    ],
)
def test_unrelated_frames_are_kept_apart_or_refused(tmp_path, changes, says):
    settings = {"data": f"joint(of={TINY})", "network": f"video_unet({UNET})", "conditional": True}
    run = tiny.experiment(tmp_path, **{**settings, **changes})
    if says is None:
        assert run.model.network.stills == run.source.stills
    else:
        with pytest.raises(ConfigError, match=says):
            run.model  # noqa: B018


def test_joint_data_are_a_data_set_and_refuse_other_frames():
    testing.check("data", f"joint(of={TINY})")
    with pytest.raises(DataError, match=r"images \(6, 6, 1\) with 2 levels"):
        registry.build("data", f"joint(of={TINY}, images=digits())")


def test_videos_alone_need_no_other_images(tmp_path):
    """Evaluation is of videos: images of which none are held out will do."""
    images = np.zeros((9, 6, 6, 1), np.uint8)
    np.savez(tmp_path / "x.npz", train_image=images, test_image=images)
    plain = f"npz(path={str(tmp_path / 'x.npz')!r}, levels=2)"
    source = registry.build("data", f"joint(of={TINY}, images={plain})")
    few = registry.build("data", TINY)
    assert [len(source.split(s)) for s in ("valid", "test")] == [
        len(few.split(s)) for s in ("valid", "test")
    ]
    train = source.split("train")
    assert not train.images[len(train) - 1].any()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("stacked(of=toys())", "needs images with one channel and classes"),
        ("joint(of=digits())", "joint: of=digits must be a data set of videos"),
        ("moving(of=letters())", "moving: of=letters_.* must be .* of images, .* it has texts"),
        ("joint(of=toys(), images=letters())", "joint: images=letters_.* it has texts"),
        ("rotated(letters(), turns=2)", "rotated: of=letters_.* of images or videos, .* has texts"),
        ("resized(letters(), size=4)", "resized: of=letters_.* it has texts"),
        ("stacked(of=letters())", "needs images with one channel and classes"),
        ("text(path='x.txt', valid=0.6, test=0.6)", "leave nothing to train on"),
        ("series(path='x.npz', clip=0.9)", "clip=0.9 must be below 0.5"),
    ],
)
def test_other_data_that_cannot_be_used(spec, says):
    with pytest.raises((ConfigError, DataError), match=says):
        registry.build("data", spec)


def test_a_pyramid_of_videos_is_refused():
    with pytest.raises(ConfigError, match="a pyramid needs images"):
        registry.build("views", "low(haar())", levels=2).shape((4, 8, 8, 1))
