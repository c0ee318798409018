"""Pictures, progress and records."""

import json

import numpy as np
import pytest
from PIL import Image

from diffusion_jax.cli.modes import inspect
from diffusion_jax.cli.report.curves import read_curves
from diffusion_jax.runtime import formatting, image_grids, storage
from diffusion_jax.runtime.progress import progress
from diffusion_jax.training import metrics


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_image_where_it_belongs(channels, tmp_path):
    levels = 17
    data = np.arange(6).repeat(4 * 4 * channels).reshape(6, 4, 4, channels) * 3
    picture = image_grids.grid(data, levels, columns=3, pixels=8)
    assert picture.shape == (2 * 8 + 2, 3 * 8 + 4, 3) and picture.dtype == np.uint8
    for i in range(6):
        y, x = i // 3 * 10, i % 3 * 10
        assert np.all(picture[y : y + 8, x : x + 8] == round(i * 3 * 255 / 16))
    image_grids.save_png(tmp_path / "grid.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), picture)


def test_white_is_white_and_two_channels_are_refused():
    assert image_grids.grid(np.full((1, 2, 2, 1), 16), 17).max() == 255
    with pytest.raises(ValueError, match="2 channels"):
        image_grids.grid(np.zeros((1, 2, 2, 2)), 17)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 60, 64, 100, 400])
@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 64, 3), (64, 32, 3)])
@pytest.mark.parametrize("classes", [0, 1, 2, 3, 10, 37, 1000])
def test_sheets_are_about_as_wide_as_they_are_high(count, shape, classes):
    columns = image_grids.columns_for(count, shape, classes)
    assert 1 <= columns <= count
    ratio = columns * shape[1] / (-(-count // columns) * shape[0])
    assert count < 5 or 0.45 <= ratio <= 2.25
    assert (count, shape[1], classes) != (100, 8, 2) or columns == 10  # a class has its columns


def test_captions_are_over_their_images_and_written_once_where_columns_agree():
    data = np.full((6, 8, 8, 1), 16)
    bare = image_grids.grid(data, 17, columns=3, pixels=32)
    names = ["cat", "dog", "a very long name of a class"]
    once = image_grids.grid(data, 17, columns=3, pixels=32, captions=names * 2)
    line = len(once) - len(bare)
    assert line == 18 and once.shape[1:] == bare.shape[1:]
    np.testing.assert_array_equal(once[line:], bare)
    each = image_grids.grid(data, 17, columns=3, pixels=32, captions=[*names, *names[::-1]])
    assert len(each) == len(bare) + 2 * line
    np.testing.assert_array_equal(each[:line], once[:line])
    np.testing.assert_array_equal(each[line : line + 32], bare[:32])
    for top, order in ((0, (0, 1, 2)), (line + 34, (2, 1, 0))):
        for column, name in enumerate(order):
            cell = each[top : top + line, column * 34 : column * 34 + 32]
            np.testing.assert_array_equal(cell, image_grids._written(names[name], 32))
    assert (image_grids._written("cat", 64) > 150).any()  # it can be read
    letters = {
        image_grids._written(c, 32).tobytes() for c in "\u00c5\u00fc\u03b1\u0416\u2026\ufffe"
    }
    assert len(letters) == 6  # each its own: none is the box of what a font lacks, the last one


def test_a_sheet_is_bounded():
    for shape in ((8, 8, 1), (256, 256, 3), (512, 2048, 3), (4000, 4000, 3)):
        count = image_grids.most(shape)
        rows = -(-count // image_grids.columns_for(count, shape))
        assert 1 <= count <= 400 and (count == 1 or rows * max(shape[0], 64) <= 4096)


def test_json_is_valid_and_errors_that_are_not_known_are_no_numbers(tmp_path):
    values = {"a": float("nan"), "b": [1.5, float("inf"), {"c": np.float64("nan")}], "d": (2, None)}
    storage.write_json(tmp_path / "x.json", values)
    text = (tmp_path / "x.json").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    read = json.loads(text, parse_constant=refuse)
    assert read == {"a": None, "b": [1.5, None, {"c": None}], "d": [2, None]}
    assert formatting.plus_minus(1.5, 0.25) == "1.5000 +- 0.2500"
    for error in (None, float("nan")):
        assert formatting.plus_minus(1.5, error) == "1.5000 +- unknown"


def test_one_image_has_bits_but_no_error(tmp_path):
    from diffusion_jax.cli.report import figures
    from diffusion_jax.experiment.measures.bits_per_dim import BitsPerDim

    one = BitsPerDim(1.5, float("nan"), 0.1, {}, np.array([1.5]))
    assert str(one).startswith("1.5000 +- unknown bits/dim")
    part = {"bits_per_dim": 1.5, "standard_error": None}
    drawn = figures.breakdown({"breakdown": {"prior": part, "diffusion": part}}).svg()
    assert b"nan" not in drawn.lower()
    assert figures.timesteps({"bound_by_timesteps": {"4": part, "infinity": part}})


def test_unknown_values_in_metrics_stay_unknown(tmp_path):
    writer = metrics.Writer(tmp_path)
    writer.scalars(3, {"valid/standard_error": float("nan"), "valid/bits_per_dim": 2.0})
    writer.close()
    curves = read_curves(tmp_path / "metrics.jsonl")
    assert curves.left_out == 0 and curves.get("valid/bits_per_dim").value == [2.0]
    assert np.isnan(curves.get("valid/standard_error").value).all()


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


def test_what_one_image_cannot_tell_is_said_to_be_unknown():
    nan = float("nan")
    one = {"variance": 1.5, "standard_error": nan,
           "drawn": {"variance": 1.5, "mean": 2.0, "standard_error": nan}}  # fmt: skip
    report = {
        "variance": dict.fromkeys(inspect._NAMES, one) | {
            "between_images": nan,
            "ratios": {"straight_line_to_schedule": 1.25, "schedule_to_optimum": None},
        },
        "data": {"name": "digits/test", "images": 1, "draws_per_image": 2},
        "ends": {"gamma_0": -5.0, "gamma_1": 4.0},
        "result": {"breakdown": {"diffusion": {"bits_per_dim": 1.0, "standard_error": nan}}},
        "drift": {"mean": [1.0], "standard_error": [nan], "gamma": [0.0], "end": [1.0]},
    }  # fmt: skip
    shown = inspect._table(report, "digits/test")
    assert "nan" not in shown and shown.count("+- unknown") == 1 + 2 * 3 + 1
    assert "between images       unknown" in shown and "schedule 1.25" in shown
