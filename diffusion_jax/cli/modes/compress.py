"""`--mode=compress`: lossless compression of images by bits-back coding with a trained model."""

import contextlib
import math
from typing import Any

import numpy as np

from diffusion_jax.cli.modes import _codec_files, _records
from diffusion_jax.compression import files, other_formats, sequence_baselines
from diffusion_jax.compression.files import Images
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import count
from diffusion_jax.experiment import Experiment, codec
from diffusion_jax.experiment.cascade import waste
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.likelihood import cascade_likelihood
from diffusion_jax.likelihood.objectives import discrete
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.formatting import examples, plus_minus
from diffusion_jax.runtime.storage import alone, place, write
from diffusion_jax.types import Params

READS = ("compress", "eval", "stages")
WRITES = ("compressed",)


def run(experiment: Experiment) -> None:
    """Codes `config.compress.input` (by default the split `config.eval.split` of the run's data).

    Writes `config.compress.output` (by default `compressed/<step>.djz`) and a JSON next to it.
    """
    codec.one_process()
    codec.check_whole(experiment)
    c = experiment.config.compress
    named = _codec_files.output_path(experiment)
    found = _images(experiment)
    codec.labels_of(experiment, found)  # fails here rather than after the weights are read
    params, record = experiment.loaded
    made = codec.encode(experiment, params, record, found, show=True)
    many = f"{len(found.images)} {experiment.source.medium.name}s"
    say(f"{found.name}: {many} in {len(made.data)} bytes")
    if note := waste(experiment):
        say(f"  {note}")
    path = named or experiment.workdir / "compressed" / f"{record['step']}.djz"
    with contextlib.nullcontext() if named else alone(path.parent):
        if not named:
            path = _records.unused(path, lambda old: old.read_bytes() == made.data)
        write(path, made.data)
    report = {
        "result": _result(made),
        "bound": _bound(experiment, params, made),
        "file": {
            **made.header,
            "bytes": len(made.data),
            "name": path.name,
            **({"grid": c.grid} if c.grid else {}),
        },
        "data": {
            "name": found.name,
            "images": len(found.images),
            "medium": experiment.source.medium.name,
        },
        "model": {**record},
        "devices": describe_devices(),
    }
    if c.compare:
        medium, levels = experiment.source.medium.name, experiment.source.levels
        report["other_formats"] = other_formats.rivals(found.images, medium)
        if sequence_baselines.fit(medium):
            train = np.asarray(experiment.source.split("train").images)
            report["other_formats"] += sequence_baselines.rivals(
                train, found.images, levels, medium
            )
    say(f"  written to {path}")
    _records.publish(path.with_suffix(".json"), report, _table(report))
    if c.verify:
        say(_codec_files.verdict(experiment, path, _codec_files.decode(experiment, path)))


def _images(experiment: Experiment) -> Images:
    source, limit = experiment.source, experiment.config.compress.limit
    part = experiment.config.eval.split
    if experiment.config.compress.input:
        path = place(experiment.config.compress.input)
        return files.read(
            path, part, source.shape, source.levels, source.num_classes, source.medium, limit
        )
    split = source.split(part)
    split = split.loaded(np.arange(count(split, limit)) if limit else None)
    labels = split.labels if split.num_classes else None
    return Images(split.name, np.asarray(split.images), labels)


def _result(made: codec.Encoded) -> dict[str, Any]:
    """The code length and its parts, in bits/dim."""
    coder, coded, size = made.coder, made.coded, len(made.data)
    n, values = len(made.images.images), coder.values
    dims = n * values
    bits = sum(8 * len(g.pack()) for g in coded.groups)
    rows = min(n, coder.chain.network.batch)
    return {
        "net_bits_per_dim": (coded.net_bits - coded.label_bits) / dims,
        "labels_bits_per_dim": coded.label_bits / dims,
        "file_bits_per_dim": 8 * size / dims,
        "header_bits_per_dim": (8 * size - bits) / dims,
        # Per dimension of one image: each row of a batch needs its own initial bits.
        "initial_bits_per_dim": max(coded.initial_bits) / (rows * values),
        "initial_bits_in_file_per_dim": sum(coded.initial_bits) / dims,
        "coder_loss_bits_per_dim": (coded.net_bits - coded.label_bits - coded.bits.sum()) / dims,
        "images_per_second": n / made.seconds,
        "seconds": made.seconds,
    }


