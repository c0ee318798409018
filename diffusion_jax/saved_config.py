"""Saved configurations of runs: writing, reading, finding and comparing them.

This module can itself be used as a `--config` file, with the path of a JSON file as its argument.
"""

import functools
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffusion_jax import config_fields, earlier_names, registry
from diffusion_jax.config import base
from diffusion_jax.errors import ConfigError, SpecError
from diffusion_jax.runtime.storage import place

TRUST = "DIFFUSION_JAX_TRUST"


def get_config(path: str) -> ConfigDict:
    """`read_trusted` for `--config`; calls the imported module, so that notes are printed once."""
    from diffusion_jax import saved_config

    return saved_config.read_trusted(place(path))


# Settings that may differ when a run resumes: they do not affect the steps already made.
_MAY_CHANGE = {
    "data_dir", "data_workers", "data_ahead",
    "mesh", "accumulate", "on_nan", "spike", "resident_mib", "per_dispatch",
    "log_every", "eval_every", "save_every", "sample_every", "keep_latest", "guidance", "sampler",
    "grid", "sample", "eval", "valid_draws", "plan", "corrector", "final",
    "compress", "quality", "edit", "stages", "progressive", "ood", "inform", "report", "compare",
    "audit", "list", "export", "logger",
}  # fmt: skip


# Arguments that change how the network is executed, not its parameters. They may differ when a run
# moves to another device.
_EXECUTION = ("scan", "remat")

# Paths of runs, ignored if the SHA-256 of their weights is given: the runs may be moved.
_PATHS = ("checkpoint",)


def _by_new_names(key: str, value: Any) -> Any:
    """A setting with today's names of plug-ins."""
    kind = registry.SETTINGS.get(key, key)
    return earlier_names.rewritten(kind, value) if isinstance(value, str) else value


def meaning(key: str, value: Any) -> Any:
    """The part of a setting that identifies a run.

    Differences in how a plug-in string is written do not count.
    """
    if not isinstance(value, str):
        return value
    try:
        spec = registry.parse(earlier_names.said(key, _by_new_names(key, value)))
    except SpecError:
        return value
    if "." in spec.name:  # a third-party plug-in: any argument may matter
        return spec
    ignored = _PATHS if spec.kwargs.get("sha256") else ()
    ignored = _EXECUTION if key == "network" else ignored
    kept = {k: v for k, v in spec.kwargs.items() if k not in ignored}
    return registry.Spec(spec.name, spec.args, kept)


_FEW = 4  # longest list that a message shows

# Settings that define what weights mean or what the network computes from them.
_MEANING = (
    "network", "autoencoder", "encoder", "schedule", "gamma_min", "gamma_max", "decoder",
    "prediction", "conditional", "augment", "view", "task", "embedding",
)  # fmt: skip


def other_meaning(trained: ConfigDict, asked: ConfigDict) -> list[str]:
    """Changed settings that alter what the same weights compute, as `"name: old -> new"`."""
    pairs = [(k, trained[k], asked[k]) for k in _MEANING]
    pairs += [("class_dropout > 0", trained.class_dropout > 0, asked.class_dropout > 0)]
    for kind in ("text", "embedding"):
        if trained[kind]:
            both = (c[f"{kind}_dropout"] > 0 for c in (trained, asked))
            pairs.append((f"{kind}_dropout > 0", *both))
    if _text(trained.text) != _text(asked.text):
        pairs.append(("text", trained.text, asked.text))
    return [
        f"{k}: {_shown(a)} -> {_shown(b)}" for k, a, b in pairs if meaning(k, a) != meaning(k, b)
    ]


def brief(value: Any) -> str:
    """A plug-in string for a heading: without long lists, and with the start of a SHA-256."""
    try:
        spec = registry.parse(value)
    except SpecError:
        return str(value)
    short = _brief(spec)
    return value if short == spec else str(short)


def _brief(value: Any) -> Any:
    if not isinstance(value, registry.Spec):
        return value
    kept = {k: f"{v[:8]}.." if k == "sha256" and isinstance(v, str) else _brief(v)
            for k, v in value.kwargs.items() if not _long(v)}  # fmt: skip
    return registry.Spec(value.name, tuple(_brief(v) for v in value.args if not _long(v)), kept)


def _long(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) > _FEW


def _text(value: str) -> Any:
    """How texts are read, with all that is left out; without the folder of known weights."""
    spec = registry.parse(value) if value else registry.Spec("")
    if not spec.name or "." in spec.name:  # a plug-in of somebody else is not looked at
        return spec
    written, defaults = registry.arguments("text_encoders", spec)
    found = {**defaults, **written}
    return spec.name, {k: v for k, v in found.items() if k != "path" or not found.get("digest")}


