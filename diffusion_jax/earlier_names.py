"""What kinds of plug-ins, plug-ins and their arguments were called earlier, and meant unsaid.

What was saved or written with these names still means the same: `registry` builds it, and
`saved_config` reads and compares it.
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
# By kind.
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
    """An argument of a plug-in whose default is not what it was.

    Attributes:
        name: of the argument.
        position: among those that need no name.
        earlier: what it meant to leave it out.
        today: what that means now.
    """

    name: str
    position: int
    earlier: Any
    today: Any


# By setting, of plug-ins in it. What is saved says these arguments; where it does not, it is from
# before.
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
    """A plug-in by today's names; what is nested in it stays as it is."""
    name = _PLUGINS.get(kind, {}).get(spec.name, spec.name)
    names = _ARGUMENTS.get(kind, {})
    found = dataclasses.replace(
        spec, name=name, kwargs={names.get(k, k): v for k, v in spec.kwargs.items()}
    )
    if name == spec.name:
        return found
    return _say(found, DEFAULTS.get(kind, {}).get(name, ()), earlier=True)


def rewritten(kind: str, text: str) -> str:
    """A plug-in string by today's names, with all that is nested in it."""
    for old, new in _PLUGINS.get(kind, {}).items():
        text = re.sub(rf"(?<![\w.'\"/]){old}(?=\(|\s*$)", new, text)
    for old, new in _ARGUMENTS.get(kind, {}).items():
        text = re.sub(rf"(?<![\w.'\"/]){old}(?=\s*=)", new, text)
    return text


def said(setting: str, text: str, earlier: bool = False) -> str:
    """A setting in which arguments whose default has changed are written out.

    Args:
        setting: which.
        text: its plug-in string.
        earlier: those that are unsaid mean what they did before; else what they do today.
    """
    changed = DEFAULTS.get(setting, {})
    if not any(name in text for name in changed):
        return text
    try:
        spec = parse(text)
    except SpecError:
        return text
    full = _full(spec, changed, earlier)
    return text if full == spec else str(full)


_APART = ("distill",)  # its guidance `classifier` is no guide


def _full(value: Any, changed: Mapping[str, tuple[Default, ...]], earlier: bool) -> Any:
    if isinstance(value, tuple):
        return tuple(_full(v, changed, earlier) for v in value)
    if not isinstance(value, Spec) or value.name in _APART:
        return value
    kwargs = {k: _full(v, changed, earlier) for k, v in value.kwargs.items()}
    found = Spec(value.name, _full(value.args, changed, earlier), kwargs)
    return _say(found, changed.get(value.name, ()), earlier)


def _say(spec: Spec, defaults: tuple[Default, ...], earlier: bool) -> Spec:
    unsaid = {
        d.name: d.earlier if earlier else d.today
        for d in defaults
        if d.name not in spec.kwargs and len(spec.args) <= d.position
    }
    return dataclasses.replace(spec, kwargs={**spec.kwargs, **unsaid}) if unsaid else spec
