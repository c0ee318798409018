"""`--mode=ood`: out-of-distribution scores, of the model's own data against others."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.cli.modes import _records
from diffusion_jax.cli.report import charts, figures
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, embeddings
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import ood as lib
from diffusion_jax.model import need_likelihood, require
from diffusion_jax.process.schedules.base import endpoints
from diffusion_jax.runtime import storage
from diffusion_jax.runtime.formatting import examples
from diffusion_jax.runtime.sharding import local
from diffusion_jax.types import Params

READS = ("ood", "eval")
WRITES = ("ood",)

_BITS = "bits/dim"
_ROUNDED = 0.05  # what an end of the range may be off by, as a user reads it in a table


def run(experiment: Experiment) -> None:
    """Scores `config.ood.data` (empty: the model's own) and `config.ood.against`.

    Writes `ood/<step>_<data>_<against>.json`, the scores (npz) and a plot (png).
    """
    c = experiment.config
    if not c.ood.against:
        raise ConfigError(
            "ood needs out-of-distribution data: --config.ood.against=DATA, for example "
            "--config.ood.against='rotated(digits())'"
        )
    need_likelihood(experiment.model, "--mode=ood")
    if experiment.model.num_classes or experiment.model.text or experiment.model.embedding:
        require(
            experiment.model,
            f"ood, which scores {experiment.source.medium.name}s without labels and texts,",
            "use a model with class_dropout (text_dropout, embedding_dropout) > 0", null_class=True,
        )  # fmt: skip
    splits = [_split(experiment, text) for text in (c.ood.data, c.ood.against)]
    params, record = experiment.loaded
    _check_gammas(experiment, params)
    compare(experiment, splits, params, record)


def _check_gammas(experiment: Experiment, params: Params) -> None:
    """Refuses noise that the model has never seen: its predictions there mean nothing."""
    gammas = tuple(map(float, experiment.config.ood.gammas))
    low, high = map(float, endpoints(experiment.model.schedule, local(params["schedule"])))
    outside = [g for g in gammas if not low - _ROUNDED <= g <= high + _ROUNDED]
    if outside:
        raise ConfigError(
            f"ood.gammas={gammas}: {outside[0]:g} is outside the trained range, from {low:.2f} to "
            f"{high:.2f}"
        )


def _split(experiment: Experiment, text: str) -> Split:
    source = experiment.source
    if text:
        source = embeddings.data(experiment, text)
    found = source.split(experiment.config.eval.split)
    return lib.check(found, experiment.source.shape, experiment.source.levels)


def compare(
    experiment: Experiment, splits: list[Split], params: Params, record: dict[str, Any]
) -> dict[str, Any]:
    """Scores both data sets, writes everything and returns the report."""
    c = experiment.config.eval
    gammas = tuple(map(float, experiment.config.ood.gammas)) or _inside(experiment, params)
    titles = [_BITS, *(f"error at gamma = {g:.2f}" for g in gammas)]
    scores = [_scores(experiment, params, split, gammas) for split in splits]
    pairs = {t: tuple(s[:, i] for s in scores) for i, t in enumerate(titles)}
    report = {
        "result": {
            title: {
                **lib.auroc(*values),
                **{f"mean_{k}": float(v.mean()) for k, v in zip(("data", "against"), values,
                                                                strict=True)},
            }
            for title, values in pairs.items()
        },
        "scores": {"higher_means": "stranger",
                   "labels": "none: the null class, or text, where there is one",
                   "gammas": list(gammas), "draws_per_image": c.draws, "seed": c.seed},
        "data": _records.data_record(experiment, splits[0], c.limit),
        "against": _records.data_record(experiment, splits[1], c.limit),
        "model": {**record, **_records.model_record(experiment, params)},
        "numerics": _records.numerics_record(experiment),
    }  # fmt: skip
    path = experiment.workdir / "ood" / f"{record['step']}_{_file_name(splits)}.json"
    names = [s.name for s in splits]

    def beside(path: Path) -> None:
        storage.write_arrays(
            path.with_suffix(".npz"), titles=np.asarray(titles), data=scores[0], against=scores[1]
        )
        drawn = (figures.scores(title, values, names) for title, values in pairs.items())
        charts.save(path.with_suffix(".png"), *drawn)

    _records.publish(
        path,
        report,
        _table(report, [_records.named(experiment, n) for n in names]),
        beside,
        ", .npz and .png",
    )
    return report


def _inside(experiment: Experiment, params: Params) -> tuple[float, ...]:
    """Four gammas between the schedule's ends."""
    ends = endpoints(experiment.model.schedule, local(params["schedule"]))
    return tuple(round(float(g), 2) for g in np.linspace(*map(float, ends), 6)[1:-1])


def _scores(
    experiment: Experiment, params: Params, split: Split, gammas: tuple[float, ...]
) -> np.ndarray:
    """`[N, 1 + gammas]`."""
    plain = lib.unlabelled(split, experiment.model)
    records = bits_per_dim.bound(experiment, params, split=plain, label=f"bits/dim {split.name}")
    errors = lib.reconstruction_errors(
        experiment.model, params, plain, bits_per_dim.over(experiment), gammas,
        draws=experiment.config.eval.draws,
    )  # fmt: skip
    return np.concatenate([records.per_image()["total"][:, None], errors], axis=1)


def _file_name(splits: list[Split]) -> str:
    """Names and hash prefixes of the splits, so that npz files of the same name stay distinct."""
    return "_".join(
        f"{re.sub(r'[^A-Za-z0-9]+', '-', s.name)}-{s.fingerprint()[:6]}" for s in splits
    )


def _table(report: dict[str, Any], names: list[str]) -> str:
    lines = [
        f"{names[0]} ({report['data']['images']} {examples(report['data'])}) against {names[1]} "
        f"({report['against']['images']} {examples(report['against'])}), no labels or texts used",
        f"  {'score':<24} {'AUROC':>16} {'mean':>10} {'mean of the others':>20}",
        *(
            f"  {title:<24} {v['auroc']:7.4f} +- {v['standard_error']:.4f} {v['mean_data']:10.4f} "
            f"{v['mean_against']:20.4f}"
            for title, v in report["result"].items()
        ),
    ]
    return "\n".join(lines)
