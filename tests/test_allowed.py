"""Numbers that an argument of a plug-in cannot be are refused in one line, when it is built."""

import inspect
import math
import typing

import pytest

from diffusion_jax import argument_types, registry
from diffusion_jax.errors import SpecError, UserError

KINDS = [kind for kind in registry.FOLDERS if kind != "modes"]
KNOWN = {
    "channels": 1, "levels": 5, "gamma_min": -3.0, "gamma_max": 3.0, "shape": (4, 4, 1),
    "num_classes": 4, "dtype": "float32", "platform": "cpu", "classes": ("a", "b", "c", "d"),
    "devices": 1, "memory": None, "open_classifier": None,
}  # fmt: skip
# What has no default, as it would be written.
REQUIRED = {
    "inner": registry.Spec("none"), "of": registry.Spec("digits"), "like": registry.Spec("digits"),
    "network": registry.Spec("classifier"), "path": "nowhere", "checkpoint": "nowhere",
    "text": "a", "size": 8, "values": (1.0, 0.0),
}  # fmt: skip


def arguments(hint):
    """The types that an annotation is made of."""
    inside = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Annotated:
        return [hint, *(a for a in arguments(inside[0]) if a not in (int, float))]
    inside = [i for i in inside if not isinstance(i, list)]  # of a Callable
    return [a for i in inside for a in arguments(i)] if inside else [hint]


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_says_what_it_may_be(kind):
    for name in registry.available(kind):
        for argument, hint in argument_types.hints(registry._find(kind, name).make).items():
            bare = {int, float} & set(arguments(hint))
            assert argument == "return" or not bare, f"{kind} {name}: {argument}"


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_taken_or_refused_in_a_line(kind):
    """Every argument of every plug-in: it is built, or says what it must be."""
    for name in registry.available(kind):
        make = registry._find(kind, name).make
        takes = inspect.signature(make).parameters
        needed = {
            n: v for n, v in REQUIRED.items() if n in takes and takes[n].default is takes[n].empty
        }
        for argument, hint in argument_types.hints(make).items():
            numeric = any(
                a in (int, float) or typing.get_origin(a) is typing.Annotated
                for a in arguments(hint)
            )
            if argument == "return" or not numeric:
                continue
            for value in (0, -1, 1, 3, 10**9, 2.5, 1e-9, math.nan, math.inf, -math.inf, (), (0,)):
                spec = registry.Spec(name, (), {**needed, argument: value})
                try:
                    registry.build(kind, spec, **{k: v for k, v in KNOWN.items() if k != argument})
                except UserError as e:
                    text = str(e)
                    assert "\n" not in text
                    assert "cannot be built" not in text, text
                else:
                    assert value == value, f"{kind} {spec} is built"


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("backbones", "unet(width=0)", "width=0 must be a whole number, at least 1"),
        ("text_encoders", "bytes(length=2)", "length=2 must be a whole number, at least 3 (a text"),
        ("backbones", "vdm_unet(depth=-3)", "depth=-3 must be a whole number, at least 1"),
        ("backbones", "dit(dropout=1.0)", "dropout=1.0 must be a number, at least 0 and below 1"),
        ("backbones", "unet(mults=())", "a tuple of whole numbers, each at least 1, 1 or more"),
        ("backbones", "unet(mults=(1, 0))", "a tuple of whole numbers, each at least 1, 1 or more"),
        ("data", "digits(holdout=1.5)", "holdout=1.5 must be a whole number, at least 0"),
        ("data", "digits(holdout=-1)", "holdout=-1 must be a whole number, at least 0"),
        ("data", "folder('x', size=(0, 3))", "size=(0, 3) must be a whole number, at least 1, or"),
        ("objectives", "discrete(timesteps=0)", "timesteps=0 must be a whole number, at least 1"),
        ("guidance", "interval(cfg(w=1e999))", "'cfg': w=inf must be a finite number"),
        ("samplers", "ddim(eta=1.5)", "eta=1.5 must be a number from 0 to 1"),
        ("edits", "interpolate(frames=1)", "frames=1 must be a whole number, at least 2"),
    ],
)  # fmt: skip
def test_the_line(kind, text, says):
    with pytest.raises(SpecError) as raised:
        registry.build(kind, text)
    assert says in str(raised.value)
    assert "; it takes (" in str(raised.value)
