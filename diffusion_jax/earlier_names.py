"""What kinds of plug-ins, plug-ins and their arguments were called earlier.

What was saved or written with these names still means the same: `registry` builds it, and
`saved_config` reads and compares it.
"""

import dataclasses
import re
from collections.abc import Mapping

from diffusion_jax.plugin_strings import Spec

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


def today(kind: str, spec: Spec) -> Spec:
    """A plug-in by today's names; what is nested in it stays as it is."""
    name = _PLUGINS.get(kind, {}).get(spec.name, spec.name)
    names = _ARGUMENTS.get(kind, {})
    return dataclasses.replace(
        spec, name=name, kwargs={names.get(k, k): v for k, v in spec.kwargs.items()}
    )


def rewritten(kind: str, text: str) -> str:
    """A plug-in string by today's names, with all that is nested in it."""
    for old, new in _PLUGINS.get(kind, {}).items():
        text = re.sub(rf"(?<![\w.'\"/]){old}(?=\(|\s*$)", new, text)
    for old, new in _ARGUMENTS.get(kind, {}).items():
        text = re.sub(rf"(?<![\w.'\"/]){old}(?=\s*=)", new, text)
    return text
