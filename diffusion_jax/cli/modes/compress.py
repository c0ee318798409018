"""`--mode=compress`: images to a file, losslessly, by bits-back coding with a trained model."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax import registry
from diffusion_jax.cli.modes import _codec, _records, verify
from diffusion_jax.compression import baselines, coder as coding, container, files, network
from diffusion_jax.compression.files import Images
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.likelihood import bpd
from diffusion_jax.runtime.distributed import describe_devices, say
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.storage import place, write, write_json
from diffusion_jax.types import Params

_BATCH = 8  # images side by side unless config.compress.batch says otherwise


def run(experiment: Experiment) -> None:
    """Codes `--input` (by default the split `config.eval.split` of the run's own data).

    Writes `--output` (by default `compressed/<step>.djz`) and a report beside it as JSON.

    Raises:
        ConfigError: settings that cannot work, or the named output exists.
    """
    _codec.one_process()
    c = experiment.config.compress
    if experiment.output_path and experiment.output_path.exists():
        raise ConfigError(f"{experiment.output_path} exists; name another file with --output")
    found = _images(experiment)
    labels = _codec.labels_of(experiment, found)
    found = Images(found.name, found.images, labels, found.names)
    params, record = experiment.weights(experiment.config.eval.weights)
    path = experiment.output_path or _codec.default_path(experiment, record["step"])
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        net = network.Network(
            experiment.model,
            params,
            found.images.shape[1:],
            min(c.batch or _BATCH, len(found.images)),
        )
        coder = coding.make(
            net, c.timesteps, c.order, c.group, c.seed, coded_labels=labels is not None
        )
        net.warm_up(labels is not None or coder.null is not None)
        start = time.monotonic()
        with progress("encode", len(found.images)) as bar:
            coded = coding.encode(coder, found.images, labels, bar.at)
        seconds = time.monotonic() - start
        header = _header(experiment, coder, found, coded, params, record)
        data = container.pack(header, coded.groups)
        write(path, data)
        report = {
            "result": _result(coder, coded, found, len(data), seconds),
            "bound": _bound(experiment, params, coder, coded, found),
            "file": {**header, "bytes": len(data), "name": path.name},
            "data": {"name": found.name, "images": len(found.images)},
            "model": {**record},
            "devices": describe_devices(),
        }
    if c.compare:
        report["other_formats"] = baselines.rivals(found.images)
    write_json(path.with_suffix(".json"), report)
    say(_table(report, path))
    if experiment.verify:
        say(verify.verdict(path, _codec.decode_file(experiment, path)[0]))


def _images(experiment: Experiment) -> Images:
    source, limit = experiment.source, experiment.config.compress.limit
    part = experiment.config.eval.split
    if experiment.input:
        path = place(experiment.input)
        found = files.read(path, part, source.shape, source.levels, source.num_classes)
    else:
        split = source.split(part)
        labels = split.labels if split.num_classes else None
        found = Images(split.name, np.asarray(split.images), labels)
    if not limit:
        return found
    labels = None if found.labels is None else found.labels[:limit]
    return Images(found.name, found.images[:limit], labels, found.names[:limit])


def _header(
    experiment: Experiment,
    coder: coding.Coder,
    found: Images,
    coded: coding.Coded,
    params: Params,
    record: dict[str, Any],
) -> dict[str, Any]:
    net = coder.chain.network
    return {
        "images": len(found.images),
        "shape": list(net.shape),
        "levels": experiment.source.levels,
        "timesteps": coder.chain.timesteps,
        "order": coder.order,
        "batch": net.batch,
        "group": coder.group,
        "groups": len(coded.groups),
        "seed": coder.seed,
        "labels": _codec.label_kind(coder),
        "schedule": _codec.schedule_code(coder),
        "model": _codec.fingerprint(experiment, params),
        "step": record["step"],
        "weights": record["weights"],
        "machine": network.machine(),
        "sha256": found.sha256(),
        **({"names": list(found.names)} if found.names else {}),
    }


def _result(
    coder: coding.Coder, coded: coding.Coded, found: Images, size: int, seconds: float
) -> dict[str, Any]:
    """The code length, in bits/dim."""
    n, values = len(found.images), coder.chain.network.values
    dims = n * values
    bits = sum(8 * len(g.pack()) for g in coded.groups)
    rows = min(n, coder.chain.network.batch)
    return {
        "net_bits_per_dim": (coded.net_bits - coded.label_bits) / dims,
        "labels_bits_per_dim": coded.label_bits / dims,
        "file_bits_per_dim": 8 * size / dims,
        "header_bits_per_dim": (8 * size - bits) / dims,
        # Of one image: that many bits are on the stack before the first image of a row.
        "initial_bits_per_dim": max(coded.initial_bits) / (rows * values),
        "initial_bits_in_file_per_dim": sum(coded.initial_bits) / dims,
        "coder_loss_bits_per_dim": (coded.net_bits - coded.label_bits - coded.bits.sum()) / dims,
        "images_per_second": n / seconds,
        "seconds": seconds,
    }


def _bound(
    experiment: Experiment, params: Params, coder: coding.Coder, coded: coding.Coded, found: Images
) -> dict[str, Any]:
    """The bound on the same images, at the latents that were coded and at fresh ones."""
    e, values = experiment.config.eval, coder.chain.network.values
    n, classes = len(found.images), experiment.model.num_classes
    labels = found.labels if found.labels is not None else np.full(n, classes, np.int32)
    split = Split(found.name, found.images, labels, experiment.source.levels, classes)
    objective = registry.build("objectives", f"discrete(timesteps={coder.chain.timesteps})")
    how = dataclasses.replace(_records.over(experiment), limit=0)
    records = bpd.measure(
        experiment.model, objective, params, split, how,
        draws=e.draws, label=f"bound, T={coder.chain.timesteps}",
    )  # fmt: skip
    summary = bpd.summary(records)
    # The stack's own loss belongs to no image: it is spread evenly.
    net = (coded.net_bits - coded.label_bits) / (n * values)
    per_image = coded.bits / values + (net - coded.bits.sum() / (n * values))
    gap = per_image - records.per_image()["total"]
    same = float(coded.nats.sum() / (n * values * math.log(2.0)))
    return {
        "same_latents": {"bits_per_dim": same, "net_minus_bound": net - same},
        "fresh_latents": {
            "bits_per_dim": summary["bits_per_dim"],
            "standard_error": summary["standard_error"],
            "monte_carlo_se": summary["monte_carlo_se"],
            "draws_per_image": e.draws,
            "net_minus_bound": float(gap.mean()),
            "monte_carlo_se_of_difference": float(gap.std(ddof=1) / math.sqrt(n))
            if n > 1
            else math.nan,
        },
    }


def _table(report: dict[str, Any], path: Path) -> str:
    r, b, h = report["result"], report["bound"], report["file"]
    same, fresh = b["same_latents"], b["fresh_latents"]
    given = {"coded": ", given the class", "null class": ", null class", "none": ""}[h["labels"]]
    head = f"{report['data']['name']}: {h['images']} images, T={h['timesteps']}, order {h['order']}"
    rows = [
        (f"net code length{given}", f"{r['net_bits_per_dim']:.4f}"),
        (
            f"bound, T={h['timesteps']}, same latents",
            f"{same['bits_per_dim']:.4f}   net - bound {same['net_minus_bound']:+.4f} "
            "(no Monte-Carlo noise)",
        ),
        (
            f"bound, T={h['timesteps']}, fresh latents",
            f"{fresh['bits_per_dim']:.4f} +- {fresh['standard_error']:.4f}   net - bound "
            f"{fresh['net_minus_bound']:+.4f} +- {fresh['monte_carlo_se_of_difference']:.4f} "
            f"(Monte-Carlo s.e., {fresh['draws_per_image']} draws an image)",
        ),
        ("labels", f"{r['labels_bits_per_dim']:.4f}"),
        (
            "file, all counted",
            f"{r['file_bits_per_dim']:.4f}   ({h['bytes']} bytes; initial bits "
            f"{r['initial_bits_in_file_per_dim']:.4f}, header {r['header_bits_per_dim']:.4f})",
        ),
        (
            "initial bits",
            f"{r['initial_bits_per_dim']:.2f} per dimension of the first "
            f"{min(h['batch'], h['images'])} images, once per group ({h['groups']})",
        ),
    ]
    for other in report.get("other_formats", []):
        text = other.get("missing") or (
            f"{other['bits_per_dim']:.4f} as one file per image, "
            f"{other['bits_per_dim_sheet']:.4f} as one picture"
        )
        rows.append((other["format"], text))
    lines = [f"{head} (bits/dim)", *(f"  {name:<34} {text}" for name, text in rows)]
    lines.append(f"  {r['images_per_second']:.2f} images/s, compilation and bounds left out")
    lines.append(f"  written to {path} and {path.with_suffix('.json').name}")
    return "\n".join(lines)
