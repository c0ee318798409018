"""The contract of an edit: given images in, changed images out, by any sampler and guidance.

An edit lays its inputs out on a canvas (host), may change the plan (host), and then paints with a
`Brush` (pure, compiled). Masks are 1 where something is painted and 0 where the source is kept.
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
    "changes predictions after the guidance, whose state (momentum) would not see it; use apg with "
    "beta=0"
)


class Canvas(NamedTuple, Generic[A]):
    """What is painted on; every array has the leading axis `[R]`, one row for each result.

    Arrays are numpy's on the host and JAX's inside `Edit.paint`.

    Attributes:
        image: the source: stored levels on the host, model space `x` inside `Edit.paint` (latents,
            of a model with an autoencoder); `[R, H, W, C]`, possibly wider than the model's images.
        mask: 1 where something is painted, 0 where the source is kept, `[R, H, W, 1]`.
        cond: the condition; `{"label": [R]}` for a class-conditional model.
        extra: what only this edit needs.
        row: the number of each row, `[R]`, from which its noise is drawn; None for 0, 1, ...
    """

    image: A
    mask: A
    cond: dict[str, A]
    extra: dict[str, A]
    row: A | None = None

    def keys(self, key: Array) -> Array:
        """One key per row, the same in whatever batch the row is painted."""
        rows = jnp.arange(len(self.image)) if self.row is None else self.row
        return rng.keyed(key, jnp.asarray(rows))


@dataclass(frozen=True)
class Layout:
    """A canvas on the host, and how to show its results.

    Attributes:
        canvas: all rows.
        columns: results that belong together, one line of the picture.
        shared: the mask `[H, W, 1]` that all rows have, or None if they differ.
    """

    canvas: Canvas[np.ndarray]
    columns: int
    shared: np.ndarray | None = None


class Embedder(Protocol):
    """What a CLIP sees, of a run that is told it as `cond["embedding"]`."""

    def raw(self, told: np.ndarray) -> np.ndarray:
        """The CLIP's vectors `[N, D]` of what the network is told, `[N, D + 1]`."""
        ...

    def of_raw(self, raw: np.ndarray) -> np.ndarray:
        """What the network is told of such vectors, float32 `[N, D + 1]`."""
        ...

    def texts(self, strings: Sequence[str]) -> np.ndarray:
        """The CLIP's vectors `[N, D]` of texts."""
        ...


class Inputs(NamedTuple):
    """The user's input.

    Attributes:
        images: levels, uint8 `[N, H, W, C]` (or `[N, T, H, W, C]`, ...), of the model's shape.
        mask: `[N, H, W, 1]` in [0, 1], or None.
        cond: `{"label": int32 [N]}`, or empty; of a run that is told what a CLIP sees also
            `"embedding"`, of the images if `Edit.sees`, else of nothing.
        each: results wanted for each image.
        embedder: the CLIP; None for a run that is told nothing of what it sees.
        captions: of the images; empty if nobody knows them.
    """

    images: np.ndarray
    mask: np.ndarray | None
    cond: dict[str, np.ndarray]
    each: int
    embedder: Embedder | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brush:
    """A model that paints, and how.

    Attributes:
        method: how to sample; its plan is the edit's.
        context: for the guidance.
        shared: see `Layout`.
        wraps: `Denoiser -> Denoiser`, applied in turn after the guidance.
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
        """What diffuses, of images as stored; the mean, where there is noise."""
        return self.model.coded(self.params, self.model.decoder.encode(image)).mean

    def encoded(self, x: Array, gamma: Array, cond: Cond) -> Array:
        """`x_gamma`: data `x` `[R, ...]` as the model's encoder shows them at `gamma`."""
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

    One that changes whole images may declare `sees = True`: its network is told what a CLIP sees in
    the source, if it is told such things. Where a part is painted this must not be known. One that
    changes images towards a text declares it as `aim`.
    """

    def lay_out(self, inputs: Inputs) -> Layout:
        """The canvas of these inputs; `ConfigError` where they do not fit the edit."""
        ...

    def plan(self, gammas: np.ndarray) -> np.ndarray:
        """The plan, from the descending grid `gammas`."""
        ...

    def check(self, model: Model, method: Method) -> None:
        """Refuses a model or a way of sampling that this edit cannot use (`ConfigError`)."""

    def paint(self, brush: Brush, canvas: Canvas[Array], key: Array) -> Array:
        """What `brush.method.final` gives, shape of `canvas.image`; pure.

        Args:
            key: one for all rows: noise is drawn by `canvas.keys(key)`.
        """
        ...


def sees(edit: Edit) -> bool:
    """Whether the edit's network may be told what a CLIP sees in the source."""
    return bool(getattr(edit, "sees", False))


def aim(edit: Edit) -> str:
    """The text that the edit's results are to show; empty if there is none."""
    return str(getattr(edit, "aim", ""))


def need_stateless(name: str, method: Method) -> None:
    """Raises ConfigError if the guidance has state: this edit changes predictions after it."""
    if is_stateful(method.guidance):
        raise ConfigError(f"{name} {_NEEDS_STATELESS}")


def refuse_mask(name: str, inputs: Inputs) -> None:
    """Raises ConfigError if there is a mask, for an edit that decides what is painted."""
    if inputs.mask is not None:
        raise ConfigError(f"{name} takes no mask; leave edit.mask empty")


def need_mask(name: str, inputs: Inputs, whole: bool = False) -> None:
    """Raises ConfigError without a mask, with nothing to paint, or (unless `whole`) to keep."""
    if inputs.mask is None:
        raise ConfigError(
            f"{name} needs a mask, white where something is painted: --config.edit.mask=FILE"
        )
    for i, mask in enumerate(inputs.mask):
        which = f" (image {i})" if len(inputs.mask) > 1 else ""
        if not mask.any():
            raise ConfigError(
                f"the mask is empty{which}: nothing would be painted; paint where it is white"
            )
        if not whole and mask.all():
            raise ConfigError(
                f"the mask covers the whole image{which}: nothing of it would be kept; use "
                "--mode=sample, or blend() and sdedit() to start from the image"
            )


def each(inputs: Inputs) -> Layout:
    """Every image `inputs.each` times, with its own mask."""
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
            f"start={start} is outside this model's gammas: above {gammas[-1]:.4g}, where nothing "
            f"changes, up to {gammas[0]:.4g}, where nothing of the source is left"
        )
    return np.concatenate([[start], gammas[gammas < start]])


def hard(inputs: Inputs) -> Inputs:
    """The inputs with a mask of zeros and ones, cut at one half."""
    if inputs.mask is None:
        return inputs
    return inputs._replace(mask=(inputs.mask >= 0.5).astype(np.float32))


def whole(inputs: Inputs) -> Inputs:
    """The inputs with a mask that paints everything."""
    return inputs._replace(mask=np.ones((*inputs.images.shape[:-1], 1), np.float32))
