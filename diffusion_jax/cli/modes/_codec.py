"""What compress, decompress and verify share: the coder of a run, and reading its files."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffusion_jax.compression import coder as coding, container, network
from diffusion_jax.compression.files import Images, file_names
from diffusion_jax.compression.header import check
from diffusion_jax.errors import CodecError, ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.progress import progress
from diffusion_jax.runtime.storage import modified, place
from diffusion_jax.types import Params

# Settings that change what the network computes from the same weights.
_SETTINGS = ("network", "encoder", "schedule", "decoder", "prediction", "conditional", "gamma_min",
             "gamma_max", "dtype", "augment")  # fmt: skip


def one_process() -> None:
    """Refuses a cluster: a stack of bits is in one place."""
    if jax.process_count() > 1:
        raise ConfigError("compress and decompress run in one process; start them on one host")


def fingerprint(experiment: Experiment, params: Params) -> str:
    """Which model this is: weights, and the settings that give them meaning."""
    c = experiment.config
    settings = {k: c[k] for k in _SETTINGS}
    settings |= {
        "precision": c.eval.matmul_precision,
        "levels": experiment.source.levels,
        "shape": tuple(experiment.source.shape),
        "classes": experiment.model.num_classes,
    }
    return network.fingerprint(params, settings)


def default_path(experiment: Experiment, step: int) -> Path:
    """Where the compressed file of a step goes unless `--output` says otherwise."""
    return experiment.workdir / "compressed" / f"{step}.djz"


def label_kind(coder: coding.Coder) -> str:
    """What the network is told of labels: "none", "coded" or "null class"."""
    return "none" if coder.null is None else ("coded" if coder.classes else "null class")


def schedule_code(coder: coding.Coder) -> str:
    """The gammas of the chain, exactly, in few characters."""
    return container.code(coder.chain.gammas)


def read_file(
    experiment: Experiment, path: Path, params: Params
) -> tuple[dict[str, Any], list, coding.Coder]:
    """Reads a compressed file and refuses one that would not decode here.

    Args:
        params: the weights to decode with.

    Returns:
        The header, the groups and the coder.

    Raises:
        CodecError: damaged, or written with another model, batch shape, schedule or software.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise CodecError(f"cannot read {path}: {e.strerror or e}") from e
    header, groups = container.unpack(data, str(path))
    check(header, groups, tuple(experiment.source.shape), str(path))
    if header["model"] != fingerprint(experiment, params):
        raise CodecError(
            f"{path} was written with another model (step {header['step']}, weights "
            f"{header['weights']}; the SHA-256 of weights and settings differs): name that one "
            "with --checkpoint and config.eval.weights"
        )
    wanted = experiment.config.compress.batch
    if wanted not in (0, header["batch"]):
        raise CodecError(
            f"{path} was written with batches of {header['batch']} images and decodes with no "
            f"other, not with {wanted}: leave config.compress.batch at 0"
        )
    here = network.machine()
    other = [f"{k} {header['machine'].get(k)}, not {v}" for k, v in here.items()
             if header["machine"].get(k) != v]  # fmt: skip
    if other:
        raise CodecError(
            f"{path} was written with {'; '.join(other)}: networks compute other bits there; "
            "decode it with the same versions on the same kind of device"
        )
    net = network.Network(experiment.model, params, tuple(header["shape"]), header["batch"])
    coder = coding.make(
        net, header["timesteps"], header["order"], header["group"], header["seed"],
        coded_labels=header["labels"] == "coded",
    )  # fmt: skip
    kind = label_kind(coder)
    if kind != header["labels"]:
        raise CodecError(f"{path}: its labels are {header['labels']!r}, this model's {kind!r}")
    if schedule_code(coder) != header["schedule"]:
        raise CodecError(f"{path}: this machine computes another noise schedule than the one that "
                         "wrote it; decode on the same kind of machine")  # fmt: skip
    return header, groups, coder


def decode_file(experiment: Experiment, path: Path) -> tuple[Images, dict[str, Any]]:
    """Decodes a compressed file and checks it against the digest in its header.

    Returns:
        The images, and the header.

    Raises:
        CodecError: it cannot be decoded here to exactly what was coded.
    """
    one_process()
    params, _ = experiment.weights(experiment.config.eval.weights)
    with jax.default_matmul_precision(experiment.config.eval.matmul_precision or None):
        header, groups, coder = read_file(experiment, path, params)
        with progress("decode", header["images"]) as bar:
            images, labels = coding.decode(coder, groups, header["images"], bar.at)
    found = Images(path.name, images, labels, file_names(header.get("names", ())))
    if found.sha256() != header["sha256"]:
        raise CodecError(f"{path}: the decoded images differ from the SHA-256 in the header")
    return found, header


def input_path(experiment: Experiment) -> Path:
    """The file to decode: `--input`, or the newest that compress wrote into the work directory.

    Raises:
        ConfigError: none is named and there is none.
    """
    if experiment.input:
        return place(experiment.input)
    written = sorted((experiment.workdir / "compressed").glob("*.djz"), key=modified)
    if not written:
        raise ConfigError(
            f"no compressed file in {experiment.workdir / 'compressed'}: name one with --input=FILE"
        )
    return written[-1]


def labels_of(experiment: Experiment, found: Images) -> np.ndarray | None:
    """The labels to code, or None for the null class (or an unconditional model).

    Returns:
        int32 `[N]`, or None.

    Raises:
        ConfigError: labels are to be coded and there are none.
    """
    choice = experiment.config.compress.labels
    if choice not in ("auto", "code", "null"):
        raise ConfigError(f"compress.labels={choice!r}: allowed are auto, code, null")
    if not experiment.model.num_classes or choice == "null":
        return None
    if found.labels is None and choice == "code":
        raise ConfigError(f"compress.labels='code', but {found.name} has no labels")
    return found.labels
