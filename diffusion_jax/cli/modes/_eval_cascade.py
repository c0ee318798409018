"""`--mode=eval` of a cascade: the sum of its stages' bounds, and the share of each stage."""

import math
from pathlib import Path
from typing import Any

from diffusion_jax import registry
from diffusion_jax.cli.modes import _eval_density, _known, _records
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.cascade import waste
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import bpd, cascade_likelihood as lib
from diffusion_jax.likelihood.estimators.base import Bounds
from diffusion_jax.runtime import storage
from diffusion_jax.runtime.formatting import examples, plus_minus


def evaluate(cascade: Experiment) -> dict[str, Any]:
    """Evaluates every stage on the same images; writes the report and returns it."""
    c = cascade.config.eval
    likelihood = registry.build("likelihood", c.likelihood)
    if not isinstance(likelihood, Bounds):
        return _eval_density.evaluate_stages(cascade, likelihood)
    bpd.check_draws("eval.draws", c.draws)
    objectives = likelihood.objectives(tuple(c.timesteps))
    params, record = cascade.loaded
    split = cascade.source.split(c.split)
    found = {
        name: bits_per_dim.bounds(cascade, params, o, label=f"T={name}")
        for name, o in objectives.items()
    }
    own = [math.prod(s.model.z_shape(s.source.shape)) for s in cascade.stages]
    results = {name: lib.summary(r, own) for name, r in found.items()}
    result = results.pop("infinity")
    bits = lib.total_per_image(found["infinity"]) * found["infinity"][0].dims
    known = _known.record(cascade, bits)
    report = {
        "result": {
            **result,
            **({} if known is None else {"known": known}),
            "bound_by_timesteps": {
                k: {n: r[n] for n in ("bits_per_dim", "standard_error", "monte_carlo_se")}
                for k, r in {**results, "infinity": result}.items()
            },
        },
        "estimator": _records.bound_record(cascade, likelihood),
        "model": {**record, **_records.stages_record(cascade, params)},
        "data": _records.data_record(cascade, split, c.limit),
        "numerics": _records.numerics_record(cascade),
    }

    def beside(path: Path) -> None:
        each = {f"bits_per_dim_{i}": r.per_image()["total"]
                for i, r in enumerate(found["infinity"])}  # fmt: skip
        total = lib.total_per_image(found["infinity"])
        storage.write_arrays(path.with_suffix(".npz"), bits_per_dim_total=total, **each)

    _records.publish(
        _records.report_path(cascade, "eval", record["step"]), report,
        _table(report, split.name, waste(cascade)),
        beside,
    )  # fmt: skip
    return report


def _table(report: dict[str, Any], name: str, note: str) -> str:
    r, m = report["result"], report["model"]
    given = m["given"] and f", given the {m['given']}"
    lines = [
        f"{name} bits/dim{given}: {plus_minus(r['bits_per_dim'], r['standard_error'])} "
        f"(s.e. over {r['images']} {examples(report['data'])}; "
        f"Monte-Carlo s.e. {r['monte_carlo_se']:.4f}, "
        f"{_records.noise_draws(r['draws_per_image'], report['data'])}), the sum "
        f"of {len(r['stages'])} stages:",
        f"  bits per dimension of the {examples(report['data'])[:-1]}, share; bits per value of "
        "the stage's own part",
    ]
    lines += _records.stage_lines(report)
    lines += [
        f"  {part:<28} {plus_minus(v['bits_per_dim'], v['standard_error'])}"
        for part, v in r["breakdown"].items()
    ]
    lines += _known.lines(r.get("known"))
    steps = (f"T={k}: {v['bits_per_dim']:.4f}" for k, v in r["bound_by_timesteps"].items())
    lines.append(f"  bound with T steps: {', '.join(steps)}")
    return "\n".join([*lines, *([note] if note else [])])
