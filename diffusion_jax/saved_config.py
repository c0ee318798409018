"""The configurations that runs were started with: written, read, found and compared.

As a `--config` file its argument is the path of a JSON file.
"""

import ast
import contextlib
import functools
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax import argument_types, earlier_names, registry
from diffusion_jax.config import base
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.runtime.storage import place

TRUST = "DIFFUSION_JAX_TRUST"


def get_config(path: str) -> ConfigDict:
    """`read_trusted`, for `--config`, of the module that all others use: notes are said once."""
    from diffusion_jax import saved_config

    return saved_config.read_trusted(place(path))


# What may differ when a run is resumed: none of it changes the steps already made.
_MAY_CHANGE = {
    "data_dir", "data_workers", "data_ahead",
    "mesh", "accumulate", "on_nan", "spike", "resident_mib", "per_dispatch",
    "log_every", "eval_every", "save_every", "sample_every", "keep_latest", "guidance", "sampler",
    "grid", "sample", "eval", "valid_draws", "plan", "corrector", "final",
    "compress", "quality", "edit", "stages", "progressive", "ood", "inform", "report", "compare",
    "audit", "list",
}  # fmt: skip


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names; flax's `flatten_dict` would load JAX for `--help`."""
    out = {}
    for k, v in config.items():
        out |= flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {f"{prefix}{k}": v}
    return out


# How a network is run, not what it is: its parameters are the same either way, so that a run may
# move between devices that need the one or the other.
_HOW = ("scan", "remat")


def _by_new_names(key: str, value: Any) -> Any:
    """A setting in which plug-ins have today's names."""
    kind = registry.SETTINGS.get(key, key)
    return earlier_names.rewritten(kind, value) if isinstance(value, str) else value


def meaning(key: str, value: Any) -> Any:
    """What of a setting makes a run another run; how a plug-in is written does not."""
    if not isinstance(value, str):
        return value
    try:
        spec = registry.parse(_by_new_names(key, value))
    except SpecError:
        return value
    if key != "network" or "." in spec.name:  # of somebody else's, arguments may mean anything
        return spec
    kept = {k: v for k, v in spec.kwargs.items() if k not in _HOW}
    return registry.Spec(spec.name, spec.args, kept)


# Settings that give weights their meaning, or change what the network computes from them.
_MEANING = (
    "network", "autoencoder", "encoder", "schedule", "gamma_min", "gamma_max", "decoder",
    "prediction", "conditional", "augment", "view", "task", "embedding",
)  # fmt: skip


def other_meaning(trained: ConfigDict, asked: ConfigDict) -> list[str]:
    """Settings under which the same weights would mean something else, as `"name: old -> new"`."""
    pairs = [(k, trained[k], asked[k]) for k in _MEANING]
    pairs += [("class_dropout > 0", trained.class_dropout > 0, asked.class_dropout > 0)]
    return [f"{k}: {a!r} -> {b!r}" for k, a, b in pairs if meaning(k, a) != meaning(k, b)]


def today(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it may have been saved earlier, in today's fields and names."""
    values = {k: _by_new_names(k, v) for k, v in values.items()}
    scorer, against = values.pop("scorer", ""), values.pop("against", "")
    if scorer:
        scorer = re.sub(r"^captions\b", "clip", scorer)
        scorer = scorer if scorer.endswith(")") else f"{scorer}()"
        values["task"] = f"guide({scorer}{f', against={against!r}' if against else ''})"
    return values


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """The configuration as plain JSON-able values (tuples become lists)."""
    return json.loads(config.to_json())


@functools.cache
def known() -> dict[str, Any]:
    """All fields, dotted, with their defaults."""
    return flat(base().to_dict())


# What fields are called in other people's configurations.
_ELSEWHERE = {
    "learning_rate": "lr", "ema_decay": "ema", "batch_size": "batch", "num_steps": "steps",
    "model": "network", "dataset": "data", "loss": "objective", "num_samples": "sample.num",
    "epochs": "steps", "max_steps": "steps", "batchsize": "batch", "learningrate": "lr",
}  # fmt: skip


def check_field(key: str) -> None:
    """Refuses (`ConfigError`) a field that does not exist; names the nearest that does."""
    there = known()
    if key in there:
        return
    last = key.rpartition(".")[2]
    inside = [k for k in there if k.startswith(f"{key}.")]
    if inside:
        raise ConfigError(f"{key} has settings of its own, to be set one by one: "
                          f"{', '.join(inside)}")  # fmt: skip
    near = next((f" (did you mean {k!r}?)" for k in there if k.rpartition(".")[2] == last), "")
    near = registry.nearest(key, there) or near
    near = f" (did you mean {_ELSEWHERE[last]!r}?)" if last in _ELSEWHERE else near
    raise ConfigError(
        f"the configuration has no such field: {key}{near}; diffusion_jax/config.py has all of them"
    )


def called(name: str) -> list[str]:
    """The settings that somebody may mean by a name: itself, its last part, or its name elsewhere.

    `"steps"` is `steps`, `sample.steps`, `progressive.steps`; `"batch_size"` is `batch`.
    """
    found = [k for k in known() if name in (k, k.rpartition(".")[2])]
    return found or [k for k in known() if k == _ELSEWHERE.get(name)]


@functools.cache
def _specs() -> tuple[str, ...]:
    """The settings that are always plug-in strings."""
    return tuple(k for k, v in known().items() if isinstance(v, str) and v.endswith(")"))


def check_specs(config: ConfigDict) -> None:
    """Refuses (`ConfigError`) plug-in strings that do not parse, by the names of their settings."""
    given = flat(config.to_dict())
    for key in _specs():
        try:
            if given[key] or "." not in key:  # features and likelihood may be none
                registry.parse(given[key])
        except SpecError as e:
            raise ConfigError(f"{key}: {e}") from e


def fitting(key: str, value: Any) -> Any:
    """A value from Python as its setting keeps it: a whole number of numpy's as Python's own.

    Raises:
        ConfigError: it is of another type.
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
    """What a value of a setting's type must be."""
    return "several values in brackets" if kind is tuple else argument_types.words(kind)


_TRUTHS = ("true", "t", "1", "false", "f", "0")


def check_value(key: str, text: str) -> None:
    """Refuses (`ConfigError`) the text of a value that is not of the setting's type."""
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
        f"--config.{key}={text}: it must be {words(kind)}, for example --config.{key}={shown}"
    )


