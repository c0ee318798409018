import contextlib
import inspect
import math
import sys

import numpy as np
import pytest

from diffusion_jax import allowed, argument_types, registry
from diffusion_jax.errors import ConfigError, SpecError, UserError

KINDS = ("schedules", "grids", "samplers", "guidance", "objectives", "data", "augment", "backbones",
         "decoders", "encoders", "time_sampling", "features", "pyramids", "views",
         "distillation")  # fmt: skip


def test_a_spec_is_parsed_not_evaluated():
    spec = registry.parse("outer(inner(w=2.0), lo=-5, values=(1, 2), name='x')")
    assert spec.name == "outer"
    assert spec.args == (registry.Spec("inner", (), {"w": 2.0}),)
    assert spec.kwargs == {"lo": -5, "values": (1, 2), "name": "x"}
    assert registry.parse("linear") == registry.Spec("linear")


@pytest.mark.parametrize(
    "text", ["", "f(", "f(x for x in y)", "f(__import__('os').system('x'))(1)", "3", "f(**{})",
             "f(1+n)", "lambda: 0"],
)  # fmt: skip
def test_anything_but_literals_and_calls_is_refused(text):
    with pytest.raises(SpecError):
        registry.parse(text)


def test_an_argument_is_given_once():
    with pytest.raises(SpecError, match=r"in 'f.a=1, b=g.a=2, a=3..': a is given twice"):
        registry.parse("f(a=1, b=g(a=2, a=3))")
    assert registry.parse("f(a=1, b=g(a=2))").kwargs["a"] == 1


def test_an_unknown_name_lists_what_exists():
    with pytest.raises(SpecError, match=r"did you mean 'linear'.*cosine.*learned_mlp"):
        registry.build("schedules", "lineer()")


def test_wrong_arguments_name_the_right_ones():
    with pytest.raises(SpecError, match="eta"):
        registry.build("samplers", "ddim(etta=1.0)")
    with pytest.raises(SpecError, match=r"'widht' .did you mean 'width'.*; it takes .width=128"):
        registry.build("backbones", "vdm_unet(widht=8)", channels=1)
    with pytest.raises(SpecError, match=r"'ww' .did you mean 'w'"):
        registry.build("guidance", "interval(cfg(ww=2.0), lo=-1.0, hi=1.0)")


@pytest.mark.parametrize(
    "text", ["folder(path=/x)", "folder(path=~/x, size=32)", "npz(levels=5, path=a/b.npz)",
             "folder(path=gs://b/x)"],
)  # fmt: skip
def test_text_without_quotes_is_said_to_need_them(text):
    with pytest.raises(SpecError, match=r"quote text: path='[^,()]+'$"):
        registry.parse(text)


def test_context_fills_only_what_the_string_leaves_open():
    built = registry.build("schedules", "linear(gamma_min=-3.0)", gamma_min=-9.0, gamma_max=7.0)
    assert (built.gamma_min, built.gamma_max) == (-3.0, 7.0)


