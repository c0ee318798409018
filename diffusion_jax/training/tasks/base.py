"""The contract of a task: everything about training that depends on what is trained.

A plug-in of this kind (`config.task = "diffusion()"`, `"guide(classifier())"`) declares what the
weights of a run are, and opens a `Task` once data and settings are known. The loop, the checkpoints
and the writers use only these two interfaces.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffusion_jax.data.augment.base import Augment
from diffusion_jax.data.base import Source, Split
from diffusion_jax.model import Model
from diffusion_jax.networks.text_encoders.base import TextEncoder
from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.state import State
from diffusion_jax.types import Array, Params


class Setting(Protocol):
    """The part of an opened run (`experiment.Experiment`) that a task uses."""

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    source: Source
    augment: Augment
    model: Model
    text: TextEncoder | None

    def offered(self) -> dict[str, Any]:
        """Arguments for a network's `make` that follow from data and settings."""


@dataclass(frozen=True)
class Given:
    """Weights that a task uses but does not train: a teacher, a frozen encoder.

    They are an argument of the compiled step (in a closure they would be compiled in as constants),
    and are placed on the mesh like trained weights. They are not part of a checkpoint, whose record
    names them instead.

    Attributes:
        tree: the arrays; an empty tuple for none.
        paths: the path that each was read from, by name.
    """

    tree: Any = ()
    paths: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The record for checkpoints: paths, and the SHA-256 of all arrays in tree order."""
        if not jax.tree.leaves(self.tree):
            return {}
        digest = hashlib.sha256()
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.tree):
            a = np.asarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {a.dtype} {a.shape}\n".encode())
            digest.update(np.ascontiguousarray(a).tobytes())
        return {"paths": dict(self.paths), "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class Handed:
    """Callbacks from the experiment layer, so that training imports nothing above it.

    Attributes:
        check: `(setting)`; raises early if the settings for sampling or evaluation are not valid.
        check_against: `(setting, path)`; raises if that run cannot be sampled.
        sample: `(setting, params, step, quiet) -> picture`.
        score: `(task, params, split) -> metrics`, for a network that is not a model of the data.
        against: `(setting, path) -> Source`, data and samples of that run in equal parts.
        finish: `(setting, params, step, writer)`; evaluates, samples and reports after training.
        teacher: `(setting, plugin, finest) -> student_step.Teacher`, whose plan has `finest` steps.
    """

    check: Callable[[Setting], None]
    check_against: Callable[[Setting, str], None]
    sample: Callable[[Setting, Params, int, bool], np.ndarray]
    score: Callable[["Task", Params, Split], dict[str, float]]
    against: Callable[[Setting, str], Source]
    finish: Callable[[Setting, Params, int, Writer], None]
    teacher: Callable[[Setting, Any, int], Any] = lambda *_: None


@runtime_checkable
class Task(Protocol):
    """A task whose data and settings are known.

    Attributes:
        name: name of the network, for the parameter table.
        unit: unit of the loss.
        metrics: names of the scalars that `update` returns, including `loss` and `grad_norm`.
        note: remarks on the settings, printed when training begins, or empty.
    """

    name: str
    unit: str
    metrics: tuple[str, ...]
    note: str

    def initial(self) -> State:
        """The state before the first step; pure, so that it can be traced for its shapes.

        Weights, optimiser state and averages may be any pytrees; several groups of weights, each
        with its own optimiser, are dicts.
        """

    def given(self) -> Given:
        """Weights that are used but not trained."""

    def load(self) -> tuple[Split, Split | None]:
        """Training data, and validation data or None; called once."""

    def ready(self, state: State, train: Split) -> tuple[State, Split]:
        """Prepares state and training data, just before the first step of this process."""

    def update(self, state: State, batch: dict[str, Array], given: Any) -> tuple[State, Metrics]:
        """The state after one global batch, and its metrics; a pure function."""

    def validate(self, state: State, valid: Split) -> dict[str, float]:
        """Metrics on held-out data.

        The checkpoint with the lowest `bits_per_dim`, `loss` or `agreement` is the best; a task
        that reports none of them has no best checkpoint.
        """

    def sample(self, writer: Writer, state: State, step: int) -> None:
        """Draws and logs samples, if the task has any."""

    def finish(self, writer: Writer, state: State) -> None:
        """Called after the last step."""


@runtime_checkable
class Plugin(Protocol):
    """The declaration of a task, which the `make` of a file in this folder returns.

    Attributes:
        holds: what the weights are, for guidance: `"denoiser"`, `"classifier"`, ...
        figure: the metric of `--mode=eval`: `"bits_per_dim"` or `"loss_by_gamma"`; `"agreement"`
            for a student, and `"samples"` for models without a likelihood.

    A task whose steps depend on the total number of steps also has `timed = True`; its runs cannot
    be extended. A task that trains students also has `teacher`, a work directory; `cond_scalars`,
    the names of the network's inputs besides gamma and class; `free`, whether any number of steps
    may be used for sampling; `check_drawing(config)`, which raises for other ways to sample; and
    `began(config, step)`, the step at which the averages after `step` updates began.
    """

    holds: str
    figure: str

    def open(self, setting: Setting, handed: Handed) -> Task:
        """The task; raises `ConfigError` for unusable settings, before any data are read."""

    def shapes(self, setting: Setting) -> Params:
        """The shapes of one average of the weights; nothing is computed."""

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """Maps weights to what guidance calls: a denoiser, or `log_prob(z, gamma, cond)`."""


def timed(plugin: Plugin) -> bool:
    """Whether a step depends on the total number of steps other than through the learning rate."""
    return bool(getattr(plugin, "timed", False))


def teacher_of(plugin: Plugin) -> str:
    """The work directory of a student's teacher; empty for every other task."""
    teacher = getattr(plugin, "teacher", "")
    return teacher if isinstance(teacher, str) else ""
