"""The page about a run: everything in it, nothing from outside, whatever is missing or damaged."""

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import browser
import cards
import numpy as np
import pytest
import tiny
from conftest import REPO
from html_page import HOSTILE, check_page, headings

from diffusion_jax import config as config_lib, registry, saved_config
from diffusion_jax.cli.modes import report
from diffusion_jax.cli.report import collect, page, sections_measured, sections_trained
from diffusion_jax.data.media.video import film
from diffusion_jax.errors import Preempted
from diffusion_jax.evaluation import guides
from diffusion_jax.evaluation.audit_verdict import verdict

DEFAULTS = saved_config.to_dict(config_lib.base())
ALL = {"Samples", "Reconstructions", "Data", "Likelihood", "Training", "Noise schedule",
       "Quality of samples", "Guidance and samplers", "Compression", "Rate and distortion",
       "Out-of-distribution data", "Memorisation", "Comparisons", "Edits",
       "Hardware and versions", "Configuration"}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A work directory with something of every mode, and the page about it.

    The files are written by hand; tests of the modes check that the page can show theirs.
    """
    folder = cards.write(tmp_path_factory.mktemp("report") / "run")
    text = page.render(collect.read(folder), DEFAULTS, "runs/x", made="Made by hand.")
    (folder / "report.html").write_text(text)
    return folder


def test_everything_that_is_there_is_on_the_page(measured):
    text = (measured / "report.html").read_text()
    found = check_page(text)
    assert set(headings(text)) == ALL
    # Figures of every file, and settings that differ from the defaults.
    for word in ("1.7961 \u00b1 0.0156", "1.7483 \u00b1 0.0156", "2.0228", "1.8620 \u00b1 0.0145",
                 "NO BOUND", "0.1525 \u00b1 0.0047", "2.0194", "45.43", "0.9949", "0.0056",
                 "repaint()", "313,155", "50 s", "'digits()'", "Xeon", "cfg(w=2.0)",
                 "that of the least variance", "conv/kernel", "pets/train", "1,234", "dog", "1,000",
                 "train: 1234 images of pets", "2 classes, in order",
                 "1.6100 \u00b1 0.0123", "-4.1 .. -2.3", "copies of whales"):  # fmt: skip
        assert word in found.text, word
    # Samples 3, reconstructions 1, likelihood 2, training 6, schedule 3, quality 2, sweep 3,
    # codec 1, rates 2, ood 1, audit 1, edits 1.
    assert len(found.all("img")) == 26
    (calm,) = found.all("source")
    assert "prefers-reduced-motion" in calm["media"]


def test_pages_are_the_same_for_the_same_files(measured):
    first, second = (page.render(collect.read(measured), DEFAULTS, "x") for _ in range(2))
    assert first == second


def test_latents_and_stages_have_their_shares(measured, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    part = lambda value: {"bits_per_dim": value, "standard_error": 0.01}
    path = folder / "eval" / "1600.json"
    found = json.loads(path.read_text())
    found["result"]["latent"] = {"in_z_0": part(0.4), "of_x_given_z_0": part(1.3)}
    found["result"]["stages"] = [part(0.6), part(1.1)]
    found["model"]["stages"] = [{"view": "low(haar())"}, {"view": "high(haar())"}]
    path.write_text(json.dumps(found))
    text = check_page(page.render(collect.read(folder), DEFAULTS, "x")).text
    text = re.sub(r"\s+", " ", text)
    for line in ("in the latent z_0 0.4000 \u00b1 0.0100", "of the image given z_0 1.3000 \u00b1",
                 "stage low(haar()) 0.6000", "stage high(haar()) 1.1000"):  # fmt: skip
        assert line in text, line


def test_samples_without_guidance_are_shown(measured, tmp_path):
    """Those of a GAN: their record has none."""
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    how = {"sampler": "one pass", "network_calls": 1, "seed": 3}
    np.savez(folder / "samples/1600.npz", image=np.zeros((8, 8, 8, 1)), method=json.dumps(how))
    body = str(sections_trained.samples(collect.read(folder)).body)
    assert "one pass, 1 network calls, seed 3." in body


def test_a_picture_that_cannot_be_used_leaves_its_section_out(measured, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    (picture,) = (folder / "report").glob("*_reconstructions.png")
    picture.unlink()
    text = page.render(collect.read(folder), DEFAULTS, "x")
    assert set(headings(text)) == ALL - {"Reconstructions"}


def test_pictures_of_another_split_are_not_those_of_a_record(measured, tmp_path):
    folder = tmp_path / "inform"
    folder.mkdir()
    for name in ("6", "6_valid", "6_2", "6_valid_2"):
        (folder / f"{name}.json").write_text("{}")
        (folder / f"{name}.png").write_bytes(b"x")
    (folder / "6_images.png").write_bytes(b"x")
    tried = lambda path, read, otherwise: read(path)
    shown = lambda name: sorted(collect._pictures(folder / f"{name}.json", tried))
    assert shown("6") == ["6.png", "6_images.png"]
    assert shown("6_valid") == ["6_valid.png"] and shown("6_2") == ["6_2.png"]


def test_samples_say_how_they_were_drawn_where_that_is_not_as_always(measured, tmp_path):
    """In captions and cards: final step, small images and their noise."""
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)
    (path,) = (folder / "quality").glob("*.json")
    card, plain = json.loads(path.read_text()), {"final": "decode()", "low_gamma": None}

    def shown(how, **config):
        c = json.loads((measured / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(c))
        path.write_text(json.dumps(card | {"samples": card["samples"] | how}))
        grid = {"sampler": "ddim()", "guidance": "none()", "network_calls": 5, "seed": 0, **how}
        np.savez(folder / "samples/1600.npz", image=np.zeros((8, 8, 8, 1)), method=json.dumps(grid))
        run = collect.read(folder)
        parts = sections_trained.samples(run), sections_measured.quality(run)
        return [html.unescape(str(part.body)) for part in parts]

    usual = ("final ", "given", "gamma -1")
    for text in shown(plain):
        assert not any(f", {word}" in text for word in (*usual, "both decoded"))
    for text in shown(plain, autoencoder="conv()"):
        assert ", final decode()" in text
    moving = sections_trained.samples(collect.read(folder)).body
    assert moving.count(", both decoded.") == 2  # animation and strip show no latents
    how = {"final": "draw()", "low": "split:test", "low_gamma": -1.0}
    for text in shown(how | {"given": "small images of pets/test"}):
        for words in ("final draw()", "given small images of pets/test", "noise of gamma -1 "):
            assert f", {words}" in text


def test_words_and_figures_of_other_media_and_of_maps(measured, tmp_path):
    """Known entropy, drift, films of edits and laws of texts; a student's page has its density."""
    folder = tmp_path / "run"
    shutil.copytree(measured, folder)

    def change(name, **more):
        found = json.loads((folder / name).read_text())
        for key, value in more.items():
            found[key] = {**found[key], **value} if isinstance(value, dict) else value
        (folder / name).write_text(json.dumps(found))

    (folder / "inspect/1600.json").write_text(
        json.dumps(
            json.loads((folder / "inspect/1600.json").read_text())
            | {"drift": {"gamma": [5.0, 1.0], "end": [1.0, -7.0], "mean": [0.01, 0.25],
                         "standard_error": [0.001, 0.02]}}
        )
    )  # fmt: skip
    known = {"entropy_bits": 14.32, "bits": {"bits_per_dim": 15.5, "standard_error": 0.1}}
    change("eval/1600.json", result={"known": {**known, "excess_bits": 1.18}})
    change("compressed/1600.json", data={"medium": "text"},
           other_formats=[{"format": "xz", "bits_per_dim": 4.0, "bits_per_dim_sheet": 3.8},
                          {"format": "4-gram", "bits_per_dim": 2.2}])  # fmt: skip
    certificate = {"holds": False, "way_back_misses_by_median": 2.8, "negative_determinants": 1,
                   "way_back_misses_by_at_most": 5.5, "condition_at_most": 31.0}  # fmt: skip
    name = "eval/1600_ode_hutchinson_decoder_k5.json"
    doubtful = {**json.loads((folder / name).read_text()), "certificate": certificate}
    (folder / "eval/1600_jumps.json").write_text(json.dumps(doubtful))
    (folder / "edits/1600_repaint_test/0000.gif").write_bytes(
        film(np.zeros((2, 4, 4, 1), np.uint8), "gif")
    )
    text = page.render(collect.read(folder), DEFAULTS, "x")
    shown = re.sub(r"\s+", " ", check_page(text).text)
    for line in ("excess bits 1.1800", "known entropy 14.3200", "if perfect 0.2500 \u00b1 0.0200",
                 "xz, one file of all texts 3.8000", "4-gram, code length without a file 2.2000",
                 "297 texts of", "texts/s", "NO LIKELIHOOD", "NOT a bijection"):  # fmt: skip
        assert line in shown, line
    assert "data:image/gif" in text
    assert verdict(json.loads((folder / "audit/1600.json").read_text())["result"]) in shown
    c = json.loads((folder / "config.json").read_text())
    c["task"] = "distill(teacher='runs/digits')"
    (folder / "config.json").write_text(json.dumps(c))
    assert "Likelihood" in headings(page.render(collect.read(folder), DEFAULTS, "x"))


