"""The 2,048 features of Inception-v3 used for published Frechet distances.

The weights are not included. They are the file `pt_inception-2015-12-05-6726825d.pth` that the
packages pytorch-fid and torch-fidelity download, or its state dict as .npz or .safetensors.
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

# Name in the state dict -> (collection, our layer, our name).
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
    """Shapes of the network's variables, without computing them."""
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    return jax.eval_shape(Inception().init, jax.random.key(0), image)


def convert(state: dict[str, np.ndarray], where: str = "the state dict") -> Params:
    """The network's variables from a PyTorch state dict.

    Args:
        state: arrays by name; kernels are `[out, in, height, width]`.
        where: name of the file, for messages.

    Returns:
        Linen variables, float32.

    Raises:
        CheckpointError: names or shapes are not those of this network.
    """
    expected = dict(_paths(shapes()))
    arrays = {}
    for name, array in state.items():
        if name.startswith(_UNUSED) or name.endswith("num_batches_tracked"):
            continue
        *block, layer, leaf = ("", *name.split("."))
        collection, *rest = _LEAVES.get(f"{layer}.{leaf}", ("", name))
        path = (collection, *block[1:], *rest)
        array = np.asarray(array, np.float32)
        if path[-1] == "kernel" and array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        if path not in expected or array.shape != expected[path]:
            raise CheckpointError(
                f"{where} is not an Inception-v3 state dict: unexpected {name} of shape "
                f"{array.shape}; use pt_inception-2015-12-05-6726825d.pth"
            )
        arrays[path] = array
    missing = sorted(expected.keys() - arrays.keys())
    if missing:
        raise CheckpointError(
            f"{where} is not an Inception-v3 state dict: {len(missing)} arrays are missing, such "
            f"as {'.'.join(missing[0])}; use pt_inception-2015-12-05-6726825d.pth"
        )
    tree: Params = {}
    for path, array in arrays.items():
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
        levels: number of levels; images hold integers 0 .. levels-1.

    Raises:
        ConfigError: `weights` is empty, or images have neither 1 nor 3 channels.
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
