"""Films: what is written of a video, and how animations are read."""

import io

import numpy as np
import pytest
import tiny
from PIL import Image, ImageSequence

from diffusion_jax import registry
from diffusion_jax.compression import other_formats
from diffusion_jax.data.media.video import FILMS, VIDEO, film, frames_of, frames_of_film
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment.sampling import run_sampler

TINY = "toys(glyphs=2, size=6, frames=3, velocities=((0, 1), (1, 0)))"


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
