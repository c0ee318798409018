"""A GAN, as a baseline: `gan()`. It samples in one step and has no likelihood."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.allowed import Count, NotNegative
from diffusion_jax.baselines import r3gan
from diffusion_jax.data.base import Split
from diffusion_jax.data.media.image import IMAGE
from diffusion_jax.errors import ConfigError
from diffusion_jax.runtime.sharding import gathered
from diffusion_jax.training import optimizer, state as state_lib
from diffusion_jax.training.gan_step import Recipe
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.state import State, ema_key
from diffusion_jax.training.tasks.base import Given, Handed, Setting
from diffusion_jax.types import Array, Params


@dataclass(frozen=True)
class Training:
    """A GAN in training; a `tasks.base.Task`."""

    setting: Setting
    handed: Handed
    recipe: Recipe
    name: str
    unit: str = "nats"
    note: str = "a GAN: the losses say little about the samples; look at them"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that `update` returns."""
        return self.recipe.metrics

    def initial(self) -> State:
        """Both networks, averages of the generator, and an optimiser state for each network."""
        c, r = self.setting.config, self.recipe
        state_lib.check_decays(tuple(c.ema))
        key = jax.random.key(c.seed)
        params = r3gan.parameters(r.generator, r.discriminator, r.size, key)
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema={ema_key(d): jax.tree.map(jnp.copy, params["generator"]) for d in c.ema},
            opt_state={k: r.optimizer.init(v) for k, v in params.items()},
        )

    def given(self) -> Given:
        """No weights."""
        return Given()

    def load(self) -> tuple[Split, Split | None]:
        """The training split, and the validation split if there is validation."""
        c, source = self.setting.config, self.setting.source
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
        """Mean score of held-out images minus that of as many training images.

        A value far below 0 means that the discriminator has memorised its training data.
        """
        r, params = self.recipe, gathered(self.setting.mesh, state.params["discriminator"])
        train = self.setting.source.split("train")
        n = min(len(valid), len(train), 256)

        def mean(split: Split) -> float:
            rows = split.take(np.arange(n))
            label = jnp.asarray(rows["label"]) if r.generator.num_classes else None
            return float(r.score(params, label)(r.encode(jnp.asarray(rows["image"]))).mean())

        return {"held_out_gap": mean(valid) - mean(train)}

    def sample(self, writer: Writer, state: State, step: int) -> None:
        """Draws a grid with the first average."""
        picture = self.handed.sample(self.setting, self._average(state), step, True)
        writer.image(step, "samples", np.asarray(picture))

    def finish(self, writer: Writer, state: State) -> None:
        """Samples and report."""
        step = int(jax.device_get(state.step))
        self.handed.finish(self.setting, self._average(state), step, writer)

    def _average(self, state: State) -> Params:
        return gathered(self.setting.mesh, state.ema[ema_key(self.setting.config.ema[0])])


@dataclass(frozen=True)
class Gan:
    """A `tasks.base.Plugin`; for the fields see `make`."""

    width: int | tuple[int, ...]
    blocks: int
    noise: int
    penalty: float
    holds: str = "generator"
    figure: str = "samples"
    timed: bool = True  # the penalty decreases over the training

    def networks(self, setting: Setting) -> tuple[r3gan.Generator, r3gan.Discriminator]:
        """Generator and discriminator for the shape of the data."""
        c, shape = setting.config, tuple(setting.source.shape)
        classes = setting.source.num_classes if c.conditional else 0
        if c.conditional and not classes:
            raise ConfigError(f"conditional=True, but {setting.source.name} has no classes")
        sizes = r3gan.sizes(max(shape[:2]))
        if isinstance(self.width, tuple) and len(self.width) != len(sizes):
            raise ConfigError(
                f"gan(width={self.width}): images of {shape[0]}x{shape[1]} have sizes of "
                f"{', '.join(map(str, sizes))}; give a width for each, or one number for all"
            )
        generator = r3gan.Generator(shape, self.width, self.blocks, classes)
        return generator, r3gan.Discriminator(self.width, self.blocks, classes)

    def open(self, setting: Setting, handed: Handed) -> Training:
        """Checks the settings and returns the task."""
        c, source = setting.config, setting.source
        if source.medium != IMAGE:
            raise ConfigError(
                f"data={c.data}: a GAN is trained on images, and these are {source.medium.name}s"
            )
        if c.accumulate != 1:
            raise ConfigError(f"accumulate={c.accumulate}: a GAN is trained with accumulate=1")
        if c.lr_decay == "constant":
            raise ConfigError(
                "with lr_decay='constant' a run may be extended, but a GAN's penalties depend on "
                "the length of the training: use lr_decay='cosine'"
            )
        if setting.augment.size:
            raise ConfigError(
                f"augment={c.augment} conditions the network on the augmentation, which a GAN does "
                "not support: use flip() or none()"
            )
        for name in ("view", "autoencoder"):
            if registry.parse(c[name]).name not in ("whole", "pixels"):
                raise ConfigError(f"{name}={c[name]}: a GAN draws whole images; leave it out")
        for name in ("text", "embedding"):
            if c[name]:
                raise ConfigError(
                    f"{name}={c[name]!r}: a GAN is conditioned on the class of an image only; "
                    "leave it out"
                )
        handed.check(setting)
        generator, discriminator = self.networks(setting)
        decoder = registry.build("decoders", c.decoder, levels=source.levels)
        rate = optimizer.learning_rate(c.lr, c.warmup, c.lr_decay, c.steps)
        recipe = Recipe(
            generator=generator,
            discriminator=discriminator,
            size=self.noise,
            encode=decoder.encode,
            levels=source.levels,
            penalty=self.penalty,
            optimizer=optimizer.make(c.optimizer, rate, c.clip, c.decay_mask),
            augment=setting.augment,
            ema=tuple((ema_key(d), d) for d in c.ema),
            ema_warmup=c.ema_warmup,
            steps=c.steps,
            seed=c.seed,
        )
        return Training(setting, handed, recipe, f"gan(width={self.width}, blocks={self.blocks})")

    def shapes(self, setting: Setting) -> Params:
        """The shapes of the generator's weights."""
        networks, size = self.networks(setting), self.noise
        return jax.eval_shape(
            lambda: r3gan.parameters(*networks, size, jax.random.key(0))["generator"]
        )

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """Maps weights to `(keys, label) -> images` in model space."""
        generator = self.networks(setting)[0]

        def bind(params: Params) -> Callable:
            def draw(keys: Array, label: Array | None) -> Array:
                z = rng.normal(keys, (len(keys), self.noise))
                return generator.apply({"params": params}, z, label)

            return draw

        return bind


def make(
    width: Count | tuple[Count, ...] = 64,
    blocks: Count = 1,
    noise: Count = 32,
    penalty: NotNegative = 0.64,
) -> Gan:
    """A small GAN with the recipe of R3GAN.

    Args:
        width: channels of both networks, for all sizes or for each size from 4x4 up; for 32x32
            images `(128, 64, 32, 16)` costs no more than 24 throughout.
        blocks: residual blocks at each size.
        noise: dimension of the noise vector.
        penalty: initial weight of both gradient penalties (gamma in the paper); it decreases to a
            tenth. If it is too small the GAN collapses (on digits, 0.02 does); larger images need
            more.
    """
    return Gan(width, blocks, noise, float(penalty))
