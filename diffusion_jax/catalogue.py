"""All plug-ins with their arguments and what they are, from their sources: nothing is imported."""

import ast
from dataclasses import dataclass
from pathlib import Path

from diffusion_jax import registry

_ROOT = Path(__file__).parent
_MODES = "modes"


@dataclass(frozen=True)
class Plugin:
    """One plug-in.

    Attributes:
        name: of the file.
        arguments: of `make`, with their defaults; empty for a mode.
        line: the first line of its docstring.
    """

    name: str
    arguments: tuple[str, ...]
    line: str


def kinds() -> dict[str, str]:
    """The folders of plug-ins, and the first line of each one's docstring; modes last."""
    folders = sorted(p for p in _ROOT.iterdir() if (p / "__init__.py").is_file())
    # A folder of plug-ins holds nothing else.
    plugged = [
        p
        for p in folders
        if p.name != _MODES
        and (names := registry.available(p.name))
        and names == tuple(f.name for f in plugins(p.name))
    ]
    return {p.name: _line(_parsed(p / "__init__.py")) for p in (*plugged, _ROOT / _MODES)}


def plugins(kind: str) -> tuple[Plugin, ...]:
    """The plug-ins of a folder, by name.

    Args:
        kind: the folder.

    Returns:
        Those with a function `make(...)`; of `modes`, all.
    """
    found = []
    for name in registry.available(kind):
        path = _ROOT / kind / f"{name}.py"
        if not path.is_file():
            continue
        tree = _parsed(path)
        make = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "make"),
                    None)  # fmt: skip
        if make is not None or kind == _MODES:
            found.append(Plugin(name, _arguments(make) if make else (), _line(tree)))
    return tuple(found)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _line(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _arguments(make: ast.FunctionDef) -> tuple[str, ...]:
    a = make.args
    plain = [*a.posonlyargs, *a.args]
    values = [None] * (len(plain) - len(a.defaults)) + list(a.defaults)
    both = [*zip(plain, values, strict=True), *zip(a.kwonlyargs, a.kw_defaults, strict=True)]
    return tuple(p.arg + ("" if v is None else f"={ast.unparse(v)}") for p, v in both)
