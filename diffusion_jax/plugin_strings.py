"""Plug-in strings, `name(key=value, other=nested(...))`: parsed, and never evaluated."""

import ast
import re
from dataclasses import dataclass, field
from typing import Any

from diffusion_jax.errors import SpecError

# A path or name that was written without quotes.
_TEXT = r"[^\s'\"(),=]*"
_BARE_TEXT = re.compile(rf"(\w+)\s*=\s*({_TEXT}[/~:\\.]{_TEXT})|[(,]\s*({_TEXT}[/~\\]{_TEXT})")
_NUMBER = re.compile(r"[-+]?\d*\.?\d*(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Spec:
    """A parsed plug-in string: a name and the arguments of the call (nested calls are `Spec`s)."""

    name: str
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        """The plug-in string."""
        named = (f"{k}={v!r}" for k, v in self.kwargs.items())
        return f"{self.name}({', '.join([*map(repr, self.args), *named])})"


def parse(text: str) -> Spec:
    """Parses `"name"` or `"name(literal, other=nested(...))"`; evaluates nothing."""
    if not isinstance(text, str):
        raise SpecError(f"{text!r} is not a plug-in string: write 'name(key=value, ...)' in quotes")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as e:
        hint = _unquoted(text) or "write name(key=value, ...), for example cfg(w=2.0)"
        raise SpecError(f"cannot read the plug-in string {text!r}: {hint}") from e
    spec = _convert(node, text)
    if not isinstance(spec, Spec):
        raise SpecError(f"{text!r} is a value, not a plug-in: write name(key=value, ...)")
    return spec


def _unquoted(text: str) -> str:
    """Advice if a path or another text lacks quotes; otherwise empty."""
    for name, value, alone in _BARE_TEXT.findall(text):
        if alone or not _NUMBER.fullmatch(value):
            return f"quote text: '{alone}'" if alone else f"quote text: {name}='{value}'"
    return ""


def _convert(node: ast.AST, text: str) -> Any:
    if isinstance(node, ast.Name | ast.Attribute):
        return Spec(ast.unparse(node))
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name | ast.Attribute) or any(
            k.arg is None for k in node.keywords
        ):
            raise SpecError(f"in {text!r}: only plain calls such as name(key=value) are allowed")
        names = [k.arg for k in node.keywords]
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise SpecError(f"in {text!r}: {twice[0]} is given twice")
        return Spec(
            ast.unparse(node.func),
            tuple(_convert(a, text) for a in node.args),
            {k.arg: _convert(k.value, text) for k in node.keywords},
        )
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError) as e:  # such as a set of lists
        written = ast.get_source_segment(text.strip(), node)
        if written == text.strip():
            raise SpecError(f"{text!r} is not a plug-in: write name(key=value, ...)") from e
        hint = _unquoted(text) or f"{written!r} is neither a literal nor a plug-in call"
        raise SpecError(f"in {text!r}: {hint}") from e
