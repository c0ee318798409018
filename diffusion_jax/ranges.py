"""What numbers each setting may be: one table, looked at before anything is written."""

from functools import reduce

from ml_collections import ConfigDict

from diffusion_jax.allowed import ABOVE_ZERO, COUNT, OR_NONE, SEED, Range
from diffusion_jax.errors import ConfigError

RANGES: dict[str, Range] = {
    **dict.fromkeys(("lr",), ABOVE_ZERO),
    **dict.fromkeys(
        (
            "batch", "accumulate", "steps", "data_ahead", "valid_draws",
            "sample.steps", "sample.batch", "sample.best_of",
            "sample.prior_samples",
            "edit.each", "eval.draws", "eval.batch",
            "progressive.steps", "progressive.images", "compress.timesteps", "compress.group",
            "quality.repeats", "quality.batch", "quality.k", "quality.subset", "quality.rows",
            "audit.bands",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        (
            "warmup", "clip", "spike", "per_dispatch", "resident_mib", "data_workers",
            "log_every", "eval_every", "save_every", "sample_every", "keep_latest", "eval.limit",
            "sample.num",
            "compress.batch", "compress.limit",
            "inform.candidates", "inform.negatives", "inform.pictures",
        ),
        OR_NONE,
    ),
    **dict.fromkeys(
        ("seed", "sample.seed", "eval.seed", "compress.seed", "quality.seed"), SEED
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
