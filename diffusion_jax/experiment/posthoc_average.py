"""Weight averages of any length, from the power-function averages in a run's checkpoints."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from diffusion_jax.errors import CheckpointError
from diffusion_jax.training import averages, integrity, restore
from diffusion_jax.types import Params


def load(
    path: Path,
    last: Path,
    length: float,
    like: Params,
    sharding: jax.sharding.Sharding,
    begun: int = 0,
) -> Params:
    """The average `power(length)` at the end of a checkpoint.

    Args:
        path: the work directory.
        last: folder of the checkpoint at which the average ends.
        length: the s of `power(s)`.
        like: shapes of the weights.
        sharding: sharding of the result.
        begun: step at which the averages began.

    Raises:
        CheckpointError: the checkpoints have no such averages.
    """
    end = restore.read_meta(last)["step"]
    found = []
    for folder in restore.locate(path):
        try:
            with integrity.reading(folder):
                step = restore.read_meta(folder)["step"]
                with ocp.PyTreeCheckpointer() as reader:
                    names = restore.saved_tree(reader, folder / "ema")
        except integrity.Damaged as e:
            logging.error("checkpoint %s is damaged (%s): skipped", folder, e)
            continue
        of_power = ((name, averages.length(name)) for name in names)
        found += [(folder, name, step, s) for name, s in of_power if s and begun < step <= end]
    if not found:
        raise CheckpointError(
            f"{path} has no power-function averages: train with "
            "--config.ema=\"('power(0.05)', 'power(0.1)')\" and a large --config.keep_latest"
        )
    weights = averages.posthoc([(step - begun, s) for *_, step, s in found], end - begun, length)
    total = None
    for (folder, name, *_), w in zip(found, weights, strict=True):
        more = restore.read_weights(folder, like, name, sharding)
        more = jax.tree.map(
            lambda a, w=w: w * a.astype(jnp.promote_types(a.dtype, "float32")), more
        )
        total = more if total is None else jax.tree.map(jnp.add, total, more)
    return jax.tree.map(lambda a, b: a.astype(b.dtype), total, like)
