"""Checkpoints by orbax: asynchronous, best and latest kept, averages restorable alone.

A step's folder has three items: `train` (step, weights, optimiser state), `ema` (every average of
the weights) and `meta` (JSON: the resolved configuration and what the step measured).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Sharding
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from diffusion_jax.errors import CheckpointError
from diffusion_jax.training import integrity
from diffusion_jax.training.state import State
from diffusion_jax.types import Params

FOLDER = "checkpoints"


def template(tree: Any, sharding: Any) -> Any:
    """What orbax restores into: shapes and types of `tree`.

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


def _train_item(state: State) -> dict[str, Any]:
    proposal = {"proposal": state.proposal} if state.proposal else {}
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state, **proposal}


def held_out(metrics: dict[str, float]) -> float:
    """The figure that tells the best checkpoint: held-out bits/dim, or a scorer's loss."""
    return metrics.get("valid_bits_per_dim", metrics.get("valid_loss", float("inf")))


class Checkpoints:
    """The checkpoints of one work directory.

    Args:
        workdir: the work directory; checkpoints live in `workdir/checkpoints/<step>`.
        keep_latest: how many of the newest are kept, beside the best one.
    """

    def __init__(self, workdir: Path, keep_latest: int = 2):
        self._folder = Path(workdir).absolute() / FOLDER
        best = keep.BestN(
            get_metric_fn=held_out,
            reverse=True,
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep.AnyPreservationPolicy([keep.LatestN(keep_latest), best]),
                cleanup_tmp_directories=True,
            ),
        )

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, meta: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts saving `state`; returns before the files are complete.

        Args:
            state: what to save.
            meta: JSON-able record kept beside it.
            metrics: what the step measured; the lowest `valid_bits_per_dim` is never deleted.
        """
        step = int(jax.device_get(state.step))
        if step in self._manager.all_steps():
            return
        self.wait()
        self._manager.save(
            step,
            args=ocp.args.Composite(
                train=ocp.args.StandardSave(_train_item(state)),
                ema=ocp.args.StandardSave(state.ema),
                meta=ocp.args.JsonSave({**meta, "step": step, "metrics": metrics}),
            ),
            metrics=metrics or None,
            force=True,
        )

    def restore(self, like: State, set_aside: bool) -> State | None:
        """The newest readable state; a damaged one is named and the one before it used.

        Args:
            like: a state (or shapes) with the shardings to restore into.
            set_aside: move damaged checkpoints out of the way, so that the run can save again.

        Returns:
            The state, or None if there is no checkpoint at all.

        Raises:
            CheckpointError: there are checkpoints, but none can be read, or the newest belongs to
                another architecture.
        """
        steps = self.steps()
        for step in reversed(steps):
            args = ocp.args.Composite(
                train=ocp.args.StandardRestore(_train_item(like)),
                ema=ocp.args.StandardRestore(like.ema),
            )
            try:
                integrity.verify(self._folder / str(step))
                self._check(step, like)
                found = self._manager.restore(step, args=args)
            except CheckpointError:
                raise
            except Exception as e:  # orbax and tensorstore raise many types for damaged files
                logging.error(
                    "checkpoint %s is damaged (%s); falling back to the one before it",
                    self._folder / str(step),
                    _short(e),
                )
                if set_aside:
                    self._set_aside(step)
                continue
            return State(ema=found.ema, **found.train)
        if steps:
            raise CheckpointError(
                f"none of the checkpoints {steps} in {self._folder} can be read; restore a copy or "
                "start in a new --workdir"
            )
        return None

    def _check(self, step: int, like: State) -> None:
        """Compares shapes before anything is read: orbax's own message names no parameter."""
        folder = self._folder / str(step)
        with ocp.PyTreeCheckpointer() as reader:
            saved = _saved_tree(reader, folder / "train")
        _compare(folder, _shapes(saved), _shapes(_train_item(like)))

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            (self._folder / str(step)).rename(self._folder / f"damaged-{step}")
        self._manager.reload()

    def wait(self) -> None:
        """Waits for unfinished saves, and writes checksums beside what is finished.

        Raises:
            CheckpointError: a save failed; those before it are as they were.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as e:  # whatever the file system says, by whichever library noticed
            raise CheckpointError(
                f"could not save a checkpoint in {self._folder}: {_short(e)}; those before it are "
                "kept: make room, or mend the folder, and run the command again"
            ) from e
        if jax.process_index() == 0:
            for step in self._manager.all_steps():
                integrity.seal(self._folder / str(step))

    def close(self) -> None:
        """Waits for unfinished saves and lets go."""
        self.wait()
        self._manager.close()


def _short(e: Exception) -> str:
    return str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__


def _shapes(tree: Any) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(a.shape)
        for path, a in leaves
        if hasattr(a, "shape")
    }


def _saved_tree(reader: ocp.PyTreeCheckpointer, item: Path) -> Any:
    metadata = reader.metadata(item).item_metadata
    if metadata is None:
        raise OSError(f"the metadata of {item.name} cannot be read")
    return metadata.tree


def _compare(folder: Path, saved: dict[str, tuple], wanted: dict[str, tuple]) -> None:
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
        CheckpointError: there is none.
    """
    path = Path(path).absolute()
    if (path / "meta").is_dir() or (path / "ema").is_dir():
        return [path]
    folder = path / FOLDER if (path / FOLDER).is_dir() else path
    steps = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    if not steps:
        raise CheckpointError(
            f"no checkpoint in {path}: train first, or name a checkpoint folder or a work directory"
        )
    return sorted(steps, key=lambda p: -int(p.name))


