"""What an edit has changed and what it has kept, by a judge of texts: `config.edit.judge`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.judges import base
from diffusion_jax.evaluation.judges.base import Judge, shares
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import judges
from diffusion_jax.networks.text_encoders.base import plain
from diffusion_jax.sampling.edits.base import Edit, Inputs, Layout, aim


def check(run: Experiment, edit: Edit, inputs: Inputs) -> None:
    """Refuses (`ConfigError`) a judge that cannot say what these images show, or are to show."""
    if not run.config.edit.judge:
        return
    if not inputs.captions:
        raise ConfigError(
            f"edit.judge={run.config.edit.judge!r} holds results against the captions of the "
            f"images, and {run.config.edit.image} has none: use edit.image=split:test of data with "
            "captions"
        )
    wanted = [plain(aim(edit))] if aim(edit) else []
    judge = judges.opened(run, run.config.edit.judge)
    base.check(judge, inputs.images[:1], [*inputs.captions, *wanted])


def scores(
    run: Experiment, edit: Edit, inputs: Inputs, layout: Layout, drawn: np.ndarray
) -> dict[str, Any]:
    """What `config.edit.judge` says of results, levels `[R, H, W, C]`; nothing without a judge.

    Returns:
        `sources`, shares of what is right of the images as they were, and `kept`, of the results;
        of an edit towards a text also `changed`, how often they show what that says and the images
        did not, which `kept` leaves out. Of pairs `frames`: how often each shows all that the
        `first` image's caption says, and the `second`'s.
    """
    if not run.config.edit.judge:
        return {}
    judge, canvas = judges.opened(run, run.config.edit.judge), layout.canvas
    texts, line = inputs.captions, np.arange(len(drawn)) // layout.columns
    if "weight" in canvas.extra:
        pairs = line // inputs.each
        ends = [[texts[2 * p + end] for p in pairs] for end in (0, 1)]
        return _frames(judge, drawn, ends, canvas.extra["weight"])
    own = [texts[row] for row in line]
    found = {"sources": shares(judge.names, judge.right(canvas.image, own))}
    kept, wanted = judge.right(drawn, own), plain(aim(edit))
    if wanted:
        asked = [wanted] * len(drawn)
        target = judge.right(canvas.image, asked) < 1.0  # not where nothing is said
        if instead := getattr(judge, "instead", None):  # or where the edit has moved it to
            kept = np.fmax(kept, judge.right(drawn, [instead(o, wanted) for o in own]))
        kept = np.where(target, np.nan, kept)
        rows = target.any(1)
        now = np.where(target, judge.right(drawn, asked), np.nan)[rows]
        found["changed"] = shares(judge.names, now)
    return {**found, "kept": shares(judge.names, kept)}


def _frames(
    judge: Judge, drawn: np.ndarray, ends: Sequence[list[str]], weight: np.ndarray
) -> dict[str, Any]:
    like = [judge.right(drawn, e) for e in ends]
    found = []
    for w in np.unique(weight):
        at = weight == w
        both = [shares(judge.names, r[at]).get("all") for r in like]
        if None not in both:  # else nothing that is judged is said of one of the two
            found.append({"weight": float(w), "first": both[0], "second": both[1]})
    return {"frames": found}


def lines(found: dict[str, Any]) -> list[str]:
    """The scores in words."""
    said = [
        f"{name}: " + ", ".join(f"{k} {v['value']:.3f}" for k, v in found[name].items())
        for name in ("sources", "changed", "kept")
        if found.get(name)
    ]
    return said + [
        f"frame at {f['weight']:.2f}: like the first {f['first']['value']:.3f}, like the second "
        f"{f['second']['value']:.3f}"
        for f in found.get("frames", ())
    ]