def test_everything_from_files_is_escaped(measured, tmp_path):
    folder = tmp_path / "x"
    shutil.copytree(measured, folder)

    def spoil(value):
        if isinstance(value, dict):
            keep = {"schedule", "loss_by_gamma", "densities", "variance"} & value.keys()
            return {k: v if k in keep else spoil(v) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v) for v in value]
        return HOSTILE + value if isinstance(value, str) and value else value

    for path in folder.rglob("*.json"):
        spoilt = spoil(json.loads(path.read_text()))
        if path.name == "guidance.json":
            spoilt["rows"] = [r | {"table": "cfg"} for r in spoilt["rows"]]
        path.write_text(json.dumps(spoilt))
    (folder / "params.txt").write_text(HOSTILE)
    (folder / "environment.jsonl").write_text(json.dumps({"step": 0, "time": 1, HOSTILE: HOSTILE}))
    renamed = folder.rename(tmp_path / "<b>&")
    text = page.render(collect.read(renamed), DEFAULTS, HOSTILE, (HOSTILE,), HOSTILE)
    found = check_page(text)
    assert found.text.count("<script>pwned = 1</script>") > 20  # as words
    assert "<b>&" in found.text
    assert set(headings(text)) > {"Quality of samples", "Rate and distortion", "Likelihood"}