def read_meta(folder: Path) -> dict[str, Any]:
    """The JSON record of one checkpoint.

    Args:
        folder: a checkpoint folder.

    Returns:
        The record, with `config` and `step`.

    Raises:
        CheckpointError: it is missing or unreadable.
    """
    try:
        return json.loads((folder / "meta" / "metadata").read_text())
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{folder} has no readable record (meta): {_short(e)}") from e


def restore_newest(path: Path, read: Callable[[Path], Any], best: bool = False) -> tuple[Any, Path]:
    """Applies `read` to the newest checkpoint under `path` that it can read.

    Args:
        path: as for `locate`.
        read: reads one checkpoint folder.
        best: start with the one of the lowest held-out bits/dim instead of the newest.

    Returns:
        What `read` returned, and the folder.

    Raises:
        CheckpointError: none can be read, or `read` found another architecture.
    """
    folders = locate(path)
    if best:
        folders.sort(key=_held_out)
    for folder in folders:
        try:
            integrity.verify(folder)
            return read(folder), folder
        except CheckpointError:
            raise
        except Exception as e:  # see Checkpoints.restore
            logging.error("checkpoint %s is damaged (%s)", folder, _short(e))
    raise CheckpointError(f"none of {len(folders)} checkpoints in {path} can be read")


def _held_out(folder: Path) -> float:
    try:
        return held_out(read_meta(folder).get("metrics", {}))
    except CheckpointError:
        return float("inf")


def read_weights(folder: Path, like: Params, name: str, sharding: Sharding) -> Params:
    """One set of weights of a checkpoint, without the optimiser state.

    Args:
        folder: a checkpoint folder.
        like: weights of the expected architecture (arrays or shapes).
        name: `"params"` for the weights as trained, else the name of an average such as "0.9999".
        sharding: where to put them.

    Returns:
        The weights.

    Raises:
        CheckpointError: another architecture, or no such average.
    """
    item = folder / ("train" if name == "params" else "ema")
    with ocp.PyTreeCheckpointer() as reader:
        saved = _saved_tree(reader, item)
        if name not in saved:
            names = ", ".join(k for k in saved if k not in ("step", "opt_state"))
            raise CheckpointError(f"{folder} has no average {name!r}; it has {names}")
        _compare(folder, _shapes(saved[name]), _shapes(like))
        target = {name: template(like, sharding)}
        return reader.restore(
            item,
            args=ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )[name]
