"""Videos: data whose entropy is known, networks of frames, films."""

import io
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from PIL import Image, ImageSequence
from weights import moved

from diffusion_jax import registry, testing
from diffusion_jax.compression import other_formats
from diffusion_jax.data.media.video import FILMS, VIDEO, film, frames_of, frames_of_film
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.experiment.sampling import run_sampler
from diffusion_jax.networks.text_encoders.base import encode
from diffusion_jax.training import step as step_lib
from diffusion_jax.training.tasks.diffusion import make_recipe

FRAMES = (3, 4, 4, 1)
UNET = "width=8, mults=(1,), blocks=1, attention=(), heads=2, dropout=0.0, fourier=False"
KNOWN = {"channels": 1, "levels": 2, "num_classes": 3, "gamma_min": -6.0, "gamma_max": 10.0}


def network(spec, shape=FRAMES):
    return registry.build("backbones", spec, shape=shape, **KNOWN)


@pytest.fixture(scope="module")
def frames():
    return jax.random.normal(jax.random.key(0), (2, *FRAMES))


@pytest.fixture(scope="module")
def weights(frames):
    init = jax.jit(network(f"video_unet({UNET})").init)
    return init(jax.random.key(1), frames, jnp.zeros(2), {})


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


def test_weights_of_images_give_each_frame_what_they_gave_an_image(frames, weights):
    images = network(f"unet({UNET})", FRAMES[1:])
    gamma, label = jnp.asarray([-2.0, 1.0]), jnp.asarray([0, 2])
    flat = frames.reshape(-1, *FRAMES[1:])
    params = jax.eval_shape(images.init, jax.random.key(2), flat, jnp.zeros(6), {})
    own = moved(weights, 0.2)["params"]
    # What it has besides are the layers between frames, which begin with nothing.
    mine = {name: own[name] for name in params["params"]}
    new = {name: weights["params"][name] for name in own if name not in mine}
    assert new and all("time" in name for name in new)
    video = network(f"video_unet({UNET})").apply
    out = jax.jit(video)({"params": mine | new}, frames, gamma, {"label": label})
    told = jnp.repeat(gamma, 3), {"label": jnp.repeat(label, 3)}
    alone = jax.jit(images.apply)({"params": mine}, flat, *told)
    np.testing.assert_allclose(out.reshape(flat.shape), alone, atol=1e-5)


def test_only_distances_in_time_tell_frames_apart(frames, weights):
    run = jax.jit(network(f"video_unet({UNET})").apply)
    full = moved(weights, 0.2)
    blind = jax.tree_util.tree_map_with_path(
        lambda path, a: jnp.zeros_like(a) if path[-1].key == "bias" and "time" in str(path)
        and len(path) == 3 else a, full,
    )  # fmt: skip
    order, gamma = jnp.asarray([2, 0, 1]), jnp.zeros(2)
    shuffled = run(blind, frames[:, order], gamma, {})
    np.testing.assert_allclose(shuffled, run(blind, frames, gamma, {})[:, order], atol=1e-5)
    told = run(full, frames[:, order], gamma, {})
    assert jnp.abs(told - run(full, frames, gamma, {})[:, order]).max() > 1e-3
    changed = run(full, frames.at[0, 2].add(1.0), gamma, {}) - run(full, frames, gamma, {})
    assert jnp.abs(changed[0, 0]).max() > 1e-4, "frames do not see one another"
    assert jnp.abs(changed[1]).max() == 0.0, "videos see one another"


def test_stacked_frames_are_channels_of_one_image(frames):
    stacked = network("stacked_frames(of=mlp(width=16, depth=1, embed=8))")
    weights = moved(jax.jit(stacked.init)(jax.random.key(1), frames, jnp.zeros(2), {}), 0.2)
    run = jax.jit(stacked.apply)
    out = run(weights, frames, jnp.zeros(2), {})
    assert out.shape == frames.shape
    changed = run(weights, frames.at[0, 2].add(1.0), jnp.zeros(2), {}) - out
    assert jnp.abs(changed[0, 0]).max() > 1e-4 and jnp.abs(changed[1]).max() == 0.0


def test_stacked_frames_read_text_as_their_network_of_images_does():
    reader = registry.build("text_encoders", "bytes(length=6, width=8, depth=1, heads=2)")
    told = {"channels": 1, "shape": (3, 4, 4, 1), "text": reader}
    stacked = registry.build("backbones", f"stacked_frames(of=unet({UNET}))", **told)
    assert stacked.text == reader
    ids = jnp.asarray(encode(reader, ["up", "down"]))
    z, gamma = jnp.ones((2, 3, 4, 4, 1)), jnp.zeros(2)
    weights = moved(jax.jit(stacked.init)(jax.random.key(1), z, gamma, {"text": ids}), 0.2)
    out = jax.jit(stacked.apply)(weights, z, gamma, {"text": ids})
    assert out.shape == z.shape and jnp.abs(out[0] - out[1]).max() > 1e-4
    blind = registry.build("backbones", "stacked_frames(of=mlp(width=8))", **told)
    assert blind.text is None


@pytest.mark.parametrize("spec", [f"video_unet({UNET})", f"stacked_frames(of=unet({UNET}))"])
def test_another_number_of_frames_is_refused(spec):
    with pytest.raises(ConfigError, match=r"takes videos \[B, 3, H, W, C\]"):
        network(spec).init(jax.random.key(0), jnp.zeros((2, 4, 4, 4, 1)), jnp.zeros(2), {})


