"""The contract of a network.

A network is a Linen module with `apply({"params": p}, z, gamma, cond, keys) -> prediction`:

* `z`: latents `[B, H, W, C]`, float32; the prediction has the same type, and `channels` channels
  (those of `z`, or more: with `prediction='levels'` the logits of each value's levels).
* `gamma`: `[B]`, float32.
* `cond`: a dict with leaves `[B, ...]`; `cond["label"]` int32, where `num_classes` means "no
  label" and a missing key means the same. In a later stage of a cascade `cond["low"]` is the
  smaller image `[B, h, w, low]`, or the first frames `[B, given, H, W, low]` of a video, in model
  space, and `cond["low_gamma"]` `[B]` the noise in it (a missing key: none).
* `keys`: one dropout key per example `[B]`, or None for a deterministic pass. (One key per example
  makes the masks independent of how the batch is split.)

`make(...)` takes the architecture's own settings; `channels`, `levels`, `num_classes`, `augment`,
`low`, `given` (how many frames are given), `gamma_min`, `gamma_max` and `dtype` are offered by the
caller from the data set and the config. A module that takes `low` has it as an attribute, and one
that adds `z` to its output says so by `skip = True`: with `prediction="v"` the others, with zeros
in their last layer, start as the standard normal. One that adds Fourier features of `z` to its
input has `fourier`, true, and what needs its derivatives in z refuses it. One of videos that keeps
unrelated images apart has `stills`, the class that says so; training never hides that label.
"""

from typing import Protocol, runtime_checkable

from diffusion_jax.types import Array, Cond, Params


@runtime_checkable
class Network(Protocol):
    """The two Linen methods the package uses."""

    def init(self, key: Array, z: Array, gamma: Array, cond: Cond) -> Params:
        """Initial variables, `{"params": ...}`."""
        ...

    def apply(
        self, variables: Params, z: Array, gamma: Array, cond: Cond, keys: Array | None = None
    ) -> Array:
        """The prediction at `(z, gamma, cond)`, shape of `z`."""
        ...
