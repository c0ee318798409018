"""A model: a network, a schedule, an encoder, a decoder and optionally an autoencoder."""

import zlib
from dataclasses import dataclass, field

import jax.numpy as jnp

from diffusion_jax import rng
from diffusion_jax.data.views.base import View
from diffusion_jax.data.views.whole import Whole
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.autoencoders.base import Autoencoder
from diffusion_jax.networks.autoencoders.pixels import Pixels
from diffusion_jax.networks.backbones.base import Network
from diffusion_jax.networks.layers.blocks import fold_keys
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.process import given_latent
from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.process.encoders.base import Encoder
from diffusion_jax.process.encoders.identity import Identity
from diffusion_jax.process.parameterization import network_input, to_pred
from diffusion_jax.process.schedules.base import (
    LATENT,
    Schedule,
    has_per_pixel_gamma,
    latent_posterior,
    latent_size,
)
from diffusion_jax.traits import Traits, require
from diffusion_jax.types import Array, Coded, Cond, Data, Denoiser, Params, Pred


@dataclass(frozen=True)
class Model:
    """Everything a bound or a sampler needs, without the weights.

    Attributes:
        network: the backbone, called with `(z, gamma, cond)`.
        schedule: the noise schedule, which gives gamma.
        decoder: maps data to model space, and gives their probabilities given `z_0`.
        prediction: parameterisation of the network's output, one of
            `process.parameterization.PREDICTIONS`.
        num_classes: number of classes it can be conditioned on; 0 for an unconditional model.
        encoder: diffusion encoder, which gives `x_t`; the identity for VDM.
        null_class: whether training drops some labels and texts, so that there is a null condition.
        view: the part of an image that is modelled, and the part that is conditioned on.
        autoencoder: maps data to latents and back; None if the data themselves diffuse.
        cond_scalars: names of further conditions, numbers `[B]`, that the network receives.
        teacher: for a student of few steps the run of its teacher; otherwise empty.
        text: text encoder for captions; None for a model without captions.
        embedding: length of an image embedding that the network receives (the last value is 1); 0
            for none.
    """

    network: Network
    schedule: Schedule
    decoder: Decoder
    prediction: str
    num_classes: int = 0
    encoder: Encoder = field(default_factory=Identity)
    null_class: bool = True
    view: View = field(default_factory=Whole)
    autoencoder: Autoencoder | None = None
    cond_scalars: tuple[str, ...] = ()
    teacher: str = ""
    text: TextEncoder | None = None
    embedding: int = 0

    @property
    def space(self) -> Autoencoder:
        """The map between data and what diffuses: the autoencoder, or the identity on pixels."""
        if self.autoencoder is None or self.from_latent:
            return Pixels(self.decoder)
        return self.autoencoder

    @property
    def from_latent(self) -> bool:
        """Whether the data diffuse, conditioned on their latent by the autoencoder."""
        return bool(getattr(self.view, "latent", False))

    @property
    def traits(self) -> Traits:
        """Capabilities that the plug-ins declare, as described in each kind's `base.py`."""
        return Traits(
            latent=latent_size(self.schedule),
            per_pixel_gamma=has_per_pixel_gamma(self.schedule),
            mean_coefficient=self.encoder.mean_coefficient,
            time_dependent_data=getattr(self.encoder, "time_dependent", True),
            discrete=self.space.discrete,
            pixels=isinstance(self.space, Pixels),
            latent_noise=self.space.noisy,
            from_latent=self.from_latent,
            likelihood=not self.teacher,
            fourier=bool(getattr(self.network, "fourier", False)),
            null_class=bool(self.num_classes or self.text or self.embedding) and self.null_class,
        )

    def shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of `x`, the modelled part of one image of shape `image`."""
        return self.view.shape(image)

    def z_shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of `z` for one image of shape `image`."""
        return self.latent_shape(self.shape(image))

    def given_shape(self, image: tuple[int, ...]) -> tuple[int, ...] | None:
        """Shape of `cond["low"]` for one image of shape `image`; None if there is no `"low"`."""
        autoencoder = self.autoencoder if self.from_latent else None
        return autoencoder.latent_shape(image) if autoencoder else self.view.given_shape(image)

    def examples(self, rows: dict[str, Array]) -> tuple[Array, Cond]:
        """Converts stored images to the model's inputs.

        Args:
            rows: whole images, `{"image": uint8 [B, H, W, C], "label": int32 [B]}`, with `"text"`
                int32 `[B, M, L]` if there are captions, and `"embedding"` if there are embeddings.

        Returns:
            `(x, cond)`: data in model space, and the condition: `"label"`, `"text"` (the first
            caption) and `"embedding"` if the model uses them, and the part of the image that the
            view conditions on (clean) as `"low"`, in model space. A latent to condition on is drawn
            later, by `condition`.
        """
        part, view_cond = self.view(rows["image"])
        cond = {name: self.decoder.encode(a) for name, a in view_cond.items()}
        if self.num_classes:
            cond["label"] = rows["label"]
        if self.text is not None and "text" in rows:
            cond["text"] = rows["text"][:, 0]
        if self.embedding and "embedding" in rows:
            cond["embedding"] = rows["embedding"]
        return self.decoder.encode(part), cond

    def init(self, key: Array, shape: tuple[int, ...]) -> Params:
        """Initial parameters for images of `shape`.

        Returns:
            `{"network", "schedule"}`, and `"encoder"` and `"autoencoder"` if they have parameters.
        """
        x, low = self.shape(shape), self.given_shape(shape)
        space = self.autoencoder or self.space
        autoencoder = space.init(rng.stream(key, "autoencoder"), x)
        z_shape = self.latent_shape(x)
        z, gamma = jnp.zeros((2, *z_shape)), jnp.zeros(2)
        size = self.traits.latent
        cond = {"latent": jnp.zeros((2, size))} if size else {}
        cond |= {name: jnp.zeros(2) for name in self.cond_scalars}
        cond |= {"embedding": jnp.zeros((2, self.embedding))} if self.embedding else {}
        if low is not None:
            cond["low"] = jnp.zeros((2, *low))
        encoder = self.encoder.init(rng.stream(key, "encoder"), z_shape)
        return {
            "network": self.network.init(rng.stream(key, "network"), z, gamma, cond).get(
                "params", {}
            ),
            "schedule": self.schedule.init(rng.stream(key, "schedule")),
            **({"encoder": encoder} if encoder else {}),
            **({"autoencoder": autoencoder} if autoencoder else {}),
        }

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of `z` for data `x` of `shape`."""
        return self.space.latent_shape(shape)

    def coded(self, params: Params, x: Data, dropout: Array | None = None) -> Coded:
        """Data with mean and standard deviation of their latents; `Coded` data are unchanged.

        Args:
            x: data in model space, `[B, ...]`.
            dropout: one key per example for training, or None.
        """
        if isinstance(x, Coded):
            return x
        mean, std = self.space.encode(_autoencoder(params), x, _keys("encode", dropout))
        return Coded(x, mean, std)

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, dropout: Array | None = None
    ) -> Array:
        """`log P(x | z_0)`, nats, `[B]`, for data in model space and `y_0 = z_0 / alpha_0`."""
        keys = _keys("decode", dropout)
        return self.space.log_prob(_autoencoder(params), x, y_0, gamma_0, keys)

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """`log P` of every level of every value given `z_0`; see `Autoencoder.log_probs`."""
        return self.space.log_probs(_autoencoder(params), x, y_0, gamma_0)

    def decode(self, params: Params, y_0: Array) -> Array:
        """The most probable data given `y_0 = z_0 / alpha_0`, as stored (such as uint8 images)."""
        return self.space.decode(_autoencoder(params), y_0)

    def condition(
        self, params: Params, x: Array, cond: Cond, keys: Array | None
    ) -> tuple[Params, Cond, Array]:
        """Draws the schedule's auxiliary latent and the latent that the model is conditioned on.

        Args:
            x: data in model space, `[B, ...]`.
            cond: the condition.
            keys: one key per example (`Noise.latent`).

        Returns:
            The schedule's parameters including its auxiliary latent, the condition with that latent
            as `"latent"`, and its divergence from the prior, `[B]`, nats. Without an auxiliary
            latent both are unchanged and the divergence is 0. For a model conditioned on an
            autoencoder's latent, the condition also gets that latent as `"low"`, unless it has one;
            its bits belong to the model of the latents.

        Raises:
            ValueError: a latent must be drawn but `keys` is None.
        """
        schedule = params["schedule"]
        if self.from_latent and "low" not in cond:
            if keys is None:
                raise ValueError("the model's condition is sampled: Noise.latent must have keys")
            cond = {**cond, "low": given_latent.draw(self, params, x, keys)}
        if not self.traits.latent:
            return schedule, cond, jnp.zeros(x.shape[0], x.dtype)
        if keys is None:
            raise ValueError("the schedule's latent is sampled: Noise.latent must have keys")
        latent, kl = latent_posterior(self.schedule)(schedule, x, keys)
        return {**schedule, LATENT: latent}, {**cond, "latent": latent}, kl

    def encode(
        self, params: Params, x: Array, gamma: Array, cond: Cond, dropout: Array | None = None
    ) -> tuple[Array, Array]:
        """The encoded data and their derivative.

        Args:
            x: data in model space, `[B, ...]`.
            gamma: scalar or `[B]`.
            dropout: one key per example for training, or None. The same keys give the same masks at
                every gamma, so that all terms of a bound use the same encoder.

        Returns:
            `(x_gamma, d x_gamma / d gamma)`, shapes of `x`.
        """
        return self.encoder(params.get("encoder", {}), x, gamma, cond, _keys("encoder", dropout))

    def shift(
        self, params: Params, x: Array, gamma: Array, cond: Cond, dropout: Array | None = None
    ) -> Array:
        """`x_gamma - x`; cheaper than `encode`, as it needs no derivative."""
        keys = _keys("encoder", dropout)
        return self.encoder.shift(params.get("encoder", {}), x, gamma, cond, keys)

    def denoiser(self, params: Params, dropout: Array | None = None) -> Denoiser:
        """The denoiser with these parameters.

        Args:
            dropout: one key per example for training, or None.

        Returns:
            `(z, gamma, cond) -> Pred`; `gamma` is a scalar, `[B]`, or one value per pixel (the
            network then receives the mean of each example).
        """

        def denoise(z: Array, gamma: Array, cond: Cond) -> Pred:
            gamma = jnp.asarray(gamma)
            g = gamma.mean(axis=tuple(range(1, z.ndim))) if gamma.ndim > 1 else gamma
            g = jnp.broadcast_to(g, z.shape[:1])
            if "to" not in self.cond_scalars:  # this network does not use the end of a `jump()`
                cond = {k: v for k, v in cond.items() if k != "to"}
            scaled = network_input(self.prediction, z, gamma)
            out = self.network.apply({"params": params["network"]}, scaled, g, cond, dropout)
            centres = self._centres(params)
            channels = z.shape[-1]
            if self.prediction == "levels" and centres is not None:
                channels = channels // centres[0].size * len(centres)
            needed = (*z.shape[:-1], channels)
            if jnp.shape(out) != needed:
                raise ConfigError(
                    f"network {type(self.network).__name__} returned shape {jnp.shape(out)} for z "
                    f"of shape {z.shape}; prediction={self.prediction!r} needs {needed}"
                )
            return to_pred(self.prediction, out, z, gamma, centres)

        return denoise

    def _centres(self, params: Params) -> Array | None:
        """The levels of what diffuses, `[V]` or vectors `[V, D]`; None if it has no levels."""
        if hasattr(self.space, "vectors"):
            return getattr(self.space, "vectors")(_autoencoder(params))  # noqa: B009
        return self.decoder.centres() if hasattr(self.decoder, "centres") else None

    def null(self, cond: Cond) -> Cond:
        """The condition with the null class as label, and zeros as text and embedding."""
        nulls = {"label": lambda a: jnp.full_like(a, self.num_classes)}
        nulls |= dict.fromkeys(("text", "embedding"), jnp.zeros_like)
        return {k: nulls[k](a) if k in nulls else a for k, a in cond.items()}


def need_likelihood(model: Model, who: str) -> None:
    """Raises ConfigError for a student of few steps: its predictions are not means of the data."""
    require(model, who, f"use its teacher ({model.teacher})", likelihood=True)


def _autoencoder(params: Params) -> Params:
    return params.get("autoencoder", {})


def _keys(part: str, dropout: Array | None) -> Array | None:
    """Dropout keys for a part other than the network, which itself folds in small numbers."""
    return fold_keys(dropout, zlib.crc32(part.encode()))
