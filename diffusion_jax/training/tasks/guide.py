"""Trains a network on noisy images, for use in guidance: `guide(classifier())`.

With `against`, the work directory of a run, the network learns to distinguish the data from samples
of that run: `guide(discriminator(), against='runs/digits')`. With `clean=True` it sees only the
lowest noise level: it can then judge images, but not guide a sampler.

With `config.autoencoder` it sees noisy latents. The autoencoder and the scale of its latents come
from its checkpoint, and are part of the guide's weights.
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
from diffusion_jax.training.averages import Average
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
        network: the network to train.
        encode: maps images to model space (the decoder's `encode`).
        autoencoder: maps model space to the latents that get noise; None for a guide of pixels.
        gamma_min: lowest noise level.
        gamma_max: highest noise level; gamma is uniform between the two, stratified over the batch.
        optimizer: the optax transformation.
        ema: the weight averages, as (name, average) pairs.
        ema_warmup: whether averages warm up.
        seed: seed of all noise.
    """

    network: Guide
    encode: Callable[[Array], Array]
    gamma_min: float
    gamma_max: float
    optimizer: optax.GradientTransformation
    ema: tuple[tuple[str, Average], ...]
    ema_warmup: bool
    seed: int
    autoencoder: Autoencoder | None = None

    def data(self, params: Params, images: Array, keys: Array) -> Array:
        """The data, or a sample of their latents, to which noise is added; one key per example."""
        x = self.encode(images)
        if self.autoencoder is None:
            return x
        mean, std = self.autoencoder.encode(params["autoencoder"], x)
        if std is None:
            return mean
        return mean + std * rng.normal(rng.stream(keys, "latent"), mean.shape, mean.dtype)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The groups of weights that are not trained."""
        return ("autoencoder",) if self.autoencoder else ()

    def gamma(self, t: Array) -> Array:
        """The gamma at times `t` in [0, 1]."""
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that `update` returns."""
        return ("loss", *self.network.metrics, "grad_norm")

    def update(
        self, state: State, batch: dict[str, Array], given: Any = ()
    ) -> tuple[State, Metrics]:
        """One step on a global batch `{"image", "label"}`, with `"text"` if there are captions."""
        root, n = jax.random.key(self.seed), len(batch["image"])
        keys = rng.per_example(rng.stream(root, "latent", state.step), n)
        x = self.data(state.params, batch["image"], keys)
        noise = rng.draw_noise(rng.stream(root, "noise", state.step), x, dropout=True)
        gamma = self.gamma(noise.t)
        z = diffuse(x, gamma, noise.eps)
        which = wording(root, state.step, batch["text"]) if "text" in batch else None
        cond = captions.conditions(batch, which)

        def loss(params: dict) -> tuple[Array, Metrics]:
            per_example = self.network.loss(params, z, gamma, cond, noise.dropout)
            means = jax.tree.map(jnp.mean, per_example)
            return means["loss"], means

        trained = {k: v for k, v in state.params.items() if k not in self.frozen}
        grads, metrics = jax.grad(loss, has_aux=True)(trained)
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
        """The names of the metrics that `update` returns."""
        return self.recipe.metrics

    def initial(self) -> State:
        """Weights, averages and optimiser state."""
        c = self.setting.config
        params = self.init(jax.random.key(c.seed))
        return state_lib.init(params, self.recipe.optimizer, tuple(c.ema), None, self.recipe.frozen)

    def given(self) -> Given:
        """No weights."""
        return Given()

    def load(self) -> tuple[Split, Split | None]:
        """The data, or data and samples; missing samples are drawn here."""
        c, source = self.setting.config, self.data()
        source.split(c.eval.split)  # needed at the end: fail now if it is missing
        return source.split("train"), source.split("valid") if c.eval_every else None

    def ready(self, state: State, train: Split) -> tuple[State, Split]:
        """Returns state and data unchanged."""
        return state, train

    def update(
        self, state: State, batch: dict[str, Array], given: Any = ()
    ) -> tuple[State, Metrics]:
        """One step."""
        return self.recipe.update(state, batch, given)

    def validate(self, state: State, valid: Split) -> dict[str, float]:
        """Loss and metrics, averaged over noise levels."""
        return self.handed.score(self, self._average(state), valid)

    def sample(self, writer: Writer, state: State, step: int) -> None:
        """Does nothing: a guide draws no samples."""

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
        against: the run whose samples it learns to distinguish from data; empty for none.
        clean: whether it sees only the lowest noise level.
    """

    spec: Spec
    against: str = ""
    clean: bool = False
    figure: str = "loss_by_gamma"

    @property
    def holds(self) -> str:
        """The name of the network's plug-in, by which guidance finds it."""
        return self.spec.name

    def network(self, setting: Setting) -> Guide:
        """The network for the shape of the data; with `against` it has twice as many classes."""
        classes = setting.source.num_classes
        if self.against:
            classes = 2 * classes if setting.config.conditional else 2
        shape = _seen_shape(setting)
        arguments = {
            **setting.offered(), "shape": shape, "channels": shape[-1], "num_classes": classes
        }  # fmt: skip
        network = registry.build("guides", self.spec, **arguments, text=setting.text)
        if setting.text is not None and getattr(network, "text", None) is None:
            raise ConfigError(
                f"text={setting.config.text!r}, but {self.spec.name} does not read text: use "
                "clip(), or leave it out"
            )
        return network

    def open(self, setting: Setting, handed: Handed) -> Training:
        """Checks the settings and returns the task."""
        c = setting.config
        if c.accumulate != 1 or c.augment != "none()":
            raise ConfigError("a guide is trained with accumulate=1 and augment='none()'")
        if c.embedding:
            raise ConfigError(
                f"embedding={c.embedding!r}: a guide is not conditioned on CLIP embeddings; leave "
                "it out"
            )
        autoencoder = _autoencoder(setting)
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
            autoencoder=autoencoder,
        )

        def init(key: Array) -> Params:
            return self._init(setting, key)

        def data() -> Source:
            return handed.against(setting, self.against) if self.against else setting.source

        return Training(setting, handed, recipe, str(self.spec), data, init)

    def shapes(self, setting: Setting) -> Params:
        """The shapes of the network's weights."""
        self.network(setting)  # built here, outside the trace
        return jax.eval_shape(lambda: self._init(setting, jax.random.key(0)))

    def _init(self, setting: Setting, key: Array) -> Params:
        """The network's weights, and those of the autoencoder if it sees latents."""
        params = self.network(setting).init(key, _seen_shape(setting))
        autoencoder = _autoencoder(setting)
        if autoencoder is None:
            return params
        shape = setting.offered()["shape"]
        return {**params, "autoencoder": autoencoder.init(rng.stream(key, "autoencoder"), shape)}

    def carried(self, setting: Setting) -> dict[str, Any]:
        """What guidance needs besides the weights: captions to contrast a text with."""
        bank = getattr(self.network(setting), "bank", None)
        if bank is None:
            return {}
        return {"bank": bank(setting.source.split("train").captions if setting.text else None)}

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """Maps weights to the log-probability whose gradient guidance follows."""
        if self.clean:
            raise ConfigError(
                f"{setting.workdir} was trained on clean images (clean=True): it can judge images, "
                "but cannot guide sampling; train one without clean"
            )
        network = self.network(setting)
        if hasattr(network, "opened"):
            return network.opened  # pyright: ignore[reportAttributeAccessIssue]
        return lambda params: lambda z, gamma, cond: network.log_prob(params, z, gamma, cond)


