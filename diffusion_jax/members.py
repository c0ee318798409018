"""Required attributes of each plug-in kind; `diffusion_jax.testing` tests their behaviour."""

from typing import Any

from diffusion_jax.errors import SpecError

_CALL = "call"
# Samplers and networks are checked where they are used (sampling.checks, model).
_HAS = {
    "data": ("shape", "levels", "num_classes", "split"),
    "augment": ("size", _CALL),
    "pyramids": ("split", "merge"),
    "views": ("shape", "join", _CALL),
    "autoencoders": ("latent_shape", "init", "encode", "log_prob", "decode"),
    "text_encoders": ("pieces", "text", "settled"),
    "heads": ("levels", "outputs", "log_prob"),
    "schedules": ("init", "gamma"),
    "encoders": ("mean_coefficient", "init", "shift", _CALL),
    "decoders": ("encode", "log_prob", "decode"),
    "objectives": (_CALL,),
    "weightings": (_CALL,),
    "time_sampling": ("init", "times", "observe", "update"),
    "tasks": ("holds", "figure", "open"),
    "distillation": ("steps", "finest", "lesson"),
    "loggers": ("open",),
    "likelihood": ("objectives or check",),  # bounds, or a density
    "guides": ("metrics", "init", "loss"),
    "grids": (_CALL,),
    "plans": (_CALL,),
    "correctors": (_CALL,),
    "final_steps": (_CALL,),
    "guidance": (_CALL,),
    "edits": ("lay_out", "plan", "check", "paint"),
    "features": ("name", "size", "apply", "digest"),
    "judges": ("names", "right"),
}


def check_made(kind: str, spec: str, made: Any, one: str = "") -> None:
    """Raises SpecError if the result of `make` lacks an attribute that its kind requires.

    Args:
        kind: kind of the plug-in.
        spec: the plug-in string, for the message.
        made: what `make` returned.
        one: name for one plug-in of the kind; empty for `kind`.
    """
    if made is None and kind == "correctors":  # none()
        return
    for name in _HAS.get(kind, ()):
        has = any(hasattr(made, n) for n in name.split(" or "))
        if not (callable(made) if name == _CALL else has):
            what = "and cannot be called" if name == _CALL else f"and has no {name}"
            raise SpecError(
                f"{one or kind} {spec}: make returned {type(made).__name__} {what}; "
                f"diffusion_jax.testing.check({kind!r}, ...) tries a plug-in"
            )
