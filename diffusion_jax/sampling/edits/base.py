"""The contract of an edit: given images in, changed images out, by any sampler and guidance.

An edit lays its inputs out on a canvas (host), may change the plan (host), and then paints with a
`Brush` (pure, compiled). Masks are 1 where pixels are painted and 0 where the source is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import rng
from diffusion_jax.denoiser import StatefulDenoiser
from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.sampling import generate
from diffusion_jax.sampling.guidance.base import Context, Guidance, is_stateful
from diffusion_jax.sampling.method import Method
from diffusion_jax.sampling.plans.base import descending
from diffusion_jax.types import Array, Cond, Denoiser, Params, diffuse

A = TypeVar("A", Array, np.ndarray)
Wrap = Callable[[Denoiser], Denoiser]

_NEEDS_STATELESS = (
    "changes predictions after the guidance, whose state (momentum) would miss the change; use apg "
    "with beta=0"
)


class Canvas(NamedTuple, Generic[A]):
    """Sources, masks and conditions; every array has the leading axis `[R]`, one row per result.

    Arrays are NumPy arrays on the host and JAX arrays inside `Edit.paint`.

    Attributes:
        image: the source, `[R, H, W, C]`: stored levels on the host, model space `x` inside
            `Edit.paint` (latents for a model with an autoencoder). It may be larger than the
            model's images.
        mask: 1 where pixels are painted, 0 where the source is kept, `[R, H, W, 1]`.
        cond: the condition; `{"label": [R]}` for a class-conditional model.
        extra: arrays that only this edit needs.
        row: the number of each row, `[R]`, which seeds its noise; None for 0, 1, ...
    """

    image: A
    mask: A
    cond: dict[str, A]
    extra: dict[str, A]
    row: A | None = None

    def keys(self, key: Array) -> Array:
        """One key per row, independent of the batch in which the row is painted."""
        rows = jnp.arange(len(self.image)) if self.row is None else self.row
        return rng.keyed(key, jnp.asarray(rows))


@dataclass(frozen=True)
class Layout:
    """A canvas on the host, and how to show its results.

    Attributes:
        canvas: all rows.
        columns: number of results in one line of the contact sheet.
        shared: the mask `[H, W, 1]` that all rows share, or None if they differ.
    """

    canvas: Canvas[np.ndarray]
    columns: int
    shared: np.ndarray | None = None


class Embedder(Protocol):
    """The CLIP of a run that is conditioned on its embeddings, `cond["embedding"]`."""

    def raw(self, told: np.ndarray) -> np.ndarray:
        """The CLIP's vectors `[N, D]` from the network's condition `told`, `[N, D + 1]`."""
        ...

    def of_raw(self, raw: np.ndarray) -> np.ndarray:
        """The network's condition for such vectors, float32 `[N, D + 1]`."""
        ...

    def texts(self, strings: Sequence[str]) -> np.ndarray:
        """The CLIP's vectors `[N, D]` of texts."""
        ...


class Inputs(NamedTuple):
    """The user's input.

    Attributes:
        images: levels, uint8 `[N, H, W, C]` (or `[N, T, H, W, C]`, ...), of the model's shape.
        mask: `[N, H, W, 1]` in [0, 1], or None.
        cond: `{"label": int32 [N]}`, or empty. A run conditioned on CLIP embeddings also has
            `"embedding"`: of the images if `Edit.sees`, else the null embedding.
        each: number of results for each image.
        embedder: the CLIP; None for a run that is not conditioned on CLIP embeddings.
        captions: captions of the images; empty if unknown.
    """

    images: np.ndarray
    mask: np.ndarray | None
    cond: dict[str, np.ndarray]
    each: int
    embedder: Embedder | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brush:
    """A model with its weights, and how it paints.

    Attributes:
        model: the model.
        params: its weights.
        method: how to sample; its plan is the edit's.
        context: context of the guidance.
        shared: see `Layout`.
        wraps: transforms `Denoiser -> Denoiser`, applied in turn after the guidance.
        encode: `(x, gamma, cond) -> x_gamma`; None for the model's encoder.
    """

    model: Model
    params: Params
    method: Method
    context: Context
    shared: np.ndarray | None = None
    wraps: tuple[Wrap, ...] = ()
    encode: Callable[[Array, Array, Cond], Array] | None = None

    def with_wrap(self, wrap: Wrap) -> "Brush":
        """This brush with one more transform of the guided denoiser."""
        return replace(self, wraps=(*self.wraps, wrap))

    def guidance(self) -> Guidance:
        """The guidance, transforms included."""

        def guide(denoiser: Denoiser, context: Context) -> Denoiser:
            denoiser = self.method.guidance(denoiser, context)
            if self.wraps and isinstance(denoiser, StatefulDenoiser):
                raise ConfigError(f"this edit {_NEEDS_STATELESS}")
            for wrap in self.wraps:
                denoiser = wrap(denoiser)
            return denoiser

        return guide

    def latents(self, image: Array) -> Array:
        """Stored images in the space that diffuses; the mean, for a noisy autoencoder."""
        return self.model.coded(self.params, self.model.decoder.encode(image)).mean

    def encoded(self, x: Array, gamma: Array, cond: Cond) -> Array:
        """`x_gamma`: data `x` `[R, ...]` as transformed by the model's encoder at `gamma`."""
        if self.encode is not None:
            return self.encode(x, gamma, cond)
        return self.model.encode(self.params, x, gamma, cond)[0]

    def noised(self, x: Array, cond: Cond, eps: Array) -> Array:
        """The forward process at the start of the plan, `alpha x_gamma + sigma eps`."""
        gamma = jnp.asarray(self.method.gammas[0], x.dtype)
        return diffuse(self.encoded(x, gamma, cond), gamma, eps)

    def draw(self, z: Array, cond: Cond, key: Array, constrain: Callable | None = None) -> Array:
        """Runs the plan from `z`; see `generate.draw`."""
        method = replace(self.method, guidance=self.guidance())
        return generate.draw(self.model, self.params, method, self.context, z, cond, key, constrain)


