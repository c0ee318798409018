"""Finds and reads checkpoints, whole or in part, and reports damaged ones.

`training.checkpoint` describes what a checkpoint contains.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Sharding

from diffusion_jax.errors import CheckpointError, short
from diffusion_jax.runtime.run_folders import CHECKPOINTS, missing, missing_step
from diffusion_jax.runtime.storage import is_bucket, place
from diffusion_jax.training import integrity
from diffusion_jax.training.integrity import Damaged, saved_tree
from diffusion_jax.training.state import finite
from diffusion_jax.types import Params

FOLDER = CHECKPOINTS
ASIDE = "damaged-"  # prefix of the step, in the name of a damaged checkpoint that was set aside
LATE = "late_metrics.json"  # in the folder of a step, beside its items
_COMMITTED = "commit_success.txt"  # the last object of a checkpoint that orbax writes to a bucket

# Orbax warns about a file that a single item of a step never has.
logging.get_absl_logger().addFilter(
    lambda record: "_CHECKPOINT_METADATA" not in record.getMessage()
)


def template(tree: Any, sharding: Any) -> Any:
    """The shapes, types and shardings that orbax restores into.

    Args:
        tree: arrays or shapes.
        sharding: one sharding for all, or a tree of them.

    Returns:
        A tree of `jax.ShapeDtypeStruct`.
    """
    if isinstance(sharding, Sharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), tree, sharding
    )


def held_out(metrics: dict[str, float]) -> float:
    """The validation metric by which checkpoints are ranked; the lowest is best.

    Infinity if there is none, or if it is not finite.
    """
    names = ("valid_bits_per_dim", "valid_loss", "valid_agreement")
    metric = next((metrics[n] for n in names if n in metrics), None)
    return math.inf if metric is None or not math.isfinite(metric) else metric


def shapes(tree: Any) -> dict[str, tuple]:
    """The shape of every array, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(a.shape)
        for path, a in leaves
        if hasattr(a, "shape")
    }


def compare(folder: Path, saved: dict[str, tuple], wanted: dict[str, tuple]) -> None:
    """Raises `CheckpointError` naming the first array whose shape differs."""
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise CheckpointError(
                f"{folder} holds another architecture: {name} is {saved.get(name, 'absent')} "
                f"there and {wanted.get(name, 'absent')} in this configuration; use the "
                "configuration it was trained with (config.json)"
            )


def locate(path: Path) -> list[Path]:
    """Checkpoint folders to try for `path`, best first.

    Args:
        path: a work directory, its `checkpoints` folder, or one checkpoint folder.

    Returns:
        Folders of single checkpoints, newest first.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    path = place(path)
    try:
        if (path / "meta").is_dir() or (path / "ema").is_dir():
            return [path]
        folder = path / FOLDER if (path / FOLDER).is_dir() else path
        steps = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
        steps = [p for p in steps if is_whole(p)]
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {short(e)}") from e
    if not steps:
        check_none_damaged(folder)
        what = f"no checkpoint in {path}" if path.is_dir() else missing(path)
        raise CheckpointError(
            missing_step(path)
            or f"{what}; train first, or name a checkpoint folder or a work directory"
        )
    return sorted(steps, key=lambda p: -int(p.name))


def check_none_damaged(folder: Path, unread: Sequence[str] = ()) -> None:
    """Raises `CheckpointError` if all checkpoints there are damaged, set aside or `unread`."""
    there = folder.iterdir() if folder.exists() else ()  # a bucket has no empty folders
    aside = sorted(p.name for p in there if p.name.startswith(ASIDE)) or unread
    if aside:
        raise CheckpointError(
            f"none of the checkpoints in {folder} can be read ({', '.join(aside)}); restore a "
            "copy, or start in a new --workdir"
        )


def is_whole(folder: Path) -> bool:
    """Whether a step's folder is complete; in a bucket it has its final name from the start."""
    return not is_bucket(folder) or (folder / _COMMITTED).exists()


def late_metrics(folder: Path) -> dict[str, float]:
    """Metrics measured after a checkpoint was saved, by a run that had been interrupted."""
    try:
        metrics = json.loads((folder / LATE).read_bytes())
    except (OSError, ValueError):  # most checkpoints have none
        return {}
    return metrics if isinstance(metrics, dict) else {}