def test_images_networks_say_what_takes_videos(frames):
    with pytest.raises(ConfigError, match=r"takes images.*video_unet"):
        network(f"unet({UNET})").init(jax.random.key(0), frames, jnp.zeros(2), {})


@pytest.mark.parametrize("kind", FILMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_films_keep_every_value(kind, channels):
    if kind == "gif" and channels == 3:
        pytest.skip("has 256 colours")
    frames = np.random.default_rng(0).integers(0, 256, (4, 6, 5, channels)).astype(np.uint8)
    read = Image.open(io.BytesIO(film(frames, kind)))
    for shown, own in zip(ImageSequence.Iterator(read), frames, strict=True):
        mode = "L" if channels == 1 else "RGB"
        np.testing.assert_array_equal(np.asarray(shown.convert(mode)).reshape(own.shape), own)


@pytest.mark.parametrize("kind", ["", *VIDEO.kinds])
def test_a_film_is_of_the_kind_that_is_asked_for(tmp_path, kind):
    videos = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 4, 1)).astype(np.uint8)
    (path,) = VIDEO.keep(tmp_path / "7", videos, 5, kind)
    assert path.name == f"7.{kind or 'gif'}"
    with Image.open(path) as film:
        assert film.n_frames == 3
        assert film.format == {"webp": "WEBP", "apng": "PNG"}.get(kind, "GIF")


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        ("toys()", "mp4", "samples are videos; allowed: gif, webp, apng"),
        ("digits()", "gif", "samples are images; leave it out"),
    ],
)
def test_kinds_of_film_that_there_are_not(tmp_path, data, kind, says):
    run = tiny.experiment(tmp_path, data=data)
    run.config.sample.format = kind
    with pytest.raises(ConfigError, match=says):
        run_sampler.check(run)


def test_a_strip_has_every_frame():
    videos = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5, 1).astype(np.uint8)
    strip = VIDEO.stills(videos, 256)
    assert strip.shape == (2, 4, 3 * 6 - 1, 1)
    for t in range(3):
        np.testing.assert_array_equal(strip[:, :, 6 * t : 6 * t + 5], videos[:, t])


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


def frames_seen(pictures, kind, **how):
    out = io.BytesIO()
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], **how)
    out.seek(0)
    return [np.asarray(frame) for frame in frames_of(out, 1)]


def test_frames_are_read_as_pictures_are():
    wide = [np.full((2, 3), level, np.uint16) for level in (0x80, 0x1234, 0xFF00)]
    found = frames_seen([Image.fromarray(w) for w in wide], "PNG")
    np.testing.assert_array_equal(found, np.stack(wide) >> 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = [np.arange(6, dtype=np.uint8).reshape(2, 3) * 40 + k for k in range(2)]
    held = [Image.fromarray(r).convert("RGB") for r in rows]
    found = frames_seen(held, "WEBP", lossless=True, exif=exif.tobytes())
    np.testing.assert_array_equal(found, [np.rot90(r, -1) for r in rows])


def test_a_picture_in_place_of_an_animation_is_no_frame_of_it():
    levels = [Image.new("L", (2, 2), level) for level in (200, 10, 20)]
    assert [f[0, 0] for f in frames_seen(levels, "PNG", default_image=True)] == [10, 20]
    assert [f[0, 0] for f in frames_seen(levels, "PNG")] == [200, 10, 20]


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(DataError, match="no videos of 8 frames"):
        registry.build("data", f"videos({str(tmp_path)!r})")
    with pytest.raises(DataError, match=r"valid=0.5, test=0.5: must be fractions of 1 that leave"):
        registry.build("data", f"videos({str(tmp_path)!r}, valid=0.5, test=0.5)")


TINY = "toys(glyphs=2, size=6, frames=3, velocities=((0, 1), (1, 0)))"


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


@pytest.mark.parametrize("label", [0, 1, 3])
def test_unrelated_images_see_themselves_alone(label, frames, weights):
    """Class 1 of these is `stills`, 3 the null class: another last frame changes no other."""
    source = registry.build("data", f"joint(of={TINY})")
    joint = network(f"video_unet({UNET}, stills={source.stills})")
    other = frames.at[:, -1].add(1.0)
    cond = {"label": jnp.full(2, label)}
    run = jax.jit(lambda z: joint.apply(moved(weights, 0.3), z, jnp.zeros(2), cond))
    same = np.asarray(run(frames) == run(other)).all((2, 3, 4))
    assert same[:, :-1].all() == same[:, :-1].any() == (label == source.stills)
    assert not same[:, -1].any()


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


def test_without_attention_between_frames_they_are_images(frames):
    alone = network(f"video_unet({UNET}, time=False)")
    weights = jax.jit(alone.init)(jax.random.key(1), frames, jnp.zeros(2), {})
    assert not any("time" in name for name in weights["params"])


@pytest.mark.parametrize("kind", FILMS)
def test_a_film_that_stands_still_keeps_its_length(kind):
    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 1)).astype(np.uint8)
    frames = frames[[0, 0, 0, 1, 2, 2]]
    back = frames_of_film(film(frames, kind))
    back = back if back.ndim == 3 else back[..., 0]
    np.testing.assert_array_equal(back, frames[..., 0])


def test_animated_rivals_give_every_video_back():
    found = other_formats.rivals(registry.build("data", TINY).split("test").images[:3], "video")
    assert [r["format"] for r in found] == [
        "animated PNG",
        "animated WebP, lossless",
        "xz",
        "bzip2",
    ]
    assert all(r["bits_per_dim"] > 0.0 for r in found)


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
