"""Checkpoints of the published VDM implementation (Kingma et al. 2021, JAX, 2022).

They are Flax msgpack files of `{step, params, ema_params, opt_state}`. Everything that defines the
network is inferred from the shapes of its weights, nothing from the file name. Only the range of
gamma of its time embedding is not in the file; it comes from the configuration.
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
        ema_params: the averaged weights, which are those to evaluate.
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
    """Our parameters of a published `fixed`, `learnable_scalar` or `learnable_nnet` schedule."""
    if set(gamma) <= {"w", "b"}:
        return {k: np.asarray(v).reshape(()) for k, v in gamma.items()}
    if set(gamma) != {"l1", "l2", "l3"}:
        raise CheckpointError(
            "published checkpoint: only fixed, learnable_scalar and learnable_nnet schedules are "
            f"supported; this one has the parameters {', '.join(sorted(gamma))}"
        )
    layers = {
        name: {k: np.asarray(v).reshape(-1) for k, v in layer.items()}
        for name, layer in gamma.items()
    }
    slope, offset = (np.asarray(layers["l1"][k][0]) for k in ("kernel", "bias"))
    scale, shift = layers["l2"]["kernel"], layers["l2"]["bias"]
    out = layers["l3"]["kernel"] / len(scale)
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
    """The content of a published `.flax` file under its own names, with at least both params.

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


def _check_weights(tree: Any, where: str) -> None:
    """Raises CheckpointError unless `tree` is nested dicts of real arrays, with string keys."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            _check_weights(value, f"{where}.{str(name)[:40]}")
            if not isinstance(name, str):
                raise CheckpointError(f"{where}: a layer has no name; get another copy")
    elif not isinstance(tree, np.ndarray) or not jnp.issubdtype(tree.dtype, jnp.floating):
        raise CheckpointError(f"{where} is not an array of real numbers; get another copy")


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Converts any exception from a checkpoint without the expected layers to a one-line message.

    Raises:
        CheckpointError: instead of the exception.
    """
    try:
        yield
    except CheckpointError as e:
        raise CheckpointError(f"cannot read {path}: {e}") from e
    except Exception as e:  # a layer is missing, or has an impossible shape
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
