"""A student of few steps, from a run that has been trained: `distill(teacher='runs/digits')`.

Its network and schedule are the teacher's, and its weights begin as the teacher's; its data are its
own, of the same shape and levels.
`training.distillation` has the methods.
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
        """What `update` reports."""
        return self.recipe.metrics

    @property
    def note(self) -> str:
        """The plan, and what makes the first step hard."""
        edges, method = self.recipe.teacher.edges, self.recipe.method
        plan = edges[:: method.finest // method.steps]
        said = f"{method.steps} steps at gamma " + ", ".join(f"{g:.2f}" for g in plan)
        if self.recipe.model.prediction == "eps":
            factor = np.exp(0.5 * edges[0])
            said += (
                f"; with prediction='eps' an error at gamma {edges[0]:.1f} counts {factor:.1f} "
                "times in the image: a teacher with prediction='v' makes better students"
            )
        return said

    def initial(self) -> State:
        """Weights (before the teacher's are put in), averages and optimiser."""
        c = self.setting.config
        params = self.setting.model.init(jax.random.key(c.seed), self.setting.source.shape)
        kept = {"before": jax.tree.map(jnp.copy, params)} if self.recipe.method.rounds > 1 else None
        return state_lib.init(params, self.recipe.optimizer, tuple(c.ema), kept, FROZEN)

    def given(self) -> Given:
        """The teacher's weights."""
        return Given(self.recipe.teacher.params, {"teacher": self.recipe.teacher.path})

    def load(self) -> tuple[Split, Split | None]:
        """The data set's training split, and its held-out part where there is validation."""
        c, source = self.setting.config, self.setting.source
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
        """How far samples are from the teacher's for the same noise; data are not needed."""
        return {"agreement": self.agreement(self._average(state))}

    def agreement(self, params: Params) -> float:
        """Rms distance in grey levels between samples of student and teacher for the same noise."""
        return self._held_against(params)

    @functools.cached_property
    def _held_against(self) -> Agreement:
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
            found = self.agreement(params)
            say(f"{found:.3f} grey levels from the teacher's samples (rms, same noise)")
            writer.scalars(step, {"test/agreement": found})
        self.handed.finish(self.setting, params, step, writer)

    def _average(self, state: State) -> Params:
        return gathered(self.setting.mesh, state.ema[ema_key(self.setting.config.ema[0])])


@dataclass(frozen=True)
class Distill:
    """A `tasks.base.Plugin`.

    Attributes:
        teacher: its work directory.
        method: how to learn from it, a plug-in of `distillation`.
        guidance: of the teacher; the student has it built in.
        sampler: the teacher's.
        edges: the plan, a plug-in of `grids`.
        weight: the largest guidance weight that the student is told; 0: it is told none.
        sha256: of the teacher's weights, once they are known.
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
        """What the network is told beside gamma and the class."""
        return (("w",) if self.weight else ()) + self.built.cond_scalars

    @property
    def built(self) -> Method:
        """The method."""
        return registry.build("distillation", self.method)

    @property
    def timed(self) -> bool:
        """Whether its lessons depend on the progress of training."""
        return self.built.timed

    @property
    def drawn_by(self) -> str:
        """The sampler of the student."""
        if "to" in self.cond_scalars:
            return "jump()"
        return "renoise()" if getattr(self.built, "to_end", False) else "ddim()"

    @property
    def free(self) -> bool:
        """Whether the student takes any number of steps, from anywhere."""
        return self.drawn_by != "ddim()"

    def began(self, config: ConfigDict, step: int) -> int:
        """The step at which the averages after `step` updates began: that of their round."""
        each = config.steps // self.built.rounds
        return (step - 1) // each * each if step else 0

    def check_drawing(self, config: ConfigDict) -> None:
        """Refuses (`ConfigError`) to sample in another way than the student has learned."""
        steps, edges = self.built.steps, self.edges.kwargs.get("values", ())
        plan = edges[:: max((len(edges) - 1) // steps, 1)]
        guidance = ("none", "distilled") if self.weight else ("none",)
        free = self.free
        wanted = {
            "sampler": registry.parse(config.sampler) == registry.parse(self.drawn_by),
            "grid": free or registry.parse(config.grid).kwargs.get("values") == plan,
            "sample.steps": free or config.sample.steps == steps,
            "guidance": registry.read("guidance", config.guidance).name in guidance,
            "plan": registry.parse(config.plan).name == "once",
            "corrector": registry.parse(config.corrector).name == "none",
        }
        wrong = next((k for k, right in wanted.items() if not right), "")
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
        told = getattr(registry.build("guidance", config.guidance), "w", 0.0)
        if told > self.weight:
            raise ConfigError(
                f"guidance={config.guidance}: this student was told weights from 0 to "
                f"{self.weight:g} in training and knows nothing of others: ask for "
                f"distilled(w={self.weight:g}) at most"
            )

    def open(self, setting: Setting, handed: Handed) -> Training:
        """The task; its settings are checked, and the teacher is read."""
        c, method = setting.config, self.built
        if c.accumulate != 1:
            raise ConfigError(f"accumulate={c.accumulate}: a student is trained with accumulate=1")
        if method.timed and c.lr_decay == "constant":
            raise ConfigError(
                f"{self.method}: its lessons depend on the length of the training, and a constant "
                "learning rate promises that it may grow: use lr_decay='linear'"
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
        """Those of the model."""
        model, shape = setting.model, setting.source.shape
        return jax.eval_shape(lambda: model.init(jax.random.key(0), shape))

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """Its predictions, which are not means of the data."""
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
        teacher: a work directory.
        method: `segments(...)`, `halving(...)`, `bootstrap(...)`, `flow_map(...)`, `scm(...)` or
            `ect(...)`.
        guidance: of the teacher, for the student to have built in.
        sampler: the teacher's, without noise of its own.
        edges: a grid: where the student's steps end. It becomes `array(...)`.
        weight: instead of a guidance: the largest weight of `cfg` that the student can be asked
            for, by `guidance='distilled(w=2.0)'`.
        sha256: of the teacher's weights; filled in when training begins.
    """
    if not teacher:
        raise ConfigError("distill: teacher='' names no run: give its work directory")
    if weight and guidance.name != "none":
        raise ConfigError(
            f"distill: weight={weight} is the guidance that the student is told, and "
            f"guidance={guidance} would be built in: choose one"
        )
    return Distill(teacher, method, guidance, sampler, edges, float(weight), sha256)
