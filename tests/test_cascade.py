"""Runs of a cascade, one by one and together, from the command line."""

import dataclasses
import html
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from command import main
from conftest import REPO
from PIL import Image

from diffusion_jax.cli.modes import _eval_cascade, _records
from diffusion_jax.cli.report import collect, sections_trained
from diffusion_jax.experiment import cascade as stages_lib, open_run
from diffusion_jax.experiment.cascade import joined, waste


def train(folder, name, view, *more):
    """One stage, of tiny images, by the command line."""
    tiny.config(folder)
    saved = folder / f"{name}.json"
    c = tiny.config(folder, view=view, steps=2, eval_every=0)
    saved.write_text(c.to_json())
    done = main(f"--config={saved}", f"--workdir={folder / name}", *more)
    assert done.returncode == 0, done.stderr
    return folder / name


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cascade")
    low = train(folder, "low", "low()")
    return low, train(folder, "high", "high()")


def cascade(mode, stages, where, *more):
    names = ",".join(map(str, stages))
    return main(mode, f"--config.stages={names}", f"--workdir={where}", "--trust", *more)


def test_a_later_stage_alone_enlarges_images_of_the_data_while_it_trains(stages):
    with np.load(stages[1] / "samples" / "2.npz") as f:
        drawn = f["image"]
        how = json.loads(str(f["method"]))
    assert drawn.shape == (6, 4, 4, 1)
    test = open_run(stages[1], trust=True).source.split("test").images[:6]
    assert np.array_equal(drawn[:, ::2, ::2], test[:, ::2, ::2])
    assert how["low"] == "split:test" and how["given"] == "small images of npz/test"
    done = main("sample", f"--workdir={stages[1]}", "--trust", "--config.sample.low=split:valid")
    assert done.returncode == 0, done.stderr
    assert "given small images of npz/valid) written to" in done.stdout
    shown = sections_trained.samples(collect.read(stages[1])).body
    assert "given small images of npz/test" in shown
    assert "given small images of npz/valid" in shown


def test_a_report_names_only_what_stages_can_do_together(stages, tmp_path):
    done = cascade("report", stages, tmp_path)
    assert done.returncode == 0, done.stderr
    text = html.unescape((tmp_path / "report.html").read_text())
    left = re.findall(r"<li>[^<]*<code>(.*?)</code>", text)
    modes = {re.search(r"djax (\w+)", command)[1] for command in left}
    assert modes == {"sample", "eval", "quality", "compress"}
    assert all(f"--config.stages={stages[0]},{stages[1]}" in command for command in left)
    assert "no config.json" not in text and "not recorded" not in text


def test_bits_of_the_stages_add_up(stages, tmp_path):
    done = cascade("eval", stages, tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "eval" / "2.json").read_text())["result"]
    first = json.loads((stages[0] / "eval" / "2.json").read_text())["result"]
    low, high = report["stages"]
    assert low["bits_per_dim"] == first["bits_per_dim"]  # counted by the image already
    assert report["bits_per_dim"] == pytest.approx(low["bits_per_dim"] + high["bits_per_dim"])
    assert low["bits_per_own_value"] == pytest.approx(4 * low["bits_per_dim"])
    assert (low["values"], high["values"]) == (4, 12)
    with np.load(tmp_path / "eval" / "2.npz") as f:
        total = f["bits_per_dim_total"]
        np.testing.assert_allclose(total, f["bits_per_dim_0"] + f["bits_per_dim_1"])
    assert report["standard_error"] == pytest.approx(total.std(ddof=1) / len(total) ** 0.5)
    assert "the sum of 2 stages" in done.stdout and "of 12 values" in done.stdout


def test_a_cascade_is_compared_by_the_sum_of_its_stages(stages, tmp_path):
    names = ",".join(map(str, stages))
    done = main("compare", f"--config.compare.a={names}", f"--config.compare.b={names}",
                f"--workdir={tmp_path}", "--trust")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "compare" / "low+high_low+high.json").read_text())
    assert found["difference"] == {"bits_per_dim": 0.0, "standard_error": 0.0}
    alone = json.loads((stages[0] / "eval" / "2.json").read_text())["result"]
    assert found["a"]["bits_per_dim"] > alone["bits_per_dim"]
    assert found["a"]["breakdown"]["prior"]["bits_per_dim"] > 0
    done = main("compare", f"--config.compare.a={names}", f"--config.compare.b={stages[0]}",
                f"--workdir={tmp_path}", "--trust")  # fmt: skip
    assert done.returncode == 2
    assert "they differ in view: 'whole()' and 'low()'" in done.stderr


