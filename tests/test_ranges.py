"""Numbers out of range are refused in one line, before anything is written."""

import math

import pytest
import tiny

from diffusion_jax import config as config_lib, ranges
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import ConfigError


def fields(config, prefix=""):
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def changed(field, value):
    config = config_lib.base()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({field: value})
    return config


def test_every_whole_number_has_a_range():
    numbers = {f for f, v in fields(config_lib.base()) if type(v) is int}
    assert not numbers - ranges.RANGES.keys()


def test_the_defaults_are_in_range():
    ranges.check(config_lib.base())


@pytest.mark.parametrize("field", ranges.RANGES)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 2**32])
def test_no_field_takes_any_number(field, value):
    if value == 2**32 and not field.endswith("seed"):
        return
    with pytest.raises(ConfigError, match=rf"^{field}=.* must be .*: set --config.{field}$"):
        ranges.check(changed(field, value))


@pytest.mark.parametrize("field", ["lr", "batch", "sample.batch", "eval.draws"])
def test_zero_is_refused_where_it_means_nothing(field):
    with pytest.raises(ConfigError, match=f"^{field}=0"):
        ranges.check(changed(field, 0))


def test_training_that_is_over_is_not_looked_at():
    ranges.check(changed("lr", 0.0), sections_only=True)


@pytest.mark.parametrize(
    "changes", [{"save_every": -1}, {"lr": -1.0}, {"seed": 2**32}, {"quality": {"k": 0}}], ids=str
)
def test_training_writes_nothing(tmp_path, changes):
    experiment = tiny.experiment(tmp_path, "refused", **changes)
    with pytest.raises(ConfigError, match="must be"):
        train.run(experiment)
    assert not experiment.workdir.exists()
