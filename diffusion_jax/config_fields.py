"""Checks of settings by their dotted names: which exist, and of which type their values are."""

import ast
import contextlib
import functools
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax import argument_types, registry
from diffusion_jax.config import base
from diffusion_jax.errors import ConfigError, SpecError


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings to dotted names; flax's `flatten_dict` would import JAX."""
    out = {}
    for k, v in config.items():
        out |= flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v}
    return out


@functools.cache
def known() -> dict[str, Any]:
    """All fields by their dotted names, with their defaults."""
    return flat(base().to_dict())


# Names of fields in other projects' configurations.
_ELSEWHERE = {
    "learning_rate": "lr", "ema_decay": "ema", "batch_size": "batch", "num_steps": "steps",
    "model": "network", "dataset": "data", "loss": "objective", "num_samples": "sample.num",
    "epochs": "steps", "max_steps": "steps", "batchsize": "batch", "learningrate": "lr",
}  # fmt: skip


def check_field(key: str) -> None:
    """Raises ConfigError for a field that does not exist, and suggests the nearest that does."""
    fields = known()
    if key in fields:
        return
    last = key.rpartition(".")[2]
    inside = [k for k in fields if k.startswith(f"{key}.")]
    if inside:
        raise ConfigError(
            f"{key} is a group of settings, to be set one by one: {', '.join(inside)}"
        )
    near = next((f" (did you mean {k!r}?)" for k in fields if k.rpartition(".")[2] == last), "")
    near = registry.nearest(key, fields) or near
    near = f" (did you mean {_ELSEWHERE[last]!r}?)" if last in _ELSEWHERE else near
    raise ConfigError(
        f"the configuration has no field {key}{near}; diffusion_jax/config.py lists all of them"
    )


def called(name: str) -> list[str]:
    """The settings that a name may refer to: by the full name, its last part, or another project's.

    `"steps"` is `steps`, `sample.steps`, `progressive.steps`; `"batch_size"` is `batch`.
    """
    found = [k for k in known() if name in (k, k.rpartition(".")[2])]
    return found or [k for k in known() if k == _ELSEWHERE.get(name)]


@functools.cache
def _specs() -> tuple[str, ...]:
    """The settings whose values are plug-in strings."""
    return tuple(k for k, v in known().items() if isinstance(v, str) and v.endswith(")"))


def check_specs(config: ConfigDict) -> None:
    """Raises ConfigError, with the setting's name, for a plug-in string that does not parse."""
    given = flat(config.to_dict())
    for key in _specs():
        try:
            if given[key] or "." not in key:  # features and likelihood may be empty
                registry.parse(given[key])
        except SpecError as e:
            raise ConfigError(f"{key}: {e}") from e


def fitting(key: str, value: Any) -> Any:
    """Converts a value to the setting's type, for example a NumPy integer to `int`.

    Raises:
        ConfigError: the value is of another type.
    """
    default = known()[key]
    kind = float if default is None else type(default)
    if kind is tuple and isinstance(value, list):
        value = tuple(value)
    if not argument_types.fits(value, kind):
        example = "" if default in (None, "", ()) else f", for example {default!r}"
        raise ConfigError(f"{key}={value!r} must be {words(kind)}{example}".replace("\n", " "))
    return kind(value)


def words(kind: type) -> str:
    """Describes the type of a setting, for error messages."""
    return "several values in brackets" if kind is tuple else argument_types.words(kind)


_TRUTHS = ("true", "t", "1", "false", "f", "0")


def check_value(key: str, text: str) -> None:
    """Raises ConfigError if the text of a value is not of the setting's type."""
    default = known()[key]
    kind = float if default is None else type(default)
    example = -5.0 if default is None else default
    try:
        if kind in (int, float):
            kind(text)
        elif kind is bool and text.lower() not in _TRUTHS:
            raise ValueError
        elif kind is tuple:
            example = default or ((text,) if text.strip(" ,()[]'\"") else ())
            _tuple(text)
        return
    except ValueError:
        pass
    if kind is int:
        with contextlib.suppress(ValueError, OverflowError):
            example = round(float(text)) if float(text).is_integer() else default
    shown = f'"{example}"' if kind is tuple else example
    raise ConfigError(
        f"--config.{key}={text}: must be {words(kind)}, for example --config.{key}={shown}"
    )


def _tuple(text: str) -> None:
    """Raises ValueError if the text is neither a literal nor a single bare word."""
    try:
        ast.literal_eval(text)
    except SyntaxError as e:
        if "," in text or " " in text:
            raise ValueError from e
    except ValueError:
        pass


def check_fields(config: ConfigDict) -> None:
    """Raises ConfigError if a configuration has unknown fields, or lacks some."""
    given = flat(config.to_dict())
    for key in given:
        check_field(key)
    absent = sorted(known().keys() - given.keys())
    if absent:
        raise ConfigError(
            f"the configuration lacks {', '.join(absent[:5])}; start it from "
            "diffusion_jax.config.base(), which has every field"
        )