def test_missing_parts_name_commands_that_exist(tmp_path):
    """An empty folder, and one with a configuration only."""
    from absl import flags

    import diffusion_jax.main  # noqa: F401

    modes = registry.available("modes")
    known = set(flags.FLAGS)
    for config in (None, saved_config.to_dict(tiny.config(tmp_path))):
        folder = tmp_path / f"run {config is None}"
        folder.mkdir()
        if config:
            (folder / "config.json").write_text(json.dumps(config))
        text = page.render(collect.read(folder), DEFAULTS, "runs/my run")
        found = check_page(text)
        assert not found.all("img")
        items = re.findall(r"<li>[^<]*<code>(.*?)</code>", text)
        assert len(items) >= 8
        for item in items:
            words = shlex.split(html.unescape(item))
            assert any("runs/my run" in w for w in words)
            if words[0] == "djax":
                assert words[1] in modes
                for word in words[2:]:
                    name = word.removeprefix("--").partition("=")[0]
                    assert name.startswith("config.") or name in known, word
            else:
                assert words[:2] == ["python", "-m"]
                assert (REPO / f"{words[2].replace('.', '/')}.py").is_file()


def test_damaged_files_are_named_and_the_rest_is_shown(measured, tmp_path):
    folder = tmp_path / "x"
    shutil.copytree(measured, folder)
    (folder / "eval/1600.json").write_text('{"result": {"bits_per')
    card = next((folder / "quality").glob("*.json"))
    card.write_text('{"result": {}}')
    (folder / "metrics.jsonl").write_text("nonsense\n" + (folder / "metrics.jsonl").read_text())
    (folder / "samples/1600.npz").write_bytes(b"PK broken")
    text = page.render(collect.read(folder), DEFAULTS, "x")
    found = check_page(text)
    for word in (
        "eval/1600.json",
        "metrics.jsonl",
        "samples/1600.npz",
        "section quality was left out",
    ):
        assert word in found.text
    wanted = {"Samples", "Training", "Noise schedule", "Out-of-distribution data"}
    assert wanted <= set(headings(text))
    assert "metrics.jsonl: 1 unreadable line" in found.text


