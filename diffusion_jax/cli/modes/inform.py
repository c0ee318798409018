"""`--mode=inform`: mutual information of text (or class) and image, in bits."""

from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.cli.modes import _records
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import (
    caption_information,
    data_processing,
    information_checks,
    null_of_another,
)
from diffusion_jax.likelihood import bpd, information
from diffusion_jax.runtime import image_grids, storage
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.types import Params

READS = ("inform", "eval")
WRITES = ("inform",)


def run(experiment: Experiment) -> None:
    """Measures images and their captions, with the settings of `config.inform` and `config.eval`.

    Writes `inform/<step>.json`, values per image (npz) and maps of bits (png).
    """
    check(experiment)
    params, record = experiment.loaded
    inform(experiment, params, record)


def check(experiment: Experiment) -> None:
    """Checks the settings, before anything is read."""
    if experiment.stages:
        raise ConfigError("--mode=inform takes one run, not a cascade: give one stage as --workdir")
    bpd.check_draws("eval.draws", experiment.config.eval.draws)
    if experiment.config.inform.candidates == 1:
        raise ConfigError(
            "inform.candidates=1 would compare an image with its own caption only; allowed: 0 (all "
            "captions), or 2 and more"
        )
    _, captions = caption_information.images(experiment)
    information.check(experiment.model, "--mode=inform")
    if experiment.config.inform.against:
        null_of_another.opened(experiment).weights()  # checks early that these can be read
    if experiment.config.inform.of:
        data_processing.opened(experiment, captions)[0].weights()


def inform(experiment: Experiment, params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """Measures given weights, writes everything and returns the report."""
    c, (split, _) = experiment.config, caption_information.images(experiment)
    found = caption_information.measured(experiment, params)
    report = {
        "result": found.result,
        "checks": information_checks.checks(found.result),
        "model": {**record, **_records.model_record(experiment, params)},
        "data": _records.data_record(experiment, split, c.eval.limit),
        "numerics": _records.numerics_record(experiment),
        "seed": c.eval.seed,
    }
    pictured = _picture(experiment, np.asarray(split.images[: c.inform.pictures]), found)

    def beside(path: Path) -> None:
        storage.write_arrays(
            path.with_suffix(".npz"), bits=found.bits, maps=found.maps.astype(np.float32),
            steps=np.asarray(found.steps), caption=np.asarray(found.captions.strings()),
        )  # fmt: skip
        if pictured is not None:
            image_grids.save_png(path.with_suffix(".png"), pictured)

    path = _records.report_path(experiment, "inform", record["step"])
    names = ", .npz" + (" and .png" if pictured is not None else "")
    _records.publish(
        path, report, _table(report, _records.named(experiment, split.name)), beside, names
    )
    return report


def _picture(
    experiment: Experiment, shown: np.ndarray, found: caption_information.Informed
) -> np.ndarray | None:
    """Images with maps of their bits; None if the diffused data are not images."""
    if experiment.source.medium is not IMAGE:
        return None
    n, height, width = shown.shape[:3]
    n = min(n, len(found.bits))
    if not n or found.maps.shape[2:] != (height, width):
        return None
    brightest = max(float(found.maps[:n].max()), 1e-9)
    scale = (experiment.source.levels - 1) / brightest
    tiles, texts = [], []
    for i in range(n):
        caption = found.captions.strings()[i]
        for picture, text in [(shown[i], caption)] + [
            (np.round(m * scale)[..., None].repeat(shown.shape[-1], -1), f"{name}: {m.sum():.2f}")
            for name, m in zip(found.steps, found.maps[i], strict=True)
        ]:
            tiles.append(picture)
            texts.append(text)
    return image_grids.grid(
        np.stack(tiles).astype(np.uint8), experiment.source.levels, 1 + len(found.steps), 96,
        under=texts,
    )  # fmt: skip


def _cell(found: dict[str, Any]) -> str:
    return plus_minus(found["bits"], found["standard_error"])


def _known(value: float | None) -> str:
    return "" if value is None else f"   known: {value:.3f}"


def _table(report: dict[str, Any], name: str) -> str:
    r, i = report["result"], report["result"]["information"]
    medium, many = report["data"].get("medium", "image"), examples(report["data"])
    lines = [
        f"{name}: mutual information of text and {medium}: {_cell(i)} bits{_known(r['entropy'])} "
        f"(s.e. over {r['images']} {many}; Monte-Carlo s.e. {i['monte_carlo_se']:.4f} with paired "
        f"noise, {i['unpaired_se']:.4f} with independent noise, "
        f"{_records.noise_draws(r['draws_per_image'], report['data'])})",
        f"  i_orth, the bits of the maps  {_cell(r['i_orth'])}   i_diff - i_orth "
        f"{r['gauge']:+.4f} (0 if the predictions given the text are exact)",
    ]
    if "in_place" in r:
        p = r["in_place"]
        lines.append(
            f"  share where the text points   {plus_minus(p['share'], p['standard_error'])} "
            f"(share of the area: {p['area']:.3f})"
        )
    for key, title in (("words", "in order"), ("words_averaged", "averaged over orders")):
        lines += [f"  {w['word'] + ', ' + title:<30}{_cell(w)}{_known(w['known'])}"
                  for w in r.get(key, [])]  # fmt: skip
    given = r["bits_per_dim"]
    lines.append(
        f"  bits/dim given the text       "
        f"{plus_minus(given['bits_per_dim'], given['standard_error'])}"
    )
    if "embedding" in r:
        lines.append(
            f"  CLIP embedding of the image   {_cell(r['embedding']['own'])} bits without text; "
            f"that of another image costs {_cell(r['embedding']['other'])}"
        )
    found = r["retrieval"]
    lines.append(
        f"  own caption identified        "
        f"{plus_minus(found['accuracy'], found['standard_error'])} of {found['among']}"
    )
    lines += [
        f"  {'wrong ' + kind:<30}"
        + (f"{v['right']:.3f} recognised as wrong, {_cell(v)} bits" if v["images"] else "-")
        for kind, v in r["negatives"].items()
    ]
    word = {True: "holds", False: "FAILS", None: "-"}
    lines += [f"  check: {c['check']:<23}{word[c['passed']]:<6} {c['said']}"
              for c in report["checks"]]  # fmt: skip
    lines += [f"  note: {note}" for note in r["notes"]]
    return "\n".join(lines)