@pytest.mark.slow
def test_densities_of_the_stages_add_up(stages, tmp_path):
    asked = ("--config.eval.likelihood=ode(steps=4, k=2)", "--config.eval.limit=5")
    done = cascade("eval", stages, tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    name = "2_ode_exact_decoder_k2"
    report = json.loads((tmp_path / "eval" / f"{name}.json").read_text())
    alone = main("eval", f"--workdir={stages[0]}", "--trust", *asked)
    assert alone.returncode == 0, alone.stderr
    first = json.loads((stages[0] / "eval" / f"{name}.json").read_text())["result"]
    found, (low, high) = report["result"], report["result"]["stages"]
    assert low["bits_per_dim"] == pytest.approx(first["bits_per_dim"], rel=1e-6)
    assert found["bits_per_dim"] == pytest.approx(low["bits_per_dim"] + high["bits_per_dim"])
    assert found["by_k"]["2"]["bits_per_dim"] <= found["by_k"]["1"]["bits_per_dim"]
    parts = sum(v["bits_per_dim"] for v in found["breakdown"].values())
    assert parts == pytest.approx(found["by_k"]["1"]["bits_per_dim"])
    calls, products = (report["estimator"][k] for k in (
        "network_calls_per_image", "jacobian_vector_products_per_image"))  # fmt: skip
    assert calls == 2 * 4 * 4 * 2 * 2 and products == calls // 2 * 16
    with np.load(tmp_path / "eval" / f"{name}.npz") as f:
        total = f["bits_per_dim_total"]
    assert found["standard_error"] == pytest.approx(total.std(ddof=1) / 5**0.5)
    assert "of 12 values" in done.stdout


def test_samples_are_put_together_of_their_stages(stages, tmp_path):
    done = cascade("sample", stages, tmp_path, "--config.sample.low_gamma=-1.0")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "samples" / "2.npz") as f:
        image, label, how = f["image"], f["label"], json.loads(str(f["method"]))
    assert image.shape == (6, 4, 4, 1) and image.dtype == np.uint8 and image.max() < 5
    assert label.tolist() == [0, 1, 2, 0, 1, 2]
    assert how["low_gamma"] == -1.0 and len(how["stages"]) == 2
    alone = main("sample", f"--workdir={stages[0]}", "--trust", "--config.sample.seed=0")
    assert alone.returncode == 0
    with np.load(sorted((stages[0] / "samples").glob("*.npz"))[0]) as f:
        # The low pixels are what the first stage draws alone: merged clean, whatever the noise.
        assert np.array_equal(image[:, ::2, ::2], f["image"])


@pytest.mark.parametrize(
    ("which", "more", "says"),
    [
        ((1, 0), (), "not the levels of one cascade in order"),
        ((0, 0), (), "not the levels of one cascade in order"),
        ((1,), (), "give the runs of all stages"),
        ((0, 1), ("--config.sample.low_gamma=7.0",), "outside the trained range"),
    ],
)
def test_stages_that_do_not_fit_are_refused_in_a_line(stages, tmp_path, which, more, says):
    done = cascade("sample", [stages[i] for i in which], tmp_path, *more)
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert not any(tmp_path.rglob("*.npz"))


def folder_with(path, **changes):
    """A run of which nothing is there but its settings."""
    path.mkdir()
    (path / "config.json").write_text(tiny.config(path.parent, **changes).to_json())
    return path


