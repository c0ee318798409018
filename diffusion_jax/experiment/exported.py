"""Weights that are handed on: a small folder with one set of weights, its settings and a card.

`config.json`, `card.json` and `weights.npz`. It opens like a run (`open_run`, `--checkpoint`), and
needs neither the optimiser's state nor orbax to be read. Bfloat16 is kept as its 16 bits, in arrays
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
FIGURE = "figure"  # on the card: what was measured of the weights, the last thing to be written


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


def _narrow(path: tuple, a: np.ndarray) -> bool:
    """Kernels of the network: what is large, and what its products may round anyway."""
    return path[0].key == "network" and path[-1].key == "kernel"


def pack(params: Params, bfloat16: bool) -> bytes:
    """The content of the file of weights; with `bfloat16` the network's kernels are rounded."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, a = jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(leaf)
        if bfloat16 and _narrow(path, a):
            name, a = name + _SUFFIX, np.asarray(jnp.asarray(a, jnp.bfloat16)).view(np.uint16)
        arrays[name] = a
    into = io.BytesIO()
    np.savez_compressed(into, **arrays)
    return into.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file of weights by name, float32 where they were bfloat16.

    Raises:
        Malformed: it holds something else.
    """
    found = {}
    for name, a in untrusted.npz(io.BytesIO(data)).items():
        if name.endswith(_SUFFIX):
            if a.dtype != np.uint16:
                raise untrusted.Malformed(f"{name} is not of 16 bits")
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
        folder: where; must not exist yet, be empty, or hold the same without a figure.
        experiment: the run they are of.
        params: the weights.
        record: `weights` (which average) and `step`.
        about: what else the card says.
        bfloat16: round the kernels of the network.

    Returns:
        The folder.

    Raises:
        ConfigError: there is something in the folder, or the weights are no average.
    """
    folder = place(folder)
    check_free(folder)
    config = copy.deepcopy(experiment.config)
    config.ema, config.eval.weights = (_average(config, record["weights"]),), ""
    config.data_dir = ""  # of this machine
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
    write_json(folder / CARD, described)  # last: without it, it is no such folder
    return folder


def check_free(folder: Path) -> None:
    """Refuses (`ConfigError`) a folder with anything in it but an export without its figure."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not is_exported(folder) or FIGURE in card(folder):
        raise _taken(folder)


def _taken(folder: Path) -> ConfigError:
    return ConfigError(f"there is something in {folder} already: name a new folder")


def _average(config: ConfigDict, name: str) -> Average:
    """The entry of `config.ema` called `name`; an average made afterwards has one of its own."""
    length = averages.wanted(name)
    if length is not None:
        return f"power({length:g})"
    found = [a for a in config.ema if ema_key(a) == name]
    if not found:
        known = ", ".join(map(ema_key, config.ema))
        raise ConfigError(f"eval.weights={name!r}: averages are exported: {known}, posthoc(s)")
    return found[0]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The exported weights by name.

    Raises:
        CheckpointError: they are damaged.
    """
    said, file = card(path), path / _WEIGHTS
    try:
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != said["sha256"]:
            raise untrusted.Malformed("its SHA-256 is not that of the card; get it again")
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
    """The exported weights, replicated over the mesh, and a record of what they are.

    Args:
        experiment: what they are for.
        path: their folder.
        name: the weights asked for.

    Raises:
        CheckpointError: they are damaged, of another architecture, or not those asked for.
    """
    said = card(path)
    if name != said["weights"]:
        raise CheckpointError(
            f"{path} holds only the weights {said['weights']!r}, not {name!r}; leave "
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
    return params, {"step": said["step"], "weights": name, "checkpoint": str(path)}
