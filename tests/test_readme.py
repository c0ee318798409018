"""The code in the README and the docs runs, commands exist, and the first does what it says."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from conftest import REPO
from html_page import check_page

PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
OTHERS = [REPO / n for n in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "launch/README.md")]
TEXTS = {
    p.relative_to(REPO).as_posix(): p.read_text()
    for p in (*PAGES, *OTHERS, *sorted((REPO / "configs").glob("*.py")))
}
BLOCKS = [
    (page.relative_to(REPO).as_posix(), *found)
    for page in PAGES
    for found in re.findall(r"```(\w*)\n(.*?)```", page.read_text(), re.S)
]
COMMANDS = [
    line
    for page, kind, text in BLOCKS
    for line in text.splitlines()
    if line and kind == "bash" and page == "README.md"
]
OF_A_RUN = "runs/digits"  # blocks that name it are run on a trained model


def python_blocks(of_a_run):
    return [
        pytest.param(text, id=page)
        for page, kind, text in BLOCKS
        if kind == "python" and (OF_A_RUN in text) == of_a_run
    ]


def keeps_its_promises(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    for line in promised:
        assert line in done.stdout


@pytest.mark.parametrize("code", python_blocks(of_a_run=False))
def test_python_blocks_run_and_print_what_they_say(code):
    keeps_its_promises(code)


@pytest.mark.slow
@pytest.mark.parametrize("code", python_blocks(of_a_run=True))
def test_python_blocks_about_a_run_do_so_too(code, run):
    keeps_its_promises(code.replace(OF_A_RUN, str(run)))


def test_set_up_is_two_commands_and_ci_runs_the_second():
    setup = [c for c in COMMANDS if c.startswith("pip install -e") and "&&" in c]
    assert len(setup) == 2
    assert setup[1] in (REPO / ".ci/run").read_text()
    assert ".ci/run" in (REPO / ".github/workflows/ci.yml").read_text()


def test_the_first_page_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 120


@pytest.mark.parametrize("page", TEXTS)
def test_every_setting_mode_and_config_exists(page):
    from diffusion_jax import registry
    from diffusion_jax.config import base

    text = TEXTS[page]
    for word in re.findall(r"--config\.(\w+(?:\.\w+)*)", text):
        node, (*path, last) = base(), word.split(".")
        for part in path:
            assert part in node, word
            node = node[part]
        assert last in node, word
    modes = set(re.findall(r"--mode=([a-z]+)", text))
    assert modes <= set(registry.available("modes"))
    for path in re.findall(r"--config=([\w/]+\.py)", text):
        assert (REPO / path).is_file(), path


@pytest.mark.parametrize("page", TEXTS)
def test_every_path_exists(page):
    """In links, and in code that looks like a path of this repository."""
    text = re.sub(r"```.*?```", "", TEXTS[page], flags=re.S)
    here = (REPO / page).parent
    links = re.findall(r"\]\(([^):#]+)(?:#[\w-]*)?\)", text)
    assert [a for a in links if not (here / a).exists()] == []
    roots = (REPO, REPO / "diffusion_jax", here)
    rooms = {p.name for root in roots for p in root.iterdir() if p.is_dir()}
    words = re.findall(r"(?<!`)`([\w.-]+/[\w./-]*)`", text)
    ours = [w for w in words if w.split("/")[0] in rooms or w.endswith(".py")]
    # Output of a run has names of its own, and a reader's package is not here.
    ours = [w for w in ours if not w.startswith(("report/", "my_package/"))]
    assert [w for w in ours if not any((root / w).exists() for root in roots)] == []


KINDS = {
    "augment": "augment", "autoencoder": "autoencoders", "compress.grid": "grids",
    "corrector": "correctors", "data": "data", "edit.judge": "judges", "edit.method": "edits",
    "encoder": "encoders", "eval.likelihood": "likelihood", "final": "final_steps",
    "grid": "grids", "guidance": "guidance", "inform.data": "data", "network": "backbones",
    "objective": "objectives", "ood.against": "data", "plan": "plans",
    "proposal": "time_sampling", "quality.features": "features", "quality.judge": "judges",
    "sample.captions_of": "data", "sample.prior_guidance": "guidance", "sampler": "samplers",
    "schedule": "schedules", "task": "tasks", "text": "text_encoders", "view": "views",
}  # fmt: skip


def commands(text):
    """Those of a page that start the program, without placeholders such as `--config.seed=K`."""
    blocks = [b.replace("\\\n", " ") for _, b in re.findall(r"```(bash)\n(.*?)```", text, re.S)]
    prose = re.findall(r"`(djax [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    lines = [line for block in blocks for line in block.splitlines() if "djax " in line]
    for line in (*lines, *(c.replace("\n", " ") for c in prose)):
        words = shlex.split(line[line.index("djax ") :], comments=True)
        if len(words) > 1 and re.fullmatch("[a-z]+", words[1]) and words[1] != "help":
            yield [w for w in words if not re.search(r"[=:][A-Z]+$|=\W*my_package|=\.\.\.|\$", w)]


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_is_one_that_the_program_takes(page):
    """Settings are of the mode, values of their type, and plug-ins take their arguments."""
    import diffusion_jax
    from diffusion_jax import registry
    from diffusion_jax.cli import arguments

    for words in commands(TEXTS[page]):
        argv = arguments.with_mode(words)
        arguments.check_fields(argv)
        given = dict(
            w.removeprefix("--config.").split("=", 1) for w in argv if "--config." in w and "=" in w
        )
        arguments.check_settings(arguments.check_mode(argv), given)
        name = arguments.value(argv, "config") or ""
        if name and not name.startswith(("images:", "runs/")):
            diffusion_jax.load_config(name)
        for field, spec in given.items():
            if spec and field in KINDS:
                registry.check(KINDS[field], spec)


def test_every_mode_and_every_choice_has_its_place():
    from diffusion_jax import registry

    modes = TEXTS["docs/modes.md"]
    assert [m for m in registry.available("modes") if f"| `{m}` |" not in modes] == []
    settings = TEXTS["docs/settings.md"].split("## Environment")[0]
    for kind in (
        "backbones", "schedules", "encoders", "objectives", "time_sampling", "samplers", "grids",
        "plans", "correctors", "final_steps", "guidance", "views", "pyramids", "autoencoders",
    ):  # fmt: skip
        names = registry.available(kind)
        assert [n for n in names if not re.search(rf"\b{n}\b", settings)] == [], kind


@pytest.fixture(scope="module")
def run(tmp_path_factory, fast_programs):
    """What the first command leaves, after a third of its steps: the promised figures take all."""
    folder = tmp_path_factory.mktemp("readme") / "run"
    main = next(c for c in COMMANDS if "&&" in c and "djax" in c).split("&&")[1]
    words = [w.replace("runs/digits", str(folder)) for w in shlex.split(main)]
    assert words[0] == "djax"
    call("-m", "diffusion_jax", *words[1:], "--config.steps=500")
    return folder


def call(*words):
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_main_command(run):
    report = json.loads((run / "eval/500.json").read_text())["result"]
    assert report["images"] == 297
    assert report["bits_per_dim"] <= 2.2
    assert report["standard_error"] < 0.05
    assert (run / "samples/500.png").is_file()
    assert len(check_page((run / "report.html").read_text()).all("img")) >= 10
    # Guidance makes the digits recognisable to a classifier that has only seen real ones.
    import numpy as np
    from sklearn.svm import SVC

    from diffusion_jax import registry

    real = registry.build("data", "digits()").split("train")
    judge = SVC(gamma=0.001).fit(real.images.reshape(len(real), -1), real.labels)
    with np.load(run / "samples/500.npz") as made:
        found = judge.predict(made["image"].reshape(len(made["image"]), -1))
        assert (found == made["label"]).mean() > 0.3  # chance: 0.1; 0.9 after all steps


@pytest.mark.slow
def test_half_precision_costs_no_bits(run, tmp_path):
    # The same images, times and noise: what is left is rounding in the network.
    found = {}
    for dtype in ("float32", "bfloat16"):
        call(
            "-m", "diffusion_jax.main", "--mode=eval", f"--checkpoint={run}",
            f"--workdir={tmp_path / dtype}", f"--config.dtype={dtype}", "--config.eval.limit=64",
            "--config.eval.draws=8", "--config.eval.timesteps=()",
        )  # fmt: skip
        report = json.loads((tmp_path / dtype / "eval/500.json").read_text())
        found[dtype] = report["result"]["bits_per_dim"]
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.005)
