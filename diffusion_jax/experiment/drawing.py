"""Samples of a run, as its configuration says; and the second models that guidance names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, open_run
from diffusion_jax.model import require
from diffusion_jax.sampling import generate, method as method_lib
from diffusion_jax.sampling.edits.base import Edit
from diffusion_jax.sampling.method import Helpers, Method
from diffusion_jax.types import Array, Params, Pred


@dataclass(frozen=True)
class Drawing:
    """A sampler that has been compiled for a run and its weights.

    Attributes:
        method: how it samples.
        labels: the class of each image, int32 `[N]`; None for an unconditional model.
    """

    experiment: Experiment
    params: Params
    method: Method
    labels: np.ndarray | None
    run: Callable

    def __call__(self, seed: int, quiet: bool = False) -> np.ndarray:
        """`config.sample.num` images as the method's final step gives them."""
        c, e = self.experiment.config.sample, self.experiment
        return generate.generate(
            self.params, self.run, e.source.shape, self.labels, c.num, c.batch, seed, e.mesh, quiet
        )

    def levels(self, drawn: np.ndarray) -> np.ndarray:
        """The images as grey levels, uint8; `final="identity()"` keeps real numbers."""
        if drawn.dtype == np.uint8:
            return drawn
        decoded = self.experiment.model.decoder.decode(jnp.asarray(drawn))
        return np.asarray(decoded).astype(np.uint8)


def compiled(experiment: Experiment, params: Params) -> Drawing:
    """The sampler of `experiment.config`."""
    c, model = experiment.config.sample, experiment.model
    method = build(experiment, params)
    labels = generate.labels_for(model, c.num, tuple(c.labels))
    run = generate.compile_sampler(model, method, experiment.mesh)
    return Drawing(experiment, params, method, labels, run)


def denoiser(
    experiment: Experiment, params: Params, labels: Array | None = None
) -> Callable[[Array, Array], Pred]:
    """The denoiser guided as `config.guidance` says, with the labels inside; see `Experiment`."""
    model = experiment.model
    require(
        model, "denoiser()", "use sample(): its gammas are drawn with each image",
        per_pixel_gamma=False, latent=0,
    )  # fmt: skip
    if labels is None and model.num_classes:
        raise ConfigError(
            f"this model is conditional: denoiser(labels=...) takes a class 0 .. "
            f"{model.num_classes - 1} for each image, or {model.num_classes} for no class"
        )
    if labels is not None and model.num_classes and (np.asarray(labels) == model.num_classes).any():
        require(model, "the label for no class", "give every image a class", null_class=True)
    parts = _parts(experiment)
    method_lib.check_guidance(model, parts["guidance"], parts["helpers"])
    guided = parts["guidance"](model.denoiser(params), parts["helpers"].context(model))
    return with_condition(
        guided, {} if labels is None else {"label": jnp.asarray(labels, jnp.int32)}
    )


def build(experiment: Experiment, params: Params, edit: Edit | None = None) -> Method:
    """How `experiment.config` says to sample, checked against the model.

    Learned schedules, in `params`, decide where a plan begins and ends; an edit may change it.
    """
    c = experiment.config
    parts = _parts(experiment)
    grid, plan = registry.build("grids", c.grid), registry.build("plans", c.plan)
    gammas = generate.plan(experiment.model, params, grid, c.sample.steps)
    if len(gammas) != c.sample.steps + 1:
        raise ConfigError(
            f"grid={c.grid} has {len(gammas) - 1} steps of its own, but sample.steps="
            f"{c.sample.steps}; set sample.steps to {len(gammas) - 1}"
        )
    gammas = plan(gammas if edit is None else edit.plan(gammas))
    method = Method(gammas=np.asarray(gammas, np.float64), **parts)
    if edit is not None:
        edit.check(experiment.model, method)
    method_lib.check_method(experiment.model, method)
    return method


def check(experiment: Experiment) -> None:
    """Refuses sampling settings that cannot work, as far as that can be said without weights."""
    c = experiment.config.sample
    if c.num < 0 or c.batch < 1:
        raise ConfigError(f"sample.num={c.num} and sample.batch={c.batch} must be at least 0 and 1")
    parts = _parts(experiment)
    for kind in ("grid", "plan"):
        registry.build(f"{kind}s", experiment.config[kind])
    method_lib.check_guidance(experiment.model, parts["guidance"], parts["helpers"])
    method_lib.check_sampler(experiment.model, parts["sampler"])


def check_plan(experiment: Experiment) -> None:
    """Refuses grids and plans that cannot work with the schedule that training begins with."""
    build(experiment, {"schedule": experiment.model.schedule.init(jax.random.key(0))})


def describe(experiment: Experiment, method: Method) -> dict[str, Any]:
    """All that defines samples beside the weights, for records."""
    c = experiment.config
    fields = ("guidance", "sampler", "grid", "plan", "corrector", "final")
    return {k: c[k] for k in fields} | {
        "steps": c.sample.steps,
        "network_calls": method.calls(experiment.model),
    }


def _parts(experiment: Experiment) -> dict[str, Any]:
    c = experiment.config
    return {
        "sampler": registry.build("samplers", c.sampler),
        "guidance": registry.build("guidance", c.guidance),
        "final": registry.build("finals", c.final),
        "correct": registry.build("correctors", c.corrector),
        "helpers": Helpers(lambda kind, path: open_helper(experiment, kind, path)),
    }


def open_helper(experiment: Experiment, kind: str, checkpoint: str) -> tuple[Callable, Params]:
    """A second network for the guidance of `experiment`'s model: `(bind, params)`, see `Helpers`.

    `kind` is `"denoiser"` or a plug-in of `scorers`; `ConfigError` if the checkpoint holds
    something else, or was trained on other data.
    """
    other = open_run(checkpoint, data_dir=experiment.config.data_dir)
    held = other.task.holds
    if held != kind:
        raise ConfigError(f"{checkpoint} holds a {held}; the guidance asks for a {kind}")
    check_same_data(experiment, other, checkpoint)
    params, _ = other.weights()
    if held == experiment.task.holds:
        mine, theirs = (e.model.num_classes for e in (experiment, other))
        if mine != theirs:
            raise ConfigError(f"{checkpoint} knows {theirs} classes, this model {mine}")
    return other.task.function(other), params


def check_same_data(experiment: Experiment, other: Experiment, name: str) -> None:
    """Refuses (`ConfigError`) a second model, called `name`, of images of another kind."""
    mine, theirs = ((s.shape, s.levels) for s in (experiment.source, other.source))
    if mine != theirs:
        raise ConfigError(
            f"{name} was trained on {theirs[0]} images of {theirs[1]} levels, this model on "
            f"{mine[0]} of {mine[1]}"
        )