def test_out_of_tree_plugins(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def make(rate=1):\n    return ('mine', rate)\n")
    (tmp_path / "empty.py").write_text("")
    package = tmp_path / "pack"
    package.mkdir()
    for name in ("mine.py", "empty.py"):
        (tmp_path / name).rename(package / name)
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.build("backbones", "pack.mine(rate=3)") == ("mine", 3)
    with pytest.raises(SpecError, match="make"):
        registry.build("schedules", "pack.empty()")
    with pytest.raises(SpecError, match=r"cannot import .*PYTHONPATH"):
        registry.build("schedules", "pack.missing()")


CHECKED_LATER = ("modes", "backbones", "samplers")
BROKEN = {
    "raises": (
        "def make():\n    return [][1]\n",
        r"cannot be built: IndexError: .*raises.py, line 2",
    ),
    "raises_oddly": (
        "def make():\n    raise OSError('no disk')\n",
        "cannot be built: OSError: no disk",
    ),
    "syntax": ("def make(:\n", "cannot import 'broken.syntax': SyntaxError"),
    "fails": ("x = 1 / 0\n", "cannot import 'broken.fails': ZeroDivisionError.*fails.py, line 1"),
    "three": ("def make():\n    return 3\n", "make returned int and (has no|cannot be called)"),
}


@pytest.mark.parametrize("kind", [k for k in registry.FOLDERS if k not in CHECKED_LATER])
@pytest.mark.parametrize("name", BROKEN)
def test_what_elsewhere_is_broken_is_one_line(tmp_path, monkeypatch, kind, name):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{name}.py").write_text(BROKEN[name][0])
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("broken", f"broken.{name}"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ConfigError, match=f"^{registry.one_of(kind)}.*{BROKEN[name][1]}"):
        registry.build(kind, f"broken.{name}()")


@pytest.mark.parametrize("kind", KINDS)
def test_every_folder_has_plugins_and_lists_no_base(kind):
    names = registry.available(kind)
    assert names
    assert "base" not in names
    assert list(names) == sorted(names)


def test_nested_plugins_are_built():
    spec = registry.Spec("linear", (), {"gamma_min": np.float64(-2.0)})
    assert registry.build("schedules", spec).gamma_min == -2.0


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("objectives", "discrete(timesteps=2.5)", "timesteps=2.5 must be a whole number"),
        ("objectives", "discrete(True)", "timesteps=True must be a whole number"),
        ("samplers", "ddim(eta='x')", "eta='x' must be a number"),
        ("samplers", "ddim(eta=heun())", r"eta=heun\(\) must be a number"),
        (
            "guidance",
            "interval(cfg(w=None), lo=-1.0, hi=1.0)",
            "'cfg': w=None must be a finite number",
        ),
        ("guidance", "rescale(3)", "inner=3 must be a plug-in"),
        ("tasks", "guide('classifier')", "network='classifier' must be a plug-in"),
        ("data", "npz(path=photos)", r"path=photos\(\) must be text in quotes"),
        ("grids", "array(values=(5.0, 'a'))", r"values=\(5.0, 'a'\) must be a tuple of numbers"),
        ("backbones", "unet(mults=3)", "mults=3 must be a tuple of whole numbers"),
        ("features", "inception(shape=(4, 4))", "must be a tuple of 3 whole numbers"),
    ],
)
def test_arguments_of_another_type_are_refused(kind, text, says):
    with pytest.raises(SpecError, match=f"{says}.*; it takes"):
        registry.build(kind, text, channels=1)


def test_arguments_that_fit_are_taken():
    """Whole numbers and numpy's for numbers, lists for tuples, None where it is a choice."""
    assert registry.build("samplers", "ddim(eta=1)").eta == 1.0
    assert registry.build("guidance", "classifier(checkpoint='x', inner=None)").inner is None
    grid = registry.build("grids", "array(values=[5, 1.0, -3])")
    assert grid.keywords["values"] == (5.0, 1.0, -3.0)
    assert str(registry.build("tasks", "guide(clip())").spec) == "clip()"


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("data", "features", "modes")])
def test_no_wrong_argument_is_a_traceback(kind):
    """Every argument of every plug-in, with values of all types."""
    context = {
        "channels": 1, "levels": 5, "gamma_min": -3.0, "gamma_max": 3.0, "shape": (4, 4, 1),
        "num_classes": 3, "augment": 0, "dtype": "float32", "platform": "cpu",
    }  # fmt: skip
    wrong = (None, True, "x", -1, 0, 2.5, math.inf, (), ("a",), (1,), {}, b"x", 1j)
    for name in registry.available(kind):
        make = registry._find(kind, name).make
        for argument in inspect.signature(make).parameters:
            for value in wrong:
                with contextlib.suppress(UserError):
                    registry.build(kind, registry.Spec(name, (), {argument: value}), **context)


def test_a_kind_may_be_called_as_the_setting_is():
    for kind, spec in (("network", "mlp(width=8)"), ("sampler", "ddim()")):
        assert registry.build(kind, spec) == registry.build(registry.kind_called(kind), spec)


def test_whole_numbers_in_a_tuple_become_the_numbers_they_stand_for():
    found = argument_types.converted([2, -13.5, True], tuple[allowed.Number, ...])
    assert found == (2.0, -13.5, True)
    assert [type(v) for v in found] == [float, float, bool]
    assert argument_types.converted((1, 2), tuple[int, ...]) == (1, 2)
