"""Imports go down only; importing the package loads nothing heavy."""

import ast
import graphlib
import subprocess
import sys

import pytest
from conftest import REPO

from diffusion_jax import registry

# From the bottom up: a module imports from its own line or below. A longer name is a layer of its
# own; the files of a plug-in folder import no other plug-in of their kind but `base`.
LAYERS = """
errors types allowed traits
members plugin_strings
earlier_names
rng registry argument_types runtime denoiser
data
networks
process
model
baselines
sampling adapt
likelihood compression
training
evaluation
config config_groups config_latents packaged saved_config ranges config_fields
experiment
cli testing
main
__main__
""".strip().splitlines()
LEVEL = {name: i for i, line in enumerate(LAYERS) for name in line.split()}
KINDS = {f"diffusion_jax.{folder}" for kind, folder in registry.FOLDERS.items() if kind != "modes"}
ROOT = REPO / "diffusion_jax"
FILES = sorted(ROOT.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{a.name}" for a in node.names)


def level(module):
    """The layer of a dotted name without the package's, by its longest known prefix."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((LEVEL[n] for n in names if n in LEVEL), None)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    here = ".".join(path.relative_to(REPO).with_suffix("").parts)
    if here == "diffusion_jax.__init__":
        return
    mine = level(here.removeprefix("diffusion_jax."))
    assert mine is not None, f"give {here} a layer"
    room = here.rpartition(".")[0]
    for name in imports(path):
        assert "._src" not in name, f"private import {name}"
        if not name.startswith("diffusion_jax."):
            continue
        there = level(name.removeprefix("diffusion_jax."))
        assert there is None or there <= mine, f"{here} may not import {name}"
        if room in KINDS and name.startswith(f"{room}.") and not here.endswith(".base"):
            plugin = name.removeprefix(f"{room}.")
            assert plugin.startswith(("base", "_")), f"{here} imports {name}"
    if here.startswith("diffusion_jax.training."):
        assert not any(".evaluation" in n or ".sampling" in n for n in imports(path)), here


def test_no_files_import_each_other_in_a_circle():
    """Imports inside functions count; those of a package's `__init__`, its face, do not."""
    own = {".".join(p.relative_to(REPO).with_suffix("").parts): p for p in FILES}
    graph = {}
    for name, path in own.items():
        taken = set(imports(path))
        taken |= {n.rpartition(".")[0] for n in taken}
        graph[name] = {n for n in taken & own.keys() if n != name}
    list(graphlib.TopologicalSorter(graph).static_order())  # or CycleError, which names them


def test_help_needs_neither_tensorflow_nor_jax_devices():
    code = (
        "import sys, diffusion_jax.main\n"
        "bad = {'tensorflow', 'jax', 'sklearn', 'orbax'} & sys.modules.keys()\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
