"""Exported weights: a small folder with one set of weights, its settings and a card.

It contains `config.json`, `card.json` and `weights.npz`, opens like a run (`open_run`,
`--checkpoint`), and can be read without orbax. Bfloat16 values are stored as 16 bits, in arrays
whose names end in `:bfloat16`.
"""

import copy
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import saved_config
from diffusion_jax.errors import CheckpointError, ConfigError, short
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.sharding import local, put, replicated
from diffusion_jax.runtime.storage import place, write, write_json
from diffusion_jax.training import averages, restore
from diffusion_jax.training.averages import Average
from diffusion_jax.training.state import ema_key
from diffusion_jax.types import Params

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

CARD, _WEIGHTS, _SUFFIX = "card.json", "weights.npz", ":bfloat16"
FIGURE = "figure"  # the result of the evaluation on the card, which is written last


def is_exported(path: str | Path) -> bool:
    """Whether `path` is a folder of exported weights."""
    folder = place(path)
    return (folder / CARD).is_file() and (folder / _WEIGHTS).is_file()


def card(path: str | Path) -> dict[str, Any]:
    """The card of exported weights.

    Raises:
        CheckpointError: it cannot be read.
    """
    where = place(path) / CARD
    try:
        found = json.loads(where.read_bytes())
        if not all(isinstance(found[k], t) for k, t in _REQUIRED.items()):
            raise ValueError(f"it needs {', '.join(_REQUIRED)}")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise CheckpointError(f"cannot read {where}: {short(e)}") from e
    return found


_REQUIRED = {"weights": str, "step": int, "sha256": str, "classes": list}


def _is_kernel(path: tuple) -> bool:
    """Whether an array is a kernel of the network; these are most of the weights."""
    return path[0].key == "network" and path[-1].key == "kernel"


def pack(params: Params, bfloat16: bool) -> bytes:
    """The content of the file of weights; with `bfloat16` the network's kernels are rounded."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, a = jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(leaf)
        if bfloat16 and _is_kernel(path):
            name, a = name + _SUFFIX, np.asarray(jnp.asarray(a, jnp.bfloat16)).view(np.uint16)
        arrays[name] = a
    into = io.BytesIO()
    np.savez_compressed(into, **arrays)
    return into.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file of weights by name; bfloat16 becomes float32.

    Raises:
        Malformed: the file is not a file of weights.
    """
    found = {}
    for name, a in untrusted.npz(io.BytesIO(data)).items():
        if name.endswith(_SUFFIX):
            if a.dtype != np.uint16:
                raise untrusted.Malformed(f"{name} does not consist of 16-bit values")
            name, a = name.removesuffix(_SUFFIX), a.view(jnp.bfloat16).astype(np.float32)
        found[name] = a
    return found


def write_folder(
    folder: Path,
    experiment: "Experiment",
    params: Params,
    record: dict[str, Any],
    about: dict[str, Any],
    bfloat16: bool = False,
) -> Path:
    """Writes exported weights.

    Args:
        folder: the folder; it must not exist yet, be empty, or contain the same weights without a
            result.
        experiment: the run of the weights.
        params: the weights.
        record: `weights` (the name of the average) and `step`.
        about: further entries of the card.
        bfloat16: whether to round the kernels of the network.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder is not empty, or the weights are not an average.
    """
    folder = place(folder)
    check_free(folder)
    config = copy.deepcopy(experiment.config)
    config.ema, config.eval.weights = (_average(config, record["weights"]),), ""
    config.data_dir = ""  # a path on this machine
    config.gamma_min = experiment.offered()["gamma_min"]
    data = pack(local(params), bfloat16)
    described = {
        **about,
        "weights": ema_key(config.ema[0]),
        "step": record["step"],
        "arithmetic": "bfloat16 kernels, float32 otherwise" if bfloat16 else "float32",
        "classes": list(experiment.source.classes),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if is_exported(folder) and (before := card(folder)) != before | described:
        raise _taken(folder)
    write(folder / _WEIGHTS, data)
    write_json(folder / "config.json", saved_config.to_dict(config))
    write_json(folder / CARD, described)  # last, because it marks the folder as complete
    return folder


def check_free(folder: Path) -> None:
    """Raises ConfigError unless the folder is empty, or an export without its evaluation."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not is_exported(folder) or FIGURE in card(folder):
        raise _taken(folder)


def _taken(folder: Path) -> ConfigError:
    return ConfigError(f"there is something in {folder} already: choose a new folder")


def _average(config: ConfigDict, name: str) -> Average:
    """The entry of `config.ema` called `name`; a post-hoc average gets a new one."""
    length = averages.wanted(name)
    if length is not None:
        return f"power({length:g})"
    matches = [a for a in config.ema if ema_key(a) == name]
    if not matches:
        names = ", ".join(map(ema_key, config.ema))
        raise ConfigError(
            f"eval.weights={name!r}: only averages can be exported: {names}, posthoc(s)"
        )
    return matches[0]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The exported weights by name.

    Raises:
        CheckpointError: they are damaged.
    """
    described, file = card(path), path / _WEIGHTS
    try:
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != described["sha256"]:
            raise untrusted.Malformed("its SHA-256 is not that of the card; download it again")
        return unpack(data)
    except (OSError, untrusted.Malformed) as e:
        raise CheckpointError(f"cannot read {file}: {short(e)}") from e


def group(path: Path, name: str) -> Params:
    """One group of the exported weights, such as the autoencoder's.

    Raises:
        CheckpointError: they are damaged, have overflowed, or there is no such group.
    """
    tree = flax.traverse_util.unflatten_dict(arrays(path), sep="/")
    if name not in tree:
        raise CheckpointError(f"{path} has no {name} among its weights")
    restore.check_finite(path, tree[name])
    return tree[name]


def load(experiment: "Experiment", path: Path, name: str) -> tuple[Params, dict[str, Any]]:
    """The exported weights, replicated over the mesh, and a record that describes them.

    Args:
        experiment: the run that uses them.
        path: their folder.
        name: name of the requested weights.

    Raises:
        CheckpointError: they are damaged, have another architecture, or another name.
    """
    described = card(path)
    if name != described["weights"]:
        raise CheckpointError(
            f"{path} holds only the weights {described['weights']!r}, not {name!r}; leave "
            "eval.weights out"
        )
    found, like = arrays(path), experiment.shapes()
    restore.compare(path, {k: a.shape for k, a in found.items()}, restore.shapes(like))
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    whole = replicated(experiment.mesh)
    names = (jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in leaves)
    params = tree.unflatten(
        put(found[n].astype(a.dtype), whole) for n, (_, a) in zip(names, leaves, strict=True)
    )
    restore.check_finite(path, params)
    return params, {"step": described["step"], "weights": name, "checkpoint": str(path)}
