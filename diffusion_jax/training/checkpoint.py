"""Checkpoints by orbax: asynchronous, best and latest kept, averages restorable alone.

A step's folder has three items: `train` (step, weights, optimiser state), `ema` (every average of
the weights) and `meta` (JSON: the resolved configuration and what the step measured).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from diffusion_jax.errors import CheckpointError
from diffusion_jax.runtime import distributed
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import integrity
from diffusion_jax.training.restore import FOLDER, compare, held_out, saved_tree, shapes, short
from diffusion_jax.training.state import State


def _train_item(state: State) -> dict[str, Any]:
    proposal = {"proposal": state.proposal} if state.proposal else {}
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state, **proposal}


class Checkpoints:
    """The checkpoints of one work directory.

    Args:
        workdir: the work directory; checkpoints live in `workdir/checkpoints/<step>`.
        keep_latest: how many of the newest are kept, beside the best one.
        check: called before every save; raises if this process may no longer write.
    """

    def __init__(
        self, workdir: Path, keep_latest: int = 2, check: Callable[[], None] | None = None
    ):
        self._check_alone = check or (lambda: None)
        self._folder = place(workdir) / FOLDER
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
        self._check_alone()
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
                    short(e),
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
            saved = saved_tree(reader, folder / "train")
        compare(folder, shapes(saved), shapes(_train_item(like)))

    def _set_aside(self, step: int) -> None:
        distributed.meet(f"before checkpoint {step} is set aside")  # others may still be reading it
        if jax.process_index() == 0:
            (self._folder / str(step)).rename(self._folder / f"damaged-{step}")
        distributed.meet(f"after checkpoint {step} was set aside")
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
                f"could not save a checkpoint in {self._folder}: {short(e)}; those before it are "
                "kept: make room, or mend the folder, and run the command again"
            ) from e
        if jax.process_index() == 0:
            for step in self._manager.all_steps():
                integrity.seal(self._folder / str(step))

    def close(self) -> None:
        """Waits for unfinished saves and lets go."""
        try:
            self.wait()
        finally:
            self._manager.close()
