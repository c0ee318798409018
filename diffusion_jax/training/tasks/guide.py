"""A network of noisy images that guidance will follow: `guide(classifier())`.

`against` names a run (a work directory): the network then learns to tell the data from samples of
that run, as `guide(discriminator(), against='runs/digits')`. With `clean=True` it sees the least
noise only: a judge of images, and no guide.

With `config.autoencoder` it sees noisy latents. The autoencoder and the units of its latents are
those of its checkpoint, and are part of the guide's weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from diffusion_jax import registry, rng
from diffusion_jax.data import captions
from diffusion_jax.data.base import Source, Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.autoencoders import base as autoencoders
from diffusion_jax.networks.autoencoders.base import Autoencoder, is_trained
from diffusion_jax.networks.guides.base import Guide
from diffusion_jax.registry import Spec
from diffusion_jax.runtime.sharding import gathered
from diffusion_jax.training import optimizer, state as state_lib
from diffusion_jax.training.cond_dropout import wording
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.optimizer import advance
from diffusion_jax.training.state import State, ema_key
from diffusion_jax.training.tasks.base import Given, Handed, Setting
from diffusion_jax.types import Array, Params, diffuse


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a step besides its data.

    Attributes:
        network: what is trained.
        encode: images to model space (the decoder's).
        autoencoder: between these and what has noise; None for a guide of pixels.
        gamma_min: least noise it sees.
        gamma_max: most noise it sees; gamma is uniform between, stratified over the batch.
        optimizer: the optax transformation.
        ema: decays of the weight averages, as (name, decay) pairs.
        ema_warmup: whether averages warm up.
        seed: seed of all noise.
    """

    network: Guide
    encode: Callable[[Array], Array]
    gamma_min: float
    gamma_max: float
    optimizer: optax.GradientTransformation
    ema: tuple[tuple[str, float], ...]
    ema_warmup: bool
    seed: int
    autoencoder: Autoencoder | None = None

    def data(self, params: Params, images: Array, keys: Array) -> Array:
        """What noise is added to: the data, or a draw of their latents, by one key per example."""
        x = self.encode(images)
        if self.autoencoder is None:
            return x
        mean, std = self.autoencoder.encode(params["autoencoder"], x)
        if std is None:
            return mean
        return mean + std * rng.normal(rng.stream(keys, "latent"), mean.shape, mean.dtype)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Groups of weights that training leaves alone."""
        return ("autoencoder",) if self.autoencoder else ()

    def gamma(self, t: Array) -> Array:
        """The gamma of times in [0, 1]."""
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `update` reports."""
        return ("loss", *self.network.metrics, "grad_norm")

    def update(
        self, state: State, batch: dict[str, Array], given: Any = ()
    ) -> tuple[State, Metrics]:
        """One step on one global batch `{"image", "label"}`, with captions where there are any."""
        root, n = jax.random.key(self.seed), len(batch["image"])
        keys = rng.per_example(rng.stream(root, "latent", state.step), n)
        x = self.data(state.params, batch["image"], keys)
        noise = rng.draw_noise(rng.stream(root, "noise", state.step), x, dropout=True)
        gamma = self.gamma(noise.t)
        z = diffuse(x, gamma, noise.eps)
        which = wording(root, state.step, batch["text"]) if "text" in batch else None
        told = captions.conditions(batch, which)

        def loss(params: dict) -> tuple[Array, Metrics]:
            each = self.network.loss(params, z, gamma, told, noise.dropout)
            means = jax.tree.map(jnp.mean, each)
            return means["loss"], means

        own = {k: v for k, v in state.params.items() if k not in self.frozen}
        grads, metrics = jax.grad(loss, has_aux=True)(own)
        after = advance(state, grads, self.optimizer, self.ema, self.ema_warmup)
        return after, metrics | {"grad_norm": optax.tree.norm(grads)}


