"""The sampling method of a run's configuration: grid, plan, sampler, guidance and the rest."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, guidance_models, texts
from diffusion_jax.model import Model, require
from diffusion_jax.sampling import generate, method as method_lib
from diffusion_jax.sampling.edits.base import Edit
from diffusion_jax.sampling.method import Helpers, Method
from diffusion_jax.types import Array, Params, Pred


def build(experiment: Experiment, params: Params, edit: Edit | None = None) -> Method:
    """Builds the sampling method of `experiment.config`, and checks it against the model.

    The ends of a plan come from the schedule, which may be learned (in `params`); an edit may
    change the plan.
    """
    c = experiment.config
    _check_learned(experiment)
    parts = _parts(experiment)
    grid, plan = registry.build("grids", c.grid), registry.build("plans", c.plan)
    gammas = generate.plan(experiment.model, params, grid, c.sample.steps)
    if len(gammas) != c.sample.steps + 1:
        raise ConfigError(
            f"grid={c.grid} has {len(gammas) - 1} steps, but sample.steps="
            f"{c.sample.steps}; set sample.steps to {len(gammas) - 1}"
        )
    learned = set(gammas[:-1])
    gammas = plan(gammas if edit is None else edit.plan(gammas))
    free = getattr(experiment.task, "free", False)  # students that can start at any noise level
    if experiment.model.teacher and not free and not set(gammas[:-1]) <= learned:
        raise ConfigError(
            f"edit.method={c.edit.method} starts between the {c.sample.steps} steps that this "
            f"student has learned: use its teacher ({experiment.model.teacher})"
        )
    method = Method(gammas=np.asarray(gammas, np.float64), **parts)
    if edit is not None:
        edit.check(experiment.model, method)
    method_lib.check_method(experiment.model, method)
    return method


def denoiser(
    experiment: Experiment,
    params: Params,
    labels: Array | None = None,
    captions: Sequence[str] | None = None,
) -> Callable[[Array, Array], Pred]:
    """The denoiser with `config.guidance`, labels and texts; see `Experiment.denoiser`."""
    model = experiment.model
    require(
        model, "denoiser()", "use sample(): its gammas are drawn with each image",
        per_pixel_gamma=False, latent=0,
    )  # fmt: skip
    if labels is None and model.num_classes:
        raise ConfigError(
            f"this model is conditional: denoiser(labels=...) needs a class 0 .. "
            f"{model.num_classes - 1} for each image, or {model.num_classes} for no class"
        )
    if labels is not None:
        labels = _checked(model, labels)
    if captions is not None and experiment.text is None:
        raise ConfigError("denoiser(captions=...): this model reads no text; leave captions out")
    if captions is None and experiment.text is not None:
        require(model, "denoiser() without captions", "give captions", null_class=True)
    if model.embedding:
        require(
            model, "denoiser(), which gives the network no CLIP embedding,", "use sample()",
            null_class=True,
        )  # fmt: skip
    cond = {} if captions is None else texts.conditions(experiment, list(captions))
    _check_learned(experiment)
    parts = _parts(experiment)
    method_lib.check_guidance(model, parts["guidance"], parts["helpers"])
    guided = parts["guidance"](model.denoiser(params), parts["helpers"].context(model))
    cond = cond if labels is None else {**cond, "label": labels}
    return with_condition(guided, cond, tuple(model.z_shape(experiment.source.shape)))


def _checked(model: Model, labels: Any) -> Array:
    """The classes of a denoiser's images, int32 `[B]`."""
    given, classes = np.asarray(labels), model.num_classes
    if not classes:
        raise ConfigError("denoiser(labels=...): this model is unconditional; leave labels out")
    if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given):
        raise ConfigError(
            f"denoiser(labels=...) needs whole numbers [B], one for each image, not {given.dtype} "
            f"{list(given.shape)}"
        )
    if given.min() < 0 or given.max() > classes:
        wrong = given.min() if given.min() < 0 else given.max()
        raise ConfigError(
            f"denoiser(labels=...): {wrong} is out of range; there are classes 0 .. {classes - 1}, "
            f"and {classes} for no class"
        )
    if (given == classes).any():
        require(model, "the label for no class", "give every image a class", null_class=True)
    return jnp.asarray(given, jnp.int32)


def check(experiment: Experiment) -> None:
    """Checks the sampling settings, as far as possible without weights."""
    _check_learned(experiment)
    generate.labels_for(experiment.model, 1, tuple(experiment.config.sample.labels))
    parts = _parts(experiment)
    for kind in ("grid", "plan"):
        registry.build(f"{kind}s", experiment.config[kind])
    method_lib.check_guidance(experiment.model, parts["guidance"], parts["helpers"])
    method_lib.check_sampler(experiment.model, parts["sampler"])


def check_levels(experiment: Experiment, who: str) -> None:
    """Refuses a final step of real numbers for what puts levels together (`who`, in words)."""
    final = experiment.config.final
    if getattr(registry.build("final_steps", final), "reals", False):
        raise ConfigError(f"final={final} gives no levels, which {who}: use final='decode()'")


def check_plan(experiment: Experiment) -> None:
    """Checks grid and plan with the initial schedule of training."""
    build(experiment, {"schedule": experiment.model.schedule.init(jax.random.key(0))})


def _check_learned(experiment: Experiment) -> None:
    """Raises ConfigError for sampling settings that a few-step student was not trained for."""
    learned = getattr(experiment.task, "check_drawing", None)
    if learned is not None:
        learned(experiment.config)


def _parts(experiment: Experiment) -> dict[str, Any]:
    c = experiment.config
    return {
        "sampler": registry.build("samplers", c.sampler),
        "guidance": registry.build("guidance", c.guidance),
        "final": registry.build("final_steps", c.final),
        "correct": registry.build("correctors", c.corrector),
        "helpers": Helpers(
            lambda kind, path: guidance_models.open_helper(experiment, kind, path),
            texts.reader(experiment),
        ),
    }
