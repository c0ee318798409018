"""Imports go down only; importing the package loads nothing heavy."""

import ast
import subprocess
import sys

import pytest
from conftest import REPO

# From the bottom up. A module may import from its own layer's number or below, except that files
# of a plug-in folder may import only that folder's base (and private helpers).
LAYERS = [
    ("errors",),
    ("types",),
    ("cache",),
    (
        "rng",
        "registry",
        "sharding",
        "processors",
        "progress",
        "preemption",
        "cluster",
        "preview",
        "compilation",
        "places",
        "remembering",
    ),
    ("schedules", "nn", "parameterization", "data", "augment", "decoders", "pictures"),
    ("models", "encoders", "scorers"),
    ("model",),
    ("objectives", "guidance", "samplers", "grids", "proposals"),
    ("hooks", "correctors", "finals", "measurement", "plans", "features"),
    ("sampling", "inversion", "likelihood"),
    ("training",),
    ("evaluation", "interop", "codec", "report"),
    ("edits",),
    ("config",),
    ("presets",),
    ("modes", "saved_config"),
    ("main",),
]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
PLUGINS = ("schedules", "augment", "data", "decoders", "models", "encoders", "objectives",
           "guidance", "samplers", "grids", "proposals", "hooks",
           "correctors", "finals", "plans", "scorers", "features", "edits",
           "likelihood")  # fmt: skip
ROOT = REPO / "diffusion_jax"
FILES = sorted(ROOT.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{a.name}" for a in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts == ("__init__",):
        return
    here = parts[0]
    assert here in LEVEL, f"give {here} a layer"
    for name in imports(path):
        assert "._src" not in name, f"private import {name}"
        if not name.startswith("diffusion_jax."):
            continue
        there, *rest = name.split(".")[1:]
        if there not in LEVEL:  # "from diffusion_jax import __version__"
            continue
        assert LEVEL[there] <= LEVEL[here], f"{here} may not import {there}"
        if here in PLUGINS and there == here and parts[-1] != "base":
            assert rest[0] == "base" or rest[0].startswith("_"), f"{parts} imports {name}"
    if here == "training":
        assert not any("evaluation" in n or n.endswith("sampling") for n in imports(path))


def test_help_needs_neither_tensorflow_nor_jax_devices():
    code = (
        "import sys, diffusion_jax.main\n"
        "bad = {'tensorflow', 'jax', 'sklearn', 'orbax'} & sys.modules.keys()\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