def _shown(value: Any) -> str:
    """A setting for a message; long lists are omitted and digests shortened if it has a SHA-256."""
    try:
        spec = registry.parse(value) if isinstance(value, str) else None
    except SpecError:
        spec = None
    if spec is None or "sha256" not in spec.kwargs:
        return repr(value)
    kept = {k: v for k, v in spec.kwargs.items() if not _long(v)}
    sha256 = f"{str(kept['sha256'])[:8]}.."
    return repr(str(registry.Spec(spec.name, spec.args, {**kept, "sha256": sha256})))


def today(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration, perhaps saved by an earlier version, with today's fields and names."""
    values = {k: _by_new_names(k, v) for k, v in values.items()}
    scorer, against = values.pop("scorer", ""), values.pop("against", "")
    if scorer:
        scorer = re.sub(r"^captions\b", "clip", scorer)
        scorer = scorer if scorer.endswith(")") else f"{scorer}()"
        values["task"] = f"guide({scorer}{f', against={against!r}' if against else ''})"
    return _with_changed_defaults(values, earlier=True)


def _with_changed_defaults(values: dict[str, Any], earlier: bool) -> dict[str, Any]:
    """The configuration with the arguments in `earlier_names.DEFAULTS` written out."""
    explicit = {k: earlier_names.said(k, values[k], earlier)
                for k in earlier_names.DEFAULTS if isinstance(values.get(k), str)}  # fmt: skip
    return values | explicit


def to_dict(config: ConfigDict) -> dict[str, Any]:
    """The configuration as plain JSON-able values (tuples become lists)."""
    return _with_changed_defaults(json.loads(config.to_json()), earlier=False)


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The inverse of `to_dict`; raises ConfigError if a field has the wrong type.

    Fields that are missing keep their defaults; unknown fields are ignored, with a note on stderr.
    """
    config = base()
    defaults, saved = config_fields.known(), config_fields.flat(today(values))
    unknown = sorted(saved.keys() - defaults.keys())
    flattened = [k for k in unknown if k in config]
    if flattened:
        raise ConfigError(f"saved configuration: {flattened[0]!r} must be a group of fields")
    if unknown:
        _note(f"unknown fields of the saved configuration are ignored: {', '.join(unknown)}")
    for key in defaults.keys() & saved.keys():
        value = saved[key]
        *path, last = key.split(".")
        target = config
        for p in path:
            target = target[p]
        try:
            target[last] = (
                None if value is defaults[key] is None else config_fields.fitting(key, value)
            )
        except ConfigError as e:
            raise ConfigError(f"saved configuration: {e}") from e
    return config


@functools.cache  # print each note once, though a record may be read several times
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
    """The importable modules outside the package that the plug-ins of a configuration name."""
    modules = set()

    def look(value: Any) -> None:
        if isinstance(value, str):
            try:
                value = registry.parse(value)
            except SpecError:
                return
        if isinstance(value, registry.Spec):
            if "." in value.name and _is_importable(value.name.partition(".")[0]):
                modules.add(value.name)
            value = (*value.args, *value.kwargs.values())
        if isinstance(value, tuple | list):
            for part in value:
                look(part)

    for value in config_fields.flat(values).values():
        look(value)
    return sorted(modules)


def untrusted_imports(values: dict[str, Any]) -> list[str]:
    """`imports`; empty if imports were allowed (`--trust`)."""
    return [] if os.environ.get(TRUST) == "1" else imports(values)


def _is_importable(package: str) -> bool:
    try:
        return package != "diffusion_jax" and importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a spec, such as __main__
        return True


def read_trusted(path: Path, trust: bool = False) -> ConfigDict:
    """`read`, for a configuration whose plug-ins will be built and may import modules.

    Raises:
        ConfigError: it would import modules, and neither `trust` nor `$DIFFUSION_JAX_TRUST=1`
            (`--trust`) allows that.
    """
    config = read(path)
    names = [] if trust else untrusted_imports(to_dict(config))
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
    """Differences that prevent a run from resuming, as `"name: old -> new"`, sorted."""
    a, b = (config_fields.flat(to_dict(c)) for c in (old, new))
    return [
        f"{k}: {_shown(a.get(k))} -> {_shown(b.get(k))}"
        for k in sorted(a.keys() | b.keys())
        if meaning(k, a.get(k)) != meaning(k, b.get(k)) and k.split(".")[0] not in _MAY_CHANGE
    ]
