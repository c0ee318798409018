"""The page about a run: everything in it, nothing from outside, whatever is missing or damaged."""

import base64
import io
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import browser
import numpy as np
import pytest
import tiny
from conftest import REPO
from PIL import Image
from test_cli import main

from diffusion_jax import config as config_lib
from diffusion_jax.errors import Preempted
from diffusion_jax.evaluation import images, trajectory
from diffusion_jax.modes import inspect, ood, progressive, quality, report, train
from diffusion_jax.modes.base import Job
from diffusion_jax.report import collect, curves, markup, page

DEFAULTS = config_lib.to_dict(config_lib.base())
HOSTILE = "</style></title><script>pwned = 1</script><img src=x onerror='pwned = 2'>&amp;\"'"


class Checked(HTMLParser):
    """A page whose tags are checked to be well nested."""

    void = frozenset({"img", "link", "meta", "source"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [a for t, a in self.tags if t == tag]

    @property
    def text(self):
        return " ".join(self.words)


def opened(address):
    """The size of a picture in a data address, which must hold a whole picture."""
    kind, _, content = address.partition(";base64,")
    raw = base64.b64decode(content, validate=True)
    if kind == "data:image/svg+xml":
        root = ElementTree.fromstring(raw)
        assert root.tag.endswith("svg")
        assert b"http" not in re.sub(rb'xmlns[:\w]*="[^"]*"', b"", raw), "nothing to fetch"
        return tuple(float(root.get(k).removesuffix("pt")) for k in ("width", "height"))
    with Image.open(io.BytesIO(raw)) as picture:
        assert kind == f"data:image/{picture.format.lower()}"
        picture.load()
        return picture.size


def check_page(text):
    """The page, checked: tags, pictures, alternative texts, links, nothing from elsewhere."""
    found = Checked(text)
    assert not {"script", "iframe", "object", "embed", "form"} & {t for t, _ in found.tags}
    for a in found.all("img"):
        assert min(opened(a["src"])) > 0
        assert len(a["alt"]) > 10
    for a in found.all("source"):
        assert min(opened(a["srcset"])) > 0
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for a in found.all("a"):
        assert a["href"].removeprefix("#") in ids
    for tag, a in found.tags:
        assert not any(k.startswith("on") for k in a), tag
    return found


def headings(found_text):
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", found_text)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A tiny run that has trained, reported, and been measured in several ways."""
    folder = tmp_path_factory.mktemp("report")
    job = tiny.job(folder, report=True)
    train.run(job)
    return job


@pytest.fixture(scope="module")
def measured(done):
    """The same with the cards of some modes, and the page about it."""
    job = Job(tiny.config(done.workdir.parent), done.workdir)
    c = job.config
    c.progressive.steps, c.progressive.images, c.ood.gammas = 4, 3, (0.0,)
    c.quality.update({"batch": 16, "metrics": ("kid", "coverage")})
    params, record = job.weights()
    progressive.draw_curve(job, params, record)
    strangers = Job(c, job.workdir, sets=("", f"rotated({c.data})"))
    ood.run(strangers)
    inspect.inspect(job, params, record)
    samples = job.source.split("valid")
    np.savez(job.workdir / "s.npz", image=samples.images, label=samples.labels)
    c.quality.samples = str(job.workdir / "s.npz")
    quality.run(job)
    rows = [
        {"table": t, "sampler": "ddim()", "guidance": g, "calls": 5, "network_calls": n,
         "frechet": f, "accuracy": 0.5}
        for t, g, n, f in (("cfg", "cfg(w=1.0)", 5, 0.5), ("cfg", "cfg(w=2.0)", 5, 0.3),
                           ("calls", "none()", 5, 0.9), ("calls", "none()", 10, 0.8))
    ]  # fmt: skip
    (job.workdir / "guidance.json").write_text(json.dumps({"rows": rows}))
    report.run(job)
    return job.workdir


def test_a_run_ends_with_a_page(done):
    text = (done.workdir / "report.html").read_text()
    found = check_page(text)
    assert {"Samples", "Likelihood", "Training", "Noise schedule", "Hardware and versions",
            "Configuration", "Not here yet"} == set(headings(text))  # fmt: skip
    result = json.loads((done.workdir / "eval/6.json").read_text())["result"]
    assert f"{result['bits_per_dim']:.4f}" in found.text
    for part in result["breakdown"].values():
        assert f"{part['bits_per_dim']:.4f}" in found.text
    for word in ("Loss against steps", "against time", "gamma is minus", "Where the bits are",
                 "vdm_unet(width=16, depth=1, embed=8)", "Started at step 0",
                 "jaxlib"):  # fmt: skip
        assert word in found.text
    starts = [json.loads(r) for r in (done.workdir / "environment.jsonl").read_text().splitlines()]
    assert [s["step"] for s in starts] == [0] and starts[0]["devices"] == "8 x cpu"


def test_the_animation_ends_in_the_samples_of_the_run(done):
    """The same seed, weights and method, drawn on one device and not on eight."""
    folder = done.workdir / "report"
    with np.load(done.workdir / "samples/6.npz") as f:
        drawn = f["image"]
    with Image.open(folder / "6_trajectory.webp") as moving:
        assert moving.n_frames == done.config.sample.steps + 1
        moving.seek(moving.n_frames - 1)
        last = np.asarray(moving.convert("RGB"))
        moving.seek(0)
        first = np.asarray(moving.convert("RGB"))
    sheet = images.grid(drawn, 5, columns=len(drawn), pixels=48)
    for top in (0, 48 + 2):  # the latents and the guesses both end in them
        np.testing.assert_array_equal(last[top : top + 48, : sheet.shape[1]], sheet)
    assert not np.array_equal(first[:48, : sheet.shape[1]], sheet)
    bar = last[-1] != first[-1]
    assert bar.any(-1).mean() > 0.9  # it fills
    how = json.loads((folder / "6_trajectory.json").read_text())
    assert how["guidance"] == "cfg(w=2.0)" and how["gammas"][0] > how["gammas"][-1]
    curve = json.loads((folder / "6_schedule.json").read_text())
    assert curve["gamma"][0] == pytest.approx(how["gammas"][-1], abs=1e-4)
    assert curve["gamma"][-1] == pytest.approx(how["gammas"][0], abs=1e-4)


def test_what_modes_have_measured_is_on_the_page(measured):
    text = (measured / "report.html").read_text()
    found = check_page(text)
    named = set(headings(text))
    assert {"Quality of samples", "Rate and distortion", "Data out of distribution",
            "Guidance and samplers"} <= named  # fmt: skip
    card = json.loads(next((measured / "quality").glob("*.json")).read_text())["result"]
    assert f"{card['precision']['mean']:.4f}" in found.text
    score = json.loads(next((measured / "ood").glob("*.json")).read_text())["result"]["bits/dim"]
    assert f"{score['auroc']:.4f}" in found.text
    assert "what would vary least" in found.text  # of --mode=inspect
    assert "Compression" not in named and "--mode=compress" in found.text


def test_pages_are_the_same_for_the_same_files(measured):
    first, second = (page.render(collect.read(measured), DEFAULTS, "x") for _ in range(2))
    assert first == second


def test_charts_follow_the_scheme_of_the_page():
    from diffusion_jax.report import figures

    svg = figures.schedule({"t": [0, 1], "gamma": [-3, 2], "line": [-3, 2]})
    assert b"prefers-color-scheme" in svg and b"var(--ink)" in svg
    assert b"#010203" not in svg and b"#040506" not in svg


def test_everything_from_files_is_escaped(measured, tmp_path):
    folder = tmp_path / "x"
    shutil.copytree(measured, folder, ignore=shutil.ignore_patterns("checkpoints"))

    def spoil(value):
        if isinstance(value, dict):
            keep = {"schedule", "loss_by_gamma", "densities", "variance"} & value.keys()
            return {k: v if k in keep else spoil(v) for k, v in value.items()}
        if isinstance(value, list):
            return [spoil(v) for v in value]
        return HOSTILE + value if isinstance(value, str) else value

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


def test_markup_escapes_all_but_markup():
    inner = markup.tag("b", "<&>", markup.Html("<i></i>"))
    assert inner == "<b>&lt;&amp;&gt;<i></i></b>"
    assert markup.tag("img", src='"><script>', alt=None) == '<img src="&quot;&gt;&lt;script&gt;">'


def test_missing_parts_name_commands_that_exist(tmp_path):
    """An empty folder, and one with a configuration only."""
    from absl import flags

    import diffusion_jax.main  # noqa: F401

    known = set(flags.FLAGS)
    for config in (None, config_lib.to_dict(tiny.config(tmp_path))):
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
            words = shlex.split(item.replace("&#x27;", "'"))
            assert words[:2] == ["python", "-m"]
            assert any("runs/my run" in w for w in words)
            if words[2] == "diffusion_jax.main":
                for word in words[3:]:
                    name = word.removeprefix("--").partition("=")[0]
                    assert name.startswith("config.") or name in known, word
            else:
                assert (REPO / f"{words[2].replace('.', '/')}.py").is_file()


def test_damaged_files_are_named_and_the_rest_is_shown(measured, tmp_path):
    folder = tmp_path / "x"
    shutil.copytree(measured, folder, ignore=shutil.ignore_patterns("checkpoints"))
    (folder / "eval/6.json").write_text('{"result": {"bits_per')
    card = next((folder / "quality").glob("*.json"))
    card.write_text('{"result": {}}')
    (folder / "metrics.jsonl").write_text("nonsense\n" + (folder / "metrics.jsonl").read_text())
    (folder / "samples/6.npz").write_bytes(b"PK broken")
    text = page.render(collect.read(folder), DEFAULTS, "x")
    found = check_page(text)
    for word in ("eval/6.json", "metrics.jsonl", "samples/6.npz", "section quality was left out"):
        assert word in found.text
    assert {"Samples", "Noise schedule", "Data out of distribution"} <= set(headings(text))


def test_a_failure_is_one_line_and_never_the_runs(tmp_path, monkeypatch, capsys):
    job = tiny.job(tmp_path, report=True)
    job.workdir.mkdir(parents=True)

    def fails(*_):
        raise RuntimeError("out of paper\nand ink")

    monkeypatch.setattr(page, "render", fails)
    report.after_training(job)
    said = capsys.readouterr().out
    assert said.startswith("warning: no report") and "out of paper" in said
    assert said.count("\n") == 1 and not list(job.workdir.iterdir())

    def stops():
        raise Preempted("now")

    with pytest.raises(Preempted):
        report.after_training(job, stops)
    job.config.report = False
    report.after_training(job, fails)
    assert capsys.readouterr().out == ""


def lines(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return curves.read_curves(path)


def test_times_add_up_over_starts_and_repeated_steps_count_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    found = lines(
        path,
        {"step": 10, "seconds": 5.0, "train/loss": 3.0},
        {"step": 20, "seconds": 9.0, "train/loss": 2.0, "train/prior": 0.1},
        {"step": 30, "seconds": 14.0, "train/loss": 9.0},
        # Killed, and started again from step 10.
        {"step": 20, "seconds": 4.0, "train/loss": 2.1},
        {"step": 25, "seconds": 6.0, "train/loss": 1.5},
    )
    loss = found.get("train/loss")
    np.testing.assert_array_equal(loss.step, [10, 20, 25])
    np.testing.assert_array_equal(loss.value, [3.0, 2.1, 1.5])
    np.testing.assert_array_equal(loss.seconds, [5.0, 18.0, 20.0])
    assert loss.timed and found.seconds == 20.0 and found.last_step == 25
    old = lines(path, {"step": 1, "train/loss": 1.0}, {"step": 2, "train/loss": 0.5})
    assert old.seconds is None and not old.get("train/loss").timed
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a"')  # being written
    np.testing.assert_array_equal(curves.read_curves(path).get("a").step, [1])
    path.write_text('{"step": 1, "a"\n{"step": 2, "a": 1.0}\n')
    with pytest.raises(ValueError, match="line 1"):
        curves.read_curves(path)


def test_a_scorers_run_shows_what_it_has(tmp_path):
    c = config_lib.to_dict(config_lib.base())
    c["scorer"] = "classifier()"
    (tmp_path / "eval").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(c))
    rows = [{"gamma": g, "accuracy": a, "loss": 1.0} for g, a in ((-5.0, 0.75), (5.0, 0.125))]
    found = {
        "scorer": "classifier()",
        "mean": {"accuracy": 0.4375, "loss": 1.0},
        "by_gamma": rows,
        "data": {"name": "digits/test", "images": 3},
        "devices": "1 x cpu",
    }
    (tmp_path / "eval/6.json").write_text(json.dumps(found))
    lines(tmp_path / "metrics.jsonl", {"step": 5, "seconds": 1.0, "train/loss": 2.0,
                                       "train/accuracy": 0.5, "train/grad_norm": 1.0})  # fmt: skip
    text = page.render(collect.read(tmp_path), DEFAULTS, "x")
    shown = check_page(text)
    assert "0.438" in shown.text and "Accuracy in training" in shown.text
    assert not {"Samples", "Noise schedule", "Quality of samples"} & set(headings(text))
    assert "--mode=quality" not in text


def test_a_movie_of_small_images_is_lossless(tmp_path):
    rng = np.random.default_rng(0)
    latents, guesses = rng.integers(0, 5, (2, 4, 3, 6, 6, 3)).astype(np.uint8)
    found = trajectory.Trajectory(np.linspace(3.0, -3.0, 4), latents, guesses, 5)
    frames = trajectory.movie(found)
    trajectory.save_webp(tmp_path / "a.webp", frames)
    with Image.open(tmp_path / "a.webp") as moving:
        assert moving.n_frames == 4 and moving.info["loop"] == 0
        for i, frame in enumerate(frames):
            moving.seek(i)
            np.testing.assert_array_equal(np.asarray(moving.convert("RGB")), frame)
    strip = trajectory.strip(found, columns=2, examples=1)
    picked = [latents[0, 0], latents[-1, 0], guesses[0, 0], guesses[-1, 0]]
    np.testing.assert_array_equal(strip, images.grid(np.stack(picked), 5, columns=2))


def test_the_command(done, tmp_path):
    """Without checkpoints the page is made all the same, and says what is missing."""
    folder = tmp_path / "run"
    shutil.copytree(done.workdir, folder, ignore=shutil.ignore_patterns("checkpoints", "report*"))
    made = main("--mode=report", f"--workdir={folder}")
    assert made.returncode == 0, made.stderr
    assert "report written to" in made.stdout
    text = (folder / "report.html").read_text()
    assert "no checkpoint" in check_page(text).text and "Noise schedule" in headings(text)
    absent = main("--mode=report", "--config=configs/digits.py", f"--workdir={tmp_path}/none")
    assert absent.returncode == 2 and "error: there is no work directory" in absent.stderr


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
        assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        assert tab.evaluate("document.images.length") > 10
        assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
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
