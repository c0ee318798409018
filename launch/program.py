"""What a program costs: FLOPs from its jaxpr, padding and collectives from its compiled text."""

import math
import re
from collections import Counter
from typing import Any, NamedTuple

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2,
          "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}  # fmt: skip
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# One array in HLO text: type, dimensions, layout (minor to major) and the first tile.
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\](?:\{([\d,]*)(?::T\(([\d,]+)\))?[^}]*\})?")
_RESULT = re.compile(r"^\s*(?:ROOT )?%\S+ = (.*?) ([a-z][a-z0-9-]*)\(")
_HEADER = re.compile(r"^(?:ENTRY )?%([\w.-]+) \(.*-> .*\{$")
_FREE = ("parameter", "tuple", "get-tuple-element", "bitcast", "while", "constant", "conditional",
         "call", "partition-id", "after-all")  # fmt: skip


class Array(NamedTuple):
    """An array of the program: as text, its bytes, and its bytes with the tiles filled up."""

    text: str
    size: int
    padded: int


class Report(NamedTuple):
    """What `read` finds.

    Attributes:
        collectives: `name -> (how many, bytes of their results)`; loop bodies count once.
        written: bytes of all arrays that instructions write, per chip; loop bodies count once.
        padded: the same with padding.
        worst: `(array, padding in bytes)` of the arrays with the most padding.
    """

    collectives: dict[str, tuple[int, int]]
    written: int
    padded: int
    worst: list[tuple[str, int]]


def flops(jaxpr: Any) -> int:
    """Floating-point operations of all matrix products and convolutions, loops multiplied out.

    The compiler's own count takes a loop's body once. A `while` loop of unknown length counts once
    here too, and a `cond` as its most expensive branch.

    Args:
        jaxpr: a jaxpr, closed or not.

    Returns:
        Multiplications and additions of the global program.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0
    for eqn in jaxpr.eqns:
        name, p = eqn.primitive.name, eqn.params
        if name == "dot_general":
            (contract, _), _ = p["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            inner = math.prod(shape[i] for i in contract)
            total += 2 * inner * math.prod(eqn.outvars[0].aval.shape)
        elif name == "conv_general_dilated":
            rhs, numbers = eqn.invars[1].aval.shape, p["dimension_numbers"].rhs_spec
            inner = math.prod(rhs) // rhs[numbers[0]]
            outer = math.prod(eqn.outvars[0].aval.shape)
            total += 2 * inner * outer // math.prod(p["lhs_dilation"] or (1,))
        elif name == "same_convolution":  # of `diffusion_jax.networks.layers.conv`
            kernel = eqn.invars[1].aval.shape
            total += 2 * math.prod(kernel[:3]) * math.prod(eqn.outvars[0].aval.shape)
        elif name == "cond":
            total += max(flops(b) for b in p["branches"])
        else:
            inner = [v for v in p.values() if hasattr(v, "eqns") or hasattr(v, "jaxpr")]
            total += p.get("length", 1) * sum(flops(v) for v in inner)
    return total


def arrays(text: str) -> list[Array]:
    """The arrays named in a piece of HLO text (several if it is a tuple).

    Args:
        text: for example `"f32[8,96]{1,0:T(8,128)}"`.

    Returns:
        The arrays with a known element type.
    """
    found = []
    for kind, dims, order, tile in _SHAPE.findall(text):
        if kind not in _BYTES:
            continue
        shape = [int(d) for d in dims.split(",") if d]
        minor_first = [int(i) for i in order.split(",") if i] or list(range(len(shape)))[::-1]
        filled = [shape[i] for i in minor_first]
        for i, t in enumerate(int(t) for t in reversed(tile.split(",")) if t):
            if i < len(filled):
                filled[i] = -(-filled[i] // t) * t
        size = _BYTES[kind]
        found.append(Array(f"{kind}[{dims}]", size * math.prod(shape), size * math.prod(filled)))
    return found


def read(hlo: str, worst: int = 3) -> Report:
    """Reads the text of a compiled program.

    Args:
        hlo: `compiled.as_text()`.
        worst: how many of the worst padded arrays to name.

    Returns:
        The report.
    """
    inside = set(re.findall(r"fusion\(.*calls=%([\w.-]+)", hlo))
    inside |= set(re.findall(r"to_apply=%([\w.-]+)", hlo))
    collectives: dict[str, tuple[int, int]] = {}
    waste: Counter = Counter()
    written = padded = 0
    skip = False
    for line in hlo.splitlines():
        header = _HEADER.match(line)
        if header:
            skip = header[1] in inside
        result = _RESULT.match(line)
        if result is None:
            continue
        shape, name = result.groups()
        plain = name.removesuffix("-start")
        if plain in _COLLECTIVES:
            n, size = collectives.get(plain, (0, 0))
            collectives[plain] = (n + 1, size + sum(a.size for a in arrays(shape)))
        if skip or name in _FREE or name.endswith("-done"):
            continue
        for array in arrays(shape):
            written += array.size
            padded += array.padded
            waste[array.text] += array.padded - array.size
    return Report(collectives, written, padded, [w for w in waste.most_common(worst) if w[1]])
