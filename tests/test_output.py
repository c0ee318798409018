"""Pictures, progress and records."""

import json

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.runtime import images
from diffusion_jax.runtime.progress import progress
from diffusion_jax.training import metrics


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_image_where_it_belongs(channels, tmp_path):
    levels = 17
    data = np.arange(6).repeat(4 * 4 * channels).reshape(6, 4, 4, channels) * 3
    picture = images.grid(data, levels, columns=3, pixels=8)
    assert picture.shape == (2 * 8 + 2, 3 * 8 + 4, 3) and picture.dtype == np.uint8
    for i in range(6):
        y, x = i // 3 * 10, i % 3 * 10
        assert np.all(picture[y : y + 8, x : x + 8] == round(i * 3 * 255 / 16))
    images.save_png(tmp_path / "grid.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), picture)


def test_white_is_white_and_two_channels_are_refused():
    assert images.grid(np.full((1, 2, 2, 1), 16), 17).max() == 255
    with pytest.raises(ValueError, match="2 channels"):
        images.grid(np.zeros((1, 2, 2, 2)), 17)


def test_progress_without_a_terminal_writes_plain_lines(capsys):
    with progress("work", 4, every=0.0) as bar:
        for i in range(1, 5):
            bar.at(i, note="going well")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("work 4/4") and "left" in lines[-1] and "going well" in lines[-1]
    with progress("work", 4, show=False) as bar:
        bar.at(4)
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("work", 4) as bar:
        bar.at(4, note="done well")
    shown = capsys.readouterr().err
    assert "4/4" in shown and "done well" in shown and "\x1b[" in shown


def test_scalars_reach_both_files(tmp_path):
    writer = metrics.Writer(tmp_path)
    writer.scalars(3, {"a": np.float32(1.5), "b": 2})
    writer.image(3, "picture", np.zeros((4, 4, 3), np.uint8))
    writer.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row.pop("seconds") >= 0.0
    assert row == {"step": 3, "a": 1.5, "b": 2.0}
    assert [p for p in tmp_path.iterdir() if "tfevents" in p.name]
    silent = metrics.Writer(None)
    silent.scalars(0, {"a": 1.0})
    silent.close()


@pytest.mark.parametrize("before", [b"", b'{"step": 1, "a": 1.0}\n', b'{"step": 1, "a'])
def test_a_torn_last_line_spoils_no_other(tmp_path, before):
    (tmp_path / "metrics.jsonl").write_bytes(before)
    writer = metrics.Writer(tmp_path)
    writer.scalars(2, {"a": 2.0})
    writer.close()
    *first, last = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert "\n".join(first) == before.decode().rstrip() and json.loads(last)["a"] == 2.0


def test_parameter_table_names_every_array():
    table = metrics.parameter_table({"conv": {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)}})
    assert "conv/kernel" in table and "(3, 4)" in table and "16" in table