def _tuple(text: str) -> None:
    """Raises ValueError for what is neither literals nor one bare word."""
    try:
        ast.literal_eval(text)
    except SyntaxError as e:
        if "," in text or " " in text:
            raise ValueError from e
    except ValueError:
        pass


def check_fields(config: ConfigDict) -> None:
    """Refuses (`ConfigError`) a configuration with fields that there are not, or without some."""
    given = flat(config.to_dict())
    for key in given:
        check_field(key)
    absent = sorted(known().keys() - given.keys())
    if absent:
        raise ConfigError(
            f"the configuration lacks {', '.join(absent[:5])}; start it from "
            "diffusion_jax.config.base(), which has every field"
        )


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The inverse of `to_dict`; `ConfigError` if a field has the wrong type.

    Fields that have been added since keep their defaults; what is foreign is left out, and named in
    a line on stderr.
    """
    config = base()
    there, given = known(), flat(today(values))
    foreign = sorted(given.keys() - there.keys())
    flattened = [k for k in foreign if k in config]
    if flattened:
        raise ConfigError(f"saved configuration: {flattened[0]!r} must have fields of its own")
    if foreign:
        _note(f"fields of the saved configuration that are unknown here: {', '.join(foreign)}")
    for key in there.keys() & given.keys():
        value = given[key]
        *path, last = key.split(".")
        target = config
        for p in path:
            target = target[p]
        try:
            target[last] = None if value is there[key] is None else fitting(key, value)
        except ConfigError as e:
            raise ConfigError(f"saved configuration: {e}") from e
    return config


@functools.cache  # a record is read more than once
def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)


def read(path: Path) -> ConfigDict:
    """The configuration in `config.json` of a work directory, or in a checkpoint's record."""
    try:
        values = json.loads(place(path).read_text())
        if not isinstance(values, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError) as e:
        raise ConfigError(f"cannot read the configuration {path}: {e}") from e
    # A checkpoint's record keeps the configuration in a field called config.
    return from_dict(values["config"] if isinstance(values.get("config"), dict) else values)


def imports(values: dict[str, Any]) -> list[str]:
    """Modules outside the package that the plug-ins of a configuration would import from here."""
    found = set()

    def look(value: Any) -> None:
        if isinstance(value, str):
            try:
                value = registry.parse(value)
            except SpecError:
                return
        if isinstance(value, registry.Spec):
            if "." in value.name and _is_there(value.name.partition(".")[0]):
                found.add(value.name)
            value = (*value.args, *value.kwargs.values())
        if isinstance(value, tuple | list):
            for part in value:
                look(part)

    for value in flat(values).values():
        look(value)
    return sorted(found)


def _is_there(package: str) -> bool:
    try:
        return package != "diffusion_jax" and importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a spec, such as __main__
        return True


def read_trusted(path: Path, trust: bool = False) -> ConfigDict:
    """`read`, for a configuration whose plug-ins are built; those of a run may import modules.

    Raises:
        ConfigError: they do, and neither `trust` nor `$DIFFUSION_JAX_TRUST=1` (`--trust`) allows.
    """
    config = read(path)
    names = [] if trust or os.environ.get(TRUST) == "1" else imports(to_dict(config))
    if names:
        raise ConfigError(
            f"{path} would import {', '.join(names)}; if you made this run, or trust whoever did, "
            "add --trust (in Python: trust=True), or name your own --config"
        )
    return config


def find(where: Path) -> Path | None:
    """The saved configuration of a work directory, checkpoint folder or step folder, or None."""
    where = place(where)
    candidates = [where / "meta" / "metadata", where / "config.json", where.parent / "config.json"]
    return next((p for p in candidates if p.is_file()), None)


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Differences that forbid to go on with a run, as `"name: old -> new"`, sorted.

    A longer run is the same run, unless the learning rate depends on the length.
    """
    a, b = (flat(to_dict(c)) for c in (old, new))
    may = _MAY_CHANGE | ({"steps"} if new.lr_decay == "constant" else set())
    return [
        f"{k}: {a.get(k)!r} -> {b.get(k)!r}"
        for k in sorted(a.keys() | b.keys())
        if meaning(k, a.get(k)) != meaning(k, b.get(k)) and k.split(".")[0] not in may
    ]
