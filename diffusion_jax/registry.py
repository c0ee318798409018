"""Plug-ins by name: a kind is a folder, a plug-in is a file in it, one string builds it.

`build("guidance", "interval(cfg(w=2.0), lo=-5.0, hi=4.0)")` imports
`diffusion_jax/sampling/guidance/interval.py` and calls its `make(...)`. A dotted name
(`"my_package.my_schedule(rate=3)"`) names a module outside the package. Adding a plug-in is adding
a file: there is no list to edit.
"""

import ast
import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from diffusion_jax import argument_types, earlier_names
from diffusion_jax.errors import SpecError, UserError, foreign
from diffusion_jax.members import check_made
from diffusion_jax.plugin_strings import Spec, parse

# The subpackage of each kind's plug-ins. A kind is named after its folder, or after its setting.
FOLDERS = {
    "data": "data.datasets",
    "augment": "data.augment",
    "pyramids": "data.pyramids",
    "views": "data.views",
    "backbones": "networks.backbones",
    "text_encoders": "networks.text_encoders",
    "autoencoders": "networks.autoencoders",
    "heads": "networks.heads",
    "schedules": "process.schedules",
    "encoders": "process.encoders",
    "decoders": "process.decoders",
    "objectives": "likelihood.objectives",
    "weightings": "likelihood.weightings",
    "time_sampling": "training.time_sampling",
    "tasks": "training.tasks",
    "distillation": "training.distillation",
    "loggers": "training.loggers",
    "guides": "networks.guides",
    "likelihood": "likelihood.estimators",
    "samplers": "sampling.samplers",
    "grids": "sampling.grids",
    "plans": "sampling.plans",
    "correctors": "sampling.correctors",
    "final_steps": "sampling.final_steps",
    "guidance": "sampling.guidance",
    "edits": "sampling.edits",
    "features": "evaluation.features",
    "judges": "evaluation.judges",
    "modes": "cli.modes",
}
# Settings whose name differs from that of their kind.
SETTINGS = {"network": "backbones", "text": "text_encoders",
            "proposal": "time_sampling", "final": "final_steps"}  # fmt: skip
# Names for one plug-in of a kind; for other kinds it is the name of the kind without its s.
_ONE = {
    "data": "data set", "augment": "augmentation", "backbones": "network",
    "text_encoders": "text encoder", "time_sampling": "proposal of times",
    "distillation": "method of distillation", "likelihood": "estimator of likelihood",
    "final_steps": "final step", "features": "feature space",
}  # fmt: skip
_ROOT = Path(__file__).parent
_REST = inspect.Parameter
_LATER = object()  # stands for a nested plug-in that is not built


def read(kind: str, spec: str | Spec) -> Spec:
    """Parses a plug-in of a kind, with earlier names replaced by today's."""
    return earlier_names.today(kind, spec if isinstance(spec, Spec) else parse(spec))


def nearest(name: str, names: Iterable[str]) -> str:
    """`" (did you mean 'cfg'?)"` if one of `names` is close to `name`; otherwise empty."""
    there = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), list(there), n=1)
    return f" (did you mean {there[close[0]]!r}?)" if close else ""


def kind_called(name: str) -> str:
    """Resolves a name to a plug-in kind: `schedule`, as in the configuration, to `schedules`.

    Raises:
        SpecError: there is no such kind.
    """
    for kind in (name, f"{name}s", SETTINGS.get(name, ""), earlier_names.KINDS.get(name, "")):
        if kind in FOLDERS:
            return kind
    raise SpecError(
        f"there is no kind of plug-ins {name!r}{nearest(f'{name}', FOLDERS)}; kinds: "
        f"{', '.join(FOLDERS)}"
    )


def one_of(kind: str) -> str:
    """Name of one plug-in of a kind: `"sampler"` for `samplers`, `"network"` for `backbones`."""
    kind = kind_called(kind)
    return _ONE.get(kind, kind.removesuffix("s"))


def folder(kind: str) -> Path:
    """The folder of a kind; `SpecError` if there is none."""
    return _ROOT.joinpath(*FOLDERS[kind_called(kind)].split("."))


def available(kind: str = "") -> tuple[str, ...]:
    """The names of the plug-ins of a kind, or the kinds if none is named; nothing is imported."""
    if not kind:
        return tuple(FOLDERS)
    names = (m.name for m in pkgutil.iter_modules([str(folder(kind))]))
    return tuple(sorted(n for n in names if n != "base" and not n.startswith("_")))


@dataclass(frozen=True)
class Plugin:
    """A description of a plug-in, read from its source.

    Attributes:
        name: name of the file.
        arguments: arguments of `make` with their defaults; empty for a mode.
        line: first line of the module's docstring.
    """

    name: str
    arguments: tuple[str, ...]
    line: str


