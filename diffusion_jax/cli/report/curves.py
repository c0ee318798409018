"""What training logged, `metrics.jsonl`, as curves against steps and against time."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One metric.

    Attributes:
        step: `[N]`, rising.
        value: `[N]`.
        seconds: `[N]`, time spent in all starts of the run until then; NaN where none was kept.
    """

    step: np.ndarray
    value: np.ndarray
    seconds: np.ndarray

    @property
    def timed(self) -> bool:
        """Whether times are known."""
        return bool(len(self.seconds)) and bool(np.isfinite(self.seconds).all())


@dataclass(frozen=True)
class Curves:
    """All metrics of a run.

    Attributes:
        by_name: curves by name, such as `train/loss`.
        last_step: the last step logged; 0 for none.
        seconds: time in all starts together; None where none was kept.
        left_out: lines that are no metrics, such as one torn by a power cut.
    """

    by_name: dict[str, Curve] = field(default_factory=dict)
    last_step: int = 0
    seconds: float | None = None
    left_out: int = 0

    def get(self, name: str) -> Curve | None:
        """The curve of that name, or None."""
        return self.by_name.get(name)


def read_curves(path: Path) -> Curves:
    """Reads `metrics.jsonl`.

    A line whose `seconds` are fewer than those of the line before it begins a new start of the run;
    the time before is added. Steps that were made twice count as they were made last. Lines that
    cannot be read are left out and counted; the last one is not, because the run may be writing it.

    Returns:
        The curves.
    """
    lines = path.read_bytes().decode(errors="replace").splitlines()
    before = last = 0.0
    timed, left_out = False, 0
    points: dict[str, dict[int, tuple[float, float]]] = {}
    for number, line in enumerate(lines):
        try:
            found = json.loads(line).items()
            row = {k: math.nan if v is None else float(v) for k, v in found}
            step = int(row.pop("step"))
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
            left_out += number < len(lines) - 1
            continue
        seconds = row.pop("seconds", None)
        if seconds is not None:
            timed = True
            if seconds < last:
                before += last
            last = seconds
        for name, value in row.items():
            rows = points.setdefault(name, {})
            # Steps from here on were made again, from an earlier checkpoint.
            for later in [s for s in rows if s >= step] if rows and max(rows) >= step else ():
                del rows[later]
            rows[step] = (value, before + last if seconds is not None else np.nan)
    curves = {}
    for name, rows in points.items():
        steps = sorted(rows)
        value, seconds = (np.asarray([rows[s][i] for s in steps]) for i in range(2))
        curves[name] = Curve(np.asarray(steps), value, seconds)
    last_step = max((int(c.step[-1]) for c in curves.values()), default=0)
    return Curves(curves, last_step, before + last if timed else None, left_out)
