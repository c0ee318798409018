"""`--mode=compare`: paired comparison of two runs by their bits/dim per image.

The runs are `config.compare.a` and `.b`, each a run or the stages of a cascade, small images first
(`runs/low,runs/high`). Both are measured with the same times and noise; each stage has its own.

The variation between images dominates a standard error and is the same for two models, so the
paired difference resolves gains some ten times smaller than two separate results do.
"""

import copy
from pathlib import Path
from typing import Any

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import _records
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, cascade, exported, other_runs
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import bpd, cascade_likelihood
from diffusion_jax.model import need_likelihood
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.runtime.run_folders import runs_named
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import restore

READS = ("compare", "eval")
ONLY = ("data_dir", "mesh")  # all other settings are those of each run
WRITES = ("compare",)

# Settings that must agree, besides the data, for a difference to be meaningful.
_SAME = ("conditional", "decoder", "augment", "view")


def run(experiment: Experiment) -> None:
    """Compares `config.compare.a` and `.b` with the settings of `config.eval`; writes a JSON.

    Without `--config` the configuration is that of run a.
    """
    c, paths = experiment.config.eval, (experiment.config.compare.a, experiment.config.compare.b)
    if not all(paths):
        raise ConfigError(
            "compare needs two runs: --config.compare.a=WORKDIR --config.compare.b=WORKDIR"
        )
    for name, path in zip("ab", paths, strict=True):
        also = f" (for a cascade give its stages, --config.compare.{name}=LOW,HIGH)"
        for run_path in runs_named(path):
            # A command to train this run is suggested only if the folder does not exist yet.
            exists = place(run_path).is_dir()
            other_runs.saved(
                f"compare.{name}", run_path, None if exists else "", also=also * exists
            )
    runs = [_open(experiment, path) for path in paths]
    splits = [r.source.split(c.split) for r in runs]
    _check_same(runs, [s.fingerprint() for s in splits])
    bpd.check_draws("eval.draws", c.draws)
    for each in (part for r in runs for part in r.stages or (r,)):
        need_likelihood(each.model, "--mode=compare")
    loaded = [r.loaded for r in runs]  # both, before the first of them is measured
    records, results = [], []
    for name, each, (params, record) in zip("ab", runs, loaded, strict=True):
        objective = registry.build("objectives", "continuous()")
        measured = bits_per_dim.bounds(each, params, objective, label=f"run {name}")
        found = cascade_likelihood.together(measured)
        records.append(found)
        results.append({**record, **bpd.summary(found)})
    report = {
        **bpd.paired(*records),
        "a": results[0],
        "b": results[1],
        "data": {
            "name": splits[0].name,
            "medium": runs[0].source.medium.name,
            "sha256": splits[0].fingerprint(),
        },
        "draws_per_image": c.draws,
        "seed": c.seed,
    }
    part = _records.part_record(runs[0], report["difference"])
    if part is not None:
        report["part"] = {k: part[k] for k in ("of", "view")}
    names = ["+".join(Path(p).name for p in runs_named(path)) for path in paths]
    path = experiment.workdir / "compare" / f"{names[0]}_{names[1]}.json"
    _records.publish(path, report, _table(report, names))


def _open(experiment: Experiment, name: str) -> Experiment:
    """Opens a run, or a cascade, with its own model and the settings of the comparison."""
    names = runs_named(name)
    if len(names) > 1:
        config = copy.deepcopy(experiment.config)
        config.stages = name
        return cascade.joined(Experiment(config, experiment.workdir / WRITES[0]))
    path = place(names[0])
    whole = exported.is_exported(path)
    config = saved_config.read_trusted(
        path / "config.json" if whole else restore.locate(path)[0] / "meta" / "metadata"
    )
    config.eval = experiment.config.eval
    for name in ONLY:
        config[name] = experiment.config[name]
    return Experiment(config, path, str(path))


def _check_same(runs: list[Experiment], fingerprints: list[str]) -> None:
    a, b = ({k: _setting(r, k) for k in (*_SAME, "data")} for r in runs)
    wrong = [
        f"{k}: {a[k]!r} and {b[k]!r}" for k in _SAME
        if saved_config.meaning(k, a[k]) != saved_config.meaning(k, b[k])
    ]  # fmt: skip
    given = [_given(r) for r in runs]
    if not wrong and given[0] != given[1]:
        wrong.append(f"conditioning: {given[0]} and {given[1]}")
    if fingerprints[0] != fingerprints[1]:
        wrong.append(f"data: {a['data']} and {b['data']}")
    if wrong:
        raise ConfigError(
            f"these runs cannot be compared, they differ in {'; '.join(wrong)}; compare runs on "
            "the same data with the same conditioning"
        )


def _setting(run: Experiment, name: str) -> Any:
    """A setting of a run, or of a cascade's last stage; the view of a cascade is `whole()`."""
    if run.stages and name == "view":
        return "whole()"
    return (run.stages or (run,))[-1].config[name]


def _given(run: Experiment) -> str:
    """What a run's results are conditioned on; latents are identified by their autoencoder."""
    given = _records.given(run) or "nothing"
    if run.stages or not run.model.from_latent:
        return given
    sha256 = registry.parse(run.config.autoencoder).kwargs.get("sha256", "")
    return f"{given} (of the autoencoder {sha256[:8]})"


def _table(report: dict[str, Any], names: list[str]) -> str:
    a, b = report["a"], report["b"]
    head = f"{'bits/dim':<15} {'a: ' + names[0]:>22} {'b: ' + names[1]:>22} {'b - a, paired':>22}"
    rows = [("total", a, b, report["difference"])]
    for part, difference in report["breakdown"].items():
        rows.append((part, a["breakdown"].get(part), b["breakdown"].get(part), difference))

    def cell(v: dict[str, float] | None) -> str:
        return f"{plus_minus(v['bits_per_dim'], v['standard_error'])}" if v else "-"

    lines = [f"{name:<15} {cell(x):>22} {cell(y):>22} {cell(d):>22}" for name, x, y, d in rows]
    of = _records.of(report.get("part"))
    foot = (
        f"s.e. over {a['images']} {examples(report['data'])} of {report['data']['name']}; "
        "Monte-Carlo s.e. of the "
        f"difference {report['monte_carlo_se']:.4f} "
        f"({_records.noise_draws(report['draws_per_image'], report['data'])})"
        + (f"; bits/dim{of}" if of else "")
    )
    return "\n".join([head, *lines, foot])