def test_json_of_another_form_is_named_and_the_rest_is_shown(measured, tmp_path, monkeypatch):
    folder = tmp_path / "x"
    shutil.copytree(measured, folder)
    for name, text in {
        # The newest card has a figure for the head of the page, and not what it was made with.
        "quality/1700_z.json": '{"result": {"frechet": {"mean": 1.0}}}',
        "eval/1600_z.json": '{"result": null}',
        "eval/1_z.json": '{"model": {"config": 3}}',
        "metrics.jsonl": '{"step": 1, "a": []}\n{"step": 2, "a": []}\n',
        "environment.jsonl": "[3]",
        "sweep.json": '{"rows": 3}',
    }.items():
        (folder / name).write_text(text)
    (folder / "config.json").unlink()  # the reports of the modes have a copy
    read = Path.read_bytes

    def broken(path):
        if path.name == "1600.png" and path.parent.name == "samples":
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    text = page.render(collect.read(folder), DEFAULTS, "x")
    found = check_page(text)
    for word in ("section headline was left out", "eval/1600_z.json: result is not",
                 "metrics.jsonl", "eval/1_z.json", "section environment was left out",
                 "samples/1600.png: [Errno 5]", "1.7961 \u00b1 0.0156"):  # fmt: skip
        assert word in found.text, word
    lost = {"Quality of samples", "Training", "Hardware and versions"}
    assert ALL - set(headings(text)) == lost


def test_a_failure_is_one_line_and_never_the_runs(tmp_path, monkeypatch, capsys):
    experiment = tiny.experiment(tmp_path, report=True)
    experiment.workdir.mkdir(parents=True)

    def fails(*_):
        raise RuntimeError("out of paper\nand ink")

    monkeypatch.setattr(page, "render", fails)
    report.after_training(experiment)
    said = capsys.readouterr().out
    assert said.startswith("warning: no report") and "out of paper" in said
    assert said.count("\n") == 1 and not list(experiment.workdir.iterdir())

    def stops():
        raise Preempted("now")

    with pytest.raises(Preempted):
        report.after_training(experiment, stops)
    experiment.config.report = False
    report.after_training(experiment, fails)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("weighted", [False, True])
def test_a_weighted_loss_is_not_called_bits(tmp_path, weighted):
    c = saved_config.to_dict(config_lib.base())
    c["objective"] = "weighted(weight=edm())" if weighted else "continuous()"
    (tmp_path / "config.json").write_text(json.dumps(c))
    lines = [{"step": s, "seconds": s, "train/loss": 9.0 / s} for s in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    text = page.render(collect.read(tmp_path), DEFAULTS, "x")
    assert ("to 3 weighted bits/dim" in text) is weighted
    assert ("the others are the bound" in text) is weighted


@pytest.mark.parametrize("old", [False, True])
def test_a_guides_run_shows_what_it_has(tmp_path, old):
    c = saved_config.to_dict(config_lib.base())
    del c["task"]
    c["scorer"] = "classifier()"  # as it was written earlier
    (tmp_path / "eval").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(c))
    rows = [{"gamma": g, "accuracy": a, "loss": 1.0} for g, a in ((-5.0, 0.75), (5.0, 0.125))]
    found = {
        "scorer": "classifier()",
        "mean": {"accuracy": 0.4375, "loss": 1.0},
        **({"by_gamma": rows} if old else {"loss_by_gamma": guides.by_gamma(rows)}),
        "data": {"name": "digits/test", "images": 3},
        "devices": "1 x cpu",
    }
    (tmp_path / "eval/6.json").write_text(json.dumps(found))
    line = {"step": 5, "seconds": 1.0, "train/loss": 2.0, "train/accuracy": 0.5,
            "train/grad_norm": 1.0}  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    text = page.render(collect.read(tmp_path), DEFAULTS, "x")
    shown = check_page(text)
    assert "0.438" in shown.text and "Accuracy in training" in shown.text
    assert not {"Samples", "Noise schedule", "Quality of samples"} & set(headings(text))
    assert "djax quality" not in text


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "light"), (400, "dark")])
def test_in_a_browser(measured, tmp_path, width, scheme):
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium here: install one, or name it with DIFFUSION_JAX_BROWSER")
    address = Path(measured / "report.html").as_uri()
    with browser.Browser(program, tmp_path / "profile") as tab:
        tab.view(width, scheme=scheme)
        tab.open(address)
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("innerWidth") == width
        assert tab.evaluate("document.scrollingElement.scrollWidth") <= width
        assert tab.evaluate("document.images.length") > 10
        assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        assert tab.evaluate(
            "[...document.images].every(i => i.className != 'pixels' || i.height <= 720)"
        )
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", dark)[:3])) < 200) == (scheme == "dark")
        asked = [e["params"]["request"]["url"] for e in tab.events
                 if e["method"] == "Network.requestWillBeSent"]  # fmt: skip
        assert address in asked
        assert all(u == address or u.startswith("data:") for u in asked)
        said = [e for e in tab.events
                if e["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled",
                                   "Log.entryAdded")]  # fmt: skip
        assert said == []
