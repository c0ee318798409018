"""What the files in `configs/` share: variants after the colon, and the scorers' settings."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from diffusion_jax.config import base
from diffusion_jax.errors import ConfigError


def scorer(data: str, spec: str, gamma_min: float, steps: int) -> ConfigDict:
    """What the networks of noisy images that guidance follows have in common.

    Args:
        data: the data set.
        spec: the scorer.
        gamma_min: least noise, as of the diffusion model it is to guide.
        steps: length of the run.

    Returns:
        The configuration.
    """
    c = base()
    c.data, c.scorer, c.steps = data, spec, steps
    c.gamma_min = gamma_min
    c.batch = 64
    c.lr, c.lr_decay = 1e-3, "cosine"
    c.optimizer = "adamw(weight_decay=0.05)"
    c.ema = (0.99,)
    c.log_every, c.eval_every, c.save_every, c.sample_every = 50, 200, 200, 0
    c.eval.batch = 300
    return c


def variant(config: ConfigDict, name: str, smoke: str) -> ConfigDict:
    """Applies a config file's argument, the part after the colon in `--config=FILE:smoke`.

    Args:
        config: the full configuration; changed in place.
        name: `"smoke"` for the one-minute CPU version of the same path, or empty.
        smoke: the small network (or scorer) of the smoke version.

    Returns:
        The configuration.

    Raises:
        ConfigError: any other name.
    """
    if name not in ("", "smoke"):
        raise ConfigError(f"unknown variant {name!r} after the colon of --config; allowed: smoke")
    if name:
        config["scorer" if config.scorer else "network"] = smoke
        config.steps, config.batch, config.accumulate = 20, 16, 1
        config.log_every, config.eval_every, config.save_every, config.sample_every = 5, 0, 10, 0
        config.eval.draws, config.eval.limit, config.eval.batch = 2, 16, 16
        config.eval.timesteps = ()
        config.sample.num, config.sample.batch, config.sample.steps = 10, 10, 5
    return config


def split_variant(text: str, names: Iterable[str], default: str) -> tuple[str, str]:
    """Splits a config file's argument into the model's name and `smoke`.

    Args:
        text: `"NAME"`, `"NAME_smoke"`, `"smoke"` or nothing.
        names: the names there are.
        default: the name where none is given.

    Returns:
        `(name, "smoke" or "")`.

    Raises:
        ConfigError: unknown name.
    """
    smoke = text == "smoke" or text.endswith("_smoke")
    name = (text.removesuffix("smoke").removesuffix("_") if smoke else text) or default
    if name not in names:
        raise ConfigError(
            f"unknown variant {text!r} after the colon of --config; allowed: {', '.join(names)}, "
            "each also with _smoke, or smoke"
        )
    return name, "smoke" if smoke else ""