def _autoencoder(setting: Setting) -> Autoencoder | None:
    """The autoencoder whose latents a guide sees; None for a guide of pixels.

    Raises:
        ConfigError: it has not been trained.
    """
    c, arguments = setting.config, setting.offered()
    if registry.parse(c.autoencoder).name == "pixels":
        return None
    autoencoder = autoencoders.build(c.autoencoder, **arguments)
    if is_trained(autoencoder):
        raise ConfigError(
            f"autoencoder={c.autoencoder}: a guide needs an autoencoder that is already trained: "
            "name the run that it is to guide, conv(checkpoint='runs/latent')"
        )
    return autoencoder


def _seen_shape(setting: Setting) -> tuple[int, ...]:
    """The shape of the network's input: one image, or its latents."""
    autoencoder, shape = _autoencoder(setting), setting.offered()["shape"]
    return shape if autoencoder is None else autoencoder.latent_shape(shape)


def make(network: Spec, against: str = "", clean: bool = False) -> GuideTask:
    """A network trained on noisy images, for guidance.

    Args:
        network: `classifier(...)`, `discriminator(...)` or `clip(...)`.
        against: work directory of a run whose samples the network learns to distinguish from data.
        clean: train on clean images only; the network can then judge images but not guide.
    """
    return GuideTask(network, against, clean)
