"""Checks of plug-in arguments against the annotations of `make`."""

import inspect
import numbers
import types
import typing
from collections.abc import Callable
from typing import Any

_ANYTHING = (Any, object, inspect.Parameter.empty)
_SIMPLE: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool)),
    float: (
        "a number",
        lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool) and v == v,
    ),
    str: ("text in quotes", lambda v: isinstance(v, str)),
    type(None): ("None", lambda v: v is None),
    dict: ("a dictionary", lambda v: isinstance(v, dict)),
}
_PLURAL = {bool: "truth values", int: "whole numbers", float: "numbers", str: "texts in quotes"}
_LITERALS = (bool, numbers.Number, str, bytes, type(None), tuple, list, dict, set)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def hints(make: Callable) -> dict[str, Any]:
    """The resolved annotations of `make`; empty if they cannot be resolved."""
    try:
        return typing.get_type_hints(make, include_extras=True)
    except Exception:  # annotations of third-party plug-ins may fail in any way
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a literal or a built plug-in matches the annotation."""
    plain, ranges = _parts(hint)
    if ranges:
        return fits(value, plain) and all(r.holds(value) for r in ranges)
    if hint in _SIMPLE:
        return _SIMPLE[hint][1](value)
    choices = _choices(hint)
    if choices:
        return any(fits(value, h) for h in choices)
    if _is_tuple(hint):
        return isinstance(value, tuple | list) and _fits_items(value, typing.get_args(hint))
    if hint in _ANYTHING or not isinstance(hint, type):
        return True  # a callable, a type variable, ...: not checked
    if typing.Protocol in hint.__bases__:
        return not isinstance(value, _LITERALS)
    return isinstance(value, hint)


def converted(value: Any, hint: Any) -> Any:
    """The value, with a list converted to a tuple or an integer to a float if annotated so."""
    plain = [_parts(h)[0] for h in (_choices(hint) or (hint,))]
    tuples = [h for h in plain if _is_tuple(h)]
    if isinstance(value, tuple | list) and tuples:  # plug-ins stay hashable
        items = typing.get_args(tuples[0])
        one_type = items[1:] == (...,)
        return tuple(converted(v, items[0]) if one_type else v for v in value)
    if float in plain and int not in plain and _is_real(value):
        return float(value)
    return value


def takes(hint: Any, kind: type) -> bool:
    """Whether the annotation is `kind`, or a union that contains it."""
    return any(h is kind for h in (_choices(hint) or (hint,)))


def only_literals(hint: Any) -> bool:
    """Whether the annotation excludes plug-ins."""
    plain = (_parts(h)[0] for h in (_choices(hint) or (hint,)))
    return all(h in _SIMPLE or _is_tuple(h) for h in plain)


def words(hint: Any) -> str:
    """A description of the annotation, for messages."""
    plain, ranges = _parts(hint)
    if ranges:
        complete = next((r.text for r in ranges if r.text.startswith("a ")), "")
        return complete or ", ".join([words(plain), *(r.text for r in ranges)])
    choices = _choices(hint)
    if choices:
        return ", or ".join(words(h) for h in choices)
    if _is_tuple(hint):
        items = [_parts(i) for i in typing.get_args(hint) if i is not ...]
        count = f"{len(items)} " if len(items) > 1 else ""
        plural = _PLURAL.get(items[0][0], "values") if items else "values"
        limits = [r.text for r in (items[0][1] if items else ())]
        each = [f"each {t}" for t in limits if not t.startswith("a ")]
        return ", ".join([f"a tuple of {count}{plural}", *each])
    return _SIMPLE[hint][0] if hint in _SIMPLE else "a plug-in, written name(...)"


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The annotation without its ranges, and the ranges."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, ()
    plain, *metadata = typing.get_args(hint)
    return plain, tuple(m for m in metadata if hasattr(m, "holds"))


def _choices(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if union else ()


def _is_tuple(hint: Any) -> bool:
    return hint is tuple or typing.get_origin(hint) is tuple


def _fits_items(values: Any, items: tuple[Any, ...]) -> bool:
    if not items:
        return True
    if items[-1] is ...:
        return all(fits(v, items[0]) for v in values)
    return len(values) == len(items) and all(map(fits, values, items))