@runtime_checkable
class Edit(Protocol):
    """One way to change images.

    An edit that changes whole images may declare `sees = True`: a network that takes a CLIP
    embedding then receives the source's. Edits that repaint a region must leave it False, because
    the embedding would reveal what is to be replaced. An edit towards a text declares it as `aim`.
    """

    def lay_out(self, inputs: Inputs) -> Layout:
        """The canvas of these inputs; raises `ConfigError` if they do not fit the edit."""
        ...

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The plan, from the descending grid `gammas`."""
        ...

    def check(self, model: Model, method: Method) -> None:
        """Raises `ConfigError` for a model or a way of sampling that this edit cannot use."""

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """The output of `brush.method.final`, shape of `canvas.image`; a pure function.

        Args:
            key: one key for all rows; draw noise with `canvas.keys(key)`.
        """
        ...


def sees(edit: Edit) -> bool:
    """Whether the edit's network may receive the source's CLIP embedding."""
    return bool(getattr(edit, "sees", False))


def aim(edit: Edit) -> str:
    """The text that the edit's results are to show; empty if there is none."""
    return str(getattr(edit, "aim", ""))


def need_stateless(name: str, method: Method) -> None:
    """Raises ConfigError if the guidance has state, for an edit that changes guided predictions."""
    if is_stateful(method.guidance):
        raise ConfigError(f"{name} {_NEEDS_STATELESS}")


def refuse_mask(name: str, inputs: Inputs) -> None:
    """Raises ConfigError if there is a mask, for an edit that takes none."""
    if inputs.mask is not None:
        raise ConfigError(f"{name} takes no mask; leave edit.mask empty")


def need_mask(name: str, inputs: Inputs, whole: bool = False) -> None:
    """Raises ConfigError if there is no mask, nothing to paint, or (unless `whole`) to keep."""
    if inputs.mask is None:
        raise ConfigError(
            f"{name} needs a mask, white where the image is to be painted: --config.edit.mask=FILE"
        )
    for i, mask in enumerate(inputs.mask):
        which = f" (image {i})" if len(inputs.mask) > 1 else ""
        if not mask.any():
            raise ConfigError(
                f"the mask is empty{which}: nothing would be painted; it must be white somewhere"
            )
        if not whole and mask.all():
            raise ConfigError(
                f"the mask covers the whole image{which}: nothing would be kept; use "
                "--mode=sample, or blend() or sdedit() to start from the image"
            )


def each(inputs: Inputs) -> Layout:
    """A layout of every image `inputs.each` times, with its own mask."""
    assert inputs.mask is not None

    def repeat(a: np.ndarray) -> np.ndarray:
        return np.repeat(a, inputs.each, axis=0)

    first = inputs.mask[0]
    canvas = Canvas(
        repeat(inputs.images), repeat(inputs.mask), jax.tree.map(repeat, inputs.cond), {}
    )
    return Layout(canvas, inputs.each, first if np.all(inputs.mask == first) else None)


def cut(gammas: np.ndarray, start: float) -> np.ndarray:
    """The part of a descending grid below `start`, the gamma at which the source enters.

    Raises:
        ConfigError: `start` is outside the grid.
    """
    gammas = descending(gammas)
    if not gammas[-1] < start <= gammas[0]:
        raise ConfigError(
            f"start={start} is outside this model's gammas: it must be above {gammas[-1]:.4g}, "
            f"where nothing changes, and at most {gammas[0]:.4g}, where none of the source is left"
        )
    return np.concatenate([[start], gammas[gammas < start]])


def hard(inputs: Inputs) -> Inputs:
    """The inputs with a mask of zeros and ones, thresholded at one half."""
    if inputs.mask is None:
        return inputs
    return inputs._replace(mask=(inputs.mask >= 0.5).astype(np.float32))


def whole(inputs: Inputs) -> Inputs:
    """The inputs with a mask that paints everything."""
    return inputs._replace(mask=np.ones((*inputs.images.shape[:-1], 1), np.float32))
