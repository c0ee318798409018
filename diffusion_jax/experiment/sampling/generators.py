"""Sampling of a run that draws images in one step: a GAN's generator."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import config, config_fields, registry, rng, saved_config
from diffusion_jax.config_groups import GROUPS
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.sharding import replicated
from diffusion_jax.runtime.storage import place
from diffusion_jax.sampling import generate
from diffusion_jax.types import Array, Cond, Params

# Settings that a generator does not use.
_UNUSED = (
    *GROUPS["sampling"], "sample.steps", "sample.captions", "sample.prompts", "sample.captions_of",
    "sample.prior", "sample.prior_samples", "sample.prior_guidance", "sample.best_of",
    "sample.judge", "sample.low_gamma", "sample.low",
)  # fmt: skip


def generates(experiment: Experiment) -> bool:
    """Whether the run is a generator, which draws images in one step."""
    return experiment.task.holds == "generator"


def _classes(experiment: Experiment) -> int:
    return experiment.source.num_classes if experiment.config.conditional else 0


def check(experiment: Experiment) -> None:
    """Raises ConfigError for classes that do not exist, and for settings that have no effect."""
    generate.cycle(_classes(experiment), 1, tuple(experiment.config.sample.labels))
    settings = config_fields.flat(saved_config.to_dict(experiment.config))
    earlier = [config_fields.flat(saved_config.to_dict(c)) for c in _as_they_were(experiment)]
    for name in _UNUSED:
        if all(c[name] != settings[name] for c in earlier):
            raise ConfigError(
                f"{name}={settings[name]!r}: {experiment.config.task} draws in one step, without "
                "it; it uses sample.num, sample.batch, sample.labels and sample.seed"
            )


def _as_they_were(experiment: Experiment) -> list[ConfigDict]:
    """The default settings, and those that the run was trained with."""
    found = saved_config.find(place(experiment.checkpoint or experiment.workdir))
    return [config.base(), saved_config.read(found) if found else experiment.config]


@dataclass(frozen=True)
class Generated:
    """A compiled generator, with the interface of `compiled_sampler.Drawing`.

    Attributes:
        labels: the class of each image, int32 `[N]`, or None.
    """

    experiment: Experiment
    params: Params
    labels: np.ndarray | None
    run: Callable
    captions: tuple[str, ...] = ()
    method: Any = field(default_factory=lambda: SimpleNamespace(gammas=np.zeros(0)))

    def __call__(self, seed: int, quiet: bool = False) -> np.ndarray:
        """Draws `config.sample.num` images, uint8."""
        c, e = self.experiment.config.sample, self.experiment
        with jax.default_matmul_precision(e.config.eval.matmul_precision or None):
            return generate.generate(
                self.params, self.run, tuple(e.source.shape), self.labels, c.num, c.batch, seed,
                e.mesh, quiet,
            )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Everything that determines the images besides the weights, for records."""
        return {"sampler": "generator", "steps": 1, "network_calls": 1}

    def levels(self, drawn: np.ndarray) -> np.ndarray:
        """Returns the images unchanged: they are levels."""
        return drawn


def compiled(experiment: Experiment, params: Params) -> Generated:
    """Compiles the generator of a run."""
    check(experiment)
    c, source = experiment.config, experiment.source
    labels = generate.cycle(_classes(experiment), c.sample.num, tuple(c.sample.labels))
    decoder = registry.build("decoders", c.decoder, levels=source.levels)
    bind = experiment.task.function(experiment)

    def run(params: Params, key: Array, cond: Cond, ids: Array) -> Array:
        keys = rng.stream(rng.keyed(key, ids), "start")
        x = bind(params)(keys, cond.get("label"))
        return decoder.decode(jnp.clip(x, -1.0, 1.0)).astype(jnp.uint8)

    once = jax.jit(run, out_shardings=replicated(experiment.mesh))
    return Generated(
        experiment,
        params,
        labels,
        lambda params, key, cond, shape, ids: once(params, key, cond, ids),
    )
