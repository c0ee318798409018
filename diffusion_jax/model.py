"""A model is a network, a schedule, an encoder, a decoder and perhaps an autoencoder."""

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
        network: predicts from `(z, gamma, cond)`.
        schedule: gives gamma.
        decoder: maps data to model space and scores them given `z_0`.
        prediction: what the network predicts, `"eps"`, `"v"`, `"x"` or `"levels"`.
        num_classes: classes it can be conditioned on; 0 for an unconditional model.
        encoder: the data's own path through time; the identity for VDM.
        null_class: whether training hides some labels and texts, so that none means something.
        view: what of an image it is a model of, and what it is given.
        autoencoder: what lies between data and latents; None: the data themselves diffuse.
        cond_scalars: what else the network is told, numbers `[B]` in the condition.
        teacher: the run that it is a student of, of few steps; empty for none.
        text: how captions are read; None for a model that takes none.
        embedding: length of the vector it is told of an image, the last value 1; 0 for none.
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
        """What lies between data and what diffuses: the autoencoder, or nothing."""
        if self.autoencoder is None or self.from_latent:
            return Pixels(self.decoder)
        return self.autoencoder

    @property
    def from_latent(self) -> bool:
        """Whether the data diffuse, given their latent by the autoencoder."""
        return bool(getattr(self.view, "latent", False))

    @property
    def traits(self) -> Traits:
        """What the plug-ins declare; each kind's `base.py` says what it may declare, and how."""
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
        """Shape of `x` of one image of shape `image`: of the part that is modelled."""
        return self.view.shape(image)

    def z_shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of `z`, what diffuses, of one image of shape `image`."""
        return self.latent_shape(self.shape(image))

    def given_shape(self, image: tuple[int, ...]) -> tuple[int, ...] | None:
        """Shape of what it is given of one image of shape `image`, `cond["low"]`; None: nothing."""
        between = self.autoencoder if self.from_latent else None
        return between.latent_shape(image) if between else self.view.given_shape(image)

    def examples(self, rows: dict[str, Array]) -> tuple[Array, Cond]:
        """What the model sees of images.

        Args:
            rows: `{"image": uint8 [B, H, W, C], "label": int32 [B]}`, whole images, and `"text"`
                int32 `[B, M, L]` where there are captions, and `"embedding"` likewise.

        Returns:
            `(x, cond)`: data in model space, with the class where the model takes one, the first
            caption likewise, and what the view gives (clean) as `"low"`, in model space. A latent
            that is given is drawn later, by `condition`.
        """
        part, given = self.view(rows["image"])
        cond = {name: self.decoder.encode(a) for name, a in given.items()}
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
        x, given = self.shape(shape), self.given_shape(shape)
        between = self.autoencoder or self.space
        autoencoder = between.init(rng.stream(key, "autoencoder"), x)
        own = self.latent_shape(x)
        z, gamma = jnp.zeros((2, *own)), jnp.zeros(2)
        size = self.traits.latent
        cond = {"latent": jnp.zeros((2, size))} if size else {}
        cond |= {name: jnp.zeros(2) for name in self.cond_scalars}
        cond |= {"embedding": jnp.zeros((2, self.embedding))} if self.embedding else {}
        if given is not None:
            cond["low"] = jnp.zeros((2, *given))
        encoder = self.encoder.init(rng.stream(key, "encoder"), own)
        return {
            "network": self.network.init(rng.stream(key, "network"), z, gamma, cond).get(
                "params", {}
            ),
            "schedule": self.schedule.init(rng.stream(key, "schedule")),
            **({"encoder": encoder} if encoder else {}),
            **({"autoencoder": autoencoder} if autoencoder else {}),
        }

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what diffuses, for data `x` of `shape`."""
        return self.space.latent_shape(shape)

    def coded(self, params: Params, x: Data, dropout: Array | None = None) -> Coded:
        """Data with mean and deviation of their latents; what has been encoded stays as it is.

        Args:
            x: data in model space, `[B, ...]`.
            dropout: one key per example for training, or None.
        """
        if isinstance(x, Coded):
            return x
        mean, std = self.space.encode(self._between(params), x, _keys("encode", dropout))
        return Coded(x, mean, std)

    def log_prob(
        self, params: Params, x: Array, y_0: Array, gamma_0: Array, dropout: Array | None = None
    ) -> Array:
        """`log P(x | z_0)`, nats, `[B]`, for data in model space and `y_0 = z_0 / alpha_0`."""
        keys = _keys("decode", dropout)
        return self.space.log_prob(self._between(params), x, y_0, gamma_0, keys)

    def log_probs(self, params: Params, x: Array, y_0: Array, gamma_0: Array) -> Array:
        """`log P` of every level of every value given `z_0`; see `Autoencoder.log_probs`."""
        return self.space.log_probs(self._between(params), x, y_0, gamma_0)

    def decode(self, params: Params, y_0: Array) -> Array:
        """The most probable data given `y_0 = z_0 / alpha_0`, as stored (uint8 images, say)."""
        return self.space.decode(self._between(params), y_0)

    def _between(self, params: Params) -> Params:
        return params.get("autoencoder", {})

    def condition(
        self, params: Params, x: Array, cond: Cond, keys: Array | None
    ) -> tuple[Params, Cond, Array]:
        """Draws the schedule's auxiliary latent, if it has one, and the latent that is given.

        Args:
            x: data in model space, `[B, ...]`.
            keys: one key per example (`Noise.latent`).

        Returns:
            The schedule's parameters with the latent among them, the condition with the latent as
            `"latent"`, and the latent's divergence from its prior, `[B]`, nats. Without a latent,
            both come back unchanged and the divergence is 0. The image's own latent, where it is
            given and not yet there, is `"low"`; its bits are those of the latents' model.

        Raises:
            ValueError: something is drawn and there are no keys.
        """
        schedule = params["schedule"]
        if self.from_latent and "low" not in cond:
            if keys is None:
                raise ValueError("this model is told a drawn latent: Noise.latent must have keys")
            cond = {**cond, "low": given_latent.draw(self, params, x, keys)}
        if not self.traits.latent:
            return schedule, cond, jnp.zeros(x.shape[0], x.dtype)
        if keys is None:
            raise ValueError("this schedule draws a latent: Noise.latent must have keys")
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
                every gamma, so that the terms of one bound see one encoder.

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
            network then sees the mean of each example).
        """

        def denoise(z: Array, gamma: Array, cond: Cond) -> Pred:
            gamma = jnp.asarray(gamma)
            g = gamma.mean(axis=tuple(range(1, z.ndim))) if gamma.ndim > 1 else gamma
            g = jnp.broadcast_to(g, z.shape[:1])
            if "to" not in self.cond_scalars:  # this network knows nothing of where `jump()` ends
                cond = {k: v for k, v in cond.items() if k != "to"}
            seen = network_input(self.prediction, z, gamma)
            out = self.network.apply({"params": params["network"]}, seen, g, cond, dropout)
            centres = self._centres(params)
            channels = z.shape[-1]
            if self.prediction == "levels" and centres is not None:
                channels = channels // centres[0].size * len(centres)
            wanted = (*z.shape[:-1], channels)
            if jnp.shape(out) != wanted:
                raise ConfigError(
                    f"network {type(self.network).__name__} returned shape {jnp.shape(out)} for z "
                    f"of shape {z.shape}; prediction={self.prediction!r} needs {wanted}"
                )
            return to_pred(self.prediction, out, z, gamma, centres)

        return denoise

    def _centres(self, params: Params) -> Array | None:
        """The levels of what diffuses, `[V]` or vectors `[V, D]`, where there are any."""
        if hasattr(self.space, "vectors"):
            return getattr(self.space, "vectors")(self._between(params))  # noqa: B009
        return self.decoder.centres() if hasattr(self.decoder, "centres") else None

    def null(self, cond: Cond) -> Cond:
        """The same condition without label (the learned null class), text and embedding (zeros)."""
        none = {"label": lambda a: jnp.full_like(a, self.num_classes)}
        none |= dict.fromkeys(("text", "embedding"), jnp.zeros_like)
        return {k: none[k](a) if k in none else a for k, a in cond.items()}


def need_likelihood(model: Model, who: str) -> None:
    """Refuses (`ConfigError`) a student of few steps, whose predictions are not means of data."""
    require(model, who, f"use its teacher ({model.teacher})", likelihood=True)


def _keys(part: str, dropout: Array | None) -> Array | None:
    """The keys of another part than the network, apart from the small numbers that folds in."""
    return fold_keys(dropout, zlib.crc32(part.encode()))
