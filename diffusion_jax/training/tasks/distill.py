"""Distils a trained run into a student that samples in few steps: `distill(teacher='runs/digits')`.

The student has the teacher's network and schedule, and starts from the teacher's weights. Its data
may differ, but have the same shape and number of levels. `training.distillation` has the methods.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import registry
from diffusion_jax.allowed import NotNegative
from diffusion_jax.data.base import Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.registry import Spec
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.sharding import gathered
from diffusion_jax.training import optimizer, state as state_lib
from diffusion_jax.training.distillation.base import Method
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.state import State, ema_key
from diffusion_jax.training.student_agreement import Agreement
from diffusion_jax.training.student_step import FROZEN, Recipe
from diffusion_jax.training.tasks.base import Given, Handed, Setting
from diffusion_jax.types import Array, Params

_SEGMENTS, _NONE, _SECOND_ORDER, _EVEN = map(Spec, ("segments", "none", "dpmpp_2m", "uniform_t"))


@dataclass(frozen=True)
class Training:
    """A student in training; a `tasks.base.Task`."""

    setting: Setting
    handed: Handed
    recipe: Recipe
    unit: str = "weighted squares"

    @property
    def name(self) -> str:
        """The network's spec string."""
        return self.setting.config.network

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics that `update` returns."""
        return self.recipe.metrics

    @property
    def note(self) -> str:
        """The plan, and a warning if the first step amplifies errors."""
        edges, method = self.recipe.teacher.edges, self.recipe.method
        plan = edges[:: method.finest // method.steps]
        note = f"{method.steps} steps at gamma " + ", ".join(f"{g:.2f}" for g in plan)
        if self.recipe.model.prediction == "eps":
            factor = np.exp(0.5 * edges[0])
            note += (
                f"; with prediction='eps' an error at gamma {edges[0]:.1f} is {factor:.1f} times "
                "as large in the image: teachers with prediction='v' make better students"
            )
        return note

    def initial(self) -> State:
        """Weights (before the teacher's are copied in), averages and optimiser state."""
        c = self.setting.config
        params = self.setting.model.init(jax.random.key(c.seed), self.setting.source.shape)
        kept = {"before": jax.tree.map(jnp.copy, params)} if self.recipe.method.rounds > 1 else None
        return state_lib.init(params, self.recipe.optimizer, tuple(c.ema), kept, FROZEN)

    def given(self) -> Given:
        """The teacher's weights."""
        return Given(self.recipe.teacher.params, {"teacher": self.recipe.teacher.path})

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
        """The distance of samples from the teacher's for the same noise; uses no data."""
        return {"agreement": self.agreement(self._average(state))}

    def agreement(self, params: Params) -> float:
        """Rms distance in grey levels between samples of student and teacher for the same noise."""
        return self._agreement(params)

    @functools.cached_property
    def _agreement(self) -> Agreement:
        setting = self.setting
        return Agreement(self.recipe, tuple(setting.source.shape), setting.config.seed)

    def sample(self, writer: Writer, state: State, step: int) -> None:
        """Draws a grid with the first average."""
        picture = self.handed.sample(self.setting, self._average(state), step, True)
        writer.image(step, "samples", np.asarray(picture))

    def finish(self, writer: Writer, state: State) -> None:
        """Agreement, samples and report."""
        step, params = int(jax.device_get(state.step)), self._average(state)
        if "test/agreement" not in writer.found:
            distance = self.agreement(params)
            say(f"{distance:.3f} grey levels from the teacher's samples (rms, same noise)")
            writer.scalars(step, {"test/agreement": distance})
        self.handed.finish(self.setting, params, step, writer)

    def _average(self, state: State) -> Params:
        return gathered(self.setting.mesh, state.ema[ema_key(self.setting.config.ema[0])])


@dataclass(frozen=True)
class Distill:
    """A `tasks.base.Plugin`.

    Attributes:
        teacher: the teacher's work directory.
        method: the distillation method, a plug-in of `distillation`.
        guidance: the teacher's guidance, which the student has built in.
        sampler: the teacher's sampler.
        edges: the plan, a plug-in of `grids`.
        weight: largest guidance weight that the student receives as an input; 0 for no such input.
        sha256: SHA-256 of the teacher's weights, once they are known.
    """

    teacher: str
    method: Spec
    guidance: Spec
    sampler: Spec
    edges: Spec
    weight: float
    sha256: str
    holds: str = "student"
    figure: str = "agreement"

    @property
    def cond_scalars(self) -> tuple[str, ...]:
        """The names of the network's scalar inputs besides gamma and the class."""
        return (("w",) if self.weight else ()) + self.built.cond_scalars

    @property
    def built(self) -> Method:
        """The distillation method, built from its spec."""
        return registry.build("distillation", self.method)

    @property
    def timed(self) -> bool:
        """Whether lessons depend on the progress of training."""
        return self.built.timed

    @property
    def drawn_by(self) -> str:
        """The spec string of the student's sampler."""
        if "to" in self.cond_scalars:
            return "jump()"
        return "renoise()" if getattr(self.built, "to_end", False) else "ddim()"

    @property
    def free(self) -> bool:
        """Whether the student can take any number of steps, from any noise level."""
        return self.drawn_by != "ddim()"

    def began(self, config: ConfigDict, step: int) -> int:
        """The first step of the round of the averages after `step` updates."""
        per_round = config.steps // self.built.rounds
        return (step - 1) // per_round * per_round if step else 0

    def check_drawing(self, config: ConfigDict) -> None:
        """Raises `ConfigError` if sampling is not set up as the student was trained for."""
        steps, edges = self.built.steps, self.edges.kwargs.get("values", ())
        plan = edges[:: max((len(edges) - 1) // steps, 1)]
        guidance = ("none", "distilled") if self.weight else ("none",)
        free = self.free
        as_trained = {
            "sampler": registry.parse(config.sampler) == registry.parse(self.drawn_by),
            "grid": free or registry.parse(config.grid).kwargs.get("values") == plan,
            "sample.steps": free or config.sample.steps == steps,
            "guidance": registry.read("guidance", config.guidance).name in guidance,
            "plan": registry.parse(config.plan).name == "once",
            "corrector": registry.parse(config.corrector).name == "none",
        }
        wrong = next((k for k, right in as_trained.items() if not right), "")
        if wrong:
            value = config.sample.steps if wrong == "sample.steps" else config[wrong]
            values = ", ".join(f"{g:.2f}" for g in plan)
            built = f" and guidance {self.guidance}" if self.guidance.name != "none" else ""
            learned = (
                f"for {self.drawn_by}, any number of steps{built}"
                if free
                else f"for {steps} steps of ddim() at gammas {values}{built}; it has no other plan"
            )
            raise ConfigError(
                f"{wrong}={value}: this student was distilled {learned}: leave {wrong} out"
            )
        w = getattr(registry.build("guidance", config.guidance), "w", 0.0)
        if w > self.weight:
            raise ConfigError(
                f"guidance={config.guidance}: this student was trained with guidance weights from "
                f"0 to {self.weight:g} only: use at most distilled(w={self.weight:g})"
            )

    def open(self, setting: Setting, handed: Handed) -> Training:
        """Checks the settings, opens the teacher and returns the task."""
        c, method = setting.config, self.built
        if c.accumulate != 1:
            raise ConfigError(f"accumulate={c.accumulate}: a student is trained with accumulate=1")
        if method.timed and c.lr_decay == "constant":
            raise ConfigError(
                f"{self.method}: its lessons depend on the length of the training, but with a "
                "constant learning rate a run may be extended: use lr_decay='linear'"
            )
        if c.steps % method.rounds:
            raise ConfigError(
                f"steps={c.steps} must be a multiple of the {method.rounds} rounds of {self.method}"
            )
        if hasattr(method, "check"):
            guided = self.guidance.name != "none" or self.weight > 0.0
            getattr(method, "check")(setting.model, guided)  # noqa: B009
        handed.check(setting)
        teacher = handed.teacher(setting, self, method.finest)
        rate = optimizer.learning_rate(c.lr, c.warmup, c.lr_decay, c.steps // method.rounds)
        recipe = Recipe(
            model=setting.model,
            teacher=teacher,
            method=method,
            optimizer=optimizer.make(c.optimizer, rate, c.clip, c.decay_mask),
            augment=setting.augment,
            ema=tuple((ema_key(d), d) for d in c.ema),
            ema_warmup=c.ema_warmup,
            steps=c.steps,
            weight=self.weight,
            seed=c.seed,
        )
        return Training(setting, handed, recipe)

    def shapes(self, setting: Setting) -> Params:
        """The shapes of the model's weights."""
        model, shape = setting.model, setting.source.shape
        return jax.eval_shape(lambda: model.init(jax.random.key(0), shape))

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """Maps weights to the student's predictions, which are not posterior means of the data."""
        return setting.model.denoiser


def make(
    teacher: str,
    method: Spec = _SEGMENTS,
    guidance: Spec = _NONE,
    sampler: Spec = _SECOND_ORDER,
    edges: Spec = _EVEN,
    weight: NotNegative = 0.0,
    sha256: str = "",
) -> Distill:
    """A student that takes a few steps where its teacher takes many.

    Args:
        teacher: the teacher's work directory.
        method: `segments(...)`, `halving(...)`, `bootstrap(...)`, `flow_map(...)`, `scm(...)` or
            `ect(...)`.
        guidance: the teacher's guidance, to be built into the student.
        sampler: the teacher's sampler; it must be deterministic.
        edges: a grid with the gammas between the student's steps; recorded as `array(...)`.
        weight: instead of `guidance`: the largest weight of `cfg` that the student supports, with
            `guidance='distilled(w=2.0)'`.
        sha256: SHA-256 of the teacher's weights; filled in when training begins.
    """
    if not teacher:
        raise ConfigError("distill: teacher='' names no run: give its work directory")
    if weight and guidance.name != "none":
        raise ConfigError(
            f"distill: with weight={weight} the student receives the guidance weight as an input, "
            f"with guidance={guidance} it has the guidance built in: choose one"
        )
    return Distill(teacher, method, guidance, sampler, edges, float(weight), sha256)
