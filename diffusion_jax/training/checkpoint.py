"""Asynchronous checkpoints with orbax, which keep the best and the latest steps.

A step's folder has three items: `train` (step, weights, optimiser state), `ema` (all averages of
the weights, which can be restored alone) and `meta` (JSON: the resolved configuration and the
metrics at that step).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from diffusion_jax.errors import CheckpointError, short
from diffusion_jax.runtime import distributed
from diffusion_jax.runtime.storage import place, write_json
from diffusion_jax.training import integrity
from diffusion_jax.training.integrity import Damaged, saved_tree
from diffusion_jax.training.restore import (
    ASIDE,
    FOLDER,
    LATE,
    check_none_damaged,
    compare,
    held_out,
    late_metrics,
    read_meta,
    shapes,
)
from diffusion_jax.training.state import State

_SMALL = 2**20  # bytes


def _train_item(state: State) -> dict[str, Any]:
    proposal = {"proposal": state.proposal} if state.proposal else {}
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state, **proposal}


def _one_copy(tree: Any) -> Any:
    """Replaces small replicated arrays by one device's copy.

    Orbax splits every replicated array among the devices, with one program and one transfer per
    piece; for small arrays that takes longer than writing them.
    """
    if jax.process_count() > 1:
        return tree
    return jax.tree.map(
        lambda a: a.addressable_data(0) if a.is_fully_replicated and a.nbytes < _SMALL else a, tree
    )


class _Best(keep.BestN):
    """Keeps the best checkpoint, also by metrics that were measured after it was saved."""

    def __init__(self, folder: Path):
        super().__init__(
            get_metric_fn=held_out, reverse=True, n=1, keep_checkpoints_without_metrics=False
        )
        self._folder = folder

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Which checkpoints this policy keeps."""
        candidates = []
        for c in checkpoints:
            late = late_metrics(self._folder / str(c.step))
            metrics = {**(c.metrics or {}), **late} or None
            candidates.append(SimpleNamespace(step=c.step, time=c.time, metrics=metrics))
        return super().should_preserve(candidates, context=context)


class Checkpoints:
    """The checkpoints of one work directory, in `workdir/checkpoints/<step>`.

    Args:
        workdir: the work directory.
        keep_latest: number of newest checkpoints to keep, in addition to the best one.
        check: called before every save; raises if this process may no longer write.
    """

    def __init__(
        self, workdir: Path, keep_latest: int = 2, check: Callable[[], None] | None = None
    ):
        self._check_alone = check or (lambda: None)
        self._folder = place(workdir) / FOLDER
        self._saving = -1
        best = _Best(self._folder)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep.AnyPreservationPolicy([keep.LatestN(keep_latest), best]),
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        try:
            if self._folder.exists() and not self._folder.is_dir():
                raise NotADirectoryError("it is a file, and should be a folder")
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except Exception as e:  # file systems and libraries raise many types here
            raise CheckpointError(f"cannot open {self._folder}: {short(e)}") from e

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, meta: dict[str, Any], metrics: dict[str, float]) -> None:
        """Starts saving `state`; returns before the files are complete.

        Args:
            state: what to save.
            meta: JSON-serialisable record saved with it.
            metrics: metrics at this step; the checkpoint with the lowest `valid_bits_per_dim` is
                never deleted.
        """
        step = int(jax.device_get(state.step))
        if step in self._manager.all_steps():
            return
        self.wait()
        self._check_alone()
        self._saving = step
        self._manager.save(
            step,
            args=ocp.args.Composite(
                train=ocp.args.StandardSave(_one_copy(_train_item(state))),
                ema=ocp.args.StandardSave(_one_copy(state.ema)),
                meta=ocp.args.JsonSave({**meta, "step": step, "metrics": metrics}),
            ),
            metrics=metrics or None,
            force=True,
        )

    def measured(self, step: int, metrics: dict[str, float]) -> None:
        """Adds metrics to an existing checkpoint; they count when the best one is chosen."""
        folder = self._folder / str(step)
        if metrics and step in self._manager.all_steps() and jax.process_index() == 0:
            write_json(folder / LATE, metrics)

    def _seal(self) -> None:
        """Writes the checksums; called after all files, before the checkpoint's final name."""
        step = str(self._saving)  # in a bucket a step has its final name from the start
        for folder in self._folder.iterdir():
            if folder.name == step or folder.name.startswith(f"{step}."):
                integrity.seal(folder)

    def restore(self, like: State, set_aside: bool) -> State | None:
        """Restores the newest state that is not damaged; damaged checkpoints are logged.

        Args:
            like: a state (or shapes) with the shardings to restore into.
            set_aside: rename damaged checkpoints, so that the run can save those steps again.

        Returns:
            The state, or None if there never was a checkpoint.

        Raises:
            CheckpointError: all checkpoints are damaged; or one cannot be read for another reason
                or belongs to another architecture, and is left in place.
        """
        steps = self.steps()
        for step in reversed(steps):
            folder = self._folder / str(step)
            try:
                with integrity.reading(folder):
                    return self._read(step, like)
            except Damaged as e:
                logging.error(
                    "checkpoint %s is damaged (%s); falling back to the one before it", folder, e
                )
                if set_aside:
                    self._set_aside(step)
        check_none_damaged(self._folder, [str(step) for step in steps])
        return None

    def _read(self, step: int, like: State) -> State:
        folder = self._folder / str(step)
        # Shapes are compared before anything is read: orbax's own error names no parameter.
        with ocp.PyTreeCheckpointer() as reader:
            saved = saved_tree(reader, folder / "train")
        compare(folder, shapes(saved), shapes(_train_item(like)))
        read_meta(folder)
        args = ocp.args.Composite(
            train=ocp.args.StandardRestore(_train_item(like)),
            ema=ocp.args.StandardRestore(like.ema),
        )
        restored = self._manager.restore(step, args=args)
        return State(ema=restored.ema, **restored.train)

    def _set_aside(self, step: int) -> None:
        distributed.meet(f"before checkpoint {step} is set aside")  # others may still be reading it
        if jax.process_index() == 0:
            taken = {p.name for p in self._folder.iterdir()}
            names = (f"{ASIDE}{step}{again}" for again in ("", *(f"-{i}" for i in range(2, 999))))
            free = next(name for name in names if name not in taken)
            (self._folder / str(step)).rename(self._folder / free)
        distributed.meet(f"after checkpoint {step} was set aside")
        self._manager.reload()

    def wait(self) -> None:
        """Waits for unfinished saves.

        Raises:
            CheckpointError: a save failed; earlier checkpoints are unchanged.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as e:  # see __init__
            raise CheckpointError(
                f"could not save a checkpoint in {self._folder}: {short(e)}; earlier ones are "
                "kept: free some space, or fix the folder, and run the command again"
            ) from e

    def close(self) -> None:
        """Waits for unfinished saves and closes the manager."""
        try:
            self.wait()
        finally:
            self._manager.close()
