"""Samples on a terminal, pixel by pixel."""

import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO
from rich.console import Console

from diffusion_jax.runtime import terminal

IMAGES = np.random.default_rng(0).integers(0, 17, (20, 8, 8, 1)).astype(np.uint8)
PIXELS = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m(\u2580+)")


def read_back(shown):
    """The picture that a terminal would show."""
    rows = []
    for line in shown.splitlines():
        cells = [(list(map(int, m[:6]))) for m in PIXELS.findall(line) for _ in m[6]]
        if cells:
            rows += [[c[:3] for c in cells], [c[3:] for c in cells]]
    return np.asarray(rows, np.uint8)


@pytest.mark.parametrize("height", [6, 7])
def test_every_pixel_is_half_a_character(height):
    picture = np.random.default_rng(1).integers(0, 256, (height, 9, 3)).astype(np.uint8)
    console = Console(force_terminal=True, color_system="truecolor", width=40, legacy_windows=False)
    with console.capture() as seen:
        console.print(terminal.half_blocks(picture))
    back = read_back(seen.get())
    np.testing.assert_array_equal(back[:height], picture)
    assert back.shape == (height + height % 2, 9, 3) and not back[height:].any()


def test_images_stand_side_by_side_within_the_width():
    sheet = terminal.sheet(IMAGES, 17, 10, 100)
    assert sheet.shape == (17, 89, 3)
    np.testing.assert_array_equal(
        sheet[9:17, 9:17, 0], np.round(IMAGES[11, :, :, 0] * (255 / 16))
    )  # second line, second image
    assert not sheet[8].any() and not sheet[:, 8].any()
    for width in (1, 5, 8, 20, 37, 300):
        assert terminal.sheet(IMAGES, 17, 0, width).shape[1] <= width


def test_large_images_are_made_smaller_by_their_mean():
    grey = np.full((3, 32, 32, 3), 100, np.uint8)
    grey[:, :, 16:] = 200
    grey[:, ::2, 20] = 100
    sheet = terminal.sheet(grey, 256, 0, 45)
    assert sheet.shape == (8, 26, 3)
    # Four by four pixels each: one column of them is half 100, half 200 in one pixel of four.
    np.testing.assert_array_equal(sheet[:, :8, 0], [[100] * 4 + [200, 188, 200, 200]] * 8)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"CI": "true"}, False), ({"TERM": "dumb"}, False)],
    ids=str,
)
def test_a_terminal_shows_them_unless_told_otherwise(changes, shown):
    ours, theirs = pty.openpty()
    code = (
        "import numpy as np; from diffusion_jax.runtime import terminal\n"
        "terminal.show(np.random.default_rng(0).integers(0, 17, (20, 8, 8, 1)), 17, 10)\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR", "FORCE_COLOR")}
    env |= {"COLUMNS": "100", "TERM": "xterm-256color", "COLORTERM": "truecolor",
            "PYTHONIOENCODING": "utf-8", **changes}  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stdin=theirs,
                               stderr=subprocess.PIPE, env=env, cwd=REPO)  # fmt: skip
    os.close(theirs)
    out = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        out += part
    os.close(ours)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    if not shown:
        assert out == b""
        return
    np.testing.assert_array_equal(read_back(out.decode())[:17], terminal.sheet(IMAGES, 17, 10, 100))


def test_nothing_is_drawn_into_a_pipe(capsys):
    terminal.show(IMAGES, 17)
    assert capsys.readouterr().out == ""
