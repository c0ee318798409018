"""Checkpoints of the published DiffEnc implementation (Nielsen et al. 2024, JAX).

The file format and the score network are VDM's; a trainable encoder is under
`encdec/inner_encoder`. The weights do not distinguish its baselines, so the caller names the model.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np

from diffusion_jax.errors import CheckpointError
from diffusion_jax.networks.published import vdm
from diffusion_jax.networks.published.vdm import Published
from diffusion_jax.types import Params

# Models of the published code -> our encoder (None: read from the weights) and prediction.
KINDS = {
    "diffenc": (None, "v"),
    "diffenc_nt": ("diffenc_nt()", "v"),
    "vdmv": ("identity()", "v"),
    "vdm": ("identity()", "eps"),
}

_SCORE = {
    "TimeEmbedding_0": (),  # its dense layers are at the top level in VDM's tree
    "VDMUNet_0": (),
}
_ENCODER = {
    ("time_embedding",): ("cond",),
    ("conv_in",): ("conv_in",),
    ("conv_out",): ("conv_out",),
    ("GroupNorm_0",): ("norm_out",),
    ("enc_model", "mid_resnet_1"): ("mid_0",),
    ("enc_model", "mid_attn_1"): ("mid_attn",),
    ("enc_model", "mid_resnet_2"): ("mid_1",),
}


def _score_name(path: tuple[str, ...]) -> tuple[str, ...]:
    return path[1:] if path[0] in _SCORE else path


def _encoder_name(path: tuple[str, ...], levels: int) -> tuple[str, ...]:
    for theirs, ours in _ENCODER.items():
        if path[: len(theirs)] == theirs:
            place, leaf = ours, path[len(theirs) :]
            break
    else:
        match = re.fullmatch(r"enc_model/(down|up)_blocks_(\d+)/(.+)", "/".join(path))
        if not match:
            raise CheckpointError(f"published DiffEnc checkpoint: unknown layer {'/'.join(path)!r}")
        side, number, rest = match.groups()
        layer, *leaf = rest.split("/")
        # Up blocks are numbered from the coarsest resolution, ours by the resolution's number.
        level = int(number) if side == "down" else levels - 1 - int(number)
        if layer == "conv_trans":
            return (f"grow{level}", *leaf)
        repeat = re.search(r"_resnet_block(\d*)$", layer)
        if not repeat:
            raise CheckpointError(f"published DiffEnc checkpoint: unknown layer {'/'.join(path)!r}")
        place = (f"{side}{level}_{repeat.group(1) or 0}",)
    return (*place, *_layer_name(place[0], tuple(leaf)))


def _layer_name(block: str, leaf: tuple[str, ...]) -> tuple[str, ...]:
    if block == "mid_attn" and leaf[0] == "GroupNorm_0":
        return ("norm", *leaf[1:])
    return (vdm.LAYERS.get(leaf[0], leaf[0]), *leaf[1:])


def weights(published: Mapping[str, Any]) -> Params:
    """Our parameters from published ones.

    Args:
        published: `{"score_model": ..., "encdec": ..., "gamma": ...}`, nested dicts of arrays; the
            last two may be missing.

    Returns:
        `{"network", "schedule"}` and, for a trainable encoder, `"encoder"`.

    Raises:
        CheckpointError: a layer or the schedule is unknown, or the encoder is a `vdm_unet`.
    """
    inner = published.get("encdec", {}).get("inner_encoder", {})
    blocks = inner.get("enc_model", {})
    if inner and not any(name.startswith("down_blocks_") for name in blocks):
        raise CheckpointError(
            "published DiffEnc checkpoint: only the encoders unet and unet_mult_res are supported; "
            "this is another one (vdm_unet?)"
        )
    score = flax.traverse_util.flatten_dict(dict(published["score_model"]))
    score = flax.traverse_util.unflatten_dict({_score_name(k): v for k, v in score.items()})
    out = vdm.weights({"score_model": score, "gamma": published.get("gamma", {})})
    if inner:
        levels = sum(name.startswith("down_blocks_") for name in blocks)
        flat = flax.traverse_util.flatten_dict(dict(inner))
        renamed = {_encoder_name(k, levels): np.asarray(v) for k, v in flat.items()}
        out["encoder"] = flax.traverse_util.unflatten_dict(renamed)
    return out


def _mult_res(published: Mapping[str, Any]) -> bool:
    """Whether the encoder is `unet_mult_res`, which numbers the blocks of a resolution."""
    inner = published.get("encdec", {}).get("inner_encoder", {})
    return "down_0_resnet_block0" in inner.get("enc_model", {}).get("down_blocks_0", {})


def settings(params: Params, kind: str = "diffenc", mult_res: bool = False) -> dict[str, Any]:
    """The configuration fields that describe these weights.

    Args:
        params: from `weights`.
        kind: one of `KINDS`.
        mult_res: whether the encoder is `unet_mult_res`. With one block at each resolution the
            weights do not show it: the networks then differ only in the groups of two norms.

    Raises:
        CheckpointError: the weights are not of this kind.
    """
    if kind not in KINDS:
        raise CheckpointError(f"unknown published model {kind!r}; allowed: {', '.join(KINDS)}")
    encoder, prediction = KINDS[kind]
    if ("encoder" in params) != (encoder is None):
        has = "has" if "encoder" in params else "has no"
        raise CheckpointError(f"the checkpoint {has} trainable encoder: it is not a {kind!r} model")
    if encoder is None:
        tree = params["encoder"]
        blocks = sum(name.startswith("down") for name in tree)
        encoder = (
            f"diffenc(kind={'unet_mult_res' if mult_res else 'unet'!r}, blocks={blocks}, "
            f"width={tree['conv_in']['kernel'].shape[-1]}, scalar=True, smallest_group=1)"
        )
    return {**vdm.settings(params), "encoder": encoder, "prediction": prediction}


def read(path: Path, kind: str = "diffenc") -> Published:
    """Reads a published checkpoint.

    Args:
        path: the flax msgpack file.
        kind: the published model, one of `KINDS`.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind.
    """
    state = vdm.read_state(path)
    with vdm.understood(path):
        params, ema = (weights(state[k]) for k in ("params", "ema_params"))
        described = settings(ema, kind, _mult_res(state["params"]))
        return Published(int(state.get("step", 0)), params, ema, described)
