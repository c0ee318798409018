"""A diffusion model, trained on a bound: `diffusion()`, the default."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry, rng
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood import bpd
from diffusion_jax.likelihood.objectives.base import (
    Objective,
    bound_of,
    is_shape_invariant,
    weight_of,
)
from diffusion_jax.networks.autoencoders.base import is_trained, rate_of
from diffusion_jax.process.conditioning_augmentation import LowNoise
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.sharding import gathered
from diffusion_jax.training import examples, latent_cache, optimizer, state as state_lib
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.minimize_variance import learns_shape
from diffusion_jax.training.state import State, ema_key
from diffusion_jax.training.step import Recipe
from diffusion_jax.training.tasks.base import Given, Handed, Setting
from diffusion_jax.training.time_sampling.base import Proposal, is_uniform
from diffusion_jax.types import Array, Params, least_noise

_MUCH = 0.05  # share of the bound above which the reconstruction term is worth a warning


@dataclass(frozen=True)
class Training:
    """A diffusion model in training; a `tasks.base.Task`."""

    setting: Setting
    handed: Handed
    recipe: Recipe

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        objective = self.recipe.objective
        return "bits/dim" if bound_of(objective) is objective else "weighted bits/dim"

    @property
    def name(self) -> str:
        """The network's spec string."""
        return self.setting.config.network

    @property
    def metrics(self) -> tuple[str, ...]:
        """The loss, its parts, and the ends of the schedule."""
        return self.recipe.metrics

    @property
    def note(self) -> str:
        """How a network of equal blocks is run, and how the loss differs from the plain bound."""
        ways = {
            "scan": "blocks run in one scan",
            "remat": "activations are recomputed in the backward pass",
        }
        network = self.setting.model.network
        notes = [text for name, text in ways.items() if getattr(network, name, False)]
        weight = weight_of(self.recipe.objective)
        if weight is not None:
            bound = getattr(weight, "monotone", False)
            kind = "a bound on noisy data" if bound else "not a bound"
            notes.append(f"the loss is weighted ({kind}); validation and evaluation use the bound")
        objective_note = getattr(self.recipe.objective, "note", "")
        notes += [objective_note] if objective_note else []
        c = self.setting.config
        if self.recipe.beta is not None:
            notes.append(
                f"prior and diffusion have weight {c.beta:g} in the loss, rising from 0 over the "
                f"first {round(c.beta_warmup * c.steps)} steps; validation and evaluation use the "
                "bound"
            )
        adds = " and a network that adds z" * getattr(network, "skip", False)
        normal = c.prediction == "v" and not adds
        # Not for prediction='levels': the embeddings of levels are not normally distributed anyway.
        if not (self.setting.model.traits.pixels or normal or c.prediction == "levels"):
            notes.append(
                f"with prediction={c.prediction!r}{adds} the untrained model's latents are not "
                "N(0, I); with prediction='v' and a network without skip they are"
            )
        return ", ".join(notes)

    def initial(self) -> State:
        """Weights, averages, optimiser state and the proposal's initial state."""
        c = self.setting.config
        params = self.setting.model.init(jax.random.key(c.seed), self.setting.source.shape)
        recipe = self.recipe
        return state_lib.init(
            params, recipe.optimizer, tuple(c.ema), recipe.proposal.init(), recipe.frozen
        )

    def given(self) -> Given:
        """No weights."""
        return Given()

    def load(self) -> tuple[Split, Split | None]:
        """The training split, and the validation split if there is validation."""
        c, source = self.setting.config, self.setting.source
        source.split(c.eval.split)  # needed at the end: fail now if it is missing
        train = source.split("train")
        examples.check(self.setting.model, train)
        return train, source.split("valid") if c.eval_every else None

    def ready(self, state: State, train: Split) -> tuple[State, Split]:
        """Prepares what depends on the data.

        Gives the network its examples, standardises the latents of a pretrained autoencoder, and
        computes frozen latents once.
        """
        c, s = self.setting.config, self.setting
        if not c.init:
            key = rng.stream(jax.random.key(c.seed), "examples")
            state = examples.started(s.model, state, train, key)
        how = Pass(s.mesh, c.batch, quiet=True)
        state = latent_cache.standardised(s.model, state, train, how)
        if not self.recipe.frozen or registry.parse(c.augment).name != "none":
            return state, train
        return state, latent_cache.cached(s.model, state.params, train, how, c.resident_mib * 2**20)

    def update(
        self, state: State, batch: dict[str, Array], given: Any = ()
    ) -> tuple[State, Metrics]:
        """One step; see `training.step`."""
        return self.recipe.update(state, batch, given)

    def validate(self, state: State, valid: Split) -> dict[str, float]:
        """The bound on held-out images, with the first average."""
        c, s = self.setting.config, self.setting
        records = bpd.measure(
            s.model, bound_of(self.recipe.objective), self._average(state), valid,
            Pass(s.mesh, c.eval.batch, quiet=True), draws=c.valid_draws,
        )  # fmt: skip
        summary = bpd.summary(records)
        if int(jax.device_get(state.step)) <= c.eval_every:
            note = reconstruction_note(summary, c.gamma_min, s.source.levels)
            if note and s.model.traits.pixels:
                say(note)
        return {k: summary[k] for k in ("bits_per_dim", "standard_error")}

    def sample(self, writer: Writer, state: State, step: int) -> None:
        """Draws a grid with the first average."""
        picture = self.handed.sample(self.setting, self._average(state), step, True)
        writer.image(step, "samples", np.asarray(picture))

    def finish(self, writer: Writer, state: State) -> None:
        """Test-set evaluation, samples and report."""
        step = int(jax.device_get(state.step))
        self.handed.finish(self.setting, self._average(state), step, writer)

    def _average(self, state: State) -> Params:
        return gathered(self.setting.mesh, state.ema[ema_key(self.setting.config.ema[0])])


