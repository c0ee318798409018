"""The run that a student is distilled from: its settings, weights and steps.

The student has the teacher's network and schedule, and starts from its weights. These settings, the
plan and the SHA-256 of the teacher's weights become part of the student's configuration. The
student needs the teacher's run only in training.
"""

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import registry, saved_config
from diffusion_jax.denoiser import with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import latents, other_runs
from diffusion_jax.model import Model, require
from diffusion_jax.registry import Spec
from diffusion_jax.runtime.sharding import local
from diffusion_jax.sampling import generate, loop
from diffusion_jax.sampling.encoder_corrections import for_sampler
from diffusion_jax.sampling.guidance.base import Context, Guidance, contrast, need_null
from diffusion_jax.sampling.method import Helpers, check_guidance, check_sampler
from diffusion_jax.sampling.samplers.base import Sampler, noise_share
from diffusion_jax.training.tasks.base import teacher_of
from diffusion_jax.types import Array, Cond, Denoiser, Params, Pred, diffuse

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

# Settings of the student's model and of its sampling that follow from the teacher.
_MODEL = ("network", "schedule", "gamma_min", "gamma_max", "decoder", "prediction", "conditional",
          "augment", "view", "autoencoder")  # fmt: skip
_SAMPLING = ("sampler", "grid", "guidance", "plan", "corrector", "sample.steps")
# Arguments of the task that are filled in.
_FILLED = ("edges", "sha256")


@dataclass(frozen=True)
class Opened:
    """An opened teacher; a `training.student_step.Teacher`."""

    model: Model
    params: Any
    path: str
    edges: np.ndarray
    guidance: Guidance
    sampler: Sampler
    helpers: Helpers = dataclasses.field(default_factory=Helpers)

    def walk(self, params: Any, z: Array, gammas: Array, cond: Cond) -> Array:
        """Latents of the guided ODE at all `gammas` `[M + 1, B]`, from `z` at the first."""
        denoise = self._guided(params, cond)
        return loop.path(denoise, self.sampler, gammas, z, jax.random.key(0))

    def predict(self, params: Any, z: Array, gamma: Array, cond: Cond) -> Pred:
        """The guided prediction at `z` and `gamma` `[B]`."""
        return self._guided(params, cond)(z, gamma)

    def _guided(self, params: Any, cond: Cond) -> Callable[[Array, Array], Pred]:
        context = self.helpers.context(self.model, params["helpers"])
        guided = self.guidance(self.model.denoiser(params["model"]), context)
        return for_sampler(
            with_condition(guided, cond), self.model.traits.mean_coefficient, self.sampler
        )

    def noisy(self, params: Any, x: Array, gamma: Array, eps: Array, cond: Cond) -> Array:
        """`alpha x_gamma + sigma eps`, with the teacher's encoder."""
        if self.model.traits.time_dependent_data:
            plain = {k: v for k, v in cond.items() if k != "w"}
            x += self.model.shift(params["model"], x, gamma, plain)
        return diffuse(x, gamma, eps)