def describe(kind: str) -> tuple[str, tuple[Plugin, ...]]:
    """A one-line description of a kind, and its plug-ins; nothing is imported."""
    found, where = [], folder(kind)
    for name in available(kind):
        tree = _parsed(where / f"{name}.py")
        makes = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "make")
        takes = next(map(_arguments, makes), ())
        found.append(Plugin(name, takes, _first_line(tree)))
    return _first_line(_parsed(where / "__init__.py")), tuple(found)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _first_line(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _arguments(make: ast.FunctionDef) -> tuple[str, ...]:
    a = make.args
    plain = [*a.posonlyargs, *a.args]
    values = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    both = [*zip(plain, values, strict=True), *zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    return tuple(p.arg + ("" if v is None else f"={ast.unparse(v)}") for p, v in both)


def build(kind: str, spec: str | Spec, **context: Any) -> Any:
    """Builds a plug-in from its string.

    Args:
        kind: for example `"samplers"`; see `FOLDERS` for all kinds.
        spec: the plug-in string, or a parsed one. Nested calls are built as the same kind, unless
            `make` annotates the parameter as `Spec`.
        **context: values for parameters of `make` that the string does not set, for example the
            `levels` of the data set; values for other parameters are ignored.

    Returns:
        What `make` returns.

    Raises:
        SpecError: unknown name (the message lists the existing ones), arguments that `make` does
            not accept, or a result that lacks an attribute its kind requires.
        ConfigError: a third-party `make` raised an exception.
    """
    kind = kind_called(kind)
    spec = read(kind, spec)
    make, bound, shown = _bound(kind, spec, context, build)
    elsewhere = "." in spec.name
    with foreign(f"{one_of(kind)} {spec}: cannot be built") if elsewhere else nullcontext():
        try:
            made = make(*bound.args, **bound.kwargs)
        except UserError:
            raise
        except (ArithmeticError, TypeError, ValueError) as e:
            why = f"{type(e).__name__}: {e}".partition("\n")[0]
            raise SpecError(f"{one_of(kind)} {spec}: cannot be built ({why}); {shown}") from e
    check_made(kind, str(spec), made, one_of(kind))
    return made


def arguments(kind: str, spec: str | Spec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `make` by name: those that the string sets, and the defaults of all others.

    Values are as written: nothing is built.

    Raises:
        SpecError: unknown name, or arguments that `make` does not accept.
    """
    kind = kind_called(kind)
    spec = read(kind, spec)
    make, bound, _ = _bound(kind, spec, {}, lambda *_, **__: _LATER)
    parameters = inspect.signature(make).parameters
    names = list(parameters)[: len(spec.args)]
    written = {**dict(zip(names, spec.args, strict=False)), **spec.kwargs}
    left = {k: p.default for k, p in parameters.items() if k not in bound.arguments}
    return written, {k: v for k, v in left.items() if v is not inspect.Parameter.empty}


def check(kind: str, spec: str | Spec, **context: Any) -> None:
    """Raises SpecError as `build` would for a name or arguments; `make` is not called."""
    kind = kind_called(kind)
    _bound(
        kind,
        read(kind, spec),
        context,
        lambda kind, inner, **known: check(kind, inner, **known) or _LATER,
    )


def _bound(
    kind: str, spec: Spec, context: dict[str, Any], nested: Callable[..., Any]
) -> tuple[Callable, inspect.BoundArguments, str]:
    """`make`, its arguments (nested calls built by `nested`), and its signature for messages."""
    make = _find(kind, spec.name).make
    signature, hints = inspect.signature(make), argument_types.hints(make)

    who = f"{one_of(kind)} {spec.name!r}"
    own = [p for p in signature.parameters.values() if p.name not in context]
    shown = f"it takes ({', '.join(str(p.replace(annotation=p.empty)) for p in own)})"

    def built(name: str | None, value: Any) -> Any:
        hint = hints.get(name or "", Any)
        if not isinstance(value, Spec) or argument_types.takes(hint, Spec):
            return value  # one that `make` builds itself, when it knows more
        if argument_types.only_literals(hint):
            wanted = argument_types.words(hint)
            raise SpecError(f"{who}: {name}={value} must be {wanted}; {shown}")
        return nested(kind, value, **context)

    args = [built(n, a) for n, a in zip_longest(signature.parameters, spec.args)][: len(spec.args)]
    kwargs = {k: built(k, v) for k, v in spec.kwargs.items()}
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
        offered = {k: v for k, v in context.items() if k in signature.parameters and k not in given}
        bound = signature.bind(*args, **kwargs, **offered)
    except TypeError as e:
        unknown = next((k for k in kwargs if k not in signature.parameters), "")
        hint = nearest(unknown, signature.parameters) if unknown else ""
        raise SpecError(f"{who}: {e}{hint}; {shown}") from e
    for name in given.keys() & hints.keys():
        value, hint = given[name], hints[name]
        plain = signature.parameters[name].kind not in (_REST.VAR_POSITIONAL, _REST.VAR_KEYWORD)
        if value is not _LATER and plain and not argument_types.fits(value, hint):
            raise SpecError(
                f"{who}: {name}={_as_written(spec, signature, name, value)} must be "
                f"{argument_types.words(hint)}; {shown}"
            )
        bound.arguments[name] = argument_types.converted(value, hint)
    return make, bound, shown


def _as_written(spec: Spec, signature: inspect.Signature, name: str, value: Any) -> str:
    """An argument as written in the string, or its value if it is not there."""
    written = {**dict(zip(signature.parameters, spec.args, strict=False)), **spec.kwargs}
    return repr(written.get(name, value))


def _find(kind: str, name: str) -> Any:
    if "." in name:
        with foreign(f"{one_of(kind)}: cannot import {name!r}"):
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as e:
                raise SpecError(
                    f"{one_of(kind)}: cannot import {name!r} ({e}): install it, or put the folder "
                    "that holds it on PYTHONPATH"
                ) from e
        if not hasattr(module, "make"):
            raise SpecError(f"{one_of(kind)}: module {name!r} has no function make(...)")
        return module
    names = available(kind)
    if name not in names:
        raise SpecError(
            f"unknown {one_of(kind)} {name!r}{nearest(name, names)}; there are: {', '.join(names)}"
        )
    return importlib.import_module(f"diffusion_jax.{FOLDERS[kind]}.{name}")
