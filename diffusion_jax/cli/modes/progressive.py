"""`--mode=progressive`: rate-distortion curve, and reconstructions from a part of the bits."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.cli.modes import _records
from diffusion_jax.cli.report import charts, figures
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import progressive as lib
from diffusion_jax.runtime import image_grids, storage
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.types import Params

READS = ("progressive", "eval")
WRITES = ("progressive",)

# Shares of the bound at which reconstructions are shown.
_FRACTIONS = (0.01, 0.03, 0.08, 0.15, 0.3, 0.5, 0.75, 1.0)


def run(experiment: Experiment) -> None:
    """Writes `progressive/<step>.json`, values per image (npz), the plot and the images (png)."""
    if experiment.config.progressive.steps < 1:
        raise ConfigError(
            f"progressive.steps={experiment.config.progressive.steps} must be at least 1"
        )
    params, record = experiment.loaded
    draw_curve(experiment, params, record)


def draw_curve(experiment: Experiment, params: Params, record: dict[str, Any]) -> dict[str, Any]:
    """Measures given weights, writes everything and returns the report."""
    c, steps = experiment.config.eval, experiment.config.progressive.steps
    split = experiment.source.split(c.split)
    how = bits_per_dim.over(experiment)
    with how.precise():
        records = lib.measure(experiment.model, params, split, how, steps=steps)
        gamma = lib.gammas(experiment.model, params, steps)
        found = lib.summary(records, gamma, split.levels)
        curve = found["curve"]
        at = lib.stops(
            np.asarray(curve["rate_bits_per_dim"]), found["total"]["bits_per_dim"], _FRACTIONS
        )
        picture = _picture(experiment, params, at)
    report = {
        "result": found,
        "picture": {
            k: [curve[k][i] for i in at] for k in ("gamma", "rate_bits_per_dim", "psnr_db")
        },
        "estimator": {"kind": f"bound with T={steps} steps, one draw per image and step",
                      "network_calls_per_image": steps + 1, "seed": c.seed},
        "model": {**record, **_records.model_record(experiment, params)},
        "data": _records.data_record(experiment, split, c.limit),
        "numerics": _records.numerics_record(experiment),
    }  # fmt: skip

    def beside(path: Path) -> None:
        storage.write_arrays(
            path.with_suffix(".npz"), gamma=gamma, bits_per_dim_total=records.total(),
            rate_bits_per_dim=records.rate(), mean_square_error=records.error,
        )  # fmt: skip
        both = figures.rate_distortion(curve), figures.rate_by_gamma(curve)
        charts.save(path.with_suffix(".png"), *both)
        if picture is not None:
            image_grids.save_png(path.with_name(f"{path.stem}_images.png"), picture)

    path = _records.report_path(experiment, "progressive", record["step"])
    names = (
        ", .npz and .png, and *_images.png with one column for each row above and the originals "
        "last"
    )
    _records.publish(
        path, report, _table(report, _records.named(experiment, split.name)), beside, names
    )
    return report


def _picture(experiment: Experiment, params: Params, at: list[int]) -> np.ndarray | None:
    """Examples in rows, rates in columns, originals last; None if there is nothing to show."""
    c = experiment.config
    split = experiment.source.split(c.eval.split)
    count = min(c.progressive.images, len(split))
    part = experiment.model.view.given_shape(split.shape) is not None  # not an image by itself
    medium = experiment.source.medium
    if not count or part:
        return None
    rows = split.take(np.arange(count))
    x, cond = experiment.model.examples(jax.tree.map(jnp.asarray, rows))
    key = jax.random.key(c.eval.seed)
    shown = lib.pictures(experiment.model, params, x, cond, key, at, c.progressive.steps)
    return image_grids.grid(medium.stills(shown, split.levels), split.levels, columns=len(at) + 1)


def _table(report: dict[str, Any], name: str) -> str:
    r, shown = report["result"], report["picture"]
    total = r["total"]
    lines = [
        f"{name}: bound {plus_minus(total['bits_per_dim'], total['standard_error'])} bits/dim "
        f"(s.e. over {r['images']} {examples(report['data'])}), {report['estimator']['kind']}",
        "  stopping at gamma   rate, bits/dim   PSNR of x_hat, dB",
        *(
            f"  {g:17.3f} {b:16.4f} {d:19.2f}"
            for g, b, d in zip(*(shown[k] for k in shown), strict=True)
        ),
        f"  of the {report['data']['medium']} given z_0: "
        f"{r['curve']['remaining_bits_per_dim'][0]:.4f} bits/dim, not in this curve",
    ]
    return "\n".join(lines)