@dataclass(frozen=True)
class ByCondition:
    """Classifier-free guidance with a weight for each example, `cond["w"]`."""

    def check(self, context: Context) -> None:
        """Needs a null condition."""
        need_null("weight", context)

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser; the weight is not passed to the network."""
        null = need_null("weight", context)

        def guided(z: Array, gamma: Array, cond: Cond) -> Pred:
            plain = {k: v for k, v in cond.items() if k != "w"}
            strong, weak = contrast(denoiser, null, z, gamma, plain)
            w = cond["w"].reshape(-1, *[1] * (z.ndim - 1))
            return jax.tree.map(lambda c, u: u + w * (c - u), strong, weak)

        return guided


def settle(run: "Experiment", asked: Collection[str] = ()) -> None:
    """Fills in the settings of a student that follow from its teacher.

    Raises:
        ConfigError: there is no such teacher, it cannot teach this student, or a setting from the
            command line (`asked`) differs from the teacher's.
    """
    c, plugin = run.config, run.task
    if not teacher_of(plugin) or plugin.sha256:
        return
    settled = _begun(run) or _resolved(run)
    for name in _MODEL:
        if name in asked and saved_config.meaning(name, c[name]) != saved_config.meaning(
            name, settled[name]
        ):
            raise ConfigError(
                f"{name}={c[name]!r}: the teacher {plugin.teacher} has {name}={settled[name]!r}, "
                "and so has its student; leave it out"
            )
        c[name] = settled[name]
    c.task, c.encoder, c.class_dropout = settled.task, "identity()", 0.0
    for name in _SAMPLING:
        if name not in asked:
            section, _, last = name.rpartition(".")
            owner, value = (c[section], settled[section]) if section else (c, settled)
            owner[last] = value[last]
    run.__dict__.pop("task", None)  # it was built from the unresolved configuration
    run.task.check_drawing(c)


def _begun(run: "Experiment") -> ConfigDict | None:
    """The saved settings of a student that has begun with the same teacher and method."""
    saved = run.workdir / "config.json"
    if not saved.exists():
        return None
    before = saved_config.read(saved)
    mine, old = registry.parse(run.config.task), registry.parse(before.task)

    def asked(spec: Spec) -> tuple:
        return spec.name, spec.args, {k: v for k, v in spec.kwargs.items() if k not in _FILLED}

    return before if asked(mine) == asked(old) and old.kwargs.get("sha256") else None


def _resolved(run: "Experiment") -> ConfigDict:
    """The settings of a new student."""
    from diffusion_jax.experiment import guidance_models

    plugin, method = run.task, run.task.built
    other = _open(run)
    theirs = other.config
    guidance_models.check_same_data(run, other, plugin.teacher)
    mine, taught = (tuple(e.source.classes) for e in (run, other))
    if theirs.conditional and mine != taught:
        raise ConfigError(
            f"teacher: {plugin.teacher} has the classes {', '.join(taught) or 'none'}, and "
            f"{run.source.name} has {', '.join(mine) or 'none'}"
        )
    params, _ = other.weights()
    edges = _plan(other, params, plugin.edges, method.finest)
    values = tuple(float(g) for g in edges)
    spec = registry.parse(run.config.task)
    known = {"edges": Spec("array", (), {"values": values}), "sha256": latents.digest(params)}
    settled = saved_config.from_dict(saved_config.to_dict(theirs))
    settled.task = str(Spec(spec.name, spec.args, {**spec.kwargs, **known}))
    settled.sampler, settled.guidance = plugin.drawn_by, "none()"
    settled.plan, settled.corrector = "once()", "none()"
    own = Spec("array", (), {"values": values[:: method.finest // method.steps]})
    settled.grid = str(plugin.edges if plugin.free else own)
    settled.sample.steps = method.steps
    return settled


def _open(run: "Experiment") -> "Experiment":
    """Opens the teacher's run; `ConfigError` if it cannot be distilled."""
    name, c = run.task.teacher, run.config
    other = other_runs.opened("task: teacher", name, "", c.data_dir, c.data)
    if other.task.holds != "denoiser":
        raise ConfigError(f"teacher: {name} holds a {other.task.holds}, not a diffusion model")
    _check_unconditioned(run, other)
    require(
        other.model, f"distill(teacher={name!r})", "distil a VDM or DiffEnc run of pixels",
        per_pixel_gamma=False, latent=0, pixels=True,
    )  # fmt: skip
    if other.model.given_shape(tuple(other.source.shape)) is not None:
        raise ConfigError(
            f"teacher: {name} is a later stage of a cascade, which cannot be distilled yet"
        )
    return other


def _check_unconditioned(run: "Experiment", other: "Experiment") -> None:
    """Raises ConfigError for texts and embeddings: a student is conditioned on the class only."""
    for setting in ("text", "embedding"):
        if other.config[setting]:
            raise ConfigError(
                f"teacher: {run.task.teacher} was trained with {setting}=..., on which students "
                f"cannot be conditioned yet; use a teacher without {setting}"
            )
        if run.config[setting]:
            raise ConfigError(
                f"{setting}={run.config[setting]!r}: a student cannot be conditioned on it yet: "
                f"leave {setting} out"
            )


def _plan(other: "Experiment", params: Params, edges: Spec, steps: int) -> np.ndarray:
    return generate.plan(other.model, params, registry.build("grids", edges), steps)


def opened(run: "Experiment", plugin: Any, finest: int) -> Opened:
    """Opens the teacher of a run, with its weights, for `Handed.teacher`."""
    from diffusion_jax.experiment import guidance_models

    other = _open(run)
    params, _ = other.weights()
    found = latents.digest(params)
    if plugin.sha256 and found != plugin.sha256:
        raise ConfigError(
            f"teacher: the weights in {plugin.teacher} have changed since this student began "
            f"({found[:8]}.., then {plugin.sha256[:8]}..): train it again in another --workdir"
        )
    helpers = Helpers(lambda kind, path: guidance_models.open_helper(other, kind, path))
    return asked(other.model, params, plugin, finest, helpers)


def asked(
    model: Model, params: Params, plugin: Any, finest: int, helpers: Helpers | None = None
) -> Opened:
    """Makes a model with its weights the teacher that the task `plugin` needs.

    Raises:
        ConfigError: guidance or sampler do not fit, or the sampler adds noise.
    """
    helpers = helpers or Helpers()
    guidance = ByCondition() if plugin.weight else registry.build("guidance", plugin.guidance)
    sampler = registry.build("samplers", plugin.sampler)
    if noise_share(sampler) != 0.0:
        raise ConfigError(
            f"distill: sampler={plugin.sampler} adds noise, but a student follows a deterministic "
            "path: use ddim(), dpmpp_2m() or heun()"
        )
    check_guidance(model, guidance, helpers)
    check_sampler(model, sampler)
    grid = registry.build("grids", plugin.edges)
    edges = generate.plan(model, {"schedule": local(params["schedule"])}, grid, finest)
    given = {"model": params, "helpers": helpers.params}
    return Opened(model, given, plugin.teacher, edges, guidance, sampler, helpers)


def read(run: "Experiment") -> dict[str, np.ndarray]:
    """The initial arrays of a student, by path; empty for other runs."""
    if not teacher_of(run.task):
        return {}
    params, _ = _open(run).weights()
    kept = {k: params[k] for k in ("network", "schedule")}
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(jax.device_get(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(kept)
    }
