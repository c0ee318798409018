"""Allowed values of settings, checked before anything is written."""

from functools import reduce
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax import allowed as numbers, argument_types
from diffusion_jax.allowed import ABOVE_ZERO, COUNT, OR_NONE, RATE, SEED, SHARE, Range
from diffusion_jax.errors import ConfigError

RANGES: dict[str, Range] = {
    **dict.fromkeys(("lr",), ABOVE_ZERO),
    **dict.fromkeys(("class_dropout", "text_dropout", "embedding_dropout"), RATE),
    **dict.fromkeys(("low_clean", "beta_warmup"), SHARE),
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
            "beta", "warmup", "clip", "spike", "per_dispatch", "resident_mib", "data_workers",
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

# For tuples: the type of each value, its description, and an example of how to write them.
ITEMS: dict[str, tuple[Any, str, str]] = {
    "ema": (numbers.Rate | str, "decays, at least 0 and below 1, or power(0.1)", "(0.9999,)"),
    "sample.labels": (int | str, "numbers or names of classes", "(3, 7)"),
    "sample.captions": (str, "texts in quotes", "('a red three',)"),
    "edit.pick": (numbers.Whole, "whole numbers, at least 0", "(0, 2)"),
    "eval.timesteps": (numbers.Count, "whole numbers, at least 1", "(100, 1000)"),
    "ood.gammas": (numbers.Finite, "finite numbers", "(-5.0, 0.0)"),
    "quality.metrics": (str, "names of metrics in quotes", "('frechet', 'kid')"),
}

# The allowed words, and a hint for anything else.
CHOICES: dict[str, tuple[str, str]] = {
    "eval.checkpoint": ("latest, best", "name a single one by --checkpoint"),
}


def check(config: ConfigDict, sections_only: bool = False) -> None:
    """Checks all values of `config` against these tables.

    Args:
        sections_only: skip the fields outside sections, which describe a finished training.

    Raises:
        ConfigError: a value is not allowed.
    """
    for field, allowed in RANGES.items():
        if sections_only and "." not in field:
            continue
        value = _value(config, field)
        if not allowed.holds(value):
            raise ConfigError(f"{field}={value!r} must be {allowed.text}: set --config.{field}")
    for field, (choices, otherwise) in CHOICES.items():
        if (value := _value(config, field)) not in choices.split(", "):
            raise ConfigError(f"{field}={value!r}: allowed: {choices}; {otherwise}")
    check_precision(config.eval.matmul_precision)
    for field, (hint, what, example) in ITEMS.items():
        values = () if sections_only and "." not in field else _value(config, field)
        if not all(argument_types.fits(v, hint) for v in values):
            raise ConfigError(f'{field}={values!r} must be {what}: --config.{field}="{example}"')


def check_precision(name: str) -> None:
    """Raises ConfigError for an `eval.matmul_precision` that JAX does not support."""
    import jax  # takes a second, which --help does not need

    try:
        with jax.default_matmul_precision(name or None):
            pass
    except ValueError as e:
        raise ConfigError(
            f"eval.matmul_precision={name!r}: allowed: default, high, highest, bfloat16, "
            "tensorfloat32, float32, or '' for the device's own"
        ) from e


def _value(config: ConfigDict, field: str) -> Any:
    return reduce(lambda c, name: c[name], field.split("."), config)
