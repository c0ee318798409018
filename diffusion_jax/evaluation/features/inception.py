"""The 2,048 features of Inception-v3 that published Frechet distances are measured in.

The weights are not shipped. They are the file `pt_inception-2015-12-05-6726825d.pth` that the
packages pytorch-fid and torch-fidelity download, as it is, or its state dict as .npz or
.safetensors.
"""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax.allowed import Count, Levels
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.evaluation.features import _state_dict
from diffusion_jax.evaluation.features._inception import FEATURES, SIZE, Inception, prepare
from diffusion_jax.evaluation.features.base import Features, digest
from diffusion_jax.runtime.home import expanded
from diffusion_jax.types import Array, Params

# Name in the state dict -> (collection, ours).
_LEAVES = {
    "conv.weight": ("params", "conv", "kernel"),
    "bn.weight": ("params", "bn", "scale"),
    "bn.bias": ("params", "bn", "bias"),
    "bn.running_mean": ("batch_stats", "bn", "mean"),
    "bn.running_var": ("batch_stats", "bn", "var"),
}
_UNUSED = ("fc.", "AuxLogits.")  # the classifier's heads


@functools.lru_cache(maxsize=1)
def shapes() -> Params:
    """Shapes of the network's variables; nothing is computed."""
    one = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    return jax.eval_shape(Inception().init, jax.random.key(0), one)


def convert(state: dict[str, np.ndarray], where: str = "the state dict") -> Params:
    """The network's variables from a PyTorch state dict.

    Args:
        state: arrays by name; kernels are `[out, in, height, width]`.
        where: its name, for messages.

    Returns:
        Linen variables, float32.

    Raises:
        CheckpointError: names or shapes are not those of this network.
    """
    wanted = dict(_paths(shapes()))
    found = {}
    for name, array in state.items():
        if name.startswith(_UNUSED) or name.endswith("num_batches_tracked"):
            continue
        *block, layer, leaf = ("", *name.split("."))
        collection, *rest = _LEAVES.get(f"{layer}.{leaf}", ("", name))
        path = (collection, *block[1:], *rest)
        array = np.asarray(array, np.float32)
        if path[-1] == "kernel" and array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        if path not in wanted or array.shape != wanted[path]:
            raise CheckpointError(
                f"{where} is no Inception-v3 state dict: {name} of shape {array.shape} does not "
                "belong; use pt_inception-2015-12-05-6726825d.pth"
            )
        found[path] = array
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise CheckpointError(
            f"{where} is no Inception-v3 state dict: {len(missing)} arrays are missing, such as "
            f"{'.'.join(missing[0])}; use pt_inception-2015-12-05-6726825d.pth"
        )
    tree: Params = {}
    for path, array in found.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = array
    return tree


def _paths(tree: Params) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(tuple(key.key for key in path), leaf.shape) for path, leaf in leaves]


def make(
    weights: str = "", shape: tuple[Count, Count, Count] = (32, 32, 3), levels: Levels = 256
) -> Features:
    """Pool-3 features of the 2015 Inception-v3.

    Args:
        weights: a local file: .pth (read without executing anything in it), .safetensors or .npz.
        shape: shape of an image, `(H, W, C)`; grey images are repeated in three channels.
        levels: images hold 0 .. levels-1.

    Raises:
        ConfigError: no file is named, or images have neither 1 nor 3 channels.
    """
    if not weights:
        raise ConfigError(
            "inception(weights='FILE') needs a local copy of pt_inception-2015-12-05-6726825d.pth "
            "(or its state dict as .npz or .safetensors); without it use classifier(checkpoint=..) "
            "or pixels()"
        )
    if shape[-1] not in (1, 3):
        raise ConfigError(f"inception() takes images of 1 or 3 channels, not {shape[-1]}")
    path = expanded(weights)
    params = convert(_state_dict.read(path), str(path))
    network = Inception()

    def apply(params: Params, images: Array) -> Array:
        return network.apply(params, prepare(images, levels))

    source = {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
              "resize": "bilinear to 299, half-pixel centres"}  # fmt: skip
    value = digest(f"inception-v3 2015-12-05 pool3, bilinear, {levels} levels", params)
    return Features("inception", FEATURES, apply, value, params, source)