@pytest.mark.parametrize(
    ("views", "changes", "says"),
    [
        (("low()", "high(haar())"), {}, "by different pyramids"),
        (("low(level=2)", "high()"), {}, "none missing"),
        (("low()", "whole()"), {}, "not the levels of one cascade"),
        (("low()", "high()"), {"conditional": False}, "trained on the same data"),
        (("low()", "high()"), {"decoder": "binary()"}, "trained on the same data"),
        (("low()", "high()"), {"low_clean": 1.0}, "small images without noise only"),
        (("low()", "high()"), {"task": "guide(classifier())"}, "not a diffusion model"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_a_line(tmp_path, views, changes, says):
    runs = [folder_with(tmp_path / "low", view=views[0]),
            folder_with(tmp_path / "high", view=views[1], **changes)]  # fmt: skip
    done = cascade("sample", runs, tmp_path / "cascade", "--config.sample.low_gamma=-1.0")
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_part_of_an_image_is_called_one(stages):
    """Both ways of counting, in the line, the record and the report."""
    parts = ("the smaller image (low())", 4), ("the rest, given the smaller image (high())", 12)
    for run, (of, values) in zip(stages, parts, strict=True):
        done = main("eval", f"--workdir={run}", "--trust")
        assert done.returncode == 0, done.stderr
        assert f"bits/dim of {of}, given the class: " in done.stdout
        assert (
            f"per value of the whole image (16); per value of the part ({values}): " in done.stdout
        )
        result = json.loads((run / "eval" / "2.json").read_text())["result"]
        own = result["part"]["per_own_value"]["bits_per_dim"]
        assert own * values == pytest.approx(16 * result["bits_per_dim"])
        said = sections_trained.headline(collect.read(run))
        assert f"bits/dim of {result['part']['of']}, " in str(said)
    both = (f"--config.compare.{k}={v}" for k, v in zip("ab", stages, strict=True))
    done = main("compare", *both, f"--workdir={stages[0].parent / 'both'}", "--trust")
    assert done.returncode == 2
    assert "they differ in view: 'low()' and 'high()'" in done.stderr


def test_a_line_says_all_that_its_figure_is_given():
    model = SimpleNamespace(num_classes=3, text="words()", embedding=5, from_latent=True)
    given = _records.given(SimpleNamespace(model=model, stages=()))
    assert given == "class and the text and the vector and the latent"
    run = SimpleNamespace(model=model, stages=())
    together = _records.given(
        SimpleNamespace(model=model, stages=(run, run))
    )  # one draws the latent
    figure = {"bits_per_dim": 1.0, "standard_error": 0.1, "monte_carlo_se": 0.1}
    figure |= {"images": 1, "draws_per_image": 2}
    figure |= {"stages": [], "breakdown": {}, "bound_by_timesteps": {}}
    told = {"conditional": False, "given": together, "stages": []}
    report = {"result": figure, "model": told, "data": {}}
    said = _eval_cascade._table(report, "pets/test", "").splitlines()[0]
    assert said.startswith("pets/test bits/dim, given the class and the text and the vector: 1.0")


def test_other_refusals(stages, tmp_path):
    done = cascade("sample", stages, tmp_path, f"--checkpoint={stages[0]}")
    assert done.returncode == 2 and "leave one out" in done.stderr
    done = main("sample", f"--workdir={stages[1]}", "--trust")
    assert done.returncode == 2 and "needs small images: give all stages" in done.stderr
    sheet = tmp_path / "sheet.png"
    Image.new("L", (50, 20)).save(sheet)
    done = main("sample", f"--workdir={stages[1]}", "--trust", f"--config.sample.low={sheet}")
    assert done.returncode == 2 and "the .npz next to a picture of samples" in done.stderr
    done = main("sample", f"--workdir={stages[0]}", "--trust", "--config.sample.low=split:test")
    assert done.returncode == 2 and "has no such input" in done.stderr
    done = main("edit", f"--workdir={stages[1]}", "--trust", "--config.edit.image=split:test")
    assert done.returncode == 2 and "cannot edit whole ones" in done.stderr
    done = main("quality", f"--workdir={stages[0]}", "--trust")
    assert done.returncode == 2 and "measure all stages together" in done.stderr
    done = main("eval", f"--workdir={tmp_path}")
    assert done.returncode == 2 and "for a cascade give its stages, --config.stages" in done.stderr
    done = cascade("eval", stages, stages[0])
    assert done.returncode == 2 and "is the folder of a stage" in done.stderr
    for name in "ab":
        both = {"a": ",".join(map(str, stages)), "b": str(stages[0])} | {name: str(tmp_path)}
        done = main("compare", *(f"--config.compare.{k}={v}" for k, v in both.items()),
                    f"--workdir={tmp_path}", "--trust")  # fmt: skip
        assert done.returncode == 2 and f"--config.compare.{name}=LOW,HIGH" in done.stderr
        assert "makes one" not in done.stderr  # where a folder is, training would add to it
    names = f"--config.stages={stages[0]},{stages[1]}"
    done = main("inspect", names, f"--workdir={tmp_path}", "--trust")
    assert done.returncode == 2 and "ignores --config.stages" in done.stderr


def test_a_file_gives_the_images_back_and_costs_what_the_bounds_say(stages, tmp_path):
    asked = ("--config.compress.timesteps=4", "--config.compress.batch=4")
    done = cascade("compress", stages, tmp_path, *asked, "--config.compress.verify")
    assert done.returncode == 0, done.stderr
    assert "byte-exact" in done.stdout
    report = json.loads((tmp_path / "compressed" / "2.json").read_text())
    assert abs(report["bound"]["same_latents"]["net_minus_bound"]) < 0.3
    gap = report["bound"]["fresh_latents"]
    assert abs(gap["net_minus_bound"]) < 5 * gap["monte_carlo_se_of_difference"] + 0.1
    done = cascade("decompress", stages, tmp_path, f"--config.compress.output={tmp_path / 'o.npz'}")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "o.npz") as f:
        whole = open_run(stages[0], trust=True).source.split("test")
        assert np.array_equal(f["image"], whole.images)
        assert np.array_equal(f["label"], whole.labels)
    file = tmp_path / "compressed" / "2.djz"
    done = main("decompress", f"--workdir={stages[0]}", "--trust", "--config.compress.verify",
                f"--config.compress.input={file}")  # fmt: skip
    assert done.returncode == 2 and "all its stages, --config.stages=" in done.stderr
    raw = bytearray(file.read_bytes())
    raw[-10] ^= 1
    (tmp_path / "bad.djz").write_bytes(raw)
    bad = f"--config.compress.input={tmp_path / 'bad.djz'}"
    done = cascade("verify", stages, tmp_path, bad)
    assert done.returncode == 2 and "damaged" in done.stderr
    done = main("compress", f"--workdir={stages[0]}", "--trust")
    assert done.returncode == 2 and "code whole images with all stages" in done.stderr


def edited(stages, folder, method, *more):
    """What an edit of the first two test images by both stages leaves: results, source, mask."""
    done = cascade(
        "edit", stages, folder, "--config.edit.image=split:test", "--config.edit.pick=(0, 1)",
        f"--config.edit.method={method}", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(next(folder.glob("edits/*/results.npz"))) as f:
        return f["image"], f["source"], f["mask"]


def test_stages_paint_where_the_mask_is_and_nowhere_else(stages, tmp_path):
    picture = np.zeros((4, 4), np.uint8)
    picture[0, 1] = picture[2:, 2:] = 255  # one pixel of a block, and a whole one
    Image.fromarray(picture).save(tmp_path / "mask.png")
    more = (f"--config.edit.mask={tmp_path / 'mask.png'}", "--config.sample.low_gamma=-1.0")
    image, source, mask = edited(stages, tmp_path / "a", "replace()", *more)
    assert np.array_equal(mask[0, ..., 0] * 255, picture)
    kept = mask[..., 0] == 0
    assert np.array_equal(image[kept], source[kept]) and not np.array_equal(image, source)
    how = json.loads(next((tmp_path / "a").glob("edits/*/record.json")).read_text())
    assert how["sampling"]["network_calls"] == 2 * 3  # stages, steps
    picture[1, 2] = picture[2, 0] = 255
    Image.fromarray(picture).save(tmp_path / "mask.png")
    names = ",".join(map(str, stages))
    done = main(
        "edit", f"--config.stages={names}", f"--workdir={tmp_path / 'a'}", "--trust",
        "--config.edit.image=split:test", "--config.edit.method=replace()", *more,
    )  # fmt: skip
    assert done.returncode == 2 and "none of the 2x2 blocks" in done.stderr


def test_an_edit_that_begins_with_hardly_any_noise_changes_nothing(stages, tmp_path):
    image, source, _ = edited(stages, tmp_path, "sdedit(start=-4.99)")
    # Half a level of 5 is 0.2, and sigma 0.08.
    assert np.array_equal(image, source)


@pytest.mark.parametrize("method", ["interpolate()", "widen(right=2)"])
def test_edits_of_several_images_are_not_for_stages(stages, tmp_path, method):
    done = cascade(
        "edit", stages, tmp_path, "--config.edit.image=split:test", "--config.edit.pick=(0, 1)",
        f"--config.edit.method={method}",
    )  # fmt: skip
    assert done.returncode == 2 and "which the stages of a cascade cannot do" in done.stderr


@pytest.mark.parametrize(("pyramid", "wasteful"), [("haar()", False), ("average()", True)])
def test_a_pyramid_that_is_no_bijection_is_said_to_waste_bits(tmp_path, pyramid, wasteful):
    names = [str(folder_with(tmp_path / v, view=f"{v}({pyramid})")) for v in ("low", "high")]
    run = open_run(names[1], trust=True)
    run.config.stages = ",".join(names)
    said = waste(joined(dataclasses.replace(run, workdir=tmp_path / "both", checkpoint="")))
    assert ("longer than necessary" in said) == wasteful


def test_exported_weights_have_no_record_to_be_held_against():
    records = [{"checkpoint": str(REPO / "pretrained" / name)} for name in ("mnist", "cifar10")]
    stages_lib._check_data((), records)
