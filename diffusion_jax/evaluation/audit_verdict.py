"""Whether the tests of an audit found anything that chance does not explain."""

import math
from typing import Any

_CHANCE = 3.0  # standard errors within which a figure may be chance


def verdict(found: dict[str, Any]) -> str:
    """What the `result` of an audit shows, in a line; never more than that."""
    signs = []
    if "gap" in found and (found["gap"]["z"] or 0.0) > _CHANCE:
        signs.append("training examples cost fewer bits")
    if "membership" in found:
        m = found["membership"]
        if any(f["auroc"] - 0.5 > _CHANCE * f["null_standard_error"] for f in (m, m["best_band"])):
            signs.append("bits tell who was trained on")
    if "copies" in found and any(copying(found["copies"], name) for name in _COPIES):
        signs.append("some samples are copies, or nearly")
    if not signs:
        return "no leak found by these tests, which is no proof that there is none"
    return f"found: {'; '.join(signs)}"


_COPIES = ("copies", "singled_out")


def copying(found: dict[str, Any], name: str) -> bool:
    """Whether more samples than held-out examples are `copies`, or `singled_out`.

    By three standard errors of the difference of two shares, if there is none. A copy to the last
    value is one where no held-out example is.
    """
    rows = found["rows"]
    a, n, b, m = found[name], rows["samples"], found[f"held_out_{name}"], rows["held_out"]
    if name == "copies" and a and not b:
        return True
    share = (a + b) / (n + m)
    error = math.sqrt(share * (1.0 - share) * (1.0 / n + 1.0 / m))
    return a / n - b / m > _CHANCE * error
