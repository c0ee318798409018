"""Picture files of every kind, read as people see them; the same by everything that reads some."""

import io

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.cli import user_images
from diffusion_jax.compression import files
from diffusion_jax.data.datasets._pictures import decode
from diffusion_jax.data.pictures import Damaged, fitted, read, read_exactly
from diffusion_jax.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 8), dtype=np.uint8)


def saved(picture, kind="PNG", **how):
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


def seen(data, channels=3):
    return np.asarray(read(data, channels))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_as_exif_says(orientation):
    """Whoever holds the camera otherwise and says so takes the same picture."""
    undo = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.swapaxes(0, 1), 6: np.rot90, 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    held = np.ascontiguousarray(undo[orientation](COLOUR))
    np.testing.assert_array_equal(seen(saved(Image.fromarray(held), exif=exif)), COLOUR)


def test_transparent_pixels_are_over_white():
    alpha = np.full((6, 8, 1), 255, np.uint8)
    alpha[:, :4] = 0
    picture = Image.fromarray(np.concatenate([COLOUR, alpha], -1))
    over = np.where(alpha == 0, 255, COLOUR)
    for kind in ("PNG", "WEBP"):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        np.testing.assert_array_equal(seen(saved(picture, kind, **lossless)), over)
    half = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert abs(int(seen(saved(half))[0, 0, 0]) - 127) <= 1
    grey = Image.fromarray(np.stack([GREY, alpha[..., 0]], -1))
    assert grey.mode == "LA"
    np.testing.assert_array_equal(seen(saved(grey), 1), np.where(alpha[..., 0] == 0, 255, GREY))


def test_palettes_are_their_colours_and_their_transparency_is_over_white():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    np.testing.assert_array_equal(seen(saved(palette))[0], [[10, 20, 30], [40, 50, 60]])
    found = seen(saved(palette, transparency=0))[0]
    np.testing.assert_array_equal(found, [[255] * 3, [40, 50, 60]])


def test_sixteen_bits_keep_the_upper_eight():
    wide = GREY.astype(np.uint16) << 8 | RNG.integers(0, 256, GREY.shape).astype(np.uint16)
    data = saved(Image.fromarray(wide))
    np.testing.assert_array_equal(seen(data, 1), GREY)
    np.testing.assert_array_equal(seen(data, 3), GREY[..., None].repeat(3, -1))
    with pytest.raises(Damaged, match="32 bits"):
        read(saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"), 1)


def test_sixteen_bits_with_a_transparent_level_keep_the_upper_eight():
    """Of all sixteen bits: a level that differs from it in the lower eight is seen."""
    wide = np.array([[0, 0x80, 0x1000, 0x1001, 0x4000, 0x8000, 0xFFFF]], np.uint16)
    data = saved(Image.fromarray(wide), transparency=0x1000)
    wanted = np.array([[0, 0, 255, 16, 64, 128, 255]])
    np.testing.assert_array_equal(seen(data, 1), wanted)
    np.testing.assert_array_equal(seen(data, 3), wanted[..., None].repeat(3, -1))
    with pytest.raises(Damaged, match="transparent"):
        read(data, 1, background=None)
    opaque = saved(Image.fromarray(wide), transparency=0x2000)
    np.testing.assert_array_equal(np.asarray(read(opaque, 1, background=None)), wide >> 8)


def test_ink_is_turned_into_light():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    found = seen(saved(cmyk, "JPEG", quality=95)).reshape(-1, 3).mean(0)
    assert found[0] > 230 and max(found[1:]) < 25


@pytest.mark.parametrize(("size", "part"), [
    ((3, 4), np.s_[:, :]), ((6, 8), np.s_[:, :]), ((6, 6), np.s_[:, 1:7]),
    ((3, 3), np.s_[:, 1:7]), ((2, 8), np.s_[2:4]), ((6, 2), np.s_[:, 3:5]),
])  # fmt: skip
def test_the_centre_of_the_proportions_is_averaged(size, part):
    cut = COLOUR[part].astype(float)
    (h, w), k = size, cut.shape[0] // size[0]
    rows = np.floor(cut.reshape(cut.shape[0], w, cut.shape[1] // w, 3).mean(2) + 0.5)
    wanted = np.floor(rows.reshape(h, k, w, 3).mean(1) + 0.5)
    found = fitted(read(saved(Image.fromarray(COLOUR)), 3), size)
    np.testing.assert_array_equal(found, wanted)


def test_every_reader_sees_the_same(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = RNG.integers(0, 256, (6, 8, 4), dtype=np.uint8)
    path = tmp_path / "x.png"
    data = saved(Image.fromarray(alpha), exif=exif)
    path.write_bytes(data)
    for channels in (1, 3):
        shape = (4, 3, channels)
        image, labels = user_images.read_images(str(path), shape, 256)
        assert labels is None
        np.testing.assert_array_equal(image[0], decode(data, (4, 3), channels))


def test_masks_are_cut_like_their_pictures_and_never_transparent(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = user_images.read_mask(str(tmp_path / "mask.png"), (6, 6, 3))
    np.testing.assert_array_equal(found[0, :, :, 0], mask[:, 1:7] / 255.0)
    Image.new("RGBA", (4, 4)).save(tmp_path / "clear.png")
    with pytest.raises(DataError, match=r"clear\.png.*transparent pixels"):
        user_images.read_mask(str(tmp_path / "clear.png"), (4, 4, 3))
    with pytest.raises(DataError, match="is 8x6, smaller than 8x8"):
        user_images.read_mask(str(tmp_path / "mask.png"), (8, 8, 3))


def test_the_codec_converts_nothing(tmp_path):
    np.testing.assert_array_equal(read_exactly(saved(Image.fromarray(COLOUR))), COLOUR)
    np.testing.assert_array_equal(read_exactly(saved(Image.fromarray(GREY)))[..., 0], GREY)
    wide = Image.fromarray(GREY.astype(np.uint16))
    for picture, says in (
        (wide, "16 bits per channel"), (Image.new("P", (2, 2)), "mode P"),
        (Image.new("CMYK", (2, 2)), "mode CMYK"), (Image.new("1", (2, 2)), "mode 1"),
    ):  # fmt: skip
        data = saved(picture, "JPEG" if picture.mode == "CMYK" else "PNG")
        with pytest.raises(Damaged, match=says):
            read_exactly(data)
    (tmp_path / "x.png").write_bytes(saved(wide))
    with pytest.raises(DataError, match=r"x\.png: has 16 bits"):
        files.read(tmp_path / "x.png", "test", (6, 8, 1), 256, 0)


def test_sixteen_bit_colour_is_not_coded_in_silence():
    """Pillow drops its lower bytes without a word."""
    import struct
    import zlib

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    pixels = RNG.integers(0, 256, (2, 3, 3, 2), dtype=np.uint8)  # big-endian pairs
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
    data += chunk(b"IEND", b"")
    with pytest.raises(Damaged, match="16 bits"):
        read_exactly(data)
    np.testing.assert_array_equal(seen(data), pixels[..., 0])


@pytest.mark.parametrize("data", [b"", b"text", saved(Image.fromarray(COLOUR))[:60]])
def test_damage_is_one_line(data):
    for attempt in (lambda: read(data, 3), lambda: read_exactly(data)):
        with pytest.raises(Damaged) as e:
            attempt()
        assert "\n" not in str(e.value) and str(e.value)
