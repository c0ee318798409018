"""What an edit has changed and kept, by an independent classifier: `config.edit.judge`."""

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
    """Raises ConfigError for a judge that cannot assess these images and their texts."""
    if not run.config.edit.judge:
        return
    if not inputs.captions:
        raise ConfigError(
            f"edit.judge={run.config.edit.judge!r} compares results with the captions of the "
            f"images, but {run.config.edit.image} has none: use edit.image=split:test with data "
            "that have captions"
        )
    wanted = [plain(aim(edit))] if aim(edit) else []
    judge = judges.opened(run, run.config.edit.judge)
    base.check(judge, inputs.images[:1], [*inputs.captions, *wanted])


def scores(
    run: Experiment, edit: Edit, inputs: Inputs, layout: Layout, drawn: np.ndarray
) -> dict[str, Any]:
    """Scores the results, levels `[R, H, W, C]`, by `config.edit.judge`; empty without a judge.

    Returns:
        `sources`: shares that are right for the sources; `kept`: likewise for the results. For an
        edit towards a text also `changed`: the shares of what the text asks for and the sources did
        not show, which `kept` omits. For pairs `frames`: how often each frame shows everything in
        the caption of the `first` image, and of the `second`.
    """
    if not run.config.edit.judge:
        return {}
    judge, canvas = judges.opened(run, run.config.edit.judge), layout.canvas
    texts, line = inputs.captions, np.arange(len(drawn)) // layout.columns
    if "weight" in canvas.extra:
        pairs = line // inputs.each
        ends = [[texts[2 * p + end] for p in pairs] for end in (0, 1)]
        return _frames(judge, drawn, ends, canvas.extra["weight"])
    captions = [texts[row] for row in line]
    found = {"sources": shares(judge.names, judge.right(canvas.image, captions))}
    kept, aimed = judge.right(drawn, captions), plain(aim(edit))
    if aimed:
        targets = [aimed] * len(drawn)
        target = judge.right(canvas.image, targets) < 1.0  # False for NaN: not mentioned
        if instead := getattr(judge, "instead", None):  # an object may also be where it was moved
            kept = np.fmax(kept, judge.right(drawn, [instead(c, aimed) for c in captions]))
        kept = np.where(target, np.nan, kept)
        rows = target.any(1)
        now = np.where(target, judge.right(drawn, targets), np.nan)[rows]
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
        if None not in both:  # None: one of the captions has nothing that is judged
            found.append({"weight": float(w), "first": both[0], "second": both[1]})
    return {"frames": found}


def lines(found: dict[str, Any]) -> list[str]:
    """The scores as lines of text."""
    out = [
        f"{name}: " + ", ".join(f"{k} {v['value']:.3f}" for k, v in found[name].items())
        for name in ("sources", "changed", "kept")
        if found.get(name)
    ]
    return out + [
        f"frame at {f['weight']:.2f}: like the first {f['first']['value']:.3f}, like the second "
        f"{f['second']['value']:.3f}"
        for f in found.get("frames", ())
    ]
