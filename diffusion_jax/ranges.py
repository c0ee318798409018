"""What numbers each setting may be: one table, looked at before anything is written."""

import math
from dataclasses import dataclass
from functools import reduce

from ml_collections import ConfigDict

from diffusion_jax.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; not a number and infinity are in none.

    Attributes:
        text: completes "it must be".
        open_low: `low` itself is refused.
    """

    low: float
    text: str
    high: float = math.inf
    open_low: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` is allowed."""
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high and value != math.inf


_COUNT = Range(1, "at least 1")
_OR_NONE = Range(0, "at least 0")
_ABOVE_ZERO = Range(0, "a finite number above 0", open_low=True)
_SEED = Range(0, "from 0 to 2^32 - 1 (a key has no more bits)", high=2**32 - 1)

RANGES: dict[str, Range] = {
    **dict.fromkeys(("lr",), _ABOVE_ZERO),
    **dict.fromkeys(
        (
            "batch", "accumulate", "steps", "data_ahead", "valid_draws",
            "sample.steps", "sample.batch", "edit.each", "eval.draws", "eval.batch",
            "progressive.steps", "progressive.images", "compress.timesteps", "compress.group",
            "quality.repeats", "quality.batch", "quality.k", "quality.subset", "quality.rows",
        ),
        _COUNT,
    ),
    **dict.fromkeys(
        (
            "warmup", "clip", "spike", "per_dispatch", "resident_mib", "data_workers",
            "log_every", "eval_every", "save_every", "sample_every", "keep_latest", "eval.limit",
            "sample.num",
            "compress.batch", "compress.limit",
        ),
        _OR_NONE,
    ),
    **dict.fromkeys(
        ("seed", "sample.seed", "eval.seed", "compress.seed", "quality.seed"), _SEED
    ),
}  # fmt: skip


def check(config: ConfigDict, sections_only: bool = False) -> None:
    """Looks every number of the table up in `config`.

    Args:
        sections_only: leave out fields outside sections, those of a training that is over.

    Raises:
        ConfigError: a number is out of its range.
    """
    for field, allowed in RANGES.items():
        if sections_only and "." not in field:
            continue
        value = reduce(lambda c, name: c[name], field.split("."), config)
        if not allowed.holds(value):
            raise ConfigError(f"{field}={value!r} must be {allowed.text}: set --config.{field}")