def _bound(experiment: Experiment, params: Params, made: codec.Encoded) -> dict[str, Any]:
    """The bound on the same images, at the coded latents and at fresh ones."""
    coder, coded, found = made.coder, made.coded, made.images
    values, steps = coder.values, coder.chain.timesteps
    n, classes = len(found.images), experiment.model.num_classes
    labels = found.labels if found.labels is not None else np.full(n, classes, np.int32)
    split = Split(found.name, found.images, labels, experiment.source.levels, classes)
    grids = made.header.get("gammas") or [()] * len(coder.chains)
    objectives = [discrete.make(steps, tuple(gammas)) for gammas in grids]
    records = bits_per_dim.bounds(
        experiment, params, objectives, split, limit=0, label=f"bound, T={steps}"
    )
    summary = cascade_likelihood.summary(records)
    # The loss of the stack itself is distributed evenly over the images.
    net = (coded.net_bits - coded.label_bits) / (n * values)
    per_image = coded.bits / values + (net - coded.bits.sum() / (n * values))
    gap = per_image - cascade_likelihood.total_per_image(records)
    same = float(coded.nats.sum() / (n * values * math.log(2.0)))
    return {
        "same_latents": {"bits_per_dim": same, "net_minus_bound": net - same},
        "fresh_latents": {
            "bits_per_dim": summary["bits_per_dim"],
            "standard_error": summary["standard_error"],
            "monte_carlo_se": summary["monte_carlo_se"],
            "draws_per_image": experiment.config.eval.draws,
            "net_minus_bound": float(gap.mean()),
            "monte_carlo_se_of_difference": float(gap.std(ddof=1) / math.sqrt(n))
            if n > 1
            else math.nan,
        },
    }


def _table(report: dict[str, Any]) -> str:
    r, b, h = report["result"], report["bound"], report["file"]
    same, fresh = b["same_latents"], b["fresh_latents"]
    labels = h["labels"].replace("coded", "given the class")
    given = "" if labels == "none" else f", {labels}"
    many = examples(report["data"])
    grid = f" by {h['grid']}" if "grid" in h else ""
    head = (
        f"{report['data']['name']}: {h['images']} {many}, T={h['timesteps']}{grid}, "
        f"order {h['order']}"
    )
    rows = [
        (f"net code length{given}", f"{r['net_bits_per_dim']:.4f}"),
        (
            f"bound, T={h['timesteps']}, same latents",
            f"{same['bits_per_dim']:.4f}   net - bound {same['net_minus_bound']:+.4f} "
            "(no Monte-Carlo noise)",
        ),
        (
            f"bound, T={h['timesteps']}, fresh latents",
            f"{plus_minus(fresh['bits_per_dim'], fresh['standard_error'])}   net - bound "
            f"{fresh['net_minus_bound']:+.4f} +- {fresh['monte_carlo_se_of_difference']:.4f} "
            f"(Monte-Carlo s.e., {_records.noise_draws(fresh['draws_per_image'], report['data'])})",
        ),
        ("labels", f"{r['labels_bits_per_dim']:.4f}"),
        (
            "file, everything included",
            f"{r['file_bits_per_dim']:.4f}   ({h['bytes']} bytes; initial bits "
            f"{r['initial_bits_in_file_per_dim']:.4f}, header {r['header_bits_per_dim']:.4f})",
        ),
        (
            "initial bits",
            f"{r['initial_bits_per_dim']:.2f} per dimension of the first "
            f"{min(h['batch'], h['images'])} {many}, once per group ({h['groups']})",
        ),
    ]
    medium = report["data"]["medium"]
    for other in report.get("other_formats", []):
        whole = other.get("bits_per_dim_sheet")
        text = other.get("missing") or f"{other['bits_per_dim']:.4f}" + (
            ", code length under a distribution, without a file"
            if whole is None
            else f" as one file per {medium}, {whole:.4f} as one "
            f"{'picture' if medium == 'image' else 'file'}"
        )
        rows.append((other["format"], text))
    lines = [f"{head} (bits/dim)", *(f"  {name:<34} {text}" for name, text in rows)]
    lines.append(f"  {r['images_per_second']:.2f} {many}/s, without compilation and bounds")
    return "\n".join(lines)
