"""The verdict of an audit: whether it found anything that chance does not explain."""

import math
from typing import Any

_CHANCE = 3.0  # deviations of fewer standard errors than this count as chance


def verdict(result: dict[str, Any]) -> str:
    """Summarises the `result` of an audit in one line."""
    signs = []
    if "gap" in result and (result["gap"]["z"] or 0.0) > _CHANCE:
        signs.append("training examples cost fewer bits")
    if "membership" in result:
        m = result["membership"]
        if any(f["auroc"] - 0.5 > _CHANCE * f["null_standard_error"] for f in (m, m["best_band"])):
            signs.append("bits reveal which images were trained on")
    if "copies" in result and any(copying(result["copies"], name) for name in _COPIES):
        signs.append("some samples are exact or near copies")
    if not signs:
        return "no leak found by these tests, which does not prove that there is none"
    return f"found: {'; '.join(signs)}"


_COPIES = ("copies", "singled_out")


def copying(result: dict[str, Any], name: str) -> bool:
    """Whether significantly more samples than held-out examples are `copies` or `singled_out`.

    Significant means three standard errors of the difference of two shares, computed as if the
    shares were equal. If no held-out example is an exact copy, a single exact copy is enough.
    """
    rows = result["rows"]
    a, n, b, m = result[name], rows["samples"], result[f"held_out_{name}"], rows["held_out"]
    if name == "copies" and a and not b:
        return True
    share = (a + b) / (n + m)
    error = math.sqrt(share * (1.0 - share) * (1.0 / n + 1.0 / m))
    return a / n - b / m > _CHANCE * error
