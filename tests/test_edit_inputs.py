"""What edits refuse: inputs that make no sense, settings, plans and methods."""

import itertools

import numpy as np
import pytest
import tiny
from gaussian_edits import (
    PAIR,
    brush,
    grid,
)

from diffusion_jax import registry
from diffusion_jax.cli.modes import _edit_inputs
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.edits.base import Inputs

pytestmark = pytest.mark.usefixtures("float64")


IMAGE = np.zeros((1, 4, 4, 1), np.uint8)
FILLS = ("replace()", "repaint()", "posterior()")
FREE = ("sdedit()", "interpolate()", "interpolate_noise()")
BORDERS = ("outpaint(left=1)", "widen(left=1)", "extend(top=1)")
HALF = np.repeat([0.0, 1.0], 2).reshape(1, 4, 1, 1) * np.ones((1, 4, 4, 1))
LABEL = {"label": np.zeros(1, np.int32)}


@pytest.mark.parametrize(
    ("spec", "changes", "says"),
    [
        *[(s, {"mask": None}, "needs a mask") for s in (*FILLS, "blend()")],
        *[(s, {"mask": 0 * HALF}, "mask is empty") for s in (*FILLS, "blend()")],
        *[(s, {"mask": 0 * HALF + 1}, "covers the whole") for s in FILLS],
        *[(s, {}, "takes no mask") for s in (*FREE, *BORDERS)],
        ("outpaint(left=2, right=2)", {"mask": None}, "covers the whole 4x4"),
        ("interpolate()", {"mask": None}, "needs pairs"),
        ("interpolate()", {"mask": None, "each": 2}, "would be equal"),
        ("posterior()",
         {"images": np.zeros((2, 4, 4, 1)), "mask": np.concatenate([HALF, 1 - HALF])}, "same mask"),
        ("widen(right=4, stride=4)", {"mask": None}, "stride=4"),
        ("widen(right=4, labels=(1, 2))", {"mask": None, "cond": LABEL}, "2 labels for 3 windows"),
        ("extend(right=4, labels=(1, 2, 3))", {"mask": None}, "unconditional"),
        ("extend(right=4, inner=sdedit())", {"mask": None}, "sdedit takes no mask"),
        ("posterior(method='exact')", {"images": np.zeros((1, 32, 32, 1)),
                                       "mask": np.arange(1024).reshape(1, 32, 32, 1) % 2},
         "512 .*pigdm"),
    ],
)  # fmt: skip
def test_inputs_that_make_no_sense_are_refused(spec, changes, says):
    given = Inputs(IMAGE, HALF, {}, 1)._replace(**changes)
    with pytest.raises(ConfigError, match=says):
        registry.build("edits", spec).lay_out(given)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("outpaint()", "at least one must be positive"),
        ("widen(left=-1, right=2)", "left=-1 must be a whole number, at least 0"),
        ("posterior(method='best')", "exact, pigdm, dps"),
        ("posterior(noise=0.0)", r"noise=0\.0 must be a finite number above 0"),
        ("interpolate(frames=1)", "at least 2"),
        ("interpolate(solver='ancestral()')", "deterministic"),
    ],
)
def test_settings_are_checked(spec, says):
    with pytest.raises(ConfigError, match=says):
        registry.build("edits", spec)


def test_plans_and_methods_are_checked():
    for start, spec in itertools.product(
        (9.5, -12.0, -13.0), ("sdedit", "blend", "interpolate_noise")
    ):
        with pytest.raises(ConfigError, match="outside this model's gammas"):
            registry.build("edits", f"{spec}(start={start})").plan(grid(4))
    lower = registry.build("edits", "sdedit(start=1.0)").plan(np.array([4.0, 2.0, 0.0, -3.0]))
    np.testing.assert_array_equal(lower, [1.0, 0.0, -3.0])
    edit = registry.build("edits", "interpolate()")
    for options, says in (
        ({"sampler": "ancestral()"}, "draws noise"),
        ({"gammas": np.array([3.0, 1.0, 2.0])}, "goes up"),
    ):
        tool = brush(PAIR, **({"gammas": grid(4)} | options))
        with pytest.raises(ConfigError, match=says):
            edit.check(tool.model, tool.method)
    tool = brush(PAIR, grid(4), classes=3)
    for spec in ("widen(right=1, labels=(0, 3))", "extend(right=1, labels=(0, -2))"):
        with pytest.raises(ConfigError, match=r"classes are 0 \.\. 2"):
            registry.build("edits", spec).check(tool.model, tool.method)


@pytest.mark.parametrize("letter", ["a", "é"])
def test_the_folder_of_an_edit_has_a_name_that_file_systems_take(tmp_path, letter):
    run = tiny.experiment(tmp_path)
    run.config.edit.method = "interpolate()"
    stem = letter * (251 // len(letter.encode()))
    run.config.edit.image = f"{tmp_path}/{stem}.png"
    name = _edit_inputs.name(run)
    assert len(f"12345678_{name}_99".encode()) <= 255 and len(name.encode()) > 220
    (tmp_path / name).mkdir()
    run.config.edit.image = "pets/short name.png"
    assert _edit_inputs.name(run) == "interpolate_short name"
