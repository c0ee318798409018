"""The contract of a task: everything about training that depends on what is trained.

A plug-in of this kind (`config.task = "diffusion()"`, `"guide(classifier())"`) is what a run is
*for*: it names what the weights hold, and opens a `Task` once data and settings are known. The
loop, the checkpoints and the writers know nothing else of it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
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
    """What an opened run (`experiment.Experiment`) tells a task."""

    config: ConfigDict
    workdir: Path
    mesh: Mesh
    source: Source
    augment: Augment
    model: Model
    text: TextEncoder | None

    def offered(self) -> dict[str, Any]:
        """What networks may want to know of data and settings, by the names of `make`."""


@dataclass(frozen=True)
class Given:
    """Weights that a task uses and does not train: a teacher, a frozen encoder.

    They are an argument of the compiled step (closed over they would be constants in it), lie on
    the mesh as weights do, and are not part of a checkpoint, whose record names them instead.

    Attributes:
        tree: the arrays; an empty tuple for none.
        paths: where each came from, by name.
    """

    tree: Any = ()
    paths: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Paths, and the SHA-256 of all arrays in the order of the tree, for checkpoints."""
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
    """What a task needs of the layers above training.

    Attributes:
        check: `(setting)`; refuses settings of what is drawn and measured on the way, early.
        check_against: `(setting, path)`; refuses a run whose samples cannot be drawn.
        sample: `(setting, params, step, quiet) -> picture`.
        score: `(task, params, split) -> metrics` of a network that is not a model of the data.
        against: `(setting, path) -> Source`: the data in equal parts with samples of a run.
        finish: `(setting, params, step, writer)`: measures, samples and reports at the end.
        teacher: `(setting, plugin, finest) -> teaching.Teacher`, of a student; its plan has
            `finest` steps.
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
    """What is trained, ready to go.

    Attributes:
        name: of the network, for the parameter table.
        unit: of the loss.
        metrics: names of the scalars `update` returns, `loss` and `grad_norm` among them.
        note: a line about how the network is run, or empty.
    """

    name: str
    unit: str
    metrics: tuple[str, ...]
    note: str

    def initial(self) -> State:
        """The state before the first step; pure, so that it can be traced for its shapes.

        Weights, optimiser state and averages may be pytrees of any form: several groups of
        weights, each with an optimiser of its own, are dicts.
        """

    def given(self) -> Given:
        """Weights that are used and not trained."""

    def load(self) -> tuple[Split, Split | None]:
        """Training data, and validation data if there are to be any; called once."""

    def ready(self, state: State, train: Split) -> tuple[State, Split]:
        """State and training data just before the first step of this process."""

    def update(self, state: State, batch: dict[str, Array], given: Any) -> tuple[State, Metrics]:
        """The state after one global batch, and its metrics; a pure function."""

    def validate(self, state: State, valid: Split) -> dict[str, float]:
        """Metrics on held-out data.

        The lowest `bits_per_dim`, `loss` or `agreement` is the best checkpoint; a task that reports
        none of them has no best one.
        """

    def sample(self, writer: Writer, state: State, step: int) -> None:
        """Draws what there is to draw; does nothing if there is nothing."""

    def finish(self, writer: Writer, state: State) -> None:
        """After the last step."""


@runtime_checkable
class Plugin(Protocol):
    """What a file in this folder makes: the declaration of a task.

    Attributes:
        holds: what its weights are, as guidance asks for it: `"denoiser"`, `"classifier"`, ...
        figure: what `--mode=eval` measures: `"bits_per_dim"`, or `"loss_by_gamma"`; `"agreement"`
            of a student, and `"samples"` where there is no likelihood at all.

    One whose steps depend on how many there will be also has `timed`, true: its runs cannot be
    lengthened. A task of students has `teacher`, a work directory, `cond_scalars`, the names of
    what the network is told beside gamma and class, `free`, whether it is sampled in any number of
    steps, `check_drawing(config)`, which refuses other ways to sample, and `began(config, step)`,
    where the averages at the end of `step` updates began.
    """

    holds: str
    figure: str

    def open(self, setting: Setting, handed: Handed) -> Task:
        """The task; settings that cannot work raise `ConfigError`, before anything is read."""

    def shapes(self, setting: Setting) -> Params:
        """Shapes of one average of the weights; nothing is computed."""

    def function(self, setting: Setting) -> Callable[[Params], Callable]:
        """Weights to what guidance calls: a denoiser, or `log_prob(z, gamma, cond)`."""


def copied(params: Params) -> Params:
    """The same values in arrays of their own: a step donates its state."""
    return jax.tree.map(jnp.copy, params)


def timed(plugin: Plugin) -> bool:
    """Whether a step of a task depends on how many there will be, besides its learning rate."""
    return bool(getattr(plugin, "timed", False))


def teacher_of(plugin: Plugin) -> str:
    """The run that a task's student is trained from; empty for every other task."""
    found = getattr(plugin, "teacher", "")
    return found if isinstance(found, str) else ""
