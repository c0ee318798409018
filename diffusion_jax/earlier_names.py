"""Earlier names of kinds, plug-ins and arguments, and earlier defaults of arguments.

Configurations and strings that use them keep their meaning: `registry` builds them, and
`saved_config` reads and compares them.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from diffusion_jax.errors import SpecError
from diffusion_jax.plugin_strings import Spec, parse

KINDS = {
    "distillations": "distillation",
    "finals": "final_steps",
    "models": "backbones",
    "proposals": "time_sampling",
    "scorers": "guides",
}
# {kind: {earlier name: name today}}
_PLUGINS: Mapping[str, Mapping[str, str]] = {
    "augment": {"untold": "hidden"},
    "data": {"clips": "videos", "named": "class_captions"},
    "edits": {"measure": "posterior"},
    "guidance": {"clip": "clip_denoised", "similarity": "clip_guidance", "told": "distilled"},
}
_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "backbones": {"told": "self_conditioning"},
}


class Default(NamedTuple):
    """An argument of a plug-in whose default has changed.

    Attributes:
        name: name of the argument.
        position: its position among the positional arguments.
        earlier: the earlier default.
        today: the default today.
    """

    name: str
    position: int
    earlier: Any
    today: Any


# {setting: {plug-in: changed defaults}}. Configurations saved since write these arguments out;
# where an argument is missing, the configuration is older and means the earlier default.
DEFAULTS: Mapping[str, Mapping[str, tuple[Default, ...]]] = {
    "guidance": {"clip_guidance": (Default("form", 4, "true", "bank"),)},
    "task": {
        "classifier": (Default("groups", 8, 32, 8),),
        "clip": (Default("places", 12, 1, 4), Default("groups", 13, 32, 8)),
        "discriminator": (Default("groups", 8, 32, 8),),
        "gan": (Default("penalty", 3, 0.02, 0.64),),
    },
}


def today(kind: str, spec: Spec) -> Spec:
    """A plug-in with today's names; nested plug-ins are left unchanged."""
    name = _PLUGINS.get(kind, {}).get(spec.name, spec.name)
    names = _ARGUMENTS.get(kind, {})
    renamed = dataclasses.replace(
        spec, name=name, kwargs={names.get(k, k): v for k, v in spec.kwargs.items()}
    )
    if name == spec.name:
        return renamed
    return _with_defaults(renamed, DEFAULTS.get(kind, {}).get(name, ()), earlier=True)


def rewritten(kind: str, text: str) -> str:
    """A plug-in string with today's names, nested plug-ins included."""
    for old, new in _PLUGINS.get(kind, {}).items():
        text = re.sub(rf"(?<![\w.'\"/]){old}(?=\(|\s*$)", new, text)
    for old, new in _ARGUMENTS.get(kind, {}).items():
        text = re.sub(rf"(?<![\w.'\"/]){old}(?=\s*=)", new, text)
    return text


def said(setting: str, text: str, earlier: bool = False) -> str:
    """A setting with all arguments written out whose default has changed.

    Args:
        setting: name of the setting.
        text: its plug-in string.
        earlier: write the earlier defaults; otherwise today's.
    """
    changed = DEFAULTS.get(setting, {})
    if not any(name in text for name in changed):
        return text
    try:
        spec = parse(text)
    except SpecError:
        return text
    full = _with_nested_defaults(spec, changed, earlier)
    return text if full == spec else str(full)


_SKIPPED = ("distill",)  # its guidance `classifier` is not the guide of that name


def _with_nested_defaults(
    value: Any, changed: Mapping[str, tuple[Default, ...]], earlier: bool
) -> Any:
    """`value` with the changed defaults of every plug-in in it written out."""
    if isinstance(value, tuple):
        return tuple(_with_nested_defaults(v, changed, earlier) for v in value)
    if not isinstance(value, Spec) or value.name in _SKIPPED:
        return value
    kwargs = {k: _with_nested_defaults(v, changed, earlier) for k, v in value.kwargs.items()}
    spec = Spec(value.name, _with_nested_defaults(value.args, changed, earlier), kwargs)
    return _with_defaults(spec, changed.get(value.name, ()), earlier)


def _with_defaults(spec: Spec, defaults: tuple[Default, ...], earlier: bool) -> Spec:
    """`spec` with the changed defaults of its own arguments written out."""
    missing = {
        d.name: d.earlier if earlier else d.today
        for d in defaults
        if d.name not in spec.kwargs and len(spec.args) <= d.position
    }
    return dataclasses.replace(spec, kwargs={**spec.kwargs, **missing}) if missing else spec