@dataclass(frozen=True)
class Diffusion:
    """A `tasks.base.Plugin`."""

    holds: str = "denoiser"
    figure: str = "bits_per_dim"

    def open(self, setting: Setting, handed: Handed) -> Training:
        """Checks the settings and returns the task."""
        handed.check(setting)
        recipe = make_recipe(setting)
        check = getattr(recipe.objective, "check", None)
        if check is not None:
            check(setting.model)
        return Training(setting, handed, recipe)

    def shapes(self, setting: Setting) -> Params:
        """The shapes of the model's weights."""
        model, shape = setting.model, setting.source.shape  # built here, outside the trace
        return jax.eval_shape(lambda: model.init(jax.random.key(0), shape))

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """Maps weights to the denoiser."""
        return setting.model.denoiser


def reconstruction_note(summary: dict[str, Any], gamma_min: float | None, levels: int) -> str:
    """Advice if the reconstruction term is a large part of the bound; empty if it is not.

    Args:
        summary: summary of the bound, from `bpd.summary`.
        gamma_min: the setting `gamma_min`.
        levels: number of grey levels of the data.
    """
    part = summary["breakdown"]["reconstruction"]["bits_per_dim"]
    total = summary["bits_per_dim"]
    if part <= _MUCH * total:
        return ""
    fits = least_noise(levels)
    used = fits if gamma_min is None else gamma_min
    advice = f"below {used}" if used <= fits else f"about {fits} for {levels} levels, not {used}"
    return (
        f"reconstruction takes {part:.2f} of {total:.2f} bits/dim: even the lowest noise hides the "
        f"data's levels; a new run with a lower --config.gamma_min ({advice}) may need fewer bits"
    )


def make() -> Diffusion:
    """A diffusion model of the data, defined by the other settings."""
    return Diffusion()


def make_recipe(setting: Setting) -> Recipe:
    """The training step's recipe, from the configuration."""
    c = setting.config
    rate = optimizer.learning_rate(c.lr, c.warmup, c.lr_decay, c.steps)
    objective = registry.build("objectives", c.objective)
    trains = is_trained(setting.model.space) and not setting.model.traits.pixels
    if trains and weight_of(objective) is not None:
        raise ConfigError(
            f"objective {c.objective}: weights are for training the prior alone; an autoencoder "
            "trained with them would exploit them. Use continuous(), or train=False"
        )
    proposal = registry.build("time_sampling", c.proposal)
    return Recipe(
        model=setting.model,
        objective=objective,
        optimizer=optimizer.make(
            c.optimizer,
            rate,
            c.clip,
            c.decay_mask,
            {"autoencoder": rate_of(setting.model.space)},
        ),
        augment=setting.augment,
        class_dropout=c.class_dropout,
        text_dropout=c.text_dropout,
        embedding_dropout=c.embedding_dropout,
        ema=tuple((ema_key(d), d) for d in c.ema),
        ema_warmup=c.ema_warmup,
        accumulate=c.accumulate,
        seed=c.seed,
        unroll=jax.default_backend() == "cpu",
        proposal=proposal,
        minimize_variance=_minimize_variance(setting, objective, proposal),
        dims=math.prod(setting.source.shape),
        low_noise=LowNoise(c.low_clean, setting.offered()["gamma_min"], c.gamma_max),
        beta=_beta(setting),
    )


def _beta(setting: Setting) -> Callable[[Array], Array] | None:
    """The weight of prior and diffusion at each step; None if it is always 1."""
    c = setting.config
    if not 0.0 <= c.beta_warmup <= 1.0 or c.beta < 0.0:
        raise ConfigError(
            f"beta={c.beta} must be at least 0, and beta_warmup={c.beta_warmup} in [0, 1]"
        )
    if c.beta == 1.0 and not c.beta_warmup:
        return None
    if not is_trained(setting.model.space) or setting.model.traits.pixels:
        raise ConfigError(
            f"beta={c.beta}, beta_warmup={c.beta_warmup}: these are for training an autoencoder; "
            "leave both out"
        )
    steps = max(c.beta_warmup * c.steps, 1e-9)
    return lambda step: c.beta * jnp.clip((step + 1.0) / steps, 0.0, 1.0)


def _minimize_variance(setting: Setting, objective: Objective, proposal: Proposal) -> bool:
    """Whether to train the schedule's shape on the variance; raises where that makes no sense."""
    c, reason = setting.config, ""
    if not learns_shape(Diffusion().shapes(setting)):
        reason = f"schedule {c.schedule} has no shape to train; use learned_mlp()"
    elif not is_shape_invariant(objective):
        reason = (
            f"the bound of objective {c.objective} depends on the schedule's shape, so lower "
            "variance may mean a worse bound; use continuous()"
        )
    elif c.beta != 1.0 or c.beta_warmup:
        reason = "with beta or beta_warmup the loss is not the bound"
    elif not is_uniform(proposal):
        reason = f"with proposal {c.proposal} the variance does not depend on the schedule's shape"
    if c.minimize_variance == "on" and reason:
        raise ConfigError(f"minimize_variance='on': {reason}")
    if c.minimize_variance not in ("auto", "on", "off"):
        raise ConfigError(f"minimize_variance={c.minimize_variance!r}: allowed: auto, on, off")
    return c.minimize_variance != "off" and not reason
