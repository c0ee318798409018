"""The metrics logged by training, `metrics.jsonl`, as curves against steps and time."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One metric.

    Attributes:
        step: steps `[N]`, rising.
        value: values `[N]`.
        seconds: total time `[N]` over all starts of the run until then; NaN if not recorded.
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
        seconds: total time over all starts; None if not recorded.
        left_out: number of unreadable lines.
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

    A line with fewer `seconds` than the line before it marks a new start of the run, whose times
    are added to those before. If a step was trained twice, the later values count. Lines that
    cannot be read are skipped and counted, except the last, which the run may still be writing.

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
            # Training resumed from an earlier checkpoint: these steps have been repeated.
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