def read_meta(folder: Path) -> dict[str, Any]:
    """The JSON record of one checkpoint, with `config` and `step`; see `integrity.reading`."""
    try:
        meta = json.loads((folder / "meta" / "metadata").read_bytes())
    except (FileNotFoundError, ValueError) as e:
        raise Damaged(f"{folder} has no readable record (meta): {short(e)}") from e
    except OSError as e:
        raise CheckpointError(f"cannot read the record of {folder}: {short(e)}") from e
    if not isinstance(meta, dict) or not isinstance(meta.get("step"), int):
        raise Damaged(f"{folder} has no readable record (meta): it names no step")
    late = late_metrics(folder)
    return meta | {"metrics": {**meta.get("metrics", {}), **late}} if late else meta


def restore_newest(path: Path, read: Callable[[Path], Any], best: bool = False) -> tuple[Any, Path]:
    """Applies `read` to the newest checkpoint under `path` that it can read.

    Args:
        path: as for `locate`.
        read: reads one checkpoint folder.
        best: start with the checkpoint whose validation metric is lowest, not with the newest.

    Returns:
        The result of `read`, and the folder.

    Raises:
        CheckpointError: none can be read, `read` found another architecture, or `best` is set and
            no checkpoint has a validation metric.
    """
    folders = locate(path)
    if best:
        metrics = {folder: _held_out(folder) for folder in folders}
        if min(metrics.values()) == float("inf"):
            raise CheckpointError(
                f"eval.checkpoint='best': no checkpoint in {path} has a validation metric (a GAN "
                "has none, other runs need eval_every); use latest, or name one by --checkpoint"
            )
        folders.sort(key=metrics.__getitem__)
    for folder in folders:
        try:
            with integrity.reading(folder):
                return read(folder), folder
        except Damaged as e:
            logging.error("checkpoint %s is damaged (%s)", folder, e)
    raise CheckpointError(f"none of {len(folders)} checkpoints in {path} can be read")


def _held_out(folder: Path) -> float:
    try:
        return held_out(read_meta(folder).get("metrics", {}))
    except CheckpointError:
        return float("inf")


def read_weights(folder: Path, like: Params, name: str, sharding: Sharding) -> Params:
    """Reads one set of weights from a checkpoint, without the optimiser state.

    Args:
        folder: a checkpoint folder.
        like: weights of the expected architecture (arrays or shapes).
        name: `"params"` for the weights as trained, else the name of an average such as "0.9999".
        sharding: sharding of the result.

    Raises:
        CheckpointError: another architecture, no such average, or weights that are not finite.
    """
    item = folder / ("train" if name == "params" else "ema")
    with ocp.PyTreeCheckpointer() as reader:
        saved = saved_tree(reader, item)
        if name not in saved:
            names = ", ".join(k for k in saved if k not in ("step", "opt_state"))
            raise CheckpointError(f"{folder} has no average {name!r}; it has {names}")
        compare(folder, shapes(saved[name]), shapes(like))
        target = {name: template(like, sharding)}
        found = reader.restore(
            item,
            args=ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )[name]
    check_finite(folder, found)
    return found


def read_group(folder: Path, name: str, group: str, sharding: Sharding) -> Params:
    """Reads one group of an average's weights, such as the autoencoder's; see `read_weights`.

    Raises:
        CheckpointError: there is no such average or group.
    """
    item = folder / ("train" if name == "params" else "ema")
    with ocp.PyTreeCheckpointer() as reader:
        saved = saved_tree(reader, item)
        if name not in saved or group not in saved[name]:
            raise CheckpointError(f"{folder} has no {group} among its weights {name!r}")
        like = saved[name][group]
        shape_of = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)
        target = {name: {group: template(shape_of, sharding)}}
        found = reader.restore(
            item,
            args=ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )[name][group]
    check_finite(folder, found)
    return found


def check_finite(where: Path, params: Params) -> None:
    """Raises `CheckpointError` if any weight is not finite."""
    if not finite(params):
        raise CheckpointError(
            f"the weights in {where} are not finite (the training had diverged); name an earlier "
            "checkpoint by --checkpoint"
        )
