"""The contract of a network.

A network is a Linen module with `apply({"params": p}, z, gamma, cond, keys) -> prediction`:

* `z`: latents `[B, H, W, C]`, float32; the prediction has the same type, and `channels` channels
  (as many as `z`, or with `prediction='levels'` the logits of each value's levels).
* `gamma`: `[B]`, float32.
* `cond`: a dict with leaves `[B, ...]`. `cond["label"]` is int32, where `num_classes`, or a missing
  key, means "no label". In a later stage of a cascade `cond["low"]` is the smaller image
  `[B, h, w, low]`, or the first frames `[B, given, H, W, low]` of a video, in model space, and
  `cond["low_gamma"]` `[B]` its noise level (no noise if missing).
* `keys`: one dropout key per example `[B]`, which makes the masks independent of how the batch is
  split; None for a deterministic pass.

`make(...)` takes the architecture's own settings. The caller supplies, from the data set and the
config, `channels`, `levels`, `num_classes`, `augment`, `low`, `given` (number of frames that are
conditions), `gamma_min`, `gamma_max` and `dtype`, if `make` has such parameters.

Attributes of a module: `low`, if it takes smaller images; `skip = True`, if it adds `z` to its
output (otherwise, with zeros in the last layer and `prediction="v"`, the initial model is the
standard normal); `fourier`, true if it adds Fourier features of `z` to its input, which methods
that need derivatives with respect to z refuse; `stills`, the class of videos whose frames are
unrelated images, if it treats them separately (training never drops that label); `examples`, the
number of training examples that it starts from, with a method `from_examples(x, cond) -> params`
that returns the parameters which these determine (the others are from `init`).
"""

from typing import Protocol, runtime_checkable

from diffusion_jax.types import Array, Cond, Params


@runtime_checkable
class Network(Protocol):
    """The two Linen methods that the package uses."""

    def init(self, key: Array, z: Array, gamma: Array, cond: Cond) -> Params:
        """Initial variables, `{"params": ...}`."""
        ...

    def apply(
        self, variables: Params, z: Array, gamma: Array, cond: Cond, keys: Array | None = None
    ) -> Array:
        """The prediction at `(z, gamma, cond)`, shape of `z`."""
        ...