@dataclass(frozen=True)
class Training:
    """A guide in training; a `tasks.base.Task`."""

    setting: Setting
    handed: Handed
    recipe: Recipe
    name: str
    data: Callable[[], Source]
    init: Callable[[Array], Params]
    unit: str = "nats"
    note: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What `update` reports."""
        return self.recipe.metrics

    def initial(self) -> State:
        """Weights, averages and optimiser."""
        c = self.setting.config
        params = self.init(jax.random.key(c.seed))
        return state_lib.init(params, self.recipe.optimizer, tuple(c.ema), None, self.recipe.frozen)

    def given(self) -> Given:
        """Nothing."""
        return Given()

    def load(self) -> tuple[Split, Split | None]:
        """The data, or data and samples; these are drawn here if they are not there."""
        c, source = self.setting.config, self.data()
        source.split(c.eval.split)  # measured at the end: now is the time to miss it
        return source.split("train"), source.split("valid") if c.eval_every else None

    def ready(self, state: State, train: Split) -> tuple[State, Split]:
        """Both as they are."""
        return state, train

    def update(
        self, state: State, batch: dict[str, Array], given: Any = ()
    ) -> tuple[State, Metrics]:
        """One step."""
        return self.recipe.update(state, batch, given)

    def validate(self, state: State, valid: Split) -> dict[str, float]:
        """Loss and metrics, mean over noise levels."""
        return self.handed.score(self, self._average(state), valid)

    def sample(self, writer: Writer, state: State, step: int) -> None:
        """There is nothing to draw."""

    def finish(self, writer: Writer, state: State) -> None:
        """Evaluation and report."""
        step = int(jax.device_get(state.step))
        self.handed.finish(self.setting, self._average(state), step, writer)

    def _average(self, state: State) -> Params:
        return gathered(self.setting.mesh, state.ema[ema_key(self.setting.config.ema[0])])


@dataclass(frozen=True)
class GuideTask:
    """A `tasks.base.Plugin`.

    Attributes:
        spec: the network, a plug-in of `guides`.
        against: the run whose samples it learns to tell from data; empty for none.
        clean: whether it sees no more than the least noise.
    """

    spec: Spec
    against: str = ""
    clean: bool = False
    figure: str = "loss_by_gamma"

    @property
    def holds(self) -> str:
        """The name of the plug-in: guidance asks for it by that."""
        return self.spec.name

    def network(self, setting: Setting) -> Guide:
        """The network, shaped by the data; with `against` it knows twice the classes."""
        classes = setting.source.num_classes
        if self.against:
            classes = 2 * classes if setting.config.conditional else 2
        shape = _seen_shape(setting)
        known = {**setting.offered(), "shape": shape, "channels": shape[-1], "num_classes": classes}
        built = registry.build("guides", self.spec, **known, text=setting.text)
        if setting.text is not None and getattr(built, "text", None) is None:
            raise ConfigError(
                f"text={setting.config.text!r}, but {self.spec.name} reads none: use clip(), or "
                "leave it out"
            )
        return built

    def open(self, setting: Setting, handed: Handed) -> Training:
        """The task; its settings are checked."""
        c = setting.config
        if c.accumulate != 1 or c.augment != "none()":
            raise ConfigError("a guide is trained with accumulate=1 and augment='none()'")
        if c.embedding:
            raise ConfigError(
                f"embedding={c.embedding!r}: a guide is not told what a CLIP sees; leave it out"
            )
        between = _between(setting)
        handed.check(setting)
        if self.against:
            handed.check_against(setting, self.against)
        rate = optimizer.learning_rate(c.lr, c.warmup, c.lr_decay, c.steps)
        levels = setting.source.levels
        decoder = registry.build("decoders", c.decoder, levels=levels)
        view = registry.build("views", c.view, levels=levels)
        gamma_min = setting.offered()["gamma_min"]
        recipe = Recipe(
            network=self.network(setting),
            encode=lambda images: decoder.encode(view(images)[0]),
            gamma_min=gamma_min,
            gamma_max=gamma_min if self.clean else c.gamma_max,
            optimizer=optimizer.make(c.optimizer, rate, c.clip, c.decay_mask),
            ema=tuple((ema_key(d), d) for d in c.ema),
            ema_warmup=c.ema_warmup,
            seed=c.seed,
            autoencoder=between,
        )

        def init(key: Array) -> Params:
            return self._init(setting, key)

        def data() -> Source:
            return handed.against(setting, self.against) if self.against else setting.source

        return Training(setting, handed, recipe, str(self.spec), data, init)

    def shapes(self, setting: Setting) -> Params:
        """Those of the network."""
        self.network(setting)  # built here, not while it is traced
        return jax.eval_shape(lambda: self._init(setting, jax.random.key(0)))

    def _init(self, setting: Setting, key: Array) -> Params:
        """The network's weights, and those of the autoencoder if it sees latents."""
        between, own = _between(setting), self.network(setting).init(key, _seen_shape(setting))
        if between is None:
            return own
        shape = setting.offered()["shape"]
        return {**own, "autoencoder": between.init(rng.stream(key, "autoencoder"), shape)}

    def carried(self, setting: Setting) -> dict[str, Any]:
        """What guidance needs beside the weights: captions that a text is told from."""
        bank = getattr(self.network(setting), "bank", None)
        if bank is None:
            return {}
        return {"bank": bank(setting.source.split("train").captions if setting.text else None)}

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """The log-probability whose gradient is followed."""
        if self.clean:
            raise ConfigError(
                f"{setting.workdir} was trained on clean images (clean=True): it judges images "
                "and cannot guide noisy ones; train one without clean"
            )
        network = self.network(setting)
        if hasattr(network, "opened"):
            return network.opened  # pyright: ignore[reportAttributeAccessIssue]
        return lambda params: lambda z, gamma, cond: network.log_prob(params, z, gamma, cond)


def _between(setting: Setting) -> Autoencoder | None:
    """The autoencoder whose latents a guide sees; None for a guide of pixels.

    Raises:
        ConfigError: it is still to be trained.
    """
    c, known = setting.config, setting.offered()
    if registry.parse(c.autoencoder).name == "pixels":
        return None
    found = autoencoders.build(c.autoencoder, **known)
    if is_trained(found):
        raise ConfigError(
            f"autoencoder={c.autoencoder}: a guide sees latents of an autoencoder that has been "
            "trained: name the model that it is to guide, conv(checkpoint='runs/latent')"
        )
    return found


def _seen_shape(setting: Setting) -> tuple[int, ...]:
    """The shape of what it sees of one image."""
    between, shape = _between(setting), setting.offered()["shape"]
    return shape if between is None else between.latent_shape(shape)


def make(network: Spec, against: str = "", clean: bool = False) -> GuideTask:
    """A network of noisy images for guidance.

    Args:
        network: `classifier(...)`, `discriminator(...)` or `clip(...)`.
        against: a work directory: learn to tell its samples from the data.
        clean: learn clean images only, to judge and not to guide.
    """
    return GuideTask(network, against, clean)
