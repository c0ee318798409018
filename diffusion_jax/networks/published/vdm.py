"""Checkpoints of the published VDM implementation (Kingma et al. 2021, JAX, 2022).

They are flax msgpack files of `{step, params, ema_params, opt_state}`. Everything that defines the
network is read from the shapes of its weights; nothing is guessed from a file name. What they do
not tell is the range of gamma its time embedding was made for: that is the configuration's.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.serialization
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.errors import CheckpointError
from diffusion_jax.runtime import untrusted
from diffusion_jax.types import Params

# Published name of a layer inside a residual or attention block -> ours.
LAYERS = {
    "GroupNorm_0": "norm1",
    "GroupNorm_1": "norm2",
    "cond_proj": "cond",
    "nin_shortcut": "shortcut",
    "proj_out": "out",
}
_TOP = {
    "dense0": ("cond", "dense0"),
    "dense1": ("cond", "dense1"),
    "conv_in": ("conv_in",),
    "conv_out": ("conv_out",),
    "GroupNorm_0": ("norm_out",),
}
# The published middle is block_1, attn_1, block_2; ours is mid_0 (block and attn) and mid_1.
_MID = {"block_1": ("mid_0", "block"), "attn_1": ("mid_0", "attn"), "block_2": ("mid_1", "block")}


@dataclass(frozen=True)
class Published:
    """A published checkpoint in our terms.

    Attributes:
        step: its training step.
        params: the weights.
        ema_params: their average, the ones to evaluate.
        overrides: configuration fields that describe the model (`network`, `schedule`, ...).
    """

    step: int
    params: Params
    ema_params: Params
    overrides: dict[str, Any]


def _rename(path: tuple[str, ...]) -> tuple[str, ...]:
    block, *rest = path
    if block in _TOP:
        return (*_TOP[block], *rest)
    match = re.fullmatch(r"(down|up|mid)\.(block|attn)_(\d+)", block)
    side, kind, number = match.groups() if match else ("", "", "")
    place = _MID.get(f"{kind}_{number}") if side == "mid" else (f"{side}_{number}", kind)
    if not match or place is None:
        raise CheckpointError(f"published VDM checkpoint: unknown layer {block!r}")
    layer, *leaf = rest
    # An attention block has a single norm, simply called norm here.
    name = "norm" if kind == "attn" and layer == "GroupNorm_0" else LAYERS.get(layer, layer)
    return (*place, name, *leaf)


def _stack(network: Params) -> Params:
    """`down_0`, `down_1`, ... as one `down` with a leading axis of blocks; `up` as well."""
    out = {k: v for k, v in network.items() if not k.startswith(("down_", "up_"))}
    for side in ("down", "up"):
        count = sum(k.startswith(f"{side}_") for k in network)
        blocks = [network[f"{side}_{i}"] for i in range(count)]
        out[side] = jax.tree.map(lambda *leaves: np.stack(leaves), *blocks)
    return out


def weights(published: Mapping[str, Any]) -> Params:
    """Our parameters from published ones.

    Args:
        published: `{"score_model": ..., "gamma": ...}`, nested dicts of arrays.

    Returns:
        `{"network", "schedule"}` as `Model.init` lays them out.

    Raises:
        CheckpointError: a layer or the schedule is unknown.
    """
    flat = flax.traverse_util.flatten_dict(dict(published["score_model"]))
    network = {_rename(path): np.asarray(value) for path, value in flat.items()}
    schedule = _schedule(published.get("gamma", {}))
    return {"network": _stack(flax.traverse_util.unflatten_dict(network)), "schedule": schedule}


def _schedule(gamma: Mapping[str, Any]) -> Params:
    """Ours of the published `fixed`, `learnable_scalar` or `learnable_nnet`."""
    if set(gamma) <= {"w", "b"}:
        return {k: np.asarray(v).reshape(()) for k, v in gamma.items()}
    if set(gamma) != {"l1", "l2", "l3"}:
        raise CheckpointError(
            "published checkpoint: fixed, learnable_scalar and learnable_nnet schedules can be "
            f"read, this one has the parameters {', '.join(sorted(gamma))}"
        )
    found = {
        name: {k: np.asarray(v).reshape(-1) for k, v in layer.items()}
        for name, layer in gamma.items()
    }
    slope, offset = (np.asarray(found["l1"][k][0]) for k in ("kernel", "bias"))
    scale, shift = found["l2"]["kernel"], found["l2"]["bias"]
    out = found["l3"]["kernel"] / len(scale)
    first, last = (
        np.abs(out) @ np.tanh(0.5 * (shift + sign * np.abs(scale))) for sign in (-1.0, 1.0)
    )
    return {
        "ends": {"b": np.asarray(offset + first), "w": np.abs(slope) + np.asarray(last - first)},
        "shape": {"slope": slope, "scale": scale, "shift": shift, "out": out},
    }


def _schedule_name(schedule: Params) -> str:
    if "shape" in schedule:
        return f"learned_mlp(features={len(schedule['shape']['scale'])})"
    return "learned_linear()" if schedule else "linear()"


def settings(params: Params) -> dict[str, Any]:
    """The configuration fields that describe these weights (ours, from `weights`)."""
    network = params["network"]
    kernel = network["conv_in"]["kernel"]
    channels = network["conv_out"]["kernel"].shape[-1]
    width, embed = kernel.shape[-1], network["cond"]["dense0"]["kernel"].shape[-1] // 4
    depth = len(network["down"]["block"]["conv1"]["bias"])
    attention = "attn" in network["down"]
    fourier = kernel.shape[2] == 5 * channels
    return {
        "network": f"vdm_unet(width={width}, depth={depth}, embed={embed}, attention={attention}, "
        f"fourier={fourier}, scalar=True, smallest_group=1)",
        "schedule": _schedule_name(params["schedule"]),
        "prediction": "eps",
        "decoder": "categorical()",
        "encoder": "identity()",
        "conditional": False,
        "augment": "none()",
    }


def read_state(path: Path) -> dict[str, Any]:
    """The content of a published `.flax` file, under its own names; at least the two params.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind.
    """
    try:
        state = flax.serialization.msgpack_restore(Path(path).read_bytes())
    except OSError as e:
        raise CheckpointError(f"cannot read {path}: {e.strerror or e}") from e
    except Exception as e:  # msgpack raises many types for damaged files
        raise CheckpointError(
            f"{path} is not a flax msgpack file, or is damaged ({untrusted.reason(e)})"
        ) from e
    if not isinstance(state, dict) or not {"params", "ema_params"} <= state.keys():
        raise CheckpointError(f"{path} has no params and ema_params: not a VDM checkpoint")
    for name in ("params", "ema_params"):
        _check_weights(state[name], f"{path}: {name}")
    return state


def _check_weights(found: Any, where: str) -> None:
    """Refuses what is not nested dicts of real arrays, named by texts."""
    if isinstance(found, dict):
        for name, value in found.items():
            _check_weights(value, f"{where}.{str(name)[:40]}")
            if not isinstance(name, str):
                raise CheckpointError(f"{where}: a layer has no name; get another copy")
    elif not isinstance(found, np.ndarray) or not jnp.issubdtype(found.dtype, jnp.floating):
        raise CheckpointError(f"{where} is not an array of real numbers; get another copy")


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turns what a checkpoint without the expected layers raises into one line.

    Raises:
        CheckpointError: in place of the exception.
    """
    try:
        yield
    except CheckpointError as e:
        raise CheckpointError(f"cannot read {path}: {e}") from e
    except Exception as e:  # a layer is missing, or of a shape that means nothing
        raise CheckpointError(
            f"cannot read {path}: it does not have the layers of the published network, or is "
            f"damaged ({untrusted.reason(e)})"
        ) from e


def read(path: Path) -> Published:
    """Reads a published checkpoint, a `.flax` file.

    Raises:
        CheckpointError: see `read_state` and `weights`.
    """
    state = read_state(path)
    with understood(path):
        params, ema = (weights(state[k]) for k in ("params", "ema_params"))
        return Published(int(state.get("step", 0)), params, ema, settings(ema))
