"""`--mode=eval` with a density estimator such as `--config.eval.likelihood='ode()'`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.cli.modes import _records
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import cascade_likelihood, density as lib
from diffusion_jax.likelihood.estimators.base import Density
from diffusion_jax.runtime import storage
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.types import Params


def evaluate(
    experiment: Experiment, density: Density, params: Params, record: dict[str, Any]
) -> dict[str, Any]:
    """Measures a density; writes `eval/<step>_<name>.json` and the values per image as `.npz`."""
    c = experiment.config.eval
    density.check(experiment.model)
    dims = math.prod(experiment.model.z_shape(experiment.source.shape))
    about = density.describe(dims)
    split = experiment.source.split(c.split)
    records = lib.measure(experiment.model, density, params, split, bits_per_dim.over(experiment))
    certificate = getattr(density, "verdict", dict)(records.certificate)
    result = lib.summary(records, getattr(density, "order", 1))
    part = _records.part_record(experiment, result)
    report = {
        "result": result | ({} if part is None else {"part": part}),
        **({"certificate": certificate} if certificate else {}),
        "estimator": {**about, "seed": c.seed},
        "model": {**record, **_records.model_record(experiment, params)},
        "data": _records.data_record(experiment, split, c.limit),
        "numerics": _records.numerics_record(experiment),
    }

    def arrays(path: Path) -> None:
        storage.write_arrays(
            path.with_suffix(".npz"),
            dims=records.dims,
            bits_per_dim_total=records.bits(density.k).mean(1),
            nats_density=records.density,
            nats_correction=records.correction,
            nats_density_half_the_steps=records.coarse,
            **{f"certificate_{k}": v for k, v in records.certificate.items()},
        )

    path = _records.report_path(experiment, "eval", record["step"], density.name)
    _records.publish(path, report, _table(report, split.name), arrays)
    return report


def evaluate_stages(cascade: Experiment, density: Density) -> dict[str, Any]:
    """The sum over the stages of a cascade; writes the same files as for a single run."""
    c = cascade.config.eval
    for stage in cascade.stages:
        density.check(stage.model)
    if hasattr(density, "certificate"):
        raise ConfigError(
            f"eval.likelihood={c.likelihood!r} is for single runs: a stage is not a map of whole "
            "images; use elbo() or ode()"
        )
    if cascade.model.from_latent and density.k > 1:
        raise ConfigError(
            f"eval.likelihood={c.likelihood!r}: k > 1 weights latents by the likelihood of their "
            "images, which belongs to another run here; use k=1, or elbo()"
        )
    own = [math.prod(s.model.z_shape(s.source.shape)) for s in cascade.stages]
    about = density.describe(sum(own))
    if "network_calls_per_image" in about:
        about["network_calls_per_image"] *= len(own)
    params, record = cascade.loaded
    split, how = cascade.source.split(c.split), bits_per_dim.over(cascade)
    records = [
        lib.measure(s.model, density, p, s.source.split(c.split), replace(how, seed=c.seed + i))
        for i, (s, p) in enumerate(zip(cascade.stages, params, strict=True))
    ]
    order = getattr(density, "order", 1)
    report = {
        "result": cascade_likelihood.of_densities(records, own, order),
        "estimator": {**about, "seed": c.seed},
        "model": {**record, **_records.stages_record(cascade, params)},
        "data": _records.data_record(cascade, split, c.limit),
        "numerics": _records.numerics_record(cascade),
    }

    def arrays(path: Path) -> None:
        each = {f"bits_per_dim_{i}": r.bits(density.k).mean(1) for i, r in enumerate(records)}
        total = np.sum(list(each.values()), axis=0)
        storage.write_arrays(path.with_suffix(".npz"), bits_per_dim_total=total, **each)

    path = _records.report_path(cascade, "eval", record["step"], density.name)
    _records.publish(path, report, _table(report, split.name), arrays)
    return report


def _table(report: dict[str, Any], name: str) -> str:
    r, m, e = report["result"], report["model"], report["estimator"]
    certificate = report.get("certificate")
    name = name if certificate is None or certificate["holds"] else f"NO LIKELIHOOD, {name}"
    given = m["given"] and f", given the {m['given']}"
    noise = r["monte_carlo_se"]
    error = "unknown from one draw" if noise is None else f"{noise:.4f}"
    lines = [
        f"{name} bits/dim{_records.of(r.get('part'))}{given}: "
        f"{plus_minus(r['bits_per_dim'], r['standard_error'])} "
        f"(s.e. over {r['images']} {examples(report['data'])}; Monte-Carlo s.e. {error}, "
        f"{_records.noise_draws(r['draws_per_image'], report['data'])})",
        *_records.part_lines(r.get("part")),
        f"  {e['kind']}; trace {e['trace']}; dequantization {e['dequantization']}",
        *_certificate_lines(certificate),
        f"  {e['method']}, {e['steps']} steps{_halved(r.get('solver'), examples(report['data']))}; "
        f"{e['network_calls_per_image']} network calls and "
        f"{e['jacobian_vector_products_per_image']} Jacobian-vector products per "
        f"{examples(report['data'])[:-1]}",
        *(
            f"  K = {k:<11} {plus_minus(v['bits_per_dim'], v['standard_error'])}"
            for k, v in r["by_k"].items()
            if len(r["by_k"]) > 1
        ),
        *_records.stage_lines(report),
        f"  weights {m['weights']} at step {m['step']}{_ends(m)}",
    ]
    return "\n".join(lines)


def _ends(model: dict[str, Any]) -> str:
    if "gamma_0" not in model:
        return ""  # each stage has its own
    return f", gamma from {model['gamma_0']:.3f} to {model['gamma_1']:.3f}"


def _halved(solver: dict[str, Any] | None, of: str) -> str:
    if solver is None:
        return ""
    return (
        f": halving them changes the result by {solver['half_the_steps_changes_by']:.2g}, that of "
        f"a single one by at most {solver['half_the_steps_changes_an_image_by_at_most']:.2g} "
        f"(first {solver['images']} {of})"
    )


def _certificate_lines(certificate: dict[str, Any] | None) -> list[str]:
    """Whether a map is a bijection at these images, and the evidence."""
    if certificate is None:
        return []
    verdict = "a bijection"
    if not certificate["holds"]:
        verdict = "NOT a bijection (so the value is not a likelihood)"
    return [
        f"  {verdict} at these examples: inversion error: median "
        f"{certificate['way_back_misses_by_median']:.2g}, maximum "
        f"{certificate['way_back_misses_by_at_most']:.2g} grey levels (limit 0.5); "
        f"{certificate['negative_determinants']} Jacobians have a negative determinant; "
        f"condition number at most {certificate['condition_at_most']:.2g}"
    ]
